//! Which core serves a connection that was just accepted? This one, unless another is clearly idler.
//!
//! Never moves a connection later: what has begun on a core stays there.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use config::snapshot::ListenerId;
use proto::handoff::{Choice, choose_core};
use runtime::Listener;
use runtime::buffer::Lane;

use crate::client::Client;
use crate::core_main::CoreState;
use crate::message::CoreMessage;

/// Connections accepted in a row before other tasks get their turn.
const ACCEPTS_IN_A_ROW: u32 = 32;
/// Pause after a failed accept. The usual cause is that no descriptor is left, and trying at once would only burn
/// the core until a connection ends.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// Accepts connections until the core drains; the listening socket is closed then.
pub(crate) async fn accept(state: Rc<CoreState>, id: ListenerId, listener: Listener) {
    let mut drained = pin!(state.drain.begun());
    loop {
        let round = async {
            for _ in 0..ACCEPTS_IN_A_ROW {
                accept_one(&state, id, &listener).await;
            }
            state.core.yield_now().await;
        };
        let mut round = pin!(round);
        let stop = poll_fn(|context| {
            if drained.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            round.as_mut().poll(context).map(|()| false)
        });
        if stop.await {
            return;
        }
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
    if others == 0 || !state.snapshot.process.accept_handoff {
        return Some(fd);
    }
    let here = state.core.index();
    let nth = (state.core.random() % others as u64) as usize;
    let fellow = &state.fellows[if nth < here { nth } else { nth + 1 }];
    let load =
        |stats: &crate::stats::CoreStats| u32::try_from(stats.connections_open.value()).unwrap_or(u32::MAX);
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
