//! How does one message go over a WebSocket connection and come back?
//!
//! Never allocates per message, never keeps what came back, and never waits for a server that only pings.

mod echo;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use runtime::{Chunk, Core};

use crate::connection::transport::Transport;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::protocol::duplex::{Ready, ready};
use crate::protocol::http::response::Fault;
use crate::protocol::message::{Message, filler};
use crate::protocol::websocket::echo::{Echo, Event};
use crate::protocol::{Flaw, Verdict};
use crate::target::{Field, Target};
use crate::websocket::frame::{ControlFrame, Header, Kind, apply_mask, write_control, write_header};
use crate::websocket::handshake::{Offer, Refusal};

/// Masked and handed to the kernel at once: as much as a TLS record holds.
const PIECE_BYTES: usize = 16 * 1024;
/// The connection has done what it was for (RFC 6455 §7.4.1).
const CLOSE_NORMAL: u16 = 1000;
/// Reads in which a server may end what it was saying before it closes, too.
const CLOSING_READS_MAX: u32 = 64;

/// What is said.
#[derive(Debug)]
pub(crate) struct WebSocket {
    /// The request's first line and fields, but for those of the handshake itself.
    request: Vec<u8>,
    /// The subprotocols offered in it, separated by commas.
    subprotocols: Vec<u8>,
    /// Text or binary.
    kind: Kind,
    /// The messages but for their stamps.
    filler: Arc<[u8]>,
}

impl WebSocket {
    /// Messages of this kind and of so many bytes, after a handshake with these fields.
    pub(crate) fn new(target: &Target, fields: &[Field], kind: Kind, message_bytes: usize) -> Self {
        let mut request = format!("GET {} HTTP/1.1\r\n", target.path);
        if !fields.iter().any(|field| field.name.eq_ignore_ascii_case("host")) {
            request.push_str(&format!("Host: {}\r\n", target.authority));
        }
        for field in fields {
            request.push_str(&format!("{}: {}\r\n", field.name, field.value));
        }
        let offered = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("sec-websocket-protocol"));
        let subprotocols: Vec<&str> = offered.map(|field| field.value.as_str()).collect();
        Self {
            request: request.into(),
            subprotocols: subprotocols.join(",").into(),
            kind,
            filler: filler(message_bytes).into(),
        }
    }
}

/// What one thread's connections share.
pub(crate) struct Speaker {
    websocket: Arc<WebSocket>,
    core: Core,
    counts: Arc<Counts>,
    /// Where a piece of a message is masked before it is sent. Nothing in it outlives the call that filled it.
    piece: RefCell<Vec<u8>>,
}

impl Speaker {
    pub(crate) fn new(websocket: &Arc<WebSocket>, core: &Core, counts: &Arc<Counts>) -> Self {
        Self {
            websocket: websocket.clone(),
            core: core.clone(),
            counts: counts.clone(),
            piece: RefCell::new(Vec::with_capacity(PIECE_BYTES)),
        }
    }

    /// A mask for one frame. It hides nothing here: all that is sent is our own (RFC 6455 §10.3 protects from scripts).
    fn mask(&self) -> [u8; 4] {
        (self.core.random() as u32).to_ne_bytes()
    }
}

/// The messages of one connection.
pub(crate) struct Conversation {
    speaker: Rc<Speaker>,
    message: Message,
    mask: [u8; 4],
    header: Header,
    /// Bytes of the frame that were sent, its header included.
    sent: usize,
    echo: Echo,
    /// An answer to the latest ping that could not be sent yet; RFC 6455 §5.5.3 lets the earlier ones go unanswered.
    owed: Option<ControlFrame>,
    /// Both sides can still send messages.
    is_alive: bool,
}

impl Conversation {
    pub(crate) fn new(speaker: &Rc<Speaker>) -> Self {
        Self {
            speaker: speaker.clone(),
            message: Message::new(0),
            mask: [0; 4],
            header: Header::new(),
            sent: 0,
            echo: Echo::default(),
            owed: None,
            is_alive: false,
        }
    }

    /// Asks the server to speak WebSocket (RFC 6455 §4.1).
    pub(crate) async fn open(&mut self, stream: &Transport) -> Result<(), Flaw> {
        let Speaker { websocket, counts, .. } = &*self.speaker;
        let offer = Offer::new();
        let request = offer.request(&websocket.request);
        stream.send_all(&request).await?;
        counts.bytes_sent.add(request.len() as u64);
        let mut begun = Vec::new();
        loop {
            let received = stream.recv_behind(&begun).await?;
            let Some(chunk) = received else { return Err(Flaw::Handshake(Refusal::Ended)) };
            counts.bytes_received.add((chunk.len() - begun.len()) as u64);
            match offer.check(&chunk, &websocket.subprotocols).map_err(Flaw::Handshake)? {
                Some(head_bytes) => {
                    self.is_alive = true;
                    // What a server says at once, such as a ping, may have come with its consent.
                    return self.hear(stream, &chunk[head_bytes..]);
                }
                None => begun = chunk.to_vec(),
            }
        }
    }

    /// Sends the next message as far as the kernel takes it at once; [`Self::receive`] sends the rest.
    pub(crate) fn send(&mut self, stream: &Transport) -> io::Result<()> {
        let WebSocket { kind, filler, .. } = &*self.speaker.websocket;
        self.message = Message::new(self.speaker.core.random());
        self.mask = self.speaker.mask();
        self.header = write_header(*kind, true, Some(self.mask), filler.len() as u64);
        self.sent = 0;
        self.echo.expect(*kind);
        self.send_more(stream)
    }

