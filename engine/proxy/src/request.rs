//! How is a request received, rewritten and sent? The client's side of an exchange, step by step.
//!
//! Never decides where it goes or what follows a failure: [`crate::exchange`] does.

use std::fmt::Write as _;
use std::io::{self, IoSlice};

use arrayvec::{ArrayString, ArrayVec};
use config::snapshot::{Forwarding, HeadLimits, Upstream};
use proto::http1::chunked::CHUNK_HEADER_BYTES_MAX;
use proto::http1::head::{Limits, Parsed, RequestHead, parse_request};
use proto::http1::rewrite::{PIECES_MAX, RequestPlan, rewrite_request};
use runtime::Chunk;

use crate::body::{Body, RANGES_MAX};
use crate::client::Client;
use crate::core_main::{CoreState, deadline};
use crate::exchange::Route;
use crate::outcome::{Fault, fault_of};
use crate::relay::{Broken, Coding, push_ranges, send_slices};
use crate::upstream::Connection;
use crate::workspace::Workspace;

/// Slices of a head and the beginning of its body, for one vectored send.
pub(crate) type Slices<'a> = ArrayVec<IoSlice<'a>, { PIECES_MAX + RANGES_MAX + 2 }>;

/// A request larger than this is not remembered for being sent again: copying it would cost more than the rare
/// failure it serves.
const REMEMBERED_BYTES_MAX: usize = 8 * 1024;

/// Receives a request head. `None` when the client closes, or stays idle for too long, before its first byte.
pub(crate) async fn receive_head(
    state: &CoreState,
    client: &mut Client,
    head: &mut RequestHead,
) -> Result<Option<Chunk>, Fault> {
    let listener = client.settings(state);
    let counters = &state.stats.listeners[usize::from(client.listener.0)];
    let limits = limits(&listener.limits);
    let mut chunk = match client.unread.take() {
        Some(chunk) => chunk,
        None => match client.stream.recv().await {
            Ok(Some(chunk)) => {
                counters.bytes_received.add(chunk.len() as u64);
                chunk
            }
            Ok(None) => return Ok(None),
            Err(error) => {
                let is_idle = error.kind() == io::ErrorKind::TimedOut;
                counters.idle_timeouts.add(u64::from(is_idle));
                return Ok(None);
            }
        },
    };
    let mut examined = 0;
    while parse_request(&chunk, examined, &limits, head).map_err(Fault::RequestRejected)?
        == Parsed::Incomplete
    {
        if examined == 0 {
            client.stream.set_recv_deadline(state.core.now() + listener.timeouts.head);
        }
        examined = chunk.len();
        match client.stream.recv_into(&mut chunk).await {
            Ok(0) => return Err(Fault::ClientGone),
            Ok(count) => counters.bytes_received.add(count as u64),
            Err(error) => return Err(fault_of(&error, Fault::HeadTimeout, Fault::ClientGone)),
        }
    }
    Ok(Some(chunk))
}

/// The bounds of a head as proto takes them. A target may fill the whole head.
pub(crate) fn limits(limits: &HeadLimits) -> Limits {
    Limits {
        head_bytes_max: limits.head_bytes_max,
        fields_max: limits.fields_max,
        target_bytes_max: limits.head_bytes_max,
    }
}

/// Lists the request that goes to the endpoint in place of the one received.
pub(crate) fn rewrite(
    state: &CoreState,
    client: &Client,
    settings: &Upstream,
    head: &[u8],
    work: &mut Workspace,
) {
    let forwarding = &client.settings(state).forwarding;
    let id = forwarding.request_id.then(|| request_id(state));
    let address = address_text(client);
    let host_fallback = &state.host_fallbacks[usize::from(settings.endpoints_first.0)];
    let plan = RequestPlan {
        client: &address,
        scheme: "http",
        is_trusted: is_trusted(forwarding, client),
        x_forwarded_for: forwarding.x_forwarded_for,
        x_forwarded_proto: forwarding.x_forwarded_proto,
        x_forwarded_host: forwarding.x_forwarded_host,
        forwarded: forwarding.forwarded,
        via: forwarding.via.as_deref(),
        request_id: id.as_ref().map(ArrayString::as_str),
        host_fallback,
        upgrade: false,
        expect: true,
    };
    let rewritten = rewrite_request(head, &work.request, &plan, &mut work.rewritten);
    // The configuration bounds the pseudonym, the other texts are ours.
    rewritten.expect("the texts of a plan are shorter than their bound");
}

fn is_trusted(forwarding: &Forwarding, client: &Client) -> bool {
    forwarding.trusted.iter().any(|network| network.contains(client.peer.ip()))
}

/// The client's address as text, without port; at most 45 characters (RFC 4291 §2.2).
fn address_text(client: &Client) -> ArrayString<46> {
    let mut text = ArrayString::new();
    match client.peer.ip().to_canonical() {
        std::net::IpAddr::V4(address) => {
            // The formatter of the standard library costs as much as parsing the whole head.
            let mut digits = itoa::Buffer::new();
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push('.');
                }
                text.push_str(digits.format(octet));
            }
        }
        std::net::IpAddr::V6(address) => {
            write!(text, "{address}").expect("46 bytes hold any address");
        }
    }
    text
}

