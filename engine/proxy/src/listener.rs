//! Which core serves a connection that was just accepted? This one, unless another is clearly idler.
//!
//! Never moves a connection later: what has begun on a core stays there.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use config::snapshot::ListenerId;
use proto::handoff::{Choice, choose_core};
use runtime::Listener;
use runtime::buffer::Lane;
use socket2::{SockFilter, SockRef};

use crate::client::Client;
use crate::core_main::CoreState;
use crate::message::CoreMessage;
use crate::stats::CoreStats;

/// Connections accepted in a row before other tasks get their turn.
const ACCEPTS_IN_A_ROW: u32 = 32;
/// Pause after a failed accept. The usual cause is that no descriptor is left, and trying at once would only burn
/// the core until a connection ends.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// A filter of the kernel's (classic BPF) that drops segments with SYN, so that no new connection begins.
const WITHOUT_SYN: [SockFilter; 4] = [
    SockFilter::new(0x30, 0, 0, 13),       // load the byte of flags (RFC 9293 §3.1)
    SockFilter::new(0x45, 0, 1, 0x02),     // with SYN go on, without it skip one
    SockFilter::new(0x06, 0, 0, 0),        // drop
    SockFilter::new(0x06, 0, 0, u32::MAX), // keep all of it
];

/// Begins to accept connections: until the core drains, or by an internal listener until its end.
pub(crate) fn open(state: &Rc<CoreState>, id: ListenerId, socket: TcpListener) -> io::Result<()> {
    let queue = socket.try_clone()?;
    let listener = state.core.adopt_listener(socket)?;
    let state = Rc::clone(state);
    let core = state.core.clone();
    if state.listener(id).internal {
        core.spawn(async move { accept_all(&state, id, &listener).await });
    } else {
        state.accepting.set(state.accepting.get() + 1);
        core.spawn(accept_until_drained(state, id, listener, queue));
    }
    Ok(())
}

async fn accept_until_drained(state: Rc<CoreState>, id: ListenerId, listener: Listener, queue: TcpListener) {
    {
        let mut accepting = pin!(accept_all(&state, id, &listener));
        let mut draining = pin!(state.drain.begun());
        poll_fn(|context| match draining.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => accepting.as_mut().poll(context),
        })
        .await;
    }
    // A connection made between the last accept and the close would be reset. Its client had better not get it: it
    // asks again after a second (RFC 6298 §2.1). Where filters are refused that moment remains.
    let _ = SockRef::from(&queue).attach_filter(&WITHOUT_SYN);
    // After another turn the driver has let go of the socket: dropping `queue` closes it at once.
    drop(listener);
    state.core.yield_now().await;
    accept_queued(&state, id, &queue);
    drop(queue);
    state.accepting.set(state.accepting.get() - 1);
}

/// Takes the connections that the kernel has made already; it resets those it still has when the socket closes.
fn accept_queued(state: &Rc<CoreState>, id: ListenerId, queue: &TcpListener) {
    // The kernel lets one more in than the backlog says.
    for _ in 0..=state.listener(id).backlog {
        let (socket, peer) = match queue.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(_) => return,
        };
        state.stats.listeners[usize::from(id.0)].accepted.add(1);
        if socket.set_nonblocking(true).is_ok() {
            adopt(state, socket.into(), peer, id);
        }
    }
}

async fn accept_all(state: &Rc<CoreState>, id: ListenerId, listener: &Listener) {
    loop {
        for _ in 0..ACCEPTS_IN_A_ROW {
            accept_one(state, id, listener).await;
        }
        state.core.yield_now().await;
    }
}

async fn accept_one(state: &Rc<CoreState>, id: ListenerId, listener: &Listener) {
    let counters = &state.stats.listeners[usize::from(id.0)];
    match listener.accept_fd().await {
        Ok(accepted) => {
            counters.accepted.add(1);
            if let Some(fd) = hand_over(state, accepted.fd, accepted.peer, id) {
                adopt(state, fd, accepted.peer, id);
            }
        }
        Err(_) => {
            counters.accept_errors.add(1);
            state.core.sleep(PAUSE_AFTER_ERROR).await;
        }
    }
}

/// Makes a connection this core's; it waits for its first request.
pub(crate) fn adopt(state: &Rc<CoreState>, fd: OwnedFd, peer: SocketAddr, listener: ListenerId) {
    match state.core.adopt(fd, Lane::Accepted) {
        Ok(stream) => Client::new(stream, peer, listener, &state.stats).park(state),
        Err(_) => state.stats.listeners[usize::from(listener.0)].accept_errors.add(1),
    }
}

/// Offers the connection to one other core chosen at random, if that has clearly fewer. Gives it back to stay.
fn hand_over(state: &CoreState, fd: OwnedFd, peer: SocketAddr, listener: ListenerId) -> Option<OwnedFd> {
    let others = state.fellows.len() - 1;
    if others == 0 || !state.snapshot.process.accept_handoff || state.is_draining() {
        return Some(fd);
    }
    let here = state.core.index();
    let nth = (state.core.random() % others as u64) as usize;
    let fellow = &state.fellows[if nth < here { nth } else { nth + 1 }];
    let load = |stats: &CoreStats| u32::try_from(stats.connections_open()).unwrap_or(u32::MAX);
    if choose_core(load(&state.stats), load(&fellow.stats)) == Choice::Keep {
        return Some(fd);
    }
    match fellow.sender.send(CoreMessage::Adopt { fd, peer, listener }) {
        Ok(()) => {
            state.stats.handed_over.add(1);
            None
        }
        Err(CoreMessage::Adopt { fd, .. }) => {
            state.stats.handover_refused.add(1);
            Some(fd)
        }
        Err(_) => unreachable!("the mailbox gives back what it was given"),
    }
}
