//! Does the next hop see the messages that we saw, no more and no fewer?
//!
//! A connection's bytes go through parser, rewriting and body passing as the data plane does it; what comes out
//! is read again by a strict reader. Never trusts our own parser for the second reading.

use proto::http1::chunked::Mode;
use proto::http1::framing::{Delivery, RequestFraming, ResponseFraming, decide_response_framing};
use proto::http1::head::{Method, Parsed, RequestHead, ResponseHead, Version, parse_request, parse_response};
use proto::http1::persist::{Persistence, decide_downstream, decide_upstream};
use proto::http1::rewrite::rewrite_response;

use crate::chunked::{End, pass};
use crate::naive::{self, Body, Read};
use crate::request::{WIDE, body_of, forward};
use crate::response::{expected_body, plan_of};

/// One message: what its start line says, and its content.
#[derive(Debug, PartialEq)]
struct Message {
    start: Vec<u8>,
    content: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Messages that came to their ends, and what was forwarded, the beginning of a broken one included.
#[derive(Debug, Default)]
struct Relayed {
    messages: Vec<Message>,
    forwarded: Vec<u8>,
}

/// Pipelined requests: the upstream reads those we read.
pub fn request_stream(bytes: &[u8]) {
    let relayed = relay_requests(bytes);
    let mut rest = &relayed.forwarded[..];
    for message in &relayed.messages {
        let Read::Whole(head) = naive::head(rest) else { panic!("no head where {message:?} was") };
        let body = head.declared_body(Body::None).expect("framed beyond doubt");
        let Read::Whole(content) = naive::content(&rest[head.bytes..], body) else {
            panic!("no body where {message:?} was");
        };
        assert_eq!(start_of(&head), message.start);
        assert_content(&content, message);
        rest = &rest[head.bytes + content.bytes..];
    }
    assert_nothing_whole(rest);
}

/// A message whose end is in doubt is not forwarded whole.
fn assert_nothing_whole(rest: &[u8]) {
    if let Read::Whole(head) = naive::head(rest) {
        let body = head.declared_body(Body::None).expect("framed beyond doubt");
        let content = naive::content(&rest[head.bytes..], body);
        assert!(!matches!(content, Read::Whole(_)), "one more than was read: {}", rest.escape_ascii());
    } else {
        assert!(rest.is_empty(), "half a head went on: {}", rest.escape_ascii());
    }
}

fn start_of(head: &naive::Head<'_>) -> Vec<u8> {
    let words = head.words().expect("three words");
    let host = head.values("host").next().expect("a host");
    [words[0], b" ", words[1], b" ", host].concat()
}

fn assert_content(content: &naive::Content<'_>, message: &Message) {
    assert_eq!(content.data, message.content);
    let trailers: Vec<_> =
        content.trailers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    assert_eq!(trailers, message.trailers);
}

fn relay_requests(bytes: &[u8]) -> Relayed {
    let mut relayed = Relayed::default();
    let mut head = RequestHead::new();
    let mut rest = bytes;
    while parse_request(rest, 0, &WIDE, &mut head) == Ok(Parsed::Complete) {
        let head_start = relayed.forwarded.len();
        forward(rest, &head, &mut relayed.forwarded);
        let Read::Whole(sent) = naive::head(&relayed.forwarded[head_start..]) else {
            panic!("forwarded what is no head");
        };
        let start = start_of(&sent);
        assert_eq!(sent.declared_body(Body::None), Some(body_of(head.framing)));
        let is_chunked = head.framing == RequestFraming::Chunked;
        let length = if let RequestFraming::Length(length) = head.framing { length } else { 0 };
        let body = &rest[head.head_bytes as usize..];
        let Some((message, consumed)) = relay_body(start, body, is_chunked, length, &mut relayed.forwarded)
        else {
            break;
        };
        relayed.messages.push(message);
        rest = &body[consumed..];
        if decide_downstream(&head, Delivery::None) == Persistence::Close {
            break;
        }
    }
    relayed
}

/// Passes a body on, and tells what it was if it came to its end.
fn relay_body(
    start: Vec<u8>,
    body: &[u8],
    is_chunked: bool,
    length: u64,
    forwarded: &mut Vec<u8>,
) -> Option<(Message, usize)> {
    if !is_chunked {
        let there = usize::try_from(length).unwrap_or(usize::MAX).min(body.len());
        forwarded.extend_from_slice(&body[..there]);
        let message = Message { start, content: body[..there].to_vec(), trailers: Vec::new() };
        return (there as u64 == length).then_some((message, there));
    }
    let passed = pass(body, Mode::Framed, 16);
    forwarded.extend_from_slice(&passed.bytes);
    let Read::Whole(content) = naive::chunked(&body[..passed.consumed]) else { return None };
    let trailers = content.trailers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let message = Message { start, content: content.data, trailers };
    (passed.end == End::Done).then_some((message, passed.consumed))
}

/// Responses to a row of requests, one by one on one upstream connection: the client reads those we read.
///
/// The first byte says which methods and versions asked, in turn.
pub fn response_stream(bytes: &[u8]) {
    let Some((&dice, mut rest)) = bytes.split_first() else { return };
    let version = if dice & 1 == 0 { Version::Http11 } else { Version::Http10 };
    let method_of = |turn: usize| if dice >> (turn % 7 + 1) & 1 == 0 { Method::Get } else { Method::Head };
    let mut head = ResponseHead::new();
    let mut turn = 0;
    while parse_response(rest, 0, &WIDE, &mut head) == Ok(Parsed::Complete) {
        let method = method_of(turn);
        let consumed = relay_response(rest, &head, method, version);
        let framing = decide_response_framing(&head, method);
        turn += usize::from(!head.is_interim());
        let Some(consumed) = consumed else { break };
        rest = &rest[consumed..];
        if !head.is_interim() && decide_upstream(&head, framing) == Persistence::Close {
            break;
        }
    }
}

/// Passes one response on and reads what was sent; the bytes it took if it came to its end.
fn relay_response(rest: &[u8], head: &ResponseHead, method: Method, version: Version) -> Option<usize> {
    let plan = plan_of(head, method, version);
    let framing = decide_response_framing(head, method);
    let mut sent = Vec::new();
    rewrite_response(rest, head, &plan, &mut sent);
    let head_sent = sent.len();
    let body = &rest[head.head_bytes as usize..];
    let relayed = match framing {
        ResponseFraming::None => relay_body(Vec::new(), body, false, 0, &mut sent),
        ResponseFraming::Length(length) => relay_body(Vec::new(), body, false, length, &mut sent),
        ResponseFraming::Chunked if version == Version::Http11 => {
            relay_body(Vec::new(), body, true, 0, &mut sent)
        }
        // Nothing tells the end but the connection's, which is not in these bytes.
        ResponseFraming::Chunked | ResponseFraming::UntilClose => return None,
    };
    let Read::Whole(seen) = naive::head(&sent) else { panic!("no head to a client") };
    assert_eq!(seen.bytes, head_sent);
    let expected = expected_body(&seen, method).expect("framed beyond doubt");
    let content = naive::content(&sent[head_sent..], expected);
    match (relayed, content) {
        (Some((message, consumed)), Read::Whole(content)) => {
            assert_content(&content, &message);
            assert_eq!(content.bytes, sent.len() - head_sent, "more than the client asked for");
            Some(head.head_bytes as usize + consumed)
        }
        (None, Read::Unfinished | Read::Broken) => None,
        (relayed, content) => panic!("{relayed:?} reached the client as {content:?}"),
    }
}
