//! Does the first rule by priority win, and does each part of a rule match what it says?

use std::thread;

use proptest::prelude::*;

use super::*;

fn rule(channel: u16) -> Rule {
    Rule { channel, ..Rule::default() }
}

fn query(path: &str) -> Query<'_> {
    Query { listener: 0, host: None, path: path.as_bytes(), method: Method::Get, method_name: b"GET" }
}

#[track_caller]
fn check(rules: &[Rule], query: &Query<'_>, expected: Option<u16>) {
    let table = ChannelTable::new(rules.to_vec()).unwrap();
    assert_eq!(table.find(&mut table.caches(), query), expected, "{query:?}");
}

fn path_rule(path: PathPattern) -> [Rule; 1] {
    [Rule { path: Some(path), ..rule(7) }]
}

fn host_rule(pattern: &str) -> [Rule; 1] {
    [Rule { host: vec![HostPattern::parse(pattern).unwrap()], ..rule(7) }]
}

#[test]
fn an_empty_rule_matches_anything_and_an_empty_table_nothing() {
    check(&[], &query("/"), None);
    check(&[rule(7)], &query("/"), Some(7));
    check(&[rule(7)], &query(""), Some(7));
}

#[test]
fn the_smallest_priority_wins_then_the_first_given() {
    let with = |channel, priority| Rule { priority, ..rule(channel) };
    check(&[with(1, None), with(2, Some(9)), with(3, Some(1))], &query("/"), Some(3));
    check(&[with(1, None), with(2, Some(u32::MAX))], &query("/"), Some(2));
    check(&[with(1, Some(5)), with(2, Some(5))], &query("/"), Some(1));
    check(&[with(1, None), with(2, None)], &query("/"), Some(1));
    let narrow = Rule { path: Some(PathPattern::Exact("/x".to_owned())), ..with(3, Some(1)) };
    check(&[with(1, None), narrow], &query("/"), Some(1));
}

#[test]
fn paths_match_byte_by_byte() {
    use PathPattern::{Exact, Prefix, Regex};
    for (pattern, path, expected) in [
        (Prefix("/api".to_owned()), "/api", true),
        (Prefix("/api".to_owned()), "/apis/x", true),
        (Prefix("/api/".to_owned()), "/api", false),
        (Prefix("/api".to_owned()), "/API", false),
        (Prefix("/a/b".to_owned()), "/a%2fb", false),
        (Prefix("/admin".to_owned()), "/x/../admin", false),
        (Prefix("/admin".to_owned()), "//admin", false),
        (Exact("/x".to_owned()), "/x", true),
        (Exact("/x".to_owned()), "/x/", false),
        (Regex("^/fhir/(Patient|Group)/[0-9]+$".to_owned()), "/fhir/Patient/12", true),
        (Regex("^/fhir/(Patient|Group)/[0-9]+$".to_owned()), "/fhir/Patient/x", false),
        (Regex("Patient".to_owned()), "/fhir/Patient/12", true),
        (Regex("^(a+)+$".to_owned()), "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", false),
        (Regex(String::new()), "/", true),
    ] {
        check(&path_rule(pattern), &query(path), expected.then_some(7));
    }
}

#[test]
fn hosts_match_without_case_port_or_final_dot() {
    for (pattern, host, expected) in [
        ("example.org", "example.org", true),
        ("Example.ORG.", "eXample.org.:8080", true),
        ("example.org", "www.example.org", false),
        ("example.org", "example.org.evil", false),
        ("*.example.org", "www.example.org:80", true),
        ("*.example.org", "a.b.EXAMPLE.org.", true),
        ("*.example.org", "example.org", false),
        ("*.example.org", ".example.org", false),
        ("*.example.org", "badexample.org", false),
        ("127.0.0.1", "127.0.0.1:80", true),
        ("[::1]", "[::1]:80", true),
        ("[::1]", "[::1]", true),
        ("[::1]", "[::2]", false),
    ] {
        check(
            &host_rule(pattern),
            &Query { host: Some(host.as_bytes()), ..query("/") },
            expected.then_some(7),
        );
    }
    check(&host_rule("example.org"), &query("/"), None);
}

