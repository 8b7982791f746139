//! What may be said about requests that go out again, wait, or go out twice, and what is said about mistakes in it?

use std::time::Duration;

use config::snapshot::{Queue, Snapshot, Upstream};
use config::{Format, load_str};
use proto::retry::{Cause, Causes};

/// A configuration with one upstream, of which `lines` say more.
fn load(lines: &str) -> Result<Snapshot, String> {
    let text = format!(
        "listener.web.bind = '127.0.0.1:80'\nupstream.u.endpoints = ['10.0.0.1:80']\nchannel.c.upstream = 'u'\n{lines}"
    );
    let loaded = load_str("f", &text, Format::Toml, &|_| None);
    loaded.map(|loaded| loaded.snapshot).map_err(|problems| problems.to_string())
}

#[track_caller]
fn upstream(lines: &str) -> Upstream {
    load(lines).unwrap_or_else(|problems| panic!("{problems}")).upstreams[0].clone()
}

#[track_caller]
fn wrong(lines: &str, expected: &str) {
    assert_eq!(load(lines).expect_err(lines).trim(), expected, "{lines}");
}

#[test]
fn a_request_goes_out_again_after_what_cannot_have_had_an_effect() {
    let retry = upstream("").retry;
    assert_eq!((retry.tries_max, retry.budget_percent), (3, 20));
    assert_eq!(retry.causes, Causes::NONE.with(Cause::Connect).with(Cause::Reset));
    assert!(retry.statuses.is_empty());
}

#[test]
fn causes_are_words_and_statuses() {
    let retry =
        upstream("upstream.u.retry = { tries = 5, budget = '0%', on = ['timeout', '503', '429'] }").retry;
    assert_eq!((retry.tries_max, retry.budget_percent), (5, 0));
    assert_eq!(retry.causes, Causes::NONE.with(Cause::Timeout).with(Cause::Status));
    assert_eq!(*retry.statuses, [503, 429]);
    assert_eq!(upstream("upstream.u.retry.on = []").retry.causes, Causes::NONE);
}

#[test]
fn a_queue_has_a_size_and_a_deadline_whatever_is_written() {
    let queue = |lines| upstream(lines).queue;
    assert_eq!(queue(""), Queue { requests_max: 1024, timeout: Duration::from_secs(1) });
    let written = "upstream.u.queue = { size = 0, timeout = '5ms' }";
    assert_eq!(queue(written), Queue { requests_max: 0, timeout: Duration::from_millis(5) });
}

#[test]
fn what_an_upstream_is_asked_at_a_time_is_unbounded_unless_written() {
    let bounds = |lines| {
        let upstream = upstream(lines);
        (upstream.in_flight_max, upstream.pending_max)
    };
    assert_eq!(bounds(""), (None, None));
    assert_eq!(bounds("upstream.u.limits = { in_flight = 10, pending = 2 }"), (Some(10), Some(2)));
}

#[test]
fn a_second_copy_goes_out_where_a_channel_says_so() {
    let after = |lines| load(lines).unwrap_or_else(|problems| panic!("{problems}")).channels[0].hedge_after;
    assert_eq!(after(""), None);
    assert_eq!(after("channel.c.hedge.after = '100ms'"), Some(Duration::from_millis(100)));
}

#[test]
fn names_mistakes() {
    wrong(
        "upstream.u.retry.on = ['conect']",
        r#"f:4:24: upstream.u.retry.on[0]: unknown cause "conect" (did you mean "connect"?)"#,
    );
    wrong(
        "upstream.u.retry.on = ['status']",
        r#"f:4:24: upstream.u.retry.on[0]: unknown cause "status" (known: connect, reset, timeout, "503")"#,
    );
    wrong(
        "upstream.u.retry.on = ['302']",
        "f:4:24: upstream.u.retry.on[0]: an answer 302 is no failure: statuses from 400 to 599 are",
    );
    wrong(
        "upstream.u.retry.budget = 20",
        r#"f:4:27: upstream.u.retry.budget: a share needs a unit: % (write "20%")"#,
    );
    wrong(
        "upstream.u.retry.budget = '101%'",
        "f:4:27: upstream.u.retry.budget: must be 0% to 100%, found 101%",
    );
    wrong("upstream.u.retry.tries = 0", "f:4:26: upstream.u.retry.tries: must be 1 to 10, found 0");
    wrong(
        "channel.c.hedge = {}",
        r#"f:4:11: channel.c.hedge.after: is missing (for example after = "100ms")"#,
    );
    wrong(
        "channel.d = { respond = {}, hedge = { after = '1s' } }",
        "f:4:29: channel.d.hedge: means nothing without an upstream (leave it out)",
    );
}