    /// Bytes of the frame that carries the message; none before the first.
    fn frame_bytes(&self) -> usize {
        if self.header.is_empty() { 0 } else { self.header.len() + self.speaker.websocket.filler.len() }
    }

    fn send_more(&mut self, stream: &Transport) -> io::Result<()> {
        let Speaker { websocket, counts, piece, .. } = &*self.speaker;
        while self.sent < self.frame_bytes() {
            let mut piece = piece.borrow_mut();
            piece.clear();
            piece.extend_from_slice(self.header.get(self.sent..).unwrap_or_default());
            let (header_bytes, offset) = (piece.len(), self.sent.saturating_sub(self.header.len()));
            for part in self.message.from(&websocket.filler, offset) {
                let room = PIECE_BYTES - piece.len();
                piece.extend_from_slice(&part[..part.len().min(room)]);
            }
            apply_mask(&mut piece[header_bytes..], self.mask, offset as u64);
            match stream.try_send(&[IoSlice::new(&piece)]) {
                Ok(sent) => {
                    self.sent += sent;
                    counts.bytes_sent.add(sent as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.pay(stream)
    }

    /// Receives the message, sending meanwhile what of it is left to send.
    pub(crate) async fn receive(&mut self, stream: &Transport) -> Verdict {
        match self.await_echo(stream).await {
            Ok(()) => Verdict { flaw: None, persists: self.is_alive },
            Err(flaw) => {
                self.is_alive = false;
                Verdict::broken(flaw)
            }
        }
    }

    async fn await_echo(&mut self, stream: &Transport) -> Result<(), Flaw> {
        loop {
            let ready = match ready(stream, self.sent < self.frame_bytes()).await {
                // A private connection that ended unannounced.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(self.echo.ended().into());
                }
                ready => ready?,
            };
            match ready {
                Ready::Writable => self.send_more(stream)?,
                Ready::Received(None) => return Err(self.echo.ended().into()),
                Ready::Received(Some(chunk)) => {
                    self.speaker.counts.bytes_received.add(chunk.len() as u64);
                    self.hear(stream, &chunk)?;
                }
            }
            if self.echo.is_whole() {
                // A server that sends all of it back has it all.
                return match self.sent == self.frame_bytes() {
                    true => Ok(()),
                    false => Err(wrong_echo().into()),
                };
            }
        }
    }

    /// Takes in what came, and answers pings. The end of the conversation is an error only within a message.
    fn hear(&mut self, stream: &Transport, mut bytes: &[u8]) -> Result<(), Flaw> {
        while !bytes.is_empty() && self.is_alive {
            let filler = &*self.speaker.websocket.filler;
            match self.echo.read(&mut bytes, &self.message, filler)? {
                Event::Nothing => {}
                Event::Ping(payload) => self.answer(stream, Kind::Pong, &payload)?,
                Event::Close(code) => {
                    self.is_alive = false;
                    let payload = code.map(u16::to_be_bytes);
                    self.answer(stream, Kind::Close, payload.as_ref().map_or(&[][..], |code| code))?;
                    if self.echo.is_awaited() {
                        return Err(Flaw::Closed { code, within: self.echo.has_begun() });
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends a control frame, or keeps it while a message is on its way in parts: what came between them would be read as
    /// its payload (RFC 6455 §5.4).
    fn answer(&mut self, stream: &Transport, kind: Kind, payload: &[u8]) -> io::Result<()> {
        self.owed = Some(write_control(kind, payload, Some(self.speaker.mask())));
        if self.sent < self.frame_bytes() { Ok(()) } else { self.pay(stream) }
    }

    /// Sends the control frame that is owed, if there is one and the kernel takes it.
    fn pay(&mut self, stream: &Transport) -> io::Result<()> {
        let Some(frame) = &self.owed else { return Ok(()) };
        match stream.try_send(&[IoSlice::new(frame)]) {
            Ok(sent) if sent == frame.len() => {
                self.speaker.counts.bytes_sent.add(sent as u64);
                self.owed = None;
                Ok(())
            }
            // So short a message is taken whole or not at all; nothing could follow a part of it.
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes in what came between two messages; says whether the connection can go on.
    ///
    /// # Errors
    /// Something came that nobody had asked for.
    pub(crate) fn hear_idle(&mut self, stream: &Transport, chunk: &Chunk) -> Result<bool, Flaw> {
        self.hear(stream, chunk)?;
        Ok(self.is_alive)
    }

    /// Ends the conversation in order (RFC 6455 §7.1.2): says so, and waits for the server to say so, too.
    pub(crate) async fn close(&mut self, stream: &Transport) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_alive, false) {
            return Ok(());
        }
        self.answer(stream, Kind::Close, &CLOSE_NORMAL.to_be_bytes())?;
        // The server closes the connection first, so that its port and not ours is kept waiting (§7.1.1).
        for _ in 0..CLOSING_READS_MAX {
            let Some(chunk) = stream.recv().await? else { break };
            self.speaker.counts.bytes_received.add(chunk.len() as u64);
        }
        Ok(())
    }
}

fn wrong_echo() -> Fault {
    Fault { kind: Failure::WrongEcho, text: "the message that came back is not the one that was sent" }
}