#[test]
fn host_patterns_refused() {
    use HostPatternError as Error;
    for (pattern, error) in [
        ("", Error::Empty),
        ("*", Error::Wildcard),
        ("*.", Error::Empty),
        ("*example.org", Error::Wildcard),
        ("a.*.org", Error::Wildcard),
        ("*.*.org", Error::Wildcard),
        ("example.org:80", Error::Port),
        ("::1", Error::Port),
        ("[::1]:80", Error::Address),
        ("[x]", Error::Address),
        ("[::1", Error::Address),
        ("*.[::1]", Error::Address),
        (".example.org", Error::Name),
        ("a..b", Error::Name),
        ("a b", Error::Name),
        ("bücher.example", Error::Name),
        ("http://a", Error::Port),
    ] {
        assert_eq!(HostPattern::parse(pattern), Err(error), "{pattern:?}");
    }
}

#[test]
fn listeners_and_methods_narrow() {
    let rules = [Rule {
        listener: Some(vec![1, 3]),
        methods: Some(MethodSet::new(["POST", "PROPFIND", "get"]).unwrap()),
        ..rule(7)
    }];
    let ask = |listener, name: &'static str| Query {
        listener,
        method: Method::of(name.as_bytes()),
        method_name: name.as_bytes(),
        ..query("/")
    };
    for (listener, name, expected) in [
        (1, "POST", true),
        (3, "PROPFIND", true),
        (3, "get", true),
        (1, "GET", false),
        (1, "PROPPATCH", false),
        (2, "POST", false),
    ] {
        check(&rules, &ask(listener, name), expected.then_some(7));
    }
    check(&[Rule { listener: Some(vec![]), ..rule(7) }], &ask(0, "GET"), None);
    assert_eq!(MethodSet::new(["GET", "A B"]), Err(MethodNameError("A B".to_owned())));
    assert!(MethodSet::new([""]).is_err());
}

#[test]
fn a_bad_pattern_is_named_by_its_rule() {
    let bad = |pattern: &str| {
        let rules = vec![
            rule(0),
            Rule { path: Some(PathPattern::Regex(pattern.to_owned())), priority: Some(1), ..rule(1) },
        ];
        ChannelTable::new(rules).unwrap_err()
    };
    let error = bad("^/(");
    assert_eq!(error.rule, 1);
    assert!(error.message.contains("unclosed group"), "{error}");
    assert!(bad(r"(?:\pL{200}){200}").message.contains("more than"), "{}", bad(r"(?:\pL{200}){200}"));
    assert!(bad(r"(a)\1").message.contains("backreferences"), "{}", bad(r"(a)\1"));
}

#[test]
fn cores_search_side_by_side() {
    let table = &ChannelTable::new(path_rule(PathPattern::Regex("^/[a-z]+/[0-9]{1,5}$".to_owned())).to_vec())
        .unwrap();
    thread::scope(|scope| {
        for core in 0..4 {
            scope.spawn(move || {
                let mut caches = table.caches();
                for step in 0..500 {
                    let path = format!("/core/{}", core * step);
                    assert_eq!(table.find(&mut caches, &query(&path)), Some(7));
                }
            });
        }
    });
}

proptest! {
    #[test]
    fn the_winner_is_the_least_of_those_that_match(
        rules in prop::collection::vec((prop::option::of(1..4_u32), prop::sample::select(vec!["/", "/a", "/a/b", "/c"])), 0..12),
        path in prop::sample::select(vec!["/", "/a", "/a/b/c", "/c", "/x"]),
    ) {
        let table: Vec<Rule> = (0..).zip(&rules).map(|(channel, &(priority, prefix))| Rule {
            priority, path: Some(PathPattern::Prefix(prefix.to_owned())), ..rule(channel)
        }).collect();
        let expected = (0..).zip(&rules)
            .filter(|(_, (_, prefix))| path.starts_with(prefix))
            .min_by_key(|&(channel, &(priority, _))| (priority.unwrap_or(u32::MAX), channel))
            .map(|(channel, _)| channel);
        check(&table, &query(path), expected);
    }
}
