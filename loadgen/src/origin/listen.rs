//! Where does the origin listen? At an address, or at a path of the file system.
//!
//! Never listens at a place that is somebody else's.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use runtime::Handle;
use runtime::net::listener::bind_per_core;
use runtime::net::unix::bind_unix;

/// `ADDR:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path is missing behind 'unix:'".into()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("'{text}' is neither ADDR:PORT, such as 127.0.0.1:8080, nor unix:PATH")),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// The sockets of all cores, and where they are; a file made for them goes when this does.
pub(crate) struct Listening {
    /// As it came out: the port is never zero.
    pub(crate) address: ListenAddress,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let ListenAddress::Unix(path) = &self.address {
            let _ = fs::remove_file(path);
        }
    }
}

impl ListenAddress {
    /// Listens, with a handle for each of `cores`.
    ///
    /// # Errors
    /// The kernel's, or those of [`bind_unix`].
    pub(crate) fn bind(&self, backlog: u32, cores: usize) -> io::Result<(Vec<Handle>, Listening)> {
        match self {
            Self::Tcp(address) => {
                let listeners = bind_per_core(*address, backlog, cores)?;
                let address = listeners.first().map_or(Ok(*address), |listener| listener.local_addr())?;
                let handles = listeners.into_iter().map(Handle::from).collect();
                Ok((handles, Listening { address: Self::Tcp(address) }))
            }
            Self::Unix(path) => {
                let handles = bind_unix(path, None, backlog, cores)?.into_iter().map(Handle::from).collect();
                Ok((handles, Listening { address: self.clone() }))
            }
        }
    }

    /// The address of the network, if it is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_addresses_or_paths() {
        let good = [
            ("127.0.0.1:80", ListenAddress::Tcp(([127, 0, 0, 1], 80).into())),
            ("unix:/run/a", ListenAddress::Unix("/run/a".into())),
            ("unix:a", ListenAddress::Unix("a".into())),
        ];
        for (text, expected) in good {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!(address, expected);
            assert_eq!(address.to_string(), text);
        }
        for (text, hint) in [("unix:", "a path is missing"), ("nowhere", "unix:PATH"), ("", "ADDR:PORT")] {
            let refusal = text.parse::<ListenAddress>().expect_err(text);
            assert!(refusal.contains(hint), "{text}: {refusal}");
        }
    }
}
