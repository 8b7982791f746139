//! What does an endpoint answer to a probe? One request, its answer's status, and as much of the body as is asked about.
//!
//! Never reads on for longer than the caller's deadline or for more than [`ANSWER_BYTES_MAX`], and takes nothing for an answer that
//! a core would not.

use arrayvec::ArrayVec;
use config::snapshot::health::HttpProbe;
use proto::health::body::BODY_BYTES_MAX;
use proto::http1::chunked::{ChunkedScanner, Mode};
use proto::http1::framing::{ResponseFraming, decide_response_framing};
use proto::http1::head::{FIELDS_MAX, Limits, Method, Parsed, ResponseHead, parse_response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::probe::{Wire, what_of};

/// Bytes of the heads of an answer and of those before it (RFC 9110 §15.2).
const HEAD_BYTES_MAX: usize = 64 * 1024 - 1;

/// Bytes read of an answer: heads, and a body with what its chunks are framed by.
const ANSWER_BYTES_MAX: usize = HEAD_BYTES_MAX + 2 * BODY_BYTES_MAX;

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;

/// Asks, and judges what is answered.
///
/// # Errors
/// What is wrong with the answer.
pub(super) async fn ask(wire: &mut dyn Wire, probe: &HttpProbe, address: &str) -> Result<(), String> {
    let request = request(probe, address);
    wire.write_all(request.as_bytes()).await.map_err(|error| what_of(&error))?;
    wire.flush().await.map_err(|error| what_of(&error))?;
    let mut answer = Answer { wire, bytes: Vec::new() };
    let head = answer.head().await?;
    if !probe.statuses.contains(head.status) {
        return Err(format!("status {}", head.status));
    }
    let Some(pattern) = &probe.body else { return Ok(()) };
    let body = answer.body(decide_response_framing(&head, Method::of(probe.method.as_bytes()))).await?;
    if pattern.is_match(&body) {
        return Ok(());
    }
    Err(format!("status {}, and no {:?} in its body", head.status, pattern.as_str()))
}

fn request(probe: &HttpProbe, address: &str) -> String {
    let HttpProbe { method, target, host, .. } = probe;
    let host = host.as_deref().unwrap_or(address);
    // RFC 9110 §8.6: methods that could have a body say that there is none.
    let length = match &**method {
        "POST" | "PUT" | "PATCH" => "Content-Length: 0\r\n",
        _ => "",
    };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: corelane-health\r\n{length}Connection: close\r\n\r\n"
    )
}

/// What has been received and not been dealt with.
struct Answer<'w> {
    wire: &'w mut dyn Wire,
    bytes: Vec<u8>,
}

impl Answer<'_> {
    /// Reads more; false at the end of the connection.
    async fn read(&mut self) -> Result<bool, String> {
        if self.bytes.len() >= ANSWER_BYTES_MAX {
            return Err("the answer is too long".to_owned());
        }
        self.bytes.reserve(READ_BYTES);
        match self.wire.read_buf(&mut self.bytes).await {
            Ok(read) => Ok(read > 0),
            // Peers end a TLS connection without saying so; what a head or its framing ends is whole all the same.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(what_of(&error)),
        }
    }

    /// The head of the final answer.
    async fn head(&mut self) -> Result<ResponseHead, String> {
        let limits = Limits {
            head_bytes_max: HEAD_BYTES_MAX as u32,
            fields_max: FIELDS_MAX as u16,
            target_bytes_max: 0,
            is_secured: false,
        };
        let (mut head, mut examined) = (ResponseHead::new(), 0);
        loop {
            let parsed = parse_response(&self.bytes, examined, &limits, &mut head);
            match parsed.map_err(|rule| format!("malformed answer: {}", rule.name()))? {
                Parsed::Complete => {
                    self.bytes.drain(..head.head_bytes as usize);
                    if !head.is_interim() {
                        return Ok(head);
                    }
                    examined = 0;
                }
                Parsed::Incomplete => {
                    examined = self.bytes.len();
                    if !self.read().await? {
                        return Err("connection closed before an answer".to_owned());
                    }
                }
            }
        }
    }

    /// As much of the body as is looked at.
    async fn body(&mut self, framing: ResponseFraming) -> Result<Vec<u8>, String> {
        let bytes_max = match framing {
            ResponseFraming::None => 0,
            ResponseFraming::Length(bytes) => {
                usize::try_from(bytes).unwrap_or(usize::MAX).min(BODY_BYTES_MAX)
            }
            ResponseFraming::UntilClose => BODY_BYTES_MAX,
            ResponseFraming::Chunked => return self.chunks().await,
        };
        while self.bytes.len() < bytes_max {
            if !self.read().await? {
                if framing == ResponseFraming::UntilClose {
                    break;
                }
                return Err("connection closed within the body".to_owned());
            }
        }
        self.bytes.truncate(bytes_max);
        Ok(std::mem::take(&mut self.bytes))
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let (mut scanner, mut body) = (ChunkedScanner::new(), Vec::new());
        let mut read = 0;
        loop {
            let mut ranges = ArrayVec::<_, 16>::new();
            let scanned = scanner.forward(&self.bytes, Mode::DataOnly, &mut ranges);
            let progress = scanned.map_err(|rule| format!("malformed answer: {}", rule.name()))?;
            for range in ranges {
                body.extend_from_slice(&self.bytes[range]);
            }
            read += progress.consumed;
            self.bytes.drain(..progress.consumed);
            if progress.is_done || body.len() >= BODY_BYTES_MAX {
                body.truncate(BODY_BYTES_MAX);
                return Ok(body);
            }
            if read > ANSWER_BYTES_MAX {
                return Err("the answer is too long".to_owned());
            }
            if self.bytes.is_empty() && !self.read().await? {
                return Err("connection closed within the body".to_owned());
            }
        }
    }
}
