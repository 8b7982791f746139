//! How does a core accept connections? From its own SO_REUSEPORT socket, or from a Unix socket that all cores share.
//!
//! Never decides where a connection is served; see the data plane's hand-off.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

use rustix::io::Errno;

use super::handle::Handle;
use super::stream::Stream;
use crate::buffer::Lane;
use crate::core::Core;

/// A listening socket of one core.
#[derive(Debug)]
pub struct Listener {
    core: Core,
    index: u32,
}

/// An accepted connection that no core has taken over yet.
#[derive(Debug)]
pub struct Accepted {
    /// The non-blocking socket.
    pub fd: Handle,
    /// The client's address; the unspecified one when the kernel did not say, as of a client by a Unix socket.
    pub peer: SocketAddr,
}

impl Listener {
    pub(crate) fn new(core: Core, listener: Handle) -> io::Result<Self> {
        listener.set_nonblocking()?;
        let index = core.io().open(listener, Lane::Accepted)?;
        Ok(Self { core, index })
    }

    /// Waits for a connection, without making it this core's.
    ///
    /// # Errors
    /// Whatever `accept4` said, for example that no descriptor is left: pause before the next call.
    pub async fn accept_fd(&self) -> io::Result<Accepted> {
        let (fd, peer) = poll_fn(|context| self.core.io().poll_accept(self.index, context.waker())).await?;
        Ok(Accepted::new(fd, peer))
    }

    /// Waits for a connection and takes it over.
    ///
    /// # Errors
    /// As [`Self::accept_fd`].
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let Accepted { fd, peer } = self.accept_fd().await?;
        Ok((self.core.adopt(fd, Lane::Accepted)?, peer))
    }

    /// Says how many connections may wait to be accepted, from now on.
    pub fn set_backlog(&self, backlog: u32) {
        self.core.io().fd(self.index).set_backlog(backlog);
    }

    /// Accepts nothing more, and keeps what the kernel has accepted already.
    ///
    /// A connection made between the last accept and the close would be reset. Its client had better not get it: it asks
    /// again after a second (RFC 6298 §2.1). Where filters are refused that moment remains. At a path it is refused, also for
    /// the other cores' listeners: there is one queue, and once it is empty no connection can be in it.
    pub async fn stop(self) -> Backlog {
        let handle = {
            let mut io = self.core.io();
            io.fd(self.index).refuse_new();
            io.give_up(self.index)
        };
        let core = self.core.clone();
        let mut unowned = std::mem::ManuallyDrop::new(self);
        // SAFETY: `unowned` is never touched again and `ManuallyDrop` keeps it from being dropped, so the `Core` inside is
        // dropped here once; the socket's slot was given up above.
        unsafe { std::ptr::drop_in_place(&raw mut unowned.core) };
        // After another turn the driver has let go of the socket: dropping the backlog closes it at once.
        core.yield_now().await;
        Backlog(handle)
    }
}

impl Accepted {
    fn new(fd: Handle, peer: Option<SocketAddr>) -> Self {
        Self { fd, peer: peer.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)) }
    }
}

/// Connections that wait at a listener which has stopped. Those that are still there when it is dropped are reset.
#[derive(Debug)]
pub struct Backlog(Option<Handle>);

impl Iterator for Backlog {
    type Item = Accepted;

    /// The next connection; none when there is none now or it cannot be had.
    fn next(&mut self) -> Option<Accepted> {
        loop {
            match self.0.as_ref()?.accept() {
                Ok((fd, peer)) => return Some(Accepted::new(fd, peer)),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Not merely closed: a Unix socket lives on in other cores, and the driver would go on watching it.
        drop(self.core.io().give_up(self.index));
    }
}

/// Binds one listening socket per core to `address`, all with SO_REUSEPORT.
///
/// Port 0 is chosen by the kernel once, for all of them. The address must not be in use by anybody: a first
/// socket without SO_REUSEPORT makes sure that a second process does not silently share the port.
///
/// # Errors
/// The kernel's, most often `AddrInUse`, `AddrNotAvailable` or `PermissionDenied`.
pub fn bind_per_core(address: SocketAddr, backlog: u32, cores: usize) -> io::Result<Vec<TcpListener>> {
    can_bind(address)?;
    bind_beside(address, backlog, cores)
}

/// Whether [`bind_per_core`] would get `address` now. Nobody can connect meanwhile: nothing listens.
///
/// # Errors
/// What it would say.
pub fn can_bind(address: SocketAddr) -> io::Result<()> {
    bound_socket(address, false).map(drop)
}

/// What [`bind_per_core`] does, for an address at which this process listens already: until those sockets are closed the
/// kernel spreads connections over them and the new ones.
///
/// # Errors
/// The kernel's; `AddrInUse` when others listen there.
pub fn bind_beside(address: SocketAddr, backlog: u32, cores: usize) -> io::Result<Vec<TcpListener>> {
    let mut address = address;
    let mut listeners = Vec::with_capacity(cores);
    for _ in 0..cores {
        let socket = bound_socket(address, true)?;
        let listener: TcpListener = {
            socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
            socket.into()
        };
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// What [`bind_beside`] does, without listening yet: until [`Handle::set_backlog`] nobody is sent there.
///
/// # Errors
/// As [`bind_beside`].
pub fn reserve_beside(address: SocketAddr, count: usize) -> io::Result<Vec<Handle>> {
    (0..count).map(|_| Ok(Handle::from(OwnedFd::from(bound_socket(address, true)?)))).collect()
}

fn bound_socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Inherited by every accepted socket.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn every_core_gets_a_socket_on_the_same_port() {
        let address = "127.0.0.1:0".parse().expect("address");
        let listeners = bind_per_core(address, 16, 3).expect("bind");
        let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().expect("address").port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
    }

    #[test]
    fn a_port_in_use_is_refused_even_when_its_owner_would_share_it() {
        let address = "127.0.0.1:0".parse().expect("address");
        let listeners = bind_per_core(address, 16, 1).expect("bind");
        let taken = listeners[0].local_addr().expect("address");
        for refused in [bind_per_core(taken, 16, 1).map(drop), can_bind(taken)] {
            assert_eq!(refused.expect_err("in use").kind(), io::ErrorKind::AddrInUse);
        }
        let beside = bind_beside(taken, 16, 1).expect("its owner asks");
        assert_eq!(beside[0].local_addr().expect("address"), taken);
    }

    #[test]
    fn nobody_is_sent_to_a_socket_that_is_only_reserved() {
        let address = "127.0.0.1:0".parse().expect("address");
        let listeners = bind_per_core(address, 16, 1).expect("bind");
        let taken = listeners[0].local_addr().expect("address");
        let reserved = reserve_beside(taken, 1).expect("its owner asks");
        drop(listeners);
        assert!(TcpStream::connect(taken).is_err());
        reserved[0].set_backlog(16);
        TcpStream::connect(taken).expect("it listens");
    }
}
