//! What stands behind the gateway for what lasts? Long answers, long requests, and connections that say back what they hear.
//!
//! Never sends or takes a byte that its reader cannot check: each follows from its place.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, bail, ensure};

/// Bytes sent and received at a time.
pub(crate) const PIECE: usize = 64 * 1024;

/// Any odd number will do; this one (2^64 divided by the golden ratio) makes no two places near each other alike.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Writes the bytes that belong at `offset`, a multiple of eight.
pub(crate) fn fill(offset: u64, buffer: &mut [u8]) {
    for (place, bytes) in (offset / 8..).zip(buffer.chunks_mut(8)) {
        bytes.copy_from_slice(&place.wrapping_mul(STEP).to_le_bytes()[..bytes.len()]);
    }
}

/// Follows bytes that come, whatever pieces they come in.
#[derive(Debug, Default)]
pub(crate) struct Check {
    offset: u64,
}

impl Check {
    /// Whether these are the next ones.
    pub(crate) fn takes(&mut self, bytes: &[u8]) -> bool {
        let within = (self.offset % 8) as usize;
        let mut expected = vec![0; within + bytes.len()];
        fill(self.offset - within as u64, &mut expected);
        self.offset += bytes.len() as u64;
        expected[within..] == *bytes
    }
}

/// Who answers; as long as the process lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    /// HTTP: `GET /long/BYTES`, `POST`, and any protocol that a request may change to.
    pub(crate) http: SocketAddr,
    /// Says back what it hears.
    pub(crate) echo: SocketAddr,
}

impl Source {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no port left.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let http = serve(|stream| {
            // The other end may be gone at any time.
            let _ = answer(&stream);
        })?;
        let echo = serve(|stream| {
            let _ = repeat(&stream);
        })?;
        Ok(Self { http, echo })
    }
}

fn serve(one: impl Fn(TcpStream) + Clone + Send + 'static) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let one = one.clone();
            thread::spawn(move || one(stream));
        }
    });
    Ok(addr)
}

fn repeat(mut stream: &TcpStream) -> anyhow::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}

fn answer(stream: &TcpStream) -> anyhow::Result<()> {
    let mut reader = BufReader::with_capacity(PIECE, stream);
    let mut writer = stream;
    while let Some(head) = Head::read(&mut reader)? {
        if head.value("upgrade").is_some() {
            writer.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )?;
            let heard = reader.buffer().to_vec();
            writer.write_all(&heard)?;
            return repeat(stream);
        }
        if let Some(length) = head.value("content-length") {
            let is_right = take_body(&mut reader, length.parse()?)?;
            let body = if is_right { "right" } else { "wrong" };
            write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
            continue;
        }
        let target = head.first.split(' ').nth(1).unwrap_or_default();
        let length = target.strip_prefix("/long/").and_then(|length| length.parse().ok()).unwrap_or(0);
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
        send_body(writer, length)?;
    }
    Ok(())
}

fn send_body(mut writer: &TcpStream, length: u64) -> anyhow::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    while offset < length {
        let count = (length - offset).min(PIECE as u64) as usize;
        fill(offset, &mut piece[..count]);
        writer.write_all(&piece[..count])?;
        offset += count as u64;
    }
    Ok(())
}

/// Whether all bytes of a body were the right ones.
fn take_body(reader: &mut BufReader<&TcpStream>, length: u64) -> anyhow::Result<bool> {
    let (mut check, mut is_right, mut left) = (Check::default(), true, length);
    while left > 0 {
        let bytes = reader.fill_buf()?;
        ensure!(!bytes.is_empty(), "the body is cut off");
        let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        is_right &= check.takes(&bytes[..count]);
        reader.consume(count);
        left -= count as u64;
    }
    Ok(is_right)
}

/// The head of a message, as far as anybody here looks at it.
#[derive(Debug)]
pub(crate) struct Head {
    /// The first line.
    pub(crate) first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// The next one; `None` where the connection ends instead.
    pub(crate) fn read(reader: &mut impl std::io::BufRead) -> anyhow::Result<Option<Self>> {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                bail!("the connection ended within a head");
            }
            let line = line.trim_end();
            if line.is_empty() {
                return Ok(Some(Self { first: first.trim_end().to_owned(), fields }));
            }
            let (name, value) = line.split_once(':').with_context(|| format!("no field: {line:?}"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// A field, by its name in small letters.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        self.first.split(' ').nth(1)?.parse().ok()
    }

    /// Whether this is the last answer of its connection.
    pub(crate) fn is_last(&self) -> bool {
        self.value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, fill};

    #[test]
    fn each_byte_follows_from_its_place() {
        let mut whole = vec![0; 1_000];
        fill(0, &mut whole);
        for size in [1, 7, 8, 9, 1_000] {
            let mut check = Check::default();
            assert!(whole.chunks(size).all(|piece| check.takes(piece)), "in pieces of {size}");
        }
        let mut moved = Check::default();
        assert!(moved.takes(&whole[..16]) && !moved.takes(&whole[24..32]));
    }
}
