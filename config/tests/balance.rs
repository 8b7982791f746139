//! Is what is said about the choice of endpoints read as it is meant, and every mistake in it named?

use std::time::Duration;

use config::snapshot::balance::{Balance, HashOn, HashTable, SecureCookie};
use config::snapshot::{EndpointTerms, Upstream};
use config::{Format, Severity, load_str};

const BEFORE: &str =
    "listener.w = { bind = '127.0.0.1:80', protocol = 'tcp', upstream = 'u' }\n[upstream.u]\n";
const ENDPOINT: &str = "endpoints = ['10.0.0.1:80']\n";

fn upstream(text: &str) -> Upstream {
    let text = format!("{BEFORE}{ENDPOINT}{text}");
    let loaded =
        load_str("f", &text, Format::Toml, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.snapshot.upstreams[0].clone()
}

#[track_caller]
fn wrong(text: &str, expected: &str) {
    let problems = load_str("f", &format!("{BEFORE}{text}"), Format::Toml, &|_| None).expect_err(text);
    let errors: Vec<_> = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .map(|problem| problem.to_string().split_once(": ").expect("a place").1.to_owned())
        .collect();
    assert_eq!(errors, [expected], "{text}");
}

#[test]
fn every_word_for_a_balance_is_its_name() {
    for word in [
        "round_robin",
        "least_connections",
        "random_two",
        "source_hash",
        "shortest_expected_delay",
        "never_queue",
        "least_time",
    ] {
        assert_eq!(upstream(&format!("balance = '{word}'")).balance.name(), word);
    }
}

#[test]
fn a_hash_says_on_what_and_where_that_leads() {
    let rule = |text: &str| upstream(text).balance.hash().expect("a hash").clone();
    let on = |on: &str| rule(&format!("balance = 'hash'\nhash = {{ on = '{on}' }}")).on;
    assert_eq!(on("uri"), HashOn::Uri);
    assert_eq!(on("destination"), HashOn::Destination);
    assert_eq!(on("source"), HashOn::Source);
    assert_eq!(on("header:X-Tenant"), HashOn::Header(b"x-tenant"[..].into()));
    assert_eq!(on("cookie:Sid"), HashOn::Cookie(b"Sid"[..].into()));
    let source = rule("balance = 'source_hash'\nhash = { mask = 24, mask6 = 56, table = 'ketama' }");
    assert_eq!((source.on, source.table), (HashOn::Source, HashTable::Ketama));
    assert_eq!((source.mask.bits4, source.mask.bits6), (24, 56));
    assert!(matches!(upstream("balance = 'source_hash'").balance, Balance::SourceHash(_)));
}

#[test]
fn an_endpoint_says_what_holds_for_it_alone() {
    let text = format!(
        "{BEFORE}endpoints = ['10.0.0.1:80', {{ address = '10.0.0.2:80', weight = 0, zone = 'a' }}, \
         {{ address = '10.0.0.3:80', backup = true, max_connections = 10, min_connections = 8 }}]"
    );
    let loaded =
        load_str("f", &text, Format::Toml, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let terms: Vec<_> =
        loaded.snapshot.upstreams[0].endpoints.iter().map(|endpoint| endpoint.terms.clone()).collect();
    let plain = EndpointTerms::default();
    let quiesced = EndpointTerms { weight: 0, zone: Some("a".into()), ..EndpointTerms::default() };
    let backup =
        EndpointTerms { priority: 1, connections_max: Some(10), connections_min: Some(8), ..plain.clone() };
    assert_eq!(terms, [plain, quiesced, backup]);
    assert_eq!(lower(&|max| format!("max_connections = {max}, min_connections = 0")), [1, 3, 6, 8, 75]);
    let again = load_str("f", &config::dump(&loaded.schema), Format::Toml, &|_| None);
    assert_eq!(again.unwrap_or_else(|problems| panic!("{problems}")).schema, loaded.schema);
}

/// The lower threshold of an endpoint with these keys, for some upper ones.
fn lower(keys: &dyn Fn(u32) -> String) -> Vec<u32> {
    let of = |max| {
        let text = format!("{BEFORE}endpoints = [{{ address = '10.0.0.1:80', {} }}]", keys(max));
        let loaded = load_str("f", &text, Format::Toml, &|_| None);
        let snapshot = loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot;
        snapshot.upstreams[0].endpoints[0].terms.connections_min.expect("a threshold")
    };
    // LVS: relieved once four times the connections are fewer than three times the upper threshold.
    [1, 4, 8, 10, 100].map(of).into()
}

#[test]
fn a_cookie_has_its_attributes_and_both_secrets() {
    let sticky = upstream(
        "[upstream.u.sticky]\nsecret = '0123456789abcdef'\nprevious_secret = 'fedcba9876543210'\n\
         lifetime = '1h'\npath = '/app'\nsecure = 'always'\nsame_site = 'none'",
    );
    let sticky = sticky.sticky.expect("sticky");
    assert_eq!(&*sticky.attributes, b"; Path=/app; Max-Age=3600; HttpOnly; SameSite=None");
    assert_eq!((&*sticky.cookie, sticky.secure), (&b"corelane"[..], SecureCookie::Always));
    assert_eq!(sticky.secrets.len(), 2);
    assert!(!format!("{sticky:?}").contains("0123456789abcdef"));
}

#[test]
fn a_secret_is_never_written_out() {
    let text = format!("{BEFORE}{ENDPOINT}sticky.secret = '${{S}}'");
    let loaded =
        load_str("f", &text, Format::Toml, &|_| Some("a secret sentence".to_owned())).expect("right");
    assert!(!config::dump(&loaded.schema).contains("secret sentence"), "{}", config::dump(&loaded.schema));
    assert!(!format!("{:?}", loaded.schema).contains("secret sentence"));
}

#[test]
fn a_secret_may_come_from_a_file() {
    let directory = std::env::temp_dir().join(format!("corelane-sticky-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("secret"), "0123456789abcdef\n").expect("a file");
    let config = directory.join("corelane.toml");
    std::fs::write(&config, format!("{BEFORE}{ENDPOINT}sticky.secret_file = 'secret'")).expect("a file");
    let loaded = config::load_file(&config);
    std::fs::remove_dir_all(&directory).expect("gone");
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    let sticky = loaded.snapshot.upstreams[0].sticky.as_ref().expect("sticky");
    assert_eq!(&*sticky.secrets[0].0, b"0123456789abcdef");
    assert!(config::dump(&loaded.schema).contains("secret_file = \"secret\""));
}

#[test]
fn persistence_is_lvs_s_by_default() {
    let rule = upstream("persistence = {}").persistence.expect("persistence");
    assert_eq!((rule.timeout, rule.mask.bits4, rule.mask.bits6), (Duration::from_secs(300), 32, 128));
}

#[test]
fn names_what_makes_no_sense() {
    let one = |text: &str| format!("{ENDPOINT}{text}");
    wrong(
        &one("balance = 'hash'"),
        "upstream.u.hash.on: is missing beside balance = \"hash\" (for example hash = { on = \"uri\" })",
    );
    wrong(
        &one("hash = { on = 'uri' }"),
        "upstream.u.hash: means nothing without balance = \"hash\" (did you mean balance = \"hash\"?)",
    );
    wrong(
        &one("balance = 'hash'\nhash = { on = 'port' }"),
        "upstream.u.hash.on: expected uri, destination, source, header:NAME or cookie:NAME, found \"port\"",
    );
    wrong(
        &one("balance = 'hash'\nhash = { on = 'header:' }"),
        "upstream.u.hash.on: the name of a header is missing (for example \"header:tenant\")",
    );
    wrong(
        &one("sticky = {}"),
        "upstream.u.sticky: has either a secret or a secret_file, found neither (for example secret = \
         \"${STICKY_SECRET}\")",
    );
    wrong(
        &one("sticky.secret = 'short'"),
        "upstream.u.sticky.secret: a secret has 16 to 1024 bytes, found 5 (for example the output of openssl \
         rand -base64 32)",
    );
    wrong(
        &one("sticky = { secret = '0123456789abcdef', path = 'app' }"),
        "upstream.u.sticky.path: a path begins with a slash, found \"app\"",
    );
    wrong(
        &one("sticky = { secret = '0123456789abcdef', path = '/a;b' }"),
        "upstream.u.sticky.path: a cookie's path is visible ASCII without a semicolon, found ';'",
    );
    wrong(
        "endpoints = [{ address = '10.0.0.1:80', min_connections = 3 }]",
        "upstream.u.endpoints[0].min_connections: means nothing without max_connections (add max_connections, \
         or leave it out)",
    );
    wrong(
        "endpoints = [{ address = '10.0.0.1:80', max_connections = 2, min_connections = 3 }]",
        "upstream.u.endpoints[0].min_connections: must be at most max_connections, 2, found 3",
    );
    wrong(
        "endpoints = [{ address = '10.0.0.1:80', backup = true, priority = 2 }]",
        "upstream.u.endpoints[0].priority: backup = true is priority 1 (keep one of the two)",
    );
}
