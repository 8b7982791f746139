//! What is said of security modules that do not fit together?

use config::snapshot::security::{KeySource, SecurityKind, TokenAlgorithm};
use config::{Format, load_str};

const REST: &str = r#"
[listener.web]
bind = "127.0.0.1:0"
[channel.all]
respond = {}
"#;

fn load(security: &str) -> Result<config::Loaded, String> {
    let text = format!("{security}{REST}");
    load_str("f", &text, Format::Toml, &|_| None).map_err(|problems| problems.to_string())
}

fn check(security: &str, expected: &[&str]) {
    let problems = load(security).expect_err("something is wrong");
    for expected in expected {
        assert!(problems.contains(expected), "{expected:?} is not in\n{problems}");
    }
}

#[test]
fn a_check_takes_from_the_issuer_what_it_does_not_say() {
    let loaded = load(
        r#"
        [security.check]
        type = "token_check"
        jwks = "module:issuer"
        [security.issuer]
        type = "token_issuer"
        issuer = "https://auth.example"
        audience = ["patients", "admin"]
        "#,
    )
    .expect("good");
    let SecurityKind::TokenCheck(check) = &loaded.snapshot.security[0].kind else { panic!("the check") };
    assert_eq!(check.keys, KeySource::Module("issuer".into()));
    assert_eq!(check.issuer.as_deref(), Some("https://auth.example"));
    assert_eq!(*check.audience, ["patients".into(), "admin".into()]);
    assert_eq!(check.algorithms.len(), 3);
    let SecurityKind::TokenIssuer(issuer) = &loaded.snapshot.security[1].kind else { panic!("the issuer") };
    assert_eq!(issuer.algorithm, TokenAlgorithm::EdDsa);
    assert_eq!(issuer.token_lifetime.as_secs(), 300);
}

#[test]
fn keys_of_other_types_mean_nothing() {
    let local = "[security.a]\ntype = \"local_inbound\"\n";
    check(
        &format!("{local}jwks = \"module:b\""),
        &["security.a.jwks", "means nothing with type = \"local_inbound\""],
    );
    let issuer = "[security.a]\ntype = \"token_issuer\"\nissuer = \"a\"\naudience = \"a\"\n";
    check(&format!("{issuer}skew = \"5s\""), &["security.a.skew", "means nothing"]);
}

#[test]
fn what_is_missing_is_named() {
    check("[security.a]\n", &["security.a.type", "is missing"]);
    check(
        "[security.a]\ntype = \"token_issuer\"\n",
        &["security.a.issuer", "security.a.audience", "is missing"],
    );
    check("[security.a]\ntype = \"token_check\"\n", &["security.a.jwks", "is missing"]);
    check("[security.a]\ntype = \"token\"\n", &["unknown type \"token\"", "local_inbound"]);
    let check_of =
        |jwks: &str, rest: &str| format!("[security.a]\ntype = \"token_check\"\njwks = \"{jwks}\"\n{rest}\n");
    check(
        &check_of("https://a.example/jwks", ""),
        &["security.a.audience", "whom tokens are for is missing"],
    );
    check(&check_of("module:b", "audience = \"a\""), &["security.a.issuer", "no module of this node"]);
    assert!(load(&check_of("module:b", "audience = \"a\"\nissuer = \"b\"")).is_ok(), "another node's");
    check(&check_of("/etc/jwks", "audience = \"a\""), &["security.a.jwks", "\"file:/PATH\""]);
}

#[test]
fn who_is_referred_to_is_of_the_right_type() {
    let local = "[security.a]\ntype = \"local_inbound\"\n";
    check(&format!("{local}tokens = \"a\""), &["security.a.tokens", "is no token_check"]);
    check(&format!("{local}tokens = \"b\""), &["there is no security \"b\""]);
    check(
        &format!("{local}[security.b]\ntype = \"token_check\"\njwks = \"module:a\"\naudience = \"a\""),
        &["security module \"a\" is no token_issuer"],
    );
    let problems =
        load(&format!("{local}[channel.x]\nrespond = {{}}\npriority = 1\ntoken = {{ check = \"a\" }}\n"));
    assert!(problems.is_err_and(|problems| problems.contains("channel.x.token.check")));
}

#[test]
fn a_node_has_one_issuer() {
    let issuer = |name: &str| {
        format!("[security.{name}]\ntype = \"token_issuer\"\nissuer = \"a\"\naudience = \"a\"\n")
    };
    check(&(issuer("a") + &issuer("b")), &["security.b.type", "one token_issuer at most"]);
}

#[test]
fn scopes_are_words() {
    let of = |scope: &str| {
        format!(
            "[security.a]\ntype = \"token_check\"\njwks = \"file:/k\"\naudience = \"a\"\n[channel.x]\nrespond = {{}}\npriority = 1\ntoken = {{ check = \"a\", scopes = ['{scope}'] }}\n"
        )
    };
    assert!(load(&of("patients/*.read")).is_ok());
    check(&of("two words"), &["channel.x.token.scopes", "a scope is visible ASCII"]);
    check(&of("a\"b"), &["a scope is visible ASCII"]);
}
