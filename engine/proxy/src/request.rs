//! How is a request received, rewritten and sent? The client's side of an exchange, step by step.
//!
//! Never decides where it goes or what follows a failure: [`crate::exchange`] does.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;

use arrayvec::ArrayString;
use config::snapshot::{Channel, Forwarding, ListenerLimits, Upstream, UpstreamId};
use proto::http1::chunked::Limits as BodyLimits;
use proto::http1::head::{Limits, Parsed, RequestHead, parse_request};
use proto::http1::rejected::RequestRejected;
use proto::http1::rewrite::{Proof, RequestPlan, rewrite_request};
use runtime::Chunk;

use crate::address::is_nobodys;
use crate::body::Body;
use crate::client::Client;
use crate::core_main::{CoreState, deadline};
use crate::exchange::Route;
use crate::identity::Identity;
use crate::outcome::{Fault, fault_of};
use crate::relay::{Broken, Coding, Parcel, Way, assemble};
use crate::upstream::Connection;
use crate::workspace::Workspace;

/// Reads a request head whose first bytes are there.
pub(crate) fn read_head(
    state: &CoreState,
    client: &Client,
    bytes: &[u8],
    head: &mut RequestHead,
) -> Result<Parsed, RequestRejected> {
    parse_request(bytes, 0, &limits(&client.settings(state).limits, client.stream.is_private()), head)
}

/// Receives the rest of a request head whose first bytes are there.
pub(crate) async fn receive_head(
    state: &CoreState,
    client: &mut Client,
    mut chunk: Chunk,
    head: &mut RequestHead,
) -> Result<Chunk, Fault> {
    let listener = client.settings(state);
    let limits = limits(&listener.limits, client.stream.is_private());
    let mut examined = 0;
    loop {
        match parse_request(&chunk, examined, &limits, head).map_err(Fault::RequestRejected)? {
            Parsed::Complete => return Ok(chunk),
            Parsed::Incomplete => {}
        }
        if examined == 0 {
            client.stream.set_recv_deadline(state.core.turn_time() + listener.timeouts.head);
        }
        examined = chunk.len();
        // A client that takes its time must not hold a buffer: the beginning waits in memory of its own size.
        let begun = chunk.to_vec();
        drop(chunk);
        chunk = match client.stream.recv_behind(&begun).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Err(Fault::ClientGone),
            Err(error) => return Err(fault_of(&error, Fault::HeadTimeout, Fault::ClientGone)),
        };
        client.counters().bytes_received.add((chunk.len() - begun.len()) as u64);
    }
}

/// The bounds of a head as proto takes them.
fn limits(limits: &ListenerLimits, is_secured: bool) -> Limits {
    Limits {
        head_bytes_max: limits.head.head_bytes_max,
        fields_max: limits.head.fields_max,
        target_bytes_max: limits.target_bytes_max,
        is_secured,
    }
}

/// The bounds of a request body on its way to this channel.
pub(crate) fn body_limits(state: &CoreState, client: &Client, channel: &Channel) -> BodyLimits {
    let limits = &client.settings(state).limits;
    BodyLimits {
        body_bytes_max: channel.body_bytes_max.unwrap_or(limits.body_bytes_max),
        trailer_bytes_max: limits.trailers.bytes_max,
        trailers_max: limits.trailers.count_max,
    }
}

/// Writes the request head that goes to the endpoint in place of the one received.
pub(crate) fn rewrite(
    state: &CoreState,
    client: &Client,
    upstream: UpstreamId,
    head: &[u8],
    work: &mut Workspace,
) {
    let forwarding = &client.settings(state).forwarding;
    let id = forwarding.request_id.then(|| request_id(state));
    let address = client.address();
    let host_fallback = &state.host_fallbacks[usize::from(upstream.0)];
    let plan = RequestPlan {
        client: address,
        scheme: if client.stream.is_private() { "https" } else { "http" },
        is_trusted: is_trusted(forwarding, client),
        x_forwarded_for: forwarding.x_forwarded_for && !address.is_empty(),
        x_forwarded_proto: forwarding.x_forwarded_proto,
        x_forwarded_host: forwarding.x_forwarded_host,
        forwarded: forwarding.forwarded,
        via: forwarding.via.as_deref(),
        request_id: id.as_ref().and_then(|id| std::str::from_utf8(id).ok()),
        host_fallback,
        upgrade: work.request.upgrade,
        expect: true,
        own_cookie: own_cookie(&state.snapshot.upstreams[usize::from(upstream.0)]),
        proof: client.identity.as_deref().map_or(Proof::NotAsked, Identity::proof),
    };
    rewrite_request(head, &work.request, &plan, &mut work.request_text);
}

