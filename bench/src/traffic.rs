//! What goes over the connections, and what is an answer?
//!
//! It knows what a server must do to be ready, and counts nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// HTTP requests, one after the other over kept connections.
    Kept,
    /// HTTP requests, one after the other over kept connections, most of them with a cookie of the server's: of sessions that
    /// have begun.
    Sessions,
    /// As [`Self::Kept`]; of those who are asked, some write an access log.
    Logged,
    /// HTTP requests, each over a connection of its own.
    Churn,
    /// HTTP requests, one after the other over kept private connections.
    PrivateKept,
    /// HTTP requests, each over a private connection of its own that begins with a full handshake.
    PrivateFull,
    /// HTTP requests, each over a private connection of its own that resumes an earlier session.
    PrivateResumed,
    /// Messages that come back, one after the other over kept connections.
    PingPong,
    /// Bytes from the origin to the client for as long as they are read.
    Bulk,
}

impl Traffic {
    /// Whether it is HTTP.
    #[must_use]
    pub fn is_http(self) -> bool {
        self.behind() == Self::Kept
    }

    /// Whether clients come over TLS.
    #[must_use]
    pub fn is_private(self) -> bool {
        matches!(self, Self::PrivateKept | Self::PrivateFull | Self::PrivateResumed)
    }

    /// Whether every request has a connection of its own.
    #[must_use]
    pub fn is_churn(self) -> bool {
        matches!(self, Self::Churn | Self::PrivateFull | Self::PrivateResumed)
    }

    /// What an origin sees of it: requests over kept connections, in the clear.
    #[must_use]
    pub fn behind(self) -> Self {
        match self {
            Self::Kept
            | Self::Sessions
            | Self::Logged
            | Self::Churn
            | Self::PrivateKept
            | Self::PrivateFull
            | Self::PrivateResumed => Self::Kept,
            Self::PingPong | Self::Bulk => self,
        }
    }

    /// What is counted: one, and many.
    #[must_use]
    pub fn units(self) -> [&'static str; 2] {
        match self {
            Self::Kept | Self::Sessions | Self::Logged | Self::Churn | Self::PrivateKept => {
                ["request", "requests"]
            }
            Self::PrivateFull | Self::PrivateResumed => ["handshake", "handshakes"],
            Self::PingPong => ["exchange", "exchanges"],
            Self::Bulk => ["MiB", "MiB"],
        }
    }

    /// Whether the server at `addr` does its work; replies to HTTP requests have bodies of `body_bytes`.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(self, addr: SocketAddr, body_bytes: usize) -> anyhow::Result<()> {
        let mut stream = connect(addr)?;
        match self {
            Self::Kept | Self::Sessions | Self::Logged | Self::Churn => {
                ask(&mut stream, body_bytes).map(drop)
            }
            // It listens. Whether it serves is seen by the client that warms it up.
            Self::PrivateKept | Self::PrivateFull | Self::PrivateResumed => Ok(()),
            Self::PingPong => {
                stream.write_all(b"ping")?;
                let mut answer = [0; 4];
                stream.read_exact(&mut answer)?;
                ensure!(&answer == b"ping", "answered {answer:?}");
                Ok(())
            }
            Self::Bulk => Ok(stream.read_exact(&mut [0])?),
        }
    }
}

/// Connects, with deadlines.
///
/// # Errors
/// When the connection is not made in time.
pub fn connect(addr: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

/// Sends `GET /` and reads an answer with a body of `body_bytes`, leaving the connection to be used again. Returns its head.
///
/// # Errors
/// When the answer is another.
pub fn ask(stream: &mut TcpStream, body_bytes: usize) -> anyhow::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    let whole = loop {
        let received = stream.read(&mut part)?;
        ensure!(received > 0, "closed in the middle of {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..received]);
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        match head_end.map(|head_end| head_end + 4 + body_bytes) {
            Some(whole) if answer.len() >= whole => break whole,
            Some(_) | None => {}
        }
    };
    let status_line = answer.split(|byte| *byte == b'\r').next().map(String::from_utf8_lossy);
    let status_line = status_line.context("no status line")?;
    ensure!(status_line.starts_with("HTTP/1.1 200"), "answered {status_line:?}");
    ensure!(answer.len() == whole, "{} bytes behind a body of {body_bytes}", answer.len() - whole);
    Ok(String::from_utf8_lossy(&answer[..whole - body_bytes]).into_owned())
}

/// The cookies that a server gives to those who come without one, up to one for each of `endpoints`; the same in
/// appearance, and of no meaning to it, from one that gives none.
///
/// # Errors
/// When it answers otherwise than [`ask`] allows.
pub fn cookies_of(addr: SocketAddr, body_bytes: usize, endpoints: usize) -> anyhow::Result<Vec<String>> {
    const ASKED_MAX: usize = 200;
    let mut stream = connect(addr)?;
    let mut cookies = Vec::new();
    for _ in 0..ASKED_MAX {
        let head = ask(&mut stream, body_bytes)?;
        let set = head.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie:"));
        let Some((_, value)) = set.and_then(|line| line.split_once(':')) else {
            cookies = (0..endpoints).map(|endpoint| format!("corelane={endpoint:064}")).collect();
            break;
        };
        let cookie = value.split(';').next().unwrap_or_default().trim().to_owned();
        if !cookies.contains(&cookie) {
            cookies.push(cookie);
        }
        if cookies.len() == endpoints {
            break;
        }
    }
    Ok(cookies)
}
