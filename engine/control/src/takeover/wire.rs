//! How do messages and sockets get from one process to the other? Over a pair of Unix sockets that keep messages apart.
//!
//! Never waits for longer than it is told to.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use thiserror::Error;

use super::message::{self, BYTES_MAX, Message, SOCKETS_PER_MESSAGE};

/// How long one wait in the kernel is at most: so soon it is seen that nobody wants the answer any more.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a message did not get through.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    /// The other process is gone, or wants no more.
    #[error("the other process has closed the connection")]
    Closed,
    /// Time is over.
    #[error("the other process has said nothing in time")]
    Late,
    /// Whoever waited wants it no more.
    #[error("it was called off")]
    CalledOff,
    /// Nothing that this program says or understands.
    #[error("the other process speaks otherwise than this one")]
    Garbled,
    /// The kernel's refusal.
    #[error("{0}")]
    System(#[from] Errno),
}

/// One end.
#[derive(Debug)]
pub(crate) struct Wire(OwnedFd);

impl Wire {
    /// Two ends. Neither is inherited by whoever is not handed it.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn pair() -> Result<(Self, OwnedFd), Errno> {
        let (here, there) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(here), there))
    }

    /// The end that somebody else has made. It has to be one that keeps messages apart.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn over(socket: OwnedFd) -> Result<Self, Errno> {
        let is_packets = rustix::net::sockopt::socket_type(&socket)? == SocketType::SEQPACKET;
        if is_packets { Ok(Self(socket)) } else { Err(Errno::PROTOTYPE) }
    }

    /// Says something; with it go descriptors of the same sockets, [`SOCKETS_PER_MESSAGE`] at most.
    pub(crate) fn send(&self, message: &Message, sockets: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        let bytes = message::encode(message).ok_or(Errno::MSGSIZE)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_PER_MESSAGE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(Errno::MSGSIZE.into());
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(WireError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a message until a moment, or until it `is_called_off`.
    pub(crate) fn receive(
        &self,
        until: Instant,
        is_called_off: impl Fn() -> bool,
    ) -> Result<(Message, Vec<OwnedFd>), WireError> {
        self.wait(until, is_called_off)?;
        let mut bytes = vec![0; BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_PER_MESSAGE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Ok(received) if received.bytes == 0 => return Err(WireError::Closed),
            Ok(received) => received,
            Err(Errno::CONNRESET) => return Err(WireError::Closed),
            Err(error) => return Err(error.into()),
        };
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                sockets.extend(descriptors);
            }
        }
        // What was cut off is no message, and which sockets are missing cannot be told.
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(WireError::Garbled);
        }
        let message = message::decode(&bytes[..received.bytes]).ok_or(WireError::Garbled)?;
        Ok((message, sockets))
    }

    /// Ends the connection, whoever else has a descriptor of this end.
    pub(crate) fn close(&self) {
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }

    fn wait(&self, until: Instant, is_called_off: impl Fn() -> bool) -> Result<(), WireError> {
        loop {
            if is_called_off() {
                return Err(WireError::CalledOff);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WireError::Late);
            }
            let left = left.min(LOOK_EVERY);
            let left = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
            let socket = self.0.as_fd();
            let mut polled = [PollFd::new(&socket, PollFlags::IN)];
            match poll(&mut polled, Some(&left)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::takeover::message::{Described, Owner, Place};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn pair() -> (Wire, Wire) {
        let (here, there) = Wire::pair().expect("a pair");
        (here, Wire::over(there).expect("of packets"))
    }

    #[test]
    fn sockets_come_with_their_descriptions() {
        let (here, there) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let described =
            Described { owner: Owner::Admin, place: Place::Tcp(address), by_name: false, is_kept: false };
        let sockets = vec![described; SOCKETS_PER_MESSAGE];
        let message = Message::Sockets { version: "1".to_owned(), sockets, more: false };
        here.send(&message, &vec![listener.as_fd(); SOCKETS_PER_MESSAGE]).expect("sent");
        drop(listener);
        let (heard, mut sockets) = there.receive(soon(), || false).expect("a message");
        assert_eq!((heard, sockets.len()), (message, SOCKETS_PER_MESSAGE));
        let listener = TcpListener::from(sockets.remove(0));
        drop(sockets);
        let _client = TcpStream::connect(address).expect("it listens still");
        listener.accept().expect("it is the same socket");
    }

    #[test]
    fn whoever_waits_hears_of_the_end_of_the_other_of_time_and_of_being_called_off() {
        let (here, there) = pair();
        assert!(matches!(there.receive(Instant::now(), || false), Err(WireError::Late)));
        assert!(matches!(there.receive(soon(), || true), Err(WireError::CalledOff)));
        drop(here);
        assert!(matches!(there.receive(soon(), || false), Err(WireError::Closed)));
        assert!(matches!(there.send(&Message::Go, &[]), Err(WireError::Closed)));
    }

    #[test]
    fn noise_is_no_message() {
        let (here, there) = pair();
        for noise in [&b"noise"[..], b"{}", &[b' '; BYTES_MAX + 1]] {
            rustix::net::send(&here.0, noise, SendFlags::NOSIGNAL).expect("sent");
            assert!(matches!(there.receive(soon(), || false), Err(WireError::Garbled)));
        }
        let (stream, _) = UnixStream::pair().expect("a pair");
        Wire::over(stream.into()).expect_err("it does not keep messages apart");
    }
}
