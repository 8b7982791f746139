//! What goes over one TCP connection, byte by byte? The raw end of a client or an origin.
//!
//! Never waits longer than [`PATIENCE`], and never sends anything a test did not spell.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::message::{BodyEnd, Framing, Head, Message, parse_field};

/// A TCP connection with a deadline on every read and write.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Arc<TcpStream>,
    /// Keys, once they are agreed on.
    private: Option<Mutex<rustls::Connection>>,
    /// Received, not yet looked at.
    unread: Vec<u8>,
}

impl Connection {
    /// A client's connection.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the listener accepts");
        Self::over(Arc::new(stream))
    }

    /// Whether a connection to `address` ends before a byte comes. That may be before it is known to be made.
    pub(crate) fn is_sent_away(address: SocketAddr) -> bool {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => Self::over(Arc::new(stream)).bytes(1).is_empty(),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    pub(crate) fn over(stream: Arc<TcpStream>) -> Self {
        // Each write is a segment of its own: tests split messages on purpose.
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read deadline");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write deadline");
        Self { stream, private: None, unread: Vec::new() }
    }

    /// The same connection made a private one.
    pub(crate) fn agree(mut self, private: impl Into<rustls::Connection>) -> io::Result<Self> {
        self.agree_in_place(private)?;
        Ok(self)
    }

    pub(crate) fn agree_in_place(&mut self, private: impl Into<rustls::Connection>) -> io::Result<()> {
        let mut private = private.into();
        while private.is_handshaking() {
            private.complete_io(&mut &*self.stream)?;
        }
        private.set_buffer_limit(None);
        self.private = Some(Mutex::new(private));
        Ok(())
    }

    fn private(&self) -> Option<MutexGuard<'_, rustls::Connection>> {
        self.private.as_ref().map(|private| private.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks something of the keys that were agreed on.
    pub(crate) fn agreed<T>(&self, ask: impl FnOnce(&rustls::Connection) -> T) -> T {
        ask(&self.private().expect("a private connection"))
    }

    /// Says that nothing more follows, and goes on receiving.
    pub(crate) fn say_end(&self) {
        if let Some(mut private) = self.private() {
            private.send_close_notify();
            let _ = transmit(&mut private, &self.stream);
        }
        self.finish();
    }

    /// Reads to the end; whether that was said, by close_notify.
    #[track_caller]
    pub(crate) fn ends_as_said(&mut self) -> bool {
        while self.receive() > 0 {}
        let mut private = self.private().expect("a private connection");
        private.reader().read(&mut [0]).is_ok_and(|count| count == 0)
    }

    /// For reading and writing at the same time.
    pub(crate) fn sender(&self) -> Sender {
        Sender(Arc::clone(&self.stream))
    }

    /// Sends in one write. False when the other end is gone.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> bool {
        match self.private() {
            Some(mut private) => {
                private.writer().write_all(bytes.as_ref()).is_ok()
                    && transmit(&mut private, &self.stream).is_ok()
            }
            None => (&*self.stream).write_all(bytes.as_ref()).is_ok(),
        }
    }

    /// Sends in pieces of at most `piece` bytes, each its own segment.
    pub(crate) fn send_split(&self, bytes: impl AsRef<[u8]>, piece: usize) -> bool {
        bytes.as_ref().chunks(piece).all(|piece| self.send(piece))
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Makes the connection end with a reset instead of a FIN, once it is dropped.
    pub(crate) fn reset_when_dropped(&self) {
        let linger = socket2::SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
        linger.expect("SO_LINGER");
    }

    /// Sends a request and reads the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: &str) -> Message {
        assert!(self.send(request), "the connection is gone");
        self.response_to(request.split(' ').next().expect("a method"))
    }

    /// Sends a GET and reads the answer.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Message {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    /// Reads a response to a GET or POST.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Message {
        self.response_to("GET")
    }

    /// Reads a response to a request with `method`.
    #[track_caller]
    pub(crate) fn response_to(&mut self, method: &str) -> Message {
        let head = self.head().expect("a response");
        let framing = head.response_framing(method);
        self.message(head, framing)
    }

    /// Reads a request; `None` when the connection ends before its head does.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let head = self.head()?;
        let framing = head.request_framing();
        Some(self.message(head, framing))
    }

    fn message(&mut self, head: Head, framing: Framing) -> Message {
        let mut body = Vec::new();
        let end = self.body(framing, |bytes| body.extend_from_slice(bytes));
        Message { head, body, end }
    }

    /// Reads a head; `None` when the connection ends before it does.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Option<Head> {
        let end = b"\r\n\r\n";
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end) {
                let raw: Vec<u8> = self.unread.drain(..at + end.len()).collect();
                return Some(Head::parse(&raw));
            }
            if self.receive() == 0 {
                return None;
            }
        }
    }

    /// Reads a body and hands its content over as it comes.
    pub(crate) fn body(&mut self, framing: Framing, mut take: impl FnMut(&[u8])) -> BodyEnd {
        let mut end = BodyEnd::default();
        match framing {
            Framing::Length(bytes) => {
                end.length = self.exactly(bytes, &mut take);
                end.is_complete = end.length == bytes;
            }
            Framing::UntilClose => {
                end.length = self.exactly(u64::MAX, &mut take);
                end.is_complete = true;
            }
            Framing::Chunked => end.is_complete = self.chunks(&mut end, &mut take).is_some(),
        }
        end
    }

    /// Reads chunks and trailers; `None` when the connection ends too early.
    fn chunks(&mut self, end: &mut BodyEnd, take: &mut impl FnMut(&[u8])) -> Option<()> {
        loop {
            let line = self.line()?;
            let is_hex = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_hex, "no chunk size, or an extension passed on: {line:?}");
            let size = u64::from_str_radix(&line, 16).expect("a chunk size");
            if size == 0 {
                break;
            }
            let length = self.exactly(size, take);
            end.length += length;
            let line_end = (length == size).then(|| self.line())??;
            assert!(line_end.is_empty(), "after a chunk's data: {line_end:?}");
        }
        loop {
            match self.line()? {
                line if line.is_empty() => return Some(()),
                line => end.trailers.push(parse_field(&line)),
            }
        }
    }

    /// A line without its end.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..at + 2).take(at).collect();
                return Some(line.into_iter().map(char::from).collect());
            }
            if self.receive() == 0 {
                return None;
            }
        }
    }

    /// The next bytes, or fewer if the other end closes.
    #[track_caller]
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.exactly(count as u64, &mut |part| bytes.extend_from_slice(part));
        bytes
    }

    /// The address that the other end knows this one by.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("an address")
    }

    /// Hands over `bytes` bytes, or as many as come; says how many.
    fn exactly(&mut self, bytes: u64, take: &mut impl FnMut(&[u8])) -> u64 {
        let mut left = bytes;
        while left > 0 {
            if self.unread.is_empty() && self.receive() == 0 {
                break;
            }
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(self.unread.len());
            take(&self.unread[..part]);
            self.unread.drain(..part);
            left -= part as u64;
        }
        bytes - left
    }

    /// Receives more; 0 when the other end closed or broke the connection.
    #[track_caller]
    fn receive(&mut self) -> usize {
        let mut buffer = [0; 64 * 1024];
        let read = match self.private() {
            Some(mut private) => read_private(&mut private, &self.stream, &mut buffer),
            None => (&*self.stream).read(&mut buffer),
        };
        let received = match read {
            Ok(received) => received,
            Err(error) if is_timeout(&error) => panic!("nothing came; so far: {}", lossy(&self.unread)),
            Err(_) => 0,
        };
        self.unread.extend_from_slice(&buffer[..received]);
        received
    }

    /// Everything until the other end closes.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.receive() > 0 {}
        std::mem::take(&mut self.unread)
    }

    /// Fails unless the other end closes without another byte.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "closed, but not silently: {}", lossy(&rest));
    }

    /// Fails if the other end has closed or said anything until now.
    #[track_caller]
    pub(crate) fn assert_open(&mut self) {
        self.stream.set_nonblocking(true).expect("O_NONBLOCK");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("O_NONBLOCK");
        let is_quiet = peeked.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(is_quiet && self.unread.is_empty(), "not quiet: {peeked:?} {}", lossy(&self.unread));
    }
}

