//! How often was each request delivered? Asked of the origin, which counted.
//!
//! Never takes silence for an answer: an origin that does not say is an error, not a clean run.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::{ClientConnection, StreamOwned};
use serde::{Deserialize, Serialize};

use crate::connection::dial::{Address, Destination};
use crate::protocol::http::ids::{REPORT_PATH, RunId};
use crate::units::show_count;

/// Longest wait for the origin's report.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest report; it is a line of numbers.
const REPORT_BYTES_MAX: usize = 64 * 1_024;

/// What one origin counted of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Ids that were delivered once.
    pub(crate) once: u64,
    pub(crate) twice: u64,
    /// Three times or more.
    pub(crate) more: u64,
    /// Deliveries that were not counted, as the origin had no room left.
    pub(crate) uncounted: u64,
}

/// How often the requests of a run were delivered.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Delivery {
    pub(crate) once: u64,
    pub(crate) twice: u64,
    pub(crate) more: u64,
    /// Sent, but not delivered to any origin that was asked.
    pub(crate) never: u64,
    pub(crate) uncounted: u64,
}

impl Delivery {
    /// Puts together what each origin counted of `sent` requests.
    ///
    /// One id that reached two origins counts once at each: then more were delivered than sent, which shows only in
    /// the sum. That many at least were delivered twice.
    pub(crate) fn new(sent: u64, tallies: &[Tally]) -> Self {
        let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
        let (once, twice, more) =
            (sum(|tally| tally.once), sum(|tally| tally.twice), sum(|tally| tally.more));
        let distinct = once + twice + more;
        let surplus = distinct.saturating_sub(sent);
        Self {
            once: once.saturating_sub(2 * surplus),
            twice: twice + surplus,
            more,
            never: sent.saturating_sub(distinct),
            uncounted: sum(|tally| tally.uncounted),
        }
    }

    /// Whether nothing was delivered twice, as far as anybody knows, which must be all.
    pub(crate) fn is_clean(&self) -> bool {
        self.twice == 0 && self.more == 0 && self.uncounted == 0
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [once, twice, more, never] = [self.once, self.twice, self.more, self.never].map(show_count);
        write!(formatter, "once {once}, twice {twice}, more often {more}, never {never}")?;
        if self.uncounted > 0 {
            let uncounted = show_count(self.uncounted);
            write!(
                formatter,
                "; {uncounted} deliveries not counted: the origin had no room left, start it anew"
            )?;
        }
        Ok(())
    }
}

/// Asks each of `origins` how often it was sent each request of `run`, of which there were `sent`.
///
/// # Errors
/// An origin cannot be reached, or does not count.
pub(crate) fn ask(origins: &[Counting], run: RunId, sent: u64) -> Result<Delivery> {
    let tallies: Vec<Tally> = origins
        .iter()
        .map(|origin| {
            ask_one(origin, run).with_context(|| {
                let host = &origin.authority;
                format!("{host} does not say how often it was sent each request; is it a loadgen origin --ids? Name it with --ids-at")
            })
        })
        .collect::<Result<_>>()?;
    Ok(Delivery::new(sent, &tallies))
}

/// An origin that counts what it is sent.
#[derive(Debug)]
pub(crate) struct Counting {
    /// Host and port.
    pub(crate) authority: String,
    pub(crate) destination: Destination,
}

/// What a question goes over.
trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

/// A connection that waits in the kernel: for a question before or after a run, never within one.
fn reach(destination: &Destination) -> Result<Box<dyn Wire>> {
    let wire: Box<dyn Wire> = match &destination.address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Box::new(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Box::new(stream)
        }
    };
    let Some(trust) = &destination.trust else { return Ok(wire) };
    let session = ClientConnection::new(trust.config.clone(), trust.name.clone())?;
    Ok(Box::new(StreamOwned::new(session, wire)))
}

fn ask_one(origin: &Counting, run: RunId) -> Result<Tally> {
    let mut stream = reach(&origin.destination)?;
    let host = &origin.authority;
    let question = format!("GET {REPORT_PATH}{run} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4_096];
    // The end is where the report is whole, not where the connection ends: whoever passes it on may keep that.
    loop {
        let length = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..length]);
        if let Some(tally) = read_report(&String::from_utf8_lossy(&answer))? {
            return Ok(tally);
        }
        if length == 0 || answer.len() > REPORT_BYTES_MAX {
            bail!("its answer is no report");
        }
    }
}

/// What an answer reports, as far as it was received; `None` when nothing yet.
fn read_report(answer: &str) -> Result<Option<Tally>> {
    let Some((status_line, rest)) = answer.split_once("\r\n") else { return Ok(None) };
    if status_line.split(' ').nth(1) != Some("200") {
        bail!("it answered {status_line}");
    }
    // A report has one pair of braces, whatever framing a gateway puts around it.
    let body = rest.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let Some((start, end)) = body.find('{').zip(body.rfind('}')).filter(|(start, end)| start < end) else {
        return Ok(None);
    };
    serde_json::from_str(&body[start..=end]).map(Some).context("its answer is no report")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(once: u64, twice: u64, more: u64) -> Tally {
        Tally { once, twice, more, uncounted: 0 }
    }

    #[test]
    fn what_was_sent_was_delivered_once_twice_more_often_or_never() {
        let delivery = Delivery::new(10, &[tally(5, 1, 0), tally(1, 0, 1)]);
        assert_eq!(delivery, Delivery { once: 6, twice: 1, more: 1, never: 2, uncounted: 0 });
        assert!(!delivery.is_clean() && Delivery::new(10, &[tally(8, 0, 0)]).is_clean());
        assert_eq!(delivery.to_string(), "once 6, twice 1, more often 1, never 2");
    }

    #[test]
    fn an_id_at_two_origins_is_delivered_twice() {
        let delivery = Delivery::new(10, &[tally(6, 0, 0), tally(5, 0, 0)]);
        assert_eq!(delivery, Delivery { once: 9, twice: 1, more: 0, never: 0, uncounted: 0 });
    }

    #[test]
    fn a_report_is_read_in_any_framing_and_nothing_else_is_one() {
        let report = r#"{"once":3,"twice":1,"more":0,"uncounted":0}"#;
        let chunked = format!("{:x}\r\n{report}\r\n0\r\n\r\n", report.len());
        for body in [report, &chunked] {
            let answer = format!("HTTP/1.1 200 OK\r\nServer: x\r\n\r\n{body}");
            assert_eq!(read_report(&answer).ok(), Some(Some(tally(3, 1, 0))), "{answer}");
        }
        for answer in
            ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nA: b\r\n\r\nxx}x{", "HTTP/1.1 200 OK\r\n\r\n{\"once\""]
        {
            assert!(read_report(answer).is_ok_and(|report| report.is_none()), "{answer}");
        }
        assert!(read_report("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"once\":1}").is_err());
        assert!(read_report("HTTP/1.1 404 No\r\n").is_err_and(|error| error.to_string().contains("404")));
    }

    #[test]
    fn what_was_not_counted_is_not_clean() {
        let delivery = Delivery::new(2, &[Tally { once: 1, uncounted: 1, ..Tally::default() }]);
        assert!(!delivery.is_clean() && delivery.to_string().contains("start it anew"), "{delivery}");
    }
}
