//! Which sockets does this process listen on? All of them, bound before anything else begins.
//!
//! Never half: one address that cannot be had, and none is kept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use config::snapshot::{BindAddress, EndpointAddress, Listener, ListenerId, Snapshot};
use control::SocketFile;
use proxy::address::Address;
use runtime::Handle;
use runtime::net::listener::bind_per_core;
use runtime::net::unix::bind_unix;

/// The listening sockets of the process.
#[derive(Debug)]
pub(crate) struct Bound {
    /// By core: its own socket of each listener.
    pub(crate) per_core: Vec<Vec<(ListenerId, Handle)>>,
    /// By listener: where it is, the port that the kernel chose included.
    pub(crate) addresses: Box<[Address]>,
    /// Files of Unix sockets.
    pub(crate) socket_files: SocketFiles,
    /// Admin's socket and where it is.
    pub(crate) admin: Option<(TcpListener, SocketAddr)>,
}

/// What is to be removed, and when.
#[derive(Debug, Default)]
pub(crate) struct SocketFiles {
    /// Of listeners that a drain closes: when it begins.
    pub(crate) until_drain: Vec<SocketFile>,
    /// Of internal ones, which end with the process.
    pub(crate) until_end: Vec<SocketFile>,
}

/// An address that could not be had.
#[derive(Debug)]
pub(crate) struct BindError {
    address: Address,
    /// The key or flag that asked for it.
    owner: String,
    error: io::Error,
}

impl std::error::Error for BindError {}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {} ({}): ", self.address, self.owner)?;
        match &self.address {
            Address::Tcp(address) => self.explain_port(address.port(), f),
            Address::Unix(path) => self.explain_path(path, f),
        }
    }
}

impl BindError {
    fn explain_port(&self, port: u16, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "address in use; `ss -ltnp 'sport = :{port}'` shows by whom")
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "this host does not have the address; `ip address` shows which it has")
            }
            io::ErrorKind::PermissionDenied if port < 1024 => {
                write!(f, "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE")
            }
            _ => write!(f, "{}", self.error),
        }
    }

    fn explain_path(&self, path: &Path, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "{}; `ss -xlp src {}` shows which", self.error, path.display())
            }
            io::ErrorKind::AlreadyExists => {
                write!(f, "{}; remove that or choose another path", self.error)
            }
            io::ErrorKind::NotFound => write!(f, "its directory does not exist; create it first"),
            io::ErrorKind::PermissionDenied => {
                write!(f, "permission denied; the process needs write permission for its directory")
            }
            _ => write!(f, "{}", self.error),
        }
    }
}

/// Binds every listener for all cores, and admin once.
pub(crate) fn bind(snapshot: &Snapshot, cores: usize) -> Result<Bound, BindError> {
    let mut per_core: Vec<Vec<_>> = (0..cores).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    let mut socket_files = SocketFiles::default();
    for (id, listener) in (0..).map(ListenerId).zip(&snapshot.listeners) {
        let (sockets, address) = match &listener.bind {
            BindAddress::Tcp(address) => bind_tcp(listener, *address, cores)?,
            BindAddress::Unix { path, mode } => {
                let (sockets, file) = bind_path(listener, path, *mode, cores)?;
                let files = &mut socket_files;
                if listener.internal { &mut files.until_end } else { &mut files.until_drain }.push(file);
                (sockets, Address::Unix(Arc::from(&**path)))
            }
        };
        addresses.push(address);
        for (core, socket) in per_core.iter_mut().zip(sockets) {
            core.push((id, socket));
        }
    }
    let admin = snapshot.admin.as_ref().map(|admin| bind_admin(admin.bind)).transpose()?;
    Ok(Bound { per_core, addresses: addresses.into(), socket_files, admin })
}

/// A socket of its own for each core.
fn bind_tcp(
    listener: &Listener,
    address: SocketAddr,
    cores: usize,
) -> Result<(Vec<Handle>, Address), BindError> {
    let failed = |error| BindError { address: address.into(), owner: owner(listener), error };
    let sockets = bind_per_core(address, listener.backlog, cores).map_err(failed)?;
    let bound = sockets[0].local_addr().map_err(failed)?;
    Ok((sockets.into_iter().map(Handle::from).collect(), bound.into()))
}

