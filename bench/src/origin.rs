//! What do those who are measured have behind them?
//!
//! It runs `loadgen origin`; it never answers anything itself.

use std::net::SocketAddr;
use std::path::Path;

use crate::process::{Child, CoreList, free_addr};

/// An origin that answers.
pub struct Origin {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Ends it when dropped.
    _child: Child,
}

impl Origin {
    /// Starts one on `cores` whose answers have bodies of `body_bytes`; `binaries` is the directory of `loadgen`.
    ///
    /// # Errors
    /// When it does not answer soon.
    pub fn start(binaries: &Path, dir: &Path, cores: CoreList, body_bytes: usize) -> anyhow::Result<Self> {
        let addr = free_addr()?;
        let (listen, body) = (addr.to_string(), body_bytes.to_string());
        let loadgen = binaries.join("loadgen").display().to_string();
        let command = [loadgen.as_str(), "origin", "--listen", &listen, "--body", &body].map(str::to_owned);
        let mut child = Child::start(&format!("origin-{}", addr.port()), cores, dir, &command)?;
        child.wait_until_answering(addr, body_bytes)?;
        Ok(Self { addr, _child: child })
    }
}
