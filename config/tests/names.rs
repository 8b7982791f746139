//! What may an endpoint that is a name say, and how its name is resolved?
//!
//! Nothing here asks a name server.

use config::snapshot::resolve::Question;
use config::{Format, Loaded, Problems, load_str};

fn load(upstream: &str) -> Result<Loaded, Problems> {
    let text =
        format!("listener.web.bind = \"127.0.0.1:80\"\nchannel.c.upstream = \"u\"\n[upstream.u]\n{upstream}");
    load_str("f", &text, Format::Toml, &|_| None)
}

#[track_caller]
fn wrong(upstream: &str, expected: &[&str]) {
    let problems = load(upstream).expect_err("a mistake");
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let expected: Vec<_> = expected.iter().map(|problem| format!("f:{problem}")).collect();
    assert_eq!(problems, expected);
}

#[test]
fn a_name_is_a_question_and_no_address() {
    let endpoints = r#"endpoints = ["10.0.0.1:80", "App.Example:8000", "srv:_http._tcp.app.example"]"#;
    let loaded = load(endpoints).expect("names are endpoints");
    let upstream = &loaded.snapshot.upstreams[0];
    let names: Vec<_> = upstream.names.iter().map(|named| (named.name.as_str(), &named.question)).collect();
    let host = Question::Addresses { host: "app.example".into(), port: 8000 };
    let service = Question::Servers { service: "_http._tcp.app.example".into() };
    assert_eq!(names, [("app.example:8000", &host), ("srv:_http._tcp.app.example", &service)]);
    assert!(upstream.resolving.ipv4 && upstream.resolving.ipv6);
}

#[test]
fn an_upstream_of_names_alone_is_an_upstream() {
    let loaded =
        load("endpoints = [\"app.example:80\"]\nresolve = { family = \"ipv6\", nameservers = [\"::1\"] }");
    let loaded = loaded.expect("no address is needed");
    let resolving = &loaded.snapshot.upstreams[0].resolving;
    assert_eq!((resolving.ipv4, resolving.ipv6), (false, true));
    assert_eq!(resolving.nameservers[0].to_string(), "[::1]:53");
}

#[test]
fn names_bad_names_and_bad_ways_to_resolve_them() {
    wrong(
        r#"endpoints = ["app.example", "a b:80", "10.0.0:80", "srv:", "srv:a..b"]"#,
        &[
            r#"4:14: upstream.u.endpoints[0]: the port is missing (for example "127.0.0.1:8080")"#,
            "4:29: upstream.u.endpoints[1]: \"a b\" is no host name: letters, digits, '-', '_' and single dots, 253 at most, 63 between two",
            r#"4:39: upstream.u.endpoints[2]: "10.0.0" is neither an address nor a name: the last label of a name has a letter (each number of an address is 0 to 255)"#,
            r#"4:52: upstream.u.endpoints[3]: the name of a service is missing (for example "srv:_http._tcp.app.example")"#,
            "4:60: upstream.u.endpoints[4]: \"a..b\" is no host name: letters, digits, '-', '_' and single dots, 253 at most, 63 between two",
        ],
    );
    let resolve = r#"endpoints = ["app.example:80"]
[upstream.u.resolve]
nameservers = ["ns.example", "10.0.0.53:0"]
timeout = "1ms"
ttl_min = "10m"
ttl_max = "1m"
family = "ipv5""#;
    wrong(
        resolve,
        &[
            r#"6:16: upstream.u.resolve.nameservers[0]: a name server is an IP address, with its port if that is not 53; found "ns.example" (for example "10.0.0.53" or "[::1]:5353")"#,
            r#"6:30: upstream.u.resolve.nameservers[1]: a name server is an IP address, with its port if that is not 53; found "10.0.0.53:0" (for example "10.0.0.53" or "[::1]:5353")"#,
            "7:11: upstream.u.resolve.timeout: must be 10ms to 1m, found 1ms",
            r#"9:11: upstream.u.resolve.ttl_max: is shorter than ttl_min (at least "10m")"#,
            r#"10:10: upstream.u.resolve.family: unknown family "ipv5" (did you mean "ipv4"?)"#,
        ],
    );
}
