//! How do bytes go one way as fast as they can, until the time is over?
//!
//! Never holds more than one buffer of them, and never takes for arrived what only the kernel has taken.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use runtime::Core;

use crate::client::end::End;
use crate::connection::transport::Transport;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::protocol::duplex::{Ready, ready};
use crate::protocol::http::response::Fault;
use crate::protocol::{Flaw, Verdict};

/// Handed to the kernel at once: what a socket's send buffer takes by default on most machines.
const PIECE_BYTES: usize = 64 * 1024;
static PIECE: [u8; PIECE_BYTES] = [b'x'; PIECE_BYTES];

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// We do.
    Send,
    /// The server does.
    Receive,
}

/// What goes over every connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OneWay {
    pub(crate) direction: Direction,
    /// Longest silence.
    pub(crate) timeout: Duration,
}

/// What one thread's connections share.
pub(crate) struct Speaker {
    one_way: OneWay,
    core: Core,
    counts: Arc<Counts>,
    end: Rc<End>,
}

impl Speaker {
    pub(crate) fn new(one_way: OneWay, core: &Core, counts: &Arc<Counts>, end: &Rc<End>) -> Self {
        Self { one_way, core: core.clone(), counts: counts.clone(), end: end.clone() }
    }
}

/// The stream of one connection.
pub(crate) struct Conversation {
    speaker: Rc<Speaker>,
}

impl Conversation {
    pub(crate) fn new(speaker: &Rc<Speaker>) -> Self {
        Self { speaker: speaker.clone() }
    }

    /// Lets the bytes go until the end.
    pub(crate) async fn receive(&mut self, stream: &Transport) -> Verdict {
        let outcome = match self.speaker.one_way.direction {
            Direction::Send => self.pour(stream).await,
            Direction::Receive => self.drain(stream).await,
        };
        Verdict { flaw: outcome.err(), persists: false }
    }

    async fn pour(&self, stream: &Transport) -> Result<(), Flaw> {
        let Speaker { core, counts, end, .. } = &*self.speaker;
        while !end.is_reached() {
            match stream.try_send(&[IoSlice::new(&PIECE)]) {
                Ok(sent) => {
                    counts.bytes_sent.add(sent as u64);
                    core.yield_now().await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.wait(stream, true).await? {
                        Some(Ready::Received(None)) => {
                            let text = "closed by the server, which was to receive";
                            return Err(Fault { kind: Failure::ClosedEarly, text }.into());
                        }
                        Some(Ready::Received(Some(chunk))) => counts.bytes_received.add(chunk.len() as u64),
                        Some(Ready::Writable) | None => {}
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        // What was sent has arrived once the server closes, too.
        stream.shutdown_write().await?;
        stream.set_deadline(core.now() + self.speaker.one_way.timeout);
        while let Some(chunk) = stream.recv().await? {
            counts.bytes_received.add(chunk.len() as u64);
            core.yield_now().await;
        }
        Ok(())
    }

    async fn drain(&self, stream: &Transport) -> Result<(), Flaw> {
        let Speaker { core, counts, .. } = &*self.speaker;
        let mut has_begun = false;
        while let Some(ready) = self.wait(stream, false).await? {
            match ready {
                Ready::Received(Some(chunk)) => {
                    has_begun = true;
                    counts.bytes_received.add(chunk.len() as u64);
                }
                // It had no more to send.
                Ready::Received(None) if has_begun => return Ok(()),
                Ready::Received(None) => {
                    let text = "closed by the server, which was to send";
                    return Err(Fault { kind: Failure::ClosedUnanswered, text }.into());
                }
                Ready::Writable => {}
            }
            core.yield_now().await;
        }
        Ok(())
    }

    /// Waits as [`ready`] does, but not past the end: then it is `None`.
    async fn wait(&self, stream: &Transport, to_send: bool) -> io::Result<Option<Ready>> {
        let Speaker { core, end, one_way, .. } = &*self.speaker;
        stream.set_deadline(core.now() + one_way.timeout);
        let mut ready = pin!(ready(stream, to_send));
        poll_fn(|context| {
            if end.poll_reached(context).is_ready() {
                return Poll::Ready(Ok(None));
            }
            ready.as_mut().poll(context).map_ok(Some)
        })
        .await
    }
}
