//! What is under way for longer than one configuration or one process? Downloads, uploads and tunnels, checked byte by byte.
//!
//! Never tries anything again: whatever does not come out as it must is a failure, with when and what.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::source::{Check, Head, PIECE, fill};

/// How long a byte may take that must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// A slow reader's share of the kernel's memory: what is not read is to be with the gateway.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// An idle connection may be closed at any time (RFC 9112 §9.5); a request that follows an answer so soon is promised one.
const PROMISED: Duration = Duration::from_millis(100);

/// What has come of everything.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) downloads: AtomicU64,
    pub(crate) uploads: AtomicU64,
    /// Requests of those who visit a listener that comes and goes.
    pub(crate) visits: AtomicU64,
    /// Tunnels that were opened, said something, and were closed.
    pub(crate) tunnels: AtomicU64,
    failures: Mutex<Vec<String>>,
    pub(crate) is_over: AtomicBool,
    visited: Mutex<Option<SocketAddr>>,
}

impl Account {
    pub(crate) fn fail(&self, what: &str, error: &anyhow::Error) {
        self.failures().push(format!("{what}: {error:#}"));
    }

    pub(crate) fn failures(&self) -> MutexGuard<'_, Vec<String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Says where the listener is that comes and goes.
    pub(crate) fn set_visited(&self, addr: Option<SocketAddr>) {
        *self.visited.lock().unwrap_or_else(PoisonError::into_inner) = addr;
    }

    fn visited(&self) -> Option<SocketAddr> {
        *self.visited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's connection.
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    pub(crate) fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::with_capacity(PIECE, stream) })
    }

    fn writer(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends bytes.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.writer().write_all(bytes)
    }

    /// The next head; `None` where the connection ends instead.
    pub(crate) fn head(&mut self) -> anyhow::Result<Option<Head>> {
        Head::read(&mut self.reader)
    }

    /// The body of an answer, as text.
    pub(crate) fn text(&mut self, head: &Head) -> anyhow::Result<String> {
        let length = head.value("content-length").context("no Content-Length")?.parse()?;
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(String::from_utf8(body)?)
    }

    /// Says `bytes` and hears them again.
    pub(crate) fn echo(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.send(bytes)?;
        let mut heard = vec![0; bytes.len()];
        self.reader.read_exact(&mut heard)?;
        ensure!(heard == bytes, "it says {heard:?} again for {bytes:?}");
        Ok(())
    }

    /// Waits for the end of the connection; false where it was reset.
    pub(crate) fn ends_well(&mut self) -> bool {
        matches!(self.reader.read(&mut [0]), Ok(0))
    }
}

/// A download of `length` bytes that takes about `time`; whether the connection can be used again.
pub(crate) fn download(wire: &mut Wire, length: u64, time: Duration) -> anyhow::Result<bool> {
    set_socket_recv_buffer_size(wire.writer(), RECEIVE_BUFFER)?;
    wire.send(format!("GET /long/{length} HTTP/1.1\r\nHost: proof\r\n\r\n").as_bytes())?;
    let head = wire.head()?.context("no answer")?;
    ensure!(head.status() == Some(200), "{}", head.first);
    ensure!(head.value("content-length") == Some(&*length.to_string()), "another length: {head:?}");
    let (mut check, mut taken, since) = (Check::default(), 0, Instant::now());
    while taken < length {
        let bytes = wire.reader.fill_buf().with_context(|| format!("after {taken} of {length} bytes"))?;
        ensure!(!bytes.is_empty(), "cut off after {taken} of {length} bytes");
        let count = bytes.len().min(usize::try_from(length - taken)?);
        ensure!(check.takes(&bytes[..count]), "wrong bytes behind {taken}");
        wire.reader.consume(count);
        taken += count as u64;
        keep_pace(since, taken, length, time);
    }
    Ok(!head.is_last())
}

