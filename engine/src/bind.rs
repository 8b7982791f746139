//! Which sockets does this process listen on? All of them, bound before anything else begins.
//!
//! Never half: one address that cannot be had, and none is kept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use config::snapshot::{EndpointAddress, ListenerId, Snapshot};
use proxy::address::Address;
use runtime::Handle;
use runtime::net::listener::bind_per_core;

/// The listening sockets of the process.
#[derive(Debug)]
pub(crate) struct Bound {
    /// By core: its own socket of each listener.
    pub(crate) per_core: Vec<Vec<(ListenerId, Handle)>>,
    /// By listener: where it is, the port that the kernel chose included.
    pub(crate) addresses: Box<[SocketAddr]>,
    /// Admin's socket and where it is.
    pub(crate) admin: Option<(TcpListener, SocketAddr)>,
}

/// An address that could not be had.
#[derive(Debug)]
pub(crate) struct BindError {
    address: SocketAddr,
    /// The key or flag that asked for it.
    owner: String,
    error: io::Error,
}

impl std::error::Error for BindError {}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {} ({}): ", self.address, self.owner)?;
        let port = self.address.port();
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
}

/// Binds every listener once for each core, and admin once.
pub(crate) fn bind(snapshot: &Snapshot, cores: usize) -> Result<Bound, BindError> {
    let mut per_core: Vec<Vec<_>> = (0..cores).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for (id, listener) in (0..).map(ListenerId).zip(&snapshot.listeners) {
        let owner = format!("listener.{}.bind", listener.name);
        let address = listener.bind.tcp().expect("Unix sockets are not served yet");
        let failed = |error| BindError { address, owner: owner.clone(), error };
        let sockets = bind_per_core(address, listener.backlog, cores).map_err(failed)?;
        addresses.push(sockets[0].local_addr().map_err(failed)?);
        for (core, socket) in per_core.iter_mut().zip(sockets) {
            core.push((id, socket.into()));
        }
    }
    let admin = snapshot.admin.as_ref().map(|admin| bind_admin(admin.bind)).transpose()?;
    Ok(Bound { per_core, addresses: addresses.into(), admin })
}

fn bind_admin(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |error| BindError { address, owner: "admin.bind".to_owned(), error };
    let socket = TcpListener::bind(address).map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

/// Where each endpoint is, now that the process's own listeners have their ports.
pub(crate) fn endpoint_addresses(snapshot: &Snapshot, listeners: &[SocketAddr]) -> Arc<[Address]> {
    let address = |endpoint: &config::snapshot::Endpoint| match &endpoint.address {
        EndpointAddress::Tcp(address) => Address::Tcp(*address),
        EndpointAddress::Unix(path) => Address::Unix(Arc::from(&**path)),
        EndpointAddress::Listener(id) => Address::Tcp(reachable(listeners[usize::from(id.0)])),
    };
    snapshot.endpoints.iter().map(address).collect()
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
            let address = address.parse().expect(address);
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
}
