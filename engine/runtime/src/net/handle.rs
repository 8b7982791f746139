//! What is one open socket, whatever carries it? The kernel's descriptor, or an end of a simulated connection.
//!
//! Never waits: every call answers at once, `EAGAIN` included.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, ipproto, socket_with, sockopt,
};
use socket2::{SockFilter, SockRef};

#[cfg(feature = "simulation")]
use crate::simulation::Endpoint;

/// A filter of the kernel's (classic BPF) that drops segments with SYN, so that no new connection begins.
const WITHOUT_SYN: [SockFilter; 4] = [
    SockFilter::new(0x30, 0, 0, 13),       // load the byte of flags (RFC 9293 §3.1)
    SockFilter::new(0x45, 0, 1, 0x02),     // with SYN go on, without it skip one
    SockFilter::new(0x06, 0, 0, 0),        // drop
    SockFilter::new(0x06, 0, 0, u32::MAX), // keep all of it
];

/// An open socket that no core watches yet; closed when dropped. May go to another core.
#[derive(Debug)]
pub struct Handle(Carrier);

/// What carries the bytes. Without the feature `simulation` there is one variant, and matching it costs nothing.
#[derive(Debug)]
enum Carrier {
    Kernel(OwnedFd),
    #[cfg(feature = "simulation")]
    Simulated(Endpoint),
}

impl From<OwnedFd> for Handle {
    fn from(fd: OwnedFd) -> Self {
        Self(Carrier::Kernel(fd))
    }
}

impl From<TcpListener> for Handle {
    fn from(listener: TcpListener) -> Self {
        Self(Carrier::Kernel(listener.into()))
    }
}

impl From<UnixListener> for Handle {
    fn from(listener: UnixListener) -> Self {
        Self(Carrier::Kernel(listener.into()))
    }
}

#[cfg(feature = "simulation")]
impl From<Endpoint> for Handle {
    fn from(endpoint: Endpoint) -> Self {
        Self(Carrier::Simulated(endpoint))
    }
}

