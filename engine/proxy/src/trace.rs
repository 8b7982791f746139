//! Which trace is this request part of, and what is its endpoint told of it?
//!
//! Never asked where traces are like any field, and never on the word of somebody who is not believed: such a trace begins anew.

use config::snapshot::Tracing;
use proto::http1::field::KnownField;
use proto::http1::head::RequestHead;
use proto::trace::{PARENT_BYTES, Parent, STATE_BYTES_MAX, SpanId, TraceId, combine_state};

use crate::client::Client;
use crate::core_main::CoreState;
use crate::request::is_trusted;
use crate::workspace::Workspace;

/// The two fields, as they are compared: in lower case.
const PARENT: &[u8] = b"traceparent";
const STATE: &[u8] = b"tracestate";

/// What is known of an exchange that is part of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    /// What an endpoint is told: the trace, the span of this exchange, whether it is recorded.
    pub(crate) own: Parent,
    /// The span of whoever asked, where he is believed.
    pub(crate) parent: Option<SpanId>,
    /// What others have said of the trace: passed on as it is.
    state: Vec<u8>,
}

/// The trace of the request that `work` has; what is there of an earlier one is not meant.
pub(crate) fn of<'w>(state: &CoreState, work: &'w Workspace) -> Option<&'w TraceContext> {
    state.snapshot.tracing.and(work.trace.as_ref())
}

/// The trace of the request whose head is `bytes`; `None` if it is part of none, or of one that is none of our business.
pub(crate) fn begin(
    core: &CoreState,
    client: &Client,
    tracing: Tracing,
    bytes: &[u8],
    request: &RequestHead,
) -> Option<TraceContext> {
    let is_believed = tracing.trusts_clients || is_trusted(&client.settings(core).forwarding, client);
    let received = if is_believed { Parent::of(values(bytes, request, PARENT)) } else { None };
    let span = SpanId::from_dice(core.core.random());
    if let Some(Ok(parent)) = received {
        let mut state = Vec::new();
        // One that breaks a rule goes, and the trace goes on without it.
        let _ = combine_state(values(bytes, request, STATE), &mut state);
        return Some(TraceContext { own: Parent { span, ..parent }, parent: Some(parent.span), state });
    }
    let percent = tracing.sample_percent?;
    let trace = TraceId::from_dice(u128::from(core.core.random()) << 64 | u128::from(core.core.random()));
    let is_sampled = core.core.random() % 100 < u64::from(percent);
    Some(TraceContext { own: Parent { trace, span, is_sampled }, parent: None, state: Vec::new() })
}

/// Puts the fields of the trace in the place of those in the head that `text` begins with, which is one of ours.
pub(crate) fn tell(context: &TraceContext, text: &mut Vec<u8>) {
    let mut lines = Vec::with_capacity(PARENT_BYTES + STATE_BYTES_MAX + 32);
    lines.extend_from_slice(b"traceparent: ");
    lines.extend_from_slice(&context.own.text());
    lines.extend_from_slice(b"\r\n");
    if !context.state.is_empty() {
        lines.extend_from_slice(b"tracestate: ");
        lines.extend_from_slice(&context.state);
        lines.extend_from_slice(b"\r\n");
    }
    replace_fields(text, &lines);
}

/// The values of a field of the received head that is not of this hop alone.
fn values<'h>(bytes: &'h [u8], request: &'h RequestHead, name: &'h [u8]) -> impl Iterator<Item = &'h [u8]> {
    let fields = request.fields.iter();
    let named = fields.filter(move |field| {
        field.known == KnownField::Other
            && !field.connection_named
            && field.name.of(bytes).eq_ignore_ascii_case(name)
    });
    named.map(|field| field.value.of(bytes))
}

/// Takes the lines of both fields out of a head and puts `lines` at its end.
fn replace_fields(text: &mut Vec<u8>, lines: &[u8]) {
    let line_end = |text: &[u8], start: usize| {
        text[start..].iter().position(|&byte| byte == b'\n').map(|at| start + at + 1)
    };
    let Some(mut read) = line_end(text, 0) else { return };
    let mut written = read;
    while let Some(end) = line_end(text, read) {
        let line = &text[read..end];
        if line == b"\r\n" {
            break;
        }
        let is_one = |name: &[u8]| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                && line.get(name.len()) == Some(&b':')
        };
        if !is_one(PARENT) && !is_one(STATE) {
            text.copy_within(read..end, written);
            written += end - read;
        }
        read = end;
    }
    text.splice(written..read, lines.iter().copied());
}

#[cfg(test)]
mod tests {
    use std::str;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut out = text.as_bytes().to_vec();
        replace_fields(&mut out, b"traceparent: new\r\n");
        assert_eq!(str::from_utf8(&out), Ok(expected));
    }

    #[test]
    fn both_fields_are_replaced_and_others_stay() {
        check("GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\ntraceparent: new\r\n\r\n");
        check(
            "POST / HTTP/1.1\r\nHost: a\r\nTraceParent:x\r\ntracestate: a=1\r\ntracestate:b=2\r\nX: y\r\n\r\ntraceparent: body",
            "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\ntraceparent: new\r\n\r\ntraceparent: body",
        );
        check(
            "GET / HTTP/1.1\r\ntraceparents: 1\r\ntracestates: 2\r\n\r\n",
            "GET / HTTP/1.1\r\ntraceparents: 1\r\ntracestates: 2\r\ntraceparent: new\r\n\r\n",
        );
    }
}
