//! Is every mistake about probes, ejection and slow start named, and is what is right what the process gets?

use std::time::Duration;

use config::snapshot::Upstream;
use config::snapshot::health::Probe;
use config::{Format, Loaded, Problem, Problems, Severity, dump, load_str};
use proto::health::slow_start::Curve;
use proto::share::Share;

/// The first lines of texts about one upstream, whose keys begin in line 4.
const BEFORE: &str = "listener.web.bind = '127.0.0.1:80'\nchannel.all.upstream = 'app'\n[upstream.app]\n";

fn load(keys: &str) -> Result<Loaded, Problems> {
    let text = format!("{BEFORE}endpoints = ['10.0.0.1:1', '10.0.0.2:1']\n{keys}");
    load_str("f", &text, Format::Toml, &|_| None)
}

fn without_file(problem: &Problem) -> String {
    let line = problem.to_string();
    line.strip_prefix("f:").unwrap_or(&line).to_owned()
}

/// What the keys from line 5 on make of the upstream.
#[track_caller]
fn compiled(keys: &str) -> Upstream {
    let loaded = load(keys).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    loaded.snapshot.upstreams[0].clone()
}

#[track_caller]
fn wrong(keys: &str, expected: &[&str]) {
    let problems = load(keys).expect_err(keys);
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    assert_eq!(errors.map(without_file).collect::<Vec<_>>(), expected, "{keys}");
}

#[track_caller]
fn warned(keys: &str, expected: &[&str]) {
    let loaded = load(keys).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.warnings.iter().map(without_file).collect::<Vec<_>>(), expected, "{keys}");
}

#[test]
fn nothing_is_probed_ejected_or_slowed_unless_it_is_asked_for() {
    let upstream = compiled("");
    assert!(upstream.health.is_none() && upstream.ejection.is_none());
    assert!(upstream.slow_start.is_none() && upstream.panic_threshold.is_none());
}

#[test]
fn empty_tables_have_every_default() {
    let upstream = compiled("health = {}\nejection = {}\nslow_start = {}");
    let health = upstream.health.expect("asked for");
    let Probe::Http(probe) = &health.probe else { panic!("{health:?}") };
    assert_eq!((&*probe.method, &*probe.target, probe.host.as_deref()), ("GET", "/", None));
    assert!(probe.body.is_none());
    for (status, expected) in [(199, false), (200, true), (399, true), (400, false), (503, false)] {
        assert_eq!(probe.statuses.contains(status), expected, "{status}");
    }
    let terms = health.terms;
    assert_eq!((terms.interval, terms.fast_interval), (Duration::from_secs(2), Duration::from_millis(500)));
    assert_eq!((terms.rise, terms.fall, terms.jitter), (2, 3, Share::percent(10)));
    assert_eq!((health.timeout, health.port), (Duration::from_secs(1), None));
    let ejection = upstream.ejection.expect("asked for");
    assert_eq!((ejection.terms.failures, ejection.terms.share_max), (5, Share::percent(50)));
    assert_eq!(
        (ejection.terms.time, ejection.terms.time_max),
        (Duration::from_secs(10), Duration::from_secs(300))
    );
    assert!(
        ejection.statuses.contains(502)
            && ejection.statuses.contains(504)
            && !ejection.statuses.contains(500)
    );
    let slow_start = upstream.slow_start.expect("asked for");
    assert_eq!((slow_start.time, slow_start.curve), (Duration::from_secs(30), Curve::Linear));
}