fn transmit(private: &mut rustls::Connection, mut stream: &TcpStream) -> io::Result<()> {
    while private.wants_write() {
        private.write_tls(&mut stream)?;
    }
    Ok(())
}

/// Zero is an end that was said; one that was not is `UnexpectedEof`.
fn read_private(
    private: &mut rustls::Connection,
    mut stream: &TcpStream,
    buffer: &mut [u8],
) -> io::Result<usize> {
    loop {
        match private.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
        private.read_tls(&mut stream)?;
        let opened = private.process_new_packets();
        transmit(private, stream)?;
        opened.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    }
}

/// The sending half of a [`Connection`].
#[derive(Clone, Debug)]
pub(crate) struct Sender(Arc<TcpStream>);

impl Sender {
    /// Sends in one write. False when the other end is gone, or takes nothing for [`PATIENCE`].
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> bool {
        (&*self.0).write_all(bytes.as_ref()).is_ok()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(500)];
    format!("{:?} ({} bytes)", String::from_utf8_lossy(shown), bytes.len())
}

/// Sends requests over one connection after the other, each kept as long as it can be, as long as there are some. Gives back those
/// that were lost although HTTP promises an answer.
pub(crate) fn ask_over(
    connections: impl Iterator<Item = TcpStream>,
    option: &str,
    answered: &AtomicUsize,
    goes_on: impl Fn() -> bool,
) -> Vec<String> {
    // An idle connection may be closed at any time. The engine leaves a request more time than this to arrive.
    const PROMISED: Duration = Duration::from_millis(100);
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\nConnection: {option}\r\n\r\n");
    let mut lost = Vec::new();
    for stream in connections {
        let mut client = Connection::over(Arc::new(stream));
        let mut idle_since = Instant::now();
        while goes_on() {
            client.send(&request);
            let idle = idle_since.elapsed();
            let Some(head) = client.head() else {
                let part = client.rest();
                if !part.is_empty() || idle < PROMISED {
                    lost.push(format!("{option}, idle for {idle:?}: {}", String::from_utf8_lossy(&part)));
                }
                break;
            };
            if !client.body(head.response_framing("GET"), |_| {}).is_complete {
                lost.push(format!("{option}: only a part of the body"));
                break;
            }
            answered.fetch_add(1, Ordering::Relaxed);
            if head.value("Connection") == Some("close") {
                client.assert_closed();
                break;
            }
            idle_since = Instant::now();
        }
    }
    lost
}