/// One socket for all cores.
fn bind_path(
    listener: &Listener,
    path: &Path,
    mode: u32,
    cores: usize,
) -> Result<(Vec<Handle>, SocketFile), BindError> {
    let failed = |error| BindError { address: Address::Unix(path.into()), owner: owner(listener), error };
    let sockets = bind_unix(path, Some(mode), listener.backlog, cores).map_err(failed)?;
    let file = SocketFile::at(path).map_err(failed)?;
    Ok((sockets.into_iter().map(Handle::from).collect(), file))
}

/// The key that asks for a listener's address.
fn owner(listener: &Listener) -> String {
    format!("listener.{}.bind", listener.name)
}

fn bind_admin(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |error| BindError { address: address.into(), owner: "admin.bind".to_owned(), error };
    let socket = TcpListener::bind(address).map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

/// Where an endpoint is, now that the process's own listeners have their ports.
pub(crate) fn address_of(endpoint: &EndpointAddress, listeners: &[Address]) -> Address {
    match endpoint {
        EndpointAddress::Tcp(address) => Address::Tcp(*address),
        EndpointAddress::Unix(path) => Address::Unix(Arc::from(&**path)),
        EndpointAddress::Listener(id) => match &listeners[usize::from(id.0)] {
            Address::Tcp(bound) => Address::Tcp(reachable(*bound)),
            path @ Address::Unix(_) => path.clone(),
        },
    }
}

/// The address under which this host reaches its own listener: loopback for one that listens everywhere.
pub(crate) fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_over_loopback() {
        let check = |bound: &str, expected: &str| {
            assert_eq!(reachable(bound.parse().expect(bound)), expected.parse().expect(expected));
        };
        check("0.0.0.0:80", "127.0.0.1:80");
        check("[::]:80", "[::1]:80");
        check("10.1.2.3:80", "10.1.2.3:80");
    }

    #[test]
    fn each_cause_comes_with_what_to_do() {
        let check = |address: &str, kind: io::ErrorKind, expected: &str| {
            let address = address.parse::<SocketAddr>().expect(address).into();
            let error = BindError { address, owner: "listener.web.bind".to_owned(), error: kind.into() };
            assert_eq!(error.to_string(), expected);
        };
        check(
            "127.0.0.1:8080",
            io::ErrorKind::AddrInUse,
            "cannot listen on 127.0.0.1:8080 (listener.web.bind): address in use; \
             `ss -ltnp 'sport = :8080'` shows by whom",
        );
        check(
            "192.0.2.1:8080",
            io::ErrorKind::AddrNotAvailable,
            "cannot listen on 192.0.2.1:8080 (listener.web.bind): this host does not have the address; \
             `ip address` shows which it has",
        );
        check(
            "[::]:80",
            io::ErrorKind::PermissionDenied,
            "cannot listen on [::]:80 (listener.web.bind): permission denied; \
             ports below 1024 need CAP_NET_BIND_SERVICE",
        );
    }

    #[test]
    fn each_cause_of_a_path_comes_with_what_to_do() {
        let check = |kind: io::ErrorKind, expected: &str| {
            let address = Address::Unix(Path::new("/run/x.sock").into());
            let error = io::Error::new(kind, "the cause");
            let error = BindError { address, owner: "listener.web.bind".to_owned(), error };
            let expected = format!("cannot listen on unix:/run/x.sock (listener.web.bind): {expected}");
            assert_eq!(error.to_string(), expected);
        };
        check(io::ErrorKind::AddrInUse, "the cause; `ss -xlp src /run/x.sock` shows which");
        check(io::ErrorKind::AlreadyExists, "the cause; remove that or choose another path");
        check(io::ErrorKind::NotFound, "its directory does not exist; create it first");
        check(
            io::ErrorKind::PermissionDenied,
            "permission denied; the process needs write permission for its directory",
        );
        check(io::ErrorKind::InvalidInput, "the cause");
    }
}
