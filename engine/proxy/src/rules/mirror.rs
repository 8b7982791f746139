//! Which requests does another upstream get a copy of, and what becomes of its answers? They are dropped.
//!
//! Never lets a client wait for a copy or notice its failure; never copies what may have effects unless that is allowed; never
//! more copies on their way than a core has room for.

use std::rc::Rc;

use config::snapshot::rules::{Mirror, Rules};
use config::snapshot::{ChannelId, Upstream};
use proto::http1::chunked::Mode;
use proto::http1::framing::decide_response_framing;
use proto::http1::head::{Method, Parsed, parse_response};
use proto::http1::persist::{Persistence, decide_upstream};

use super::faults::hits;
use crate::body::Body;
use crate::core_main::CoreState;
use crate::exchange::Route;
use crate::response::{body_limits, head_limits};
use crate::upstream::Connection;
use crate::workspace::Workspace;

/// Copies on their way on one core: with heads of 32 KiB and bodies of 16 KiB, 3 MiB of memory.
const COPIES_MAX: u32 = 64;

/// A copy on its way.
struct Copy {
    state: Rc<CoreState>,
    channel: ChannelId,
    mirror: Mirror,
    method: Method,
    text: Vec<u8>,
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.state.copies.set(self.state.copies.get() - 1);
    }
}

/// Sends a copy of a request that is whole, if it is its turn. `chunk` is what the request came in, with `body_bytes` of its
/// body, and its text is written.
pub(crate) fn mirror(
    state: &CoreState,
    route: &Route<'_>,
    rules: &Rules,
    chunk: &[u8],
    body_bytes: usize,
    work: &Workspace,
) {
    let Some(mirror) = rules.mirror.filter(|mirror| hits(state, mirror.percent)) else { return };
    let request = &work.request;
    let is_allowed = mirror.unsafe_methods || request.method.is_safe();
    let body = &chunk[request.head_bytes as usize..];
    let beside: usize = work.ranges.iter().map(|range| range.len()).sum();
    let is_whole = work.body.is_done() && !request.upgrade;
    if !is_allowed || !is_whole || body_bytes > mirror.body_bytes_max || state.copies.get() >= COPIES_MAX {
        return route.counters.mirrors_skipped.add(1);
    }
    let Some(state) = state.myself.get().and_then(std::rc::Weak::upgrade) else { return };
    let mut text = Vec::with_capacity(work.request_text.len() + beside);
    text.extend_from_slice(&work.request_text);
    work.ranges.iter().for_each(|range| text.extend_from_slice(&body[range.clone()]));
    state.copies.set(state.copies.get() + 1);
    let copy = Copy { state: Rc::clone(&state), channel: route.id, mirror, method: request.method, text };
    state.core.spawn(send(copy));
}

async fn send(copy: Copy) {
    let state = &copy.state;
    let counters = &state.stats.channels[usize::from(copy.channel.0)];
    let settings = &state.snapshot.upstreams[usize::from(copy.mirror.upstream.0)];
    match carry(&copy, settings).await {
        Some(connection) => {
            counters.mirrored.add(1);
            if let Some(connection) = connection {
                state.upstreams.keep(connection);
            }
        }
        None => counters.mirror_failures.add(1),
    }
}

/// Sends a copy and reads the answer to its end. `None` if either fails; the connection if it serves another request.
async fn carry(copy: &Copy, settings: &Upstream) -> Option<Option<Connection>> {
    let Copy { state, mirror, method, text, .. } = copy;
    // One deadline for all of it: nobody waits for the answer.
    let timeouts = &settings.timeouts;
    let deadline = state.core.now() + timeouts.connect + timeouts.first_byte + timeouts.body;
    let connection = state.upstreams.open_for_copy(mirror.upstream, deadline).await?;
    let stream = &connection.stream;
    stream.set_send_deadline(deadline);
    stream.send_all(text).await.ok()?;
    let endpoint = &state.stats.endpoints[usize::from(connection.endpoint.0)];
    endpoint.requests.add(1);
    endpoint.reused.add(u64::from(connection.is_reused));
    stream.set_recv_deadline(deadline);

    let mut space = state.answer_spaces.take();
    let limits = head_limits(settings);
    let mut chunk = stream.recv().await.ok()??;
    loop {
        match parse_response(&chunk, 0, &limits, &mut space.response).ok()? {
            Parsed::Complete if space.response.is_interim() => {
                chunk.consume(space.response.head_bytes as usize);
            }
            Parsed::Complete => break,
            Parsed::Incomplete => {
                let begun = chunk.to_vec();
                drop(chunk);
                chunk = stream.recv_behind(&begun).await.ok()??;
            }
        }
    }
    let framing = decide_response_framing(&space.response, *method);
    let persistence = decide_upstream(&space.response, framing);
    let mut body = Body::of_response(framing, body_limits(settings));
    chunk.consume(space.response.head_bytes as usize);
    let mut at_hand = Some(chunk);
    while !body.is_done() {
        let mut chunk = match at_hand.take().filter(|chunk| !chunk.is_empty()) {
            Some(chunk) => chunk,
            None => match stream.recv().await.ok()? {
                Some(chunk) => chunk,
                None => {
                    body.end().ok()?;
                    break;
                }
            },
        };
        let consumed = body.pass(&chunk, Mode::DataOnly, &mut space.ranges).ok()?;
        chunk.consume(consumed);
        at_hand = Some(chunk);
    }
    let is_surplus = at_hand.is_some_and(|chunk| !chunk.is_empty());
    let is_kept = persistence == Persistence::Keep && !is_surplus && space.response.status != 101;
    Some(is_kept.then_some(connection))
}