/// An upload of `length` bytes that takes about `time`; whether the connection can be used again.
pub(crate) fn upload(wire: &mut Wire, length: u64, time: Duration) -> anyhow::Result<bool> {
    wire.send(format!("POST /up HTTP/1.1\r\nHost: proof\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
    let (mut sent, since, mut piece) = (0, Instant::now(), vec![0; PIECE / 4]);
    while sent < length {
        let count = (length - sent).min(piece.len() as u64) as usize;
        fill(sent, &mut piece[..count]);
        wire.send(&piece[..count]).with_context(|| format!("after {sent} of {length} bytes"))?;
        sent += count as u64;
        keep_pace(since, sent, length, time);
    }
    let head = wire.head()?.context("no answer")?;
    ensure!(head.status() == Some(200), "{}", head.first);
    let said = wire.text(&head)?;
    ensure!(said == "right", "the origin says it got {said} bytes");
    Ok(!head.is_last())
}

/// Waits until it is time for the next byte.
fn keep_pace(since: Instant, done: u64, all: u64, time: Duration) {
    let due = time.mul_f64(done as f64 / all as f64);
    thread::sleep(due.saturating_sub(since.elapsed()));
}

/// One after the other until it is over, over connections that are kept.
pub(crate) fn go_on(
    account: &Account,
    what: &str,
    web: SocketAddr,
    done: &AtomicU64,
    one: impl Fn(&mut Wire) -> anyhow::Result<bool>,
) {
    let mut kept = None;
    while !account.is_over() {
        let outcome = (|| {
            let mut wire = match kept.take() {
                Some(wire) => wire,
                None => Wire::open(web)?,
            };
            if one(&mut wire)? {
                kept = Some(wire);
            }
            anyhow::Ok(())
        })();
        match outcome {
            Ok(()) => done.fetch_add(1, Ordering::Relaxed),
            Err(error) => return account.fail(what, &error),
        };
    }
}

/// A connection whose bytes are only passed on.
pub(crate) struct Tunnel {
    wire: Wire,
    /// For messages.
    pub(crate) name: String,
}

impl Tunnel {
    /// A relayed TCP connection.
    pub(crate) fn tcp(bytes: SocketAddr, number: usize) -> anyhow::Result<Self> {
        let mut tunnel = Self { wire: Wire::open(bytes)?, name: format!("TCP connection {number}") };
        tunnel.say(0)?;
        Ok(tunnel)
    }

    /// A WebSocket, as far as a gateway sees one: what its frames hold is nobody's concern on the way.
    pub(crate) fn websocket(web: SocketAddr, number: usize) -> anyhow::Result<Self> {
        let mut wire = Wire::open(web)?;
        wire.send(b"GET /idle HTTP/1.1\r\nHost: proof\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        let head = wire.head()?.context("no answer")?;
        ensure!(head.status() == Some(101), "{}", head.first);
        let mut tunnel = Self { wire, name: format!("WebSocket {number}") };
        tunnel.say(0)?;
        Ok(tunnel)
    }

    /// Says something that nobody else says, and hears it.
    pub(crate) fn say(&mut self, word: u64) -> anyhow::Result<()> {
        let name = self.name.clone();
        self.wire.echo(format!("{name} says {word}").as_bytes()).context(name)
    }
}

/// Asks, again and again, at the listener that comes and goes.
pub(crate) fn visit(account: &Account) {
    while !account.is_over() {
        let Some(addr) = account.visited() else {
            // It comes back with a later configuration, which nobody announces.
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        // Nobody is there any more, or not yet.
        let Ok(mut wire) = Wire::open(addr) else { continue };
        if let Err(error) = ask_until_told(account, addr, &mut wire) {
            account.fail(&format!("a visit at {addr}"), &error);
        }
    }
}

/// Asks until the gateway says that this is the last answer, or the listener is somewhere else.
fn ask_until_told(account: &Account, addr: SocketAddr, wire: &mut Wire) -> anyhow::Result<()> {
    let mut answered = Instant::now();
    while !account.is_over() && account.visited() == Some(addr) {
        let idle = answered.elapsed();
        let outcome = (|| {
            wire.send(b"GET /visit HTTP/1.1\r\nHost: proof\r\n\r\n")?;
            wire.head()
        })();
        let head = match outcome {
            Ok(Some(head)) => head,
            _ if idle >= PROMISED => return Ok(()),
            Ok(None) => bail!("no answer to a request that came {idle:?} after the last one"),
            Err(error) => return Err(error.context(format!("{idle:?} after the last answer"))),
        };
        wire.text(&head)?;
        account.visits.fetch_add(1, Ordering::Relaxed);
        if head.is_last() {
            ensure!(wire.ends_well(), "reset behind the last answer");
            return Ok(());
        }
        answered = Instant::now();
        // Often enough to meet every end, seldom enough to leave the CPU to others.
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