#[test]
fn what_is_written_is_what_the_process_gets() {
    let upstream = compiled(
        "health = { path = '/up?x=1', host = 'app.example:81', method = 'HEAD', status = ['200', '500-501'], port = 8081 }
ejection = { statuses = [], share_max = '12%' }
slow_start = { time = '1m', curve = 'exponential' }
panic_threshold = '40%'",
    );
    let health = upstream.health.expect("asked for");
    let Probe::Http(probe) = &health.probe else { panic!("{health:?}") };
    assert_eq!((&*probe.method, &*probe.target), ("HEAD", "/up?x=1"));
    assert_eq!(probe.host.as_deref(), Some("app.example:81"));
    assert_eq!(probe.statuses.ranges().collect::<Vec<_>>(), [(200, 200), (500, 501)]);
    assert_eq!(health.port, Some(8081));
    let ejection = upstream.ejection.expect("asked for");
    assert!(ejection.statuses.is_empty());
    assert_eq!(ejection.terms.share_max, Share::percent(12));
    assert_eq!(upstream.slow_start.map(|terms| terms.curve), Some(Curve::Exponential));
    assert_eq!(upstream.panic_threshold, Some(Share::percent(40)));
    let pattern = compiled("health = { body = '\"up\": *true' }").health.expect("asked for");
    let Probe::Http(probe) = &pattern.probe else { panic!("{pattern:?}") };
    assert!(probe.body.as_ref().is_some_and(|body| body.is_match(b"{\"up\":  true}")));
    assert!(matches!(
        compiled("health.protocol = 'tcp'").health.map(|health| health.probe),
        Some(Probe::Tcp)
    ));
    let tls = compiled("health.protocol = 'tls'\ntls = {}").health.map(|health| health.probe);
    assert!(matches!(tls, Some(Probe::Tls)));
}

#[test]
fn who_is_down_is_asked_no_less_often_than_who_is_up() {
    let fast = |keys: &str| compiled(keys).health.expect("asked for").terms.fast_interval;
    assert_eq!(fast("health.interval = '100ms'"), Duration::from_millis(100));
    assert_eq!(fast("health.interval = '1m'"), Duration::from_millis(500));
    warned(
        "health = { interval = '1s', fast_interval = '2s' }",
        &[
            "5:45: warning: upstream.app.health.fast_interval: longer than interval, 1s: who is down is asked less often",
        ],
    );
}

#[test]
fn a_dump_of_any_probe_can_be_read_again() {
    for keys in [
        "health = {}\nejection = {}\nslow_start = {}\npanic_threshold = '1%'",
        "health.protocol = 'tcp'",
        "health.protocol = 'tls'\ntls = {}",
        "health = { status = '204', body = 'ok' }\nejection.statuses = '500-599'",
    ] {
        let loaded = load(keys).unwrap_or_else(|problems| panic!("{problems}"));
        let dumped = dump(&loaded.schema);
        let again = load_str("f", &dumped, Format::Toml, &|_| None)
            .unwrap_or_else(|problems| panic!("{problems}\n{dumped}"));
        assert_eq!(again.schema, loaded.schema, "{dumped}");
    }
}

