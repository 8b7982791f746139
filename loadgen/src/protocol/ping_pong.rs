//! How does one message go over a TCP connection and come back?
//!
//! Never allocates per message, and never takes a byte for right that was not compared.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use runtime::Core;

use crate::connection::transport::Transport;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::protocol::duplex::{Ready, ready};
use crate::protocol::http::response::Fault;
use crate::protocol::message::{Message, filler};
use crate::protocol::{Flaw, Verdict};

/// What is said.
#[derive(Debug)]
pub(crate) struct PingPong {
    /// The messages but for their stamps.
    filler: Arc<[u8]>,
}

impl PingPong {
    /// With messages of so many bytes.
    pub(crate) fn new(message_bytes: usize) -> Self {
        Self { filler: filler(message_bytes).into() }
    }
}

/// What one thread's connections share.
pub(crate) struct Speaker {
    filler: Arc<[u8]>,
    core: Core,
    counts: Arc<Counts>,
}

impl Speaker {
    pub(crate) fn new(ping_pong: &PingPong, core: &Core, counts: &Arc<Counts>) -> Self {
        Self { filler: ping_pong.filler.clone(), core: core.clone(), counts: counts.clone() }
    }
}

/// The messages of one connection.
pub(crate) struct Conversation {
    speaker: Rc<Speaker>,
    message: Message,
    sent: usize,
    received: usize,
}

impl Conversation {
    pub(crate) fn new(speaker: &Rc<Speaker>) -> Self {
        Self { speaker: speaker.clone(), message: Message::new(0), sent: 0, received: 0 }
    }

    /// Sends the next message as far as the kernel takes it at once; [`Self::receive`] sends the rest.
    pub(crate) fn send(&mut self, stream: &Transport) -> io::Result<()> {
        self.message = Message::new(self.speaker.core.random());
        (self.sent, self.received) = (0, 0);
        self.send_more(stream)
    }

    fn send_more(&mut self, stream: &Transport) -> io::Result<()> {
        let filler = &*self.speaker.filler;
        while self.sent < filler.len() {
            let slices = self.message.from(filler, self.sent).map(IoSlice::new);
            // An empty slice in front of the rest would only cost the kernel a look.
            let slices = if slices[0].is_empty() { &slices[1..] } else { &slices };
            match stream.try_send(slices) {
                Ok(sent) => {
                    self.sent += sent;
                    self.speaker.counts.bytes_sent.add(sent as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives the message, sending meanwhile what of it is left to send.
    pub(crate) async fn receive(&mut self, stream: &Transport) -> Verdict {
        match self.await_echo(stream).await {
            Ok(()) => Verdict { flaw: None, persists: true },
            Err(flaw) => Verdict::broken(flaw),
        }
    }

    async fn await_echo(&mut self, stream: &Transport) -> Result<(), Flaw> {
        loop {
            let length = self.speaker.filler.len();
            match ready(stream, self.sent < length).await? {
                Ready::Writable => self.send_more(stream)?,
                Ready::Received(None) => return Err(ended(self.received).into()),
                Ready::Received(Some(chunk)) => {
                    self.speaker.counts.bytes_received.add(chunk.len() as u64);
                    self.compare(&chunk)?;
                }
            }
            if self.received == length && self.sent == length {
                return Ok(());
            }
        }
    }

    fn compare(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Self { speaker, message, sent, received } = self;
        // What was not sent yet cannot have come back.
        let echoed = bytes.len().min(*sent - *received);
        if !message.holds(&speaker.filler, *received, &bytes[..echoed]) {
            let text = "the bytes that came back are not those that were sent";
            return Err(Fault { kind: Failure::WrongEcho, text });
        }
        *received += echoed;
        if echoed < bytes.len() {
            return Err(Fault { kind: Failure::Surplus, text: "more bytes came back than were sent" });
        }
        Ok(())
    }
}

/// What an end means of which so many bytes came before.
fn ended(received: usize) -> Fault {
    match received {
        0 => Fault { kind: Failure::ClosedUnanswered, text: "closed before the first byte came back" },
        _ => Fault { kind: Failure::ClosedEarly, text: "closed within the message that came back" },
    }
}
