//! Is a text that is merely too much refused, soon and in a few words?

use config::{Format, Problems, load_str};

fn refused(text: &str, format: Format) -> Problems {
    load_str("f", text, format, &|_| None).expect_err("too much")
}

/// Below a first line with a listener, the text has this problem alone.
#[track_caller]
fn check(text: &str, expected: &str) {
    let text = format!("listener.web.bind = \"127.0.0.1:80\"\n{text}");
    let problems = refused(&text, Format::Toml);
    let errors = problems.iter().filter(|problem| problem.severity == config::Severity::Error);
    assert_eq!(errors.map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn bounds_bodies_tables_and_lists() {
    let body = "x".repeat(65_537);
    let cause = "f:2:26: channel.c.respond.body: at most 65536 bytes, found 65537";
    check(&format!("channel.c.respond.body = \"{body}\""), cause);
    let cause = "f:2:37: channel.c.error_page.502.body: at most 65536 bytes, found 65537";
    check(&format!("channel.c = {{ error_page.502.body = \"{body}\", respond = {{}} }}"), cause);
    let channels: String = (0..10_001).map(|n| format!("c{n} = {{ respond = {{}} }}\n")).collect();
    let cause = "f:2:2: channel: at most 10000 of these are possible, found 10001";
    check(&format!("[channel]\n{channels}"), cause);
    let endpoints =
        |n: u16, count| format!("upstream.u{n}.endpoints = [{}]\n", "'10.0.0.1:80',".repeat(count));
    let cause = "f:2:25: upstream.u1.endpoints: at most 10000 items are possible, found 10001";
    check(&endpoints(1, 10_001), cause);
    let upstreams: String = (1..=7).map(|n| endpoints(n, 9_400)).collect();
    let cause = "f:2:1: upstream: at most 65535 endpoints are possible in all, found room for 131600 (lower `endpoints_max`)";
    check(&upstreams, cause);
}

#[test]
fn bounds_the_problems_of_one_text() {
    let text: String = (0..2_000).map(|n| format!("k{n} = 1\n")).collect();
    let problems = refused(&text, Format::Toml);
    assert_eq!(problems.len(), 1_001);
    let last = problems.iter().last().map(ToString::to_string);
    assert_eq!(last.as_deref(), Some("f:2001:1: warning: more than 1000 problems, the rest is not shown"));
    // One line holds as many mistakes as a file may.
    let text = format!("{{{}}}", (0..50_000).map(|n| format!("\"{n}\":1")).collect::<Vec<_>>().join(","));
    assert_eq!(refused(&text, Format::Json).len(), 1_001);
}