#[test]
fn names_probes_that_cannot_be_made() {
    wrong(
        "health = { protocol = 'tcp', path = '/', host = 'a', method = 'GET', status = '200', body = 'x' }",
        &[
            r#"5:37: upstream.app.health.path: means nothing with protocol = "tcp" (leave it out)"#,
            r#"5:49: upstream.app.health.host: means nothing with protocol = "tcp" (leave it out)"#,
            r#"5:63: upstream.app.health.method: means nothing with protocol = "tcp" (leave it out)"#,
            r#"5:79: upstream.app.health.status: means nothing with protocol = "tcp" (leave it out)"#,
            r#"5:93: upstream.app.health.body: means nothing with protocol = "tcp" (leave it out)"#,
        ],
    );
    wrong(
        "health.protocol = 'tls'",
        &[
            r#"5:19: upstream.app.health.protocol: nothing says whom to believe: the upstream has no tls table (add tls = {} to the upstream, or did you mean "tcp"?)"#,
        ],
    );
    wrong(
        "health.protocol = 'https'",
        &[r#"5:19: upstream.app.health.protocol: unknown protocol "https" (did you mean "http"?)"#],
    );
    wrong(
        "health = { method = 'CONNECT' }",
        &[r#"5:21: upstream.app.health.method: a probe asks for no tunnel (did you mean "GET"?)"#],
    );
    wrong(
        "health = { method = 'HEAD', body = 'ok' }",
        &["5:36: upstream.app.health.body: an answer to HEAD has no body (leave method out)"],
    );
    wrong(
        "health = { path = 'up' }",
        &[r#"5:19: upstream.app.health.path: a path starts with a slash, found "up" (did you mean "/up"?)"#],
    );
    wrong(
        "health = { path = '/a b' }",
        &["5:19: upstream.app.health.path: ' ' cannot stand in the target of a request"],
    );
    wrong(
        "health = { host = 'a/b' }",
        &[
            r#"5:19: upstream.app.health.host: expected a host name or address, found "a/b" (for example "app.example")"#,
        ],
    );
    wrong(
        "health = { pathh = '/' }",
        &[r#"5:12: upstream.app.health.pathh: unknown key (did you mean "path"?)"#],
    );
}

#[test]
fn names_statuses_that_are_none() {
    let check =
        |status: &str, expected: &str| wrong(&format!("health = {{ status = {status} }}"), &[expected]);
    check(
        "'2xx'",
        r#"5:21: upstream.app.health.status: expected a status or "FIRST-LAST", found "2xx" (for example "200-399")"#,
    );
    check("['200', '600']", "5:29: upstream.app.health.status[1]: a status is 100 to 599, found 600");
    check(
        "['399-200']",
        r#"5:22: upstream.app.health.status[0]: the first status is above the last (did you mean "200-399"?)"#,
    );
    check(
        "[]",
        "5:21: upstream.app.health.status: the list is empty (name at least one, or leave the key out)",
    );
}

#[test]
fn names_patterns_that_are_none_in_every_upstream() {
    wrong(
        "health = { body = '(' }\n[upstream.other]\nendpoints = ['10.0.0.3:1']\nhealth = { body = '[' }",
        &[
            "5:19: upstream.app.health.body: not a regular expression: unclosed group",
            "8:19: upstream.other.health.body: not a regular expression: unclosed character class",
        ],
    );
}

#[test]
fn names_shares_and_times_that_are_none() {
    wrong(
        "panic_threshold = 50",
        &[r#"5:19: upstream.app.panic_threshold: a share needs a unit: % (write "50%")"#],
    );
    wrong("panic_threshold = '0%'", &["5:19: upstream.app.panic_threshold: must be 1% to 100%, found 0%"]);
    wrong(
        "ejection = { share_max = '101%', failures = 0 }\nslow_start.time = '1ms'",
        &[
            "5:26: upstream.app.ejection.share_max: must be 0% to 100%, found 101%",
            "5:45: upstream.app.ejection.failures: must be 1 to 1000, found 0",
            "6:19: upstream.app.slow_start.time: must be 50ms to 1h, found 1ms",
        ],
    );
    warned(
        "ejection = { time = '1m', time_max = '30s' }",
        &[
            "5:38: warning: upstream.app.ejection.time_max: shorter than time, 1m: no ejection is longer than that",
        ],
    );
}

#[test]
fn warns_of_a_port_that_no_endpoint_has() {
    let text = format!("{BEFORE}endpoints = ['unix:/run/app.sock']\nhealth.port = 1");
    let loaded =
        load_str("f", &text, Format::Toml, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let warnings: Vec<_> = loaded.warnings.iter().map(without_file).collect();
    let expected =
        "5:15: warning: upstream.app.health.port: means nothing: no endpoint has a port (leave it out)";
    assert_eq!(warnings, [expected]);
}

#[test]
fn the_example_of_the_guide_is_fine() {
    let guide = include_str!("../../docs/health.md");
    let example =
        guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let text = format!("listener.web.bind = '127.0.0.1:80'\nchannel.all.upstream = 'fhir'\n{example}");
    let loaded =
        load_str("f", &text, Format::Toml, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}
