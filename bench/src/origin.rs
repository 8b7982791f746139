//! What do those who are measured have behind them?
//!
//! It runs `loadgen origin` or `tcp_load`; it never answers anything itself.

use std::net::SocketAddr;
use std::path::Path;

use crate::process::{Child, CoreList, free_addr};
use crate::traffic::Traffic;

/// An origin that answers.
pub struct Origin {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Ends it when dropped.
    _child: Child,
}

impl Origin {
    /// Starts one on `cores` for `traffic`; replies to HTTP requests have bodies of `body_bytes`. `binaries` is the
    /// directory of `loadgen` and `tcp_load`.
    ///
    /// # Errors
    /// When it does not answer soon.
    pub fn start(
        binaries: &Path,
        dir: &Path,
        cores: CoreList,
        traffic: Traffic,
        body_bytes: usize,
    ) -> anyhow::Result<Self> {
        // Loopback has many addresses: one origin stands for several endpoints.
        let is_several = traffic == Traffic::Sessions;
        let traffic = traffic.behind();
        let addr = free_addr()?;
        let listen = if is_several { format!("0.0.0.0:{}", addr.port()) } else { addr.to_string() };
        let body = body_bytes.to_string();
        let (program, arguments) = match traffic {
            Traffic::Kept
            | Traffic::Sessions
            | Traffic::Logged
            | Traffic::Churn
            | Traffic::PrivateKept
            | Traffic::PrivateFull
            | Traffic::PrivateResumed => ("loadgen", vec!["origin", "--listen", &listen, "--body", &body]),
            Traffic::PingPong => ("tcp_load", vec!["echo", &listen]),
            Traffic::Bulk => ("tcp_load", vec!["source", &listen]),
        };
        let mut command = vec![binaries.join(program).display().to_string()];
        command.extend(arguments.into_iter().map(str::to_owned));
        let mut child = Child::start(&format!("origin-{}", addr.port()), cores, dir, &command)?;
        child.wait_until_ready(|| traffic.check(addr, body_bytes))?;
        Ok(Self { addr, _child: child })
    }
}