/// The cookie by which clients come back to their endpoint, where it is not passed on: its value means nothing to anybody else.
fn own_cookie(upstream: &Upstream) -> Option<&[u8]> {
    upstream.sticky.as_ref().filter(|rule| !rule.is_passed).map(|rule| &*rule.cookie)
}

pub(crate) fn is_trusted(forwarding: &Forwarding, client: &Client) -> bool {
    forwarding.trusted.iter().any(|network| network.contains(client.peer.ip())) && !is_nobodys(client.peer)
}

/// An address as text, without port; at most 45 characters (RFC 4291 §2.2). Empty for nobody's.
#[cold]
pub(crate) fn address_text(peer: SocketAddr) -> ArrayString<46> {
    let mut text = ArrayString::new();
    if is_nobodys(peer) {
        return text;
    }
    match peer.ip().to_canonical() {
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
fn request_id(state: &CoreState) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = u128::from(state.core.random()) << 64 | u128::from(state.core.random());
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
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

/// Adds what goes out with the head of the bytes behind it in `chunk`: to the text if it is small, else as
/// `work.ranges`.
pub(crate) fn take_body_at_hand(
    chunk: &Chunk,
    limits: BodyLimits,
    work: &mut Workspace,
) -> Result<AtHand, Fault> {
    let head_bytes = work.request.head_bytes as usize;
    work.body = Body::of_request(work.request.framing, limits);
    let passed = work.body.pass(&chunk[head_bytes..], Coding::AsReceived.mode(), &mut work.ranges);
    let body_bytes = passed.map_err(Fault::of_request_body)?;
    assemble(&chunk[head_bytes..], &mut work.ranges, &mut work.request_text);
    Ok(AtHand { consumed: head_bytes + body_bytes, body_bytes })
}

/// The rewritten head in `work`, with what is at hand of the body.
pub(crate) fn parcel<'a>(work: &'a Workspace, chunk: Chunk, at_hand: &AtHand) -> Parcel<'a> {
    Parcel {
        text: &work.request_text,
        head_bytes: 0,
        chunk: Some(chunk),
        body_start: work.request.head_bytes as usize,
        ranges: &work.ranges,
        coding: Coding::AsReceived,
        consumed: at_hand.consumed,
    }
}

/// The way of a request to its endpoint.
pub(crate) fn way_up<'a>(
    state: &'a CoreState,
    client: &'a Client,
    route: &Route<'a>,
    settings: &Upstream,
    connection: &'a Connection,
) -> Way<'a> {
    let listener = client.counters();
    Way {
        core: &state.core,
        source: &client.stream,
        sink: &connection.stream,
        recv_timeout: client.settings(state).timeouts.body,
        bytes_per_second_min: client.settings(state).limits.body_bytes_per_second_min,
        send_timeout: settings.timeouts.send,
        total: route.total,
        received: Some([&listener.bytes_received, &route.counters.body_bytes_received]),
        sent: None,
        note: client.note.get(),
        set_aside: &state.set_aside,
    }
}

pub(crate) fn send_fault(error: &io::Error) -> Fault {
    fault_of(error, Fault::UpstreamSendTimeout, Fault::UpstreamGone)
}

/// Sends a request whose text is whole once more, over a new connection.
pub(crate) async fn send_again(
    state: &CoreState,
    route: &Route<'_>,
    settings: &Upstream,
    connection: &Connection,
    work: &Workspace,
) -> Result<(), Fault> {
    let limit = deadline(&state.core, settings.timeouts.send, route.total);
    connection.stream.set_send_deadline(limit);
    connection.stream.send_all(&work.request_text).await.map_err(|error| send_fault(&error))?;
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
        Broken::Malformed(rule) => Fault::of_request_body(*rule),
        Broken::Truncated => Fault::ClientGone,
        _ if state.core.now() >= route.total => Fault::TotalTimeout,
        Broken::Slow => Fault::RequestBodySlow,
        Broken::Source(error) => fault_of(error, Fault::RequestBodyTimeout, Fault::ClientGone),
        Broken::Sink(error) => send_fault(error),
    }
}