/// 128 random bits in hexadecimal.
fn request_id(state: &CoreState) -> ArrayString<32> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = ArrayString::new();
    for half in [state.core.random(), state.core.random()] {
        for byte in half.to_be_bytes() {
            text.push(DIGITS[usize::from(byte >> 4)].into());
            text.push(DIGITS[usize::from(byte & 15)].into());
        }
    }
    text
}

/// What of the body came with the head.
pub(crate) struct AtHand {
    /// Bytes of the chunk, head included, that are dealt with once sent.
    pub(crate) consumed: usize,
    /// Bytes of the body among them.
    pub(crate) body_bytes: usize,
}

/// Lists the stretches of `chunk` behind the head that go out with it, in `work.ranges`.
pub(crate) fn take_body_at_hand(
    body: &mut Body,
    chunk: &Chunk,
    work: &mut Workspace,
) -> Result<AtHand, Fault> {
    let head_bytes = work.request.head_bytes as usize;
    let passed = body.pass(&chunk[head_bytes..], Coding::AsReceived.mode(), &mut work.ranges);
    let body_bytes = passed.map_err(Fault::RequestBodyRejected)?;
    Ok(AtHand { consumed: head_bytes + body_bytes, body_bytes })
}

/// A request that could not be sent.
pub(crate) struct Unsent {
    pub(crate) fault: Fault,
    /// Not a byte of it left.
    pub(crate) is_untouched: bool,
}

/// Sends the rewritten head and the listed stretches of the body, in one go if the kernel takes it.
pub(crate) async fn send(
    state: &CoreState,
    route: &Route<'_>,
    settings: &Upstream,
    connection: &Connection,
    chunk: &Chunk,
    work: &Workspace,
) -> Result<(), Unsent> {
    let mut sent = 0;
    loop {
        match try_send(connection, chunk, work, &mut sent) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => return Err(Unsent { fault: send_fault(&error), is_untouched: sent == 0 }),
        }
        let limit = deadline(&state.core, settings.timeouts.send, route.total);
        connection.stream.set_send_deadline(limit);
        if let Err(error) = connection.stream.writable().await {
            return Err(Unsent { fault: send_fault(&error), is_untouched: false });
        }
    }
}

/// One attempt; true when all of it is gone. Its slices live on the stack, never across a wait.
fn try_send(connection: &Connection, chunk: &Chunk, work: &Workspace, sent: &mut usize) -> io::Result<bool> {
    let body = &chunk[work.request.head_bytes as usize..];
    let mut unused = [0; CHUNK_HEADER_BYTES_MAX];
    let mut slices = Slices::new();
    work.rewritten.slices(chunk, 0, &mut slices);
    push_ranges(body, &work.ranges, Coding::AsReceived, &mut unused, &mut slices);
    send_slices(&connection.stream, &mut slices, sent)
}

fn send_fault(error: &io::Error) -> Fault {
    fault_of(error, Fault::UpstreamSendTimeout, Fault::UpstreamGone)
}

/// Copies the whole request as it was sent, in case that the kept connection turns out to be dead.
pub(crate) fn remember(chunk: &Chunk, work: &mut Workspace) {
    work.text.clear();
    let body = &chunk[work.request.head_bytes as usize..];
    let body_bytes: usize = work.ranges.iter().map(|range| range.len()).sum();
    if work.rewritten.len() + body_bytes > REMEMBERED_BYTES_MAX {
        return;
    }
    let mut slices = Slices::new();
    work.rewritten.slices(chunk, 0, &mut slices);
    slices.iter().for_each(|slice| work.text.extend_from_slice(slice));
    work.ranges.iter().for_each(|range| work.text.extend_from_slice(&body[range.clone()]));
}

/// Sends a remembered request over a new connection.
pub(crate) async fn send_remembered(
    state: &CoreState,
    route: &Route<'_>,
    settings: &Upstream,
    connection: &Connection,
    work: &Workspace,
) -> Result<(), Fault> {
    let limit = deadline(&state.core, settings.timeouts.send, route.total);
    connection.stream.set_send_deadline(limit);
    connection.stream.send_all(&work.text).await.map_err(|error| send_fault(&error))?;
    state.stats.endpoints[usize::from(connection.endpoint.0)].requests.add(1);
    Ok(())
}

/// Counts a request that was sent.
pub(crate) fn count_sent(state: &CoreState, route: &Route<'_>, connection: &Connection, body_bytes: usize) {
    let counters = &state.stats.endpoints[usize::from(connection.endpoint.0)];
    counters.requests.add(1);
    counters.reused.add(u64::from(connection.is_reused));
    route.counters.body_bytes_received.add(body_bytes as u64);
}

/// Whose fault it was that a body did not get up.
pub(crate) fn upload_fault(state: &CoreState, route: &Route<'_>, broken: &Broken) -> Fault {
    match broken {
        Broken::Malformed(rule) => Fault::RequestBodyRejected(*rule),
        Broken::Truncated => Fault::ClientGone,
        _ if state.core.now() >= route.total => Fault::TotalTimeout,
        Broken::Source(error) => fault_of(error, Fault::RequestBodyTimeout, Fault::ClientGone),
        Broken::Sink(error) => send_fault(error),
    }
}
