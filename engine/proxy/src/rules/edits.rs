//! What becomes of heads on their way, and where is a client sent instead? Fields, paths, `Location`.
//!
//! Never touches a body, nor a head of a channel that has no such rules. What comes in is a head of ours, rewritten already.

use std::cell::RefCell;

use config::snapshot::rules::Rules;
use config::snapshot::{ChannelId, Redirect, Snapshot};
use proto::http1::accept::field_values;
use proto::http1::head::RequestHead;
use proto::http1::path::PathCache;
use proto::template::{Values, render_location};

use crate::client::Client;
use crate::core_main::CoreState;
use crate::exchange::Route;
use crate::tokens;
use crate::workspace::Workspace;

/// What one core needs to write paths anew.
#[derive(Default)]
pub(crate) struct Paths {
    /// By [`ChannelId`]; nothing for channels that change none.
    caches: RefCell<Box<[Option<PathCache>]>>,
    /// Memory to work in.
    path: RefCell<Vec<u8>>,
    /// The same for field lines.
    lines: RefCell<Vec<u8>>,
}

impl Paths {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let cache = |rules: &Rules| rules.path.as_ref().map(|path| path.cache());
        let of = |channel: &config::snapshot::Channel| channel.rules.as_deref().and_then(cache);
        Self { caches: RefCell::new(snapshot.channels.iter().map(of).collect()), ..Self::default() }
    }

    /// Writes the path in the request line that `text` begins with anew; its query stays.
    fn rewrite(&self, channel: ChannelId, rules: &Rules, text: &mut Vec<u8>) {
        let mut caches = self.caches.borrow_mut();
        let (Some(rewrite), Some(cache)) = (&rules.path, &mut caches[usize::from(channel.0)]) else { return };
        let word_end =
            |start: usize| text[start..].iter().position(|&byte| byte == b' ').map(|at| start + at);
        let Some(start) = word_end(0).map(|end| end + 1) else { return };
        let Some(end) = word_end(start) else { return };
        let target = &text[start..end];
        // OPTIONS may ask about the server as a whole: `*`.
        if target.first() != Some(&b'/') {
            return;
        }
        let path_len = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
        let mut path = self.path.borrow_mut();
        rewrite.rewrite(cache, &target[..path_len], &mut path);
        text.splice(start..start + path_len, path.iter().copied());
    }
}

/// Changes a rewritten request, and notes what its answer will need to know of it. `head` is the one received.
pub(crate) fn edit_request(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    rules: &Rules,
    head: &[u8],
    work: &mut Workspace,
) {
    let text = &mut work.request_text;
    note_for_answer(state, client, route, rules, head, &work.request, text);
    if let Some(edits) = &rules.request_edits {
        let mut lines = state.paths.lines.borrow_mut();
        if !edits.is_fixed() {
            let address = client.address();
            let asking = Asking::new(state, client, route, head, &work.request);
            edits.render(&asking.values(address, text), &mut lines);
        }
        edits.apply(&lines, text);
    }
    state.paths.rewrite(route.id, rules, text);
    if rules.token.is_some() {
        let verified = route.held.as_ref().and_then(|held| held.verified.as_ref());
        tokens::announce(verified.and_then(|verified| verified.subject.as_deref()), text);
    }
}

/// Notes what an answer is changed to that depends on its request. `sent` is the head that goes to the endpoint, if one does.
pub(crate) fn note_for_answer(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    rules: &Rules,
    head: &[u8],
    request: &RequestHead,
    sent: &[u8],
) {
    let Some(edits) = rules.answer_edits.as_ref().filter(|edits| !edits.is_fixed()) else { return };
    let address = client.address();
    let mut lines = Vec::new();
    let asking = Asking::new(state, client, route, head, request);
    edits.render(&asking.values(address, sent), &mut lines);
    // Set once: a request is rewritten once.
    let _ = route.answer_lines.set(lines.into());
}

/// Changes a final answer, which may have a body behind its head.
pub(crate) fn edit_answer(route: &Route<'_>, rules: &Rules, text: &mut Vec<u8>) {
    if let Some(edits) = &rules.answer_edits {
        let lines = route.answer_lines.get().map_or(&[][..], |lines| lines);
        edits.apply(lines, text);
    }
}

/// The field line that sends a client elsewhere.
pub(crate) fn location(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    redirect: &Redirect,
    head: &[u8],
    request: &RequestHead,
) -> Vec<u8> {
    let address = client.address();
    let mut url = Vec::new();
    let asking = Asking::new(state, client, route, head, request);
    render_location(&redirect.to, &asking.values(address, &[]), &mut url);
    [b"Location: ", &*url, b"\r\n"].concat()
}

/// A request that puts something into texts.
struct Asking<'a> {
    state: &'a CoreState,
    client: &'a Client,
    route: &'a Route<'a>,
    head: &'a [u8],
    request: &'a RequestHead,
    /// The host of a client of HTTP/1.0 that named none: where it came to.
    host_fallback: String,
}

impl<'a> Asking<'a> {
    fn new(
        state: &'a CoreState,
        client: &'a Client,
        route: &'a Route<'a>,
        head: &'a [u8],
        request: &'a RequestHead,
    ) -> Self {
        let host_fallback = match request.authority(head) {
            Some(_) => String::new(),
            // A Unix socket has a path, which is no authority (RFC 3986 §3.2.2).
            None => {
                let local = client.stream.local_address();
                local.map_or_else(|_| "localhost".to_owned(), |address| address.to_string())
            }
        };
        Self { state, client, route, head, request, host_fallback }
    }

    fn values<'v>(&'v self, address: &'v str, sent: &'v [u8]) -> Values<'v> {
        let path = self.request.path(self.head);
        // Behind a path that is not there `/` stands for it.
        let query = self.request.path_and_query.of(self.head);
        let query = &query[query.iter().position(|&byte| byte == b'?').unwrap_or(query.len())..];
        Values {
            client_address: address.as_bytes(),
            authority: self.request.authority(self.head).unwrap_or(self.host_fallback.as_bytes()),
            path: if path.first() == Some(&b'/') { path } else { b"/" },
            query,
            scheme: if self.client.stream.is_private() { b"https" } else { b"http" },
            method: self.request.method_span.of(self.head),
            request_id: field_values(sent, "X-Request-ID").next().unwrap_or_default(),
            listener: self.client.settings(self.state).name.as_bytes(),
            channel: self.route.channel.name.as_bytes(),
        }
    }
}