impl Handle {
    /// Begins a connection of the kernel's; false while it is under way.
    pub(crate) fn connect(address: SocketAddr) -> Result<(Self, bool), Errno> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        let is_made = match rustix::net::connect(&fd, &address) {
            Ok(()) => true,
            Err(Errno::INPROGRESS | Errno::INTR) => false,
            Err(error) => return Err(error),
        };
        Ok((fd.into(), is_made))
    }

    /// Connects to the Unix socket at `path`. That is done at once or not at all: `AGAIN` says that the listener's queue is
    /// full, and nothing will tell when it is not.
    pub(crate) fn connect_unix(path: &Path) -> Result<Self, Errno> {
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&fd, &address)?;
        Ok(fd.into())
    }

    /// The descriptor, for drivers that wait in the kernel.
    pub(crate) fn kernel(&self) -> Result<BorrowedFd<'_>, Errno> {
        match &self.0 {
            Carrier::Kernel(fd) => Ok(fd.as_fd()),
            #[cfg(feature = "simulation")]
            Carrier::Simulated(_) => Err(Errno::BADF),
        }
    }

    /// Another descriptor of the same socket, which lives on when this one is closed.
    ///
    /// # Errors
    /// The kernel's, most often that no descriptor is left; `BADF` of a simulated one.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.kernel()?.try_clone_to_owned()
    }

    /// The end of a simulated connection, for the driver that waits for those.
    #[cfg(feature = "simulation")]
    pub(crate) fn simulated(&self) -> Result<&Endpoint, Errno> {
        match &self.0 {
            Carrier::Kernel(_) => Err(Errno::BADF),
            Carrier::Simulated(endpoint) => Ok(endpoint),
        }
    }

    /// The number of the descriptor, -1 of a simulated one: the kernel refuses that.
    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.kernel().map_or(-1, |fd| fd.as_raw_fd())
    }

    #[inline]
    pub(crate) fn recv(&self, spare: &mut [u8]) -> Result<usize, Errno> {
        match &self.0 {
            Carrier::Kernel(fd) => rustix::net::recv(fd, spare, RecvFlags::DONTWAIT).map(|(_, count)| count),
            #[cfg(feature = "simulation")]
            Carrier::Simulated(endpoint) => endpoint.recv(spare),
        }
    }

    /// Whether there are bytes, or an end, to be received.
    pub(crate) fn has_unread(&self) -> Result<bool, Errno> {
        match &self.0 {
            // Of an end the kernel tells by an event alone.
            Carrier::Kernel(fd) => rustix::io::ioctl_fionread(fd).map(|bytes| bytes > 0),
            #[cfg(feature = "simulation")]
            Carrier::Simulated(endpoint) => endpoint.has_unread(),
        }
    }

    #[inline]
    pub(crate) fn send(&self, slices: &[IoSlice<'_>], more: bool) -> Result<usize, Errno> {
        let mut flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        flags.set(SendFlags::MORE, more);
        match &self.0 {
            Carrier::Kernel(fd) => {
                if let [slice] = slices {
                    rustix::net::send(fd, slice, flags)
                } else {
                    rustix::net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), flags)
                }
            }
            #[cfg(feature = "simulation")]
            Carrier::Simulated(endpoint) => endpoint.send(slices),
        }
    }

    pub(crate) fn shutdown_write(&self) -> Result<(), Errno> {
        match &self.0 {
            Carrier::Kernel(fd) => rustix::net::shutdown(fd, Shutdown::Write),
            #[cfg(feature = "simulation")]
            Carrier::Simulated(endpoint) => endpoint.shutdown_write(),
        }
    }

    /// Lets closing it reset the connection; what has not left by then is lost.
    pub(crate) fn reset_on_close(&self) -> Result<(), Errno> {
        match &self.0 {
            Carrier::Kernel(fd) => sockopt::set_socket_linger(fd, Some(Duration::ZERO)),
            #[cfg(feature = "simulation")]
            Carrier::Simulated(endpoint) => endpoint.reset_on_close(),
        }
    }

    /// Takes a connection of a listening socket, non-blocking.
    pub(crate) fn accept(&self) -> Result<(Self, Option<SocketAddr>), Errno> {
        match &self.0 {
            Carrier::Kernel(fd) => {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let (fd, peer) = rustix::net::acceptfrom_with(fd, flags)?;
                Ok((fd.into(), peer.and_then(|peer| SocketAddr::try_from(peer).ok())))
            }
            #[cfg(feature = "simulation")]
            Carrier::Simulated(endpoint) => {
                endpoint.accept().map(|(endpoint, peer)| (endpoint.into(), Some(peer)))
            }
        }
    }

    /// Lets a listening socket begin no new connection, as far as this machine allows. One at a path refuses them from now on,
    /// by all of its descriptors, and keeps those that wait.
    pub(crate) fn refuse_new(&self) {
        match &self.0 {
            Carrier::Kernel(fd) if sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX) => {
                let _ = rustix::net::shutdown(fd, Shutdown::Read);
            }
            Carrier::Kernel(fd) => {
                let _ = SockRef::from(fd).attach_filter(&WITHOUT_SYN);
            }
            #[cfg(feature = "simulation")]
            Carrier::Simulated(endpoint) => endpoint.refuse_new(),
        }
    }

    /// Lets this many connections wait in the queue of a listening socket; the kernel takes a second listen(2) for that. One that
    /// was only bound listens from then on.
    pub fn set_backlog(&self, backlog: u32) {
        match &self.0 {
            // Refused, the queue stays as long as it was.
            Carrier::Kernel(fd) => {
                let _ = rustix::net::listen(fd, i32::try_from(backlog).unwrap_or(i32::MAX));
            }
            #[cfg(feature = "simulation")]
            Carrier::Simulated(_) => {}
        }
    }

    /// What became of a connection attempt, and what else went wrong since the last call.
    pub(crate) fn take_error(&self) -> Result<(), Errno> {
        match &self.0 {
            Carrier::Kernel(fd) => sockopt::socket_error(fd)?,
            #[cfg(feature = "simulation")]
            Carrier::Simulated(endpoint) => endpoint.take_error(),
        }
    }

    pub(crate) fn peer_address(&self) -> Result<SocketAddr, Errno> {
        match &self.0 {
            Carrier::Kernel(fd) => SocketAddr::try_from(rustix::net::getpeername(fd)?.ok_or(Errno::NOTCONN)?)
                // Its kind is `Unsupported`, which that of AFNOSUPPORT is not.
                .map_err(|_| Errno::OPNOTSUPP),
            #[cfg(feature = "simulation")]
            Carrier::Simulated(endpoint) => endpoint.peer_address(),
        }
    }

    pub(crate) fn local_address(&self) -> Result<SocketAddr, Errno> {
        match &self.0 {
            Carrier::Kernel(fd) => {
                SocketAddr::try_from(rustix::net::getsockname(fd)?).map_err(|_| Errno::OPNOTSUPP)
            }
            #[cfg(feature = "simulation")]
            Carrier::Simulated(endpoint) => endpoint.local_address(),
        }
    }

    pub(crate) fn set_nonblocking(&self) -> Result<(), Errno> {
        match &self.0 {
            Carrier::Kernel(fd) => rustix::io::ioctl_fionbio(fd, true),
            #[cfg(feature = "simulation")]
            Carrier::Simulated(_) => Ok(()),
        }
    }
}

#[cfg(all(test, not(feature = "simulation")))]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_a_descriptor_and_nothing_more() {
        assert_eq!(size_of::<Option<Handle>>(), size_of::<OwnedFd>());
    }
}
