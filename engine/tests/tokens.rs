//! Does a channel that demands a token get requests of those alone who were given one? From the client's secret to the endpoint.
//!
//! Never a token that the tests made themselves, but for those that must not be believed.

mod common;

use std::fs;
use std::path::Path;

use common::connection::Connection;
use common::engine::{Driver, Engine};
use common::message::Message;
use common::origin::{OK, Origin};
use common::{eventually, on_both_drivers};
use serde_json::{Value, json};

/// An engine that issues tokens and demands them: `/read` takes one with the scope `read`, everything else any.
fn start(driver: Driver, origin: &Origin, check: &str) -> Engine {
    let config = format!(
        r#"
[listener.web]
bind = "127.0.0.1:0"
[channel.read]
match = {{ path_prefix = "/read" }}
upstream = "app"
token = {{ check = "clients", scopes = ["read", "list"] }}
[channel.all]
upstream = "app"
token = {{ check = "clients" }}
[upstream.app]
endpoints = ["{}"]
[security.issuer]
type = "token_issuer"
issuer = "https://auth.example"
audience = "patients"
[security.clients]
type = "token_check"
{check}
"#,
        origin.address
    );
    Engine::start(driver, config)
}

const LOCAL: &str = r#"jwks = "module:issuer""#;

#[track_caller]
fn admin(engine: &Engine, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let body = body.map(Value::to_string).unwrap_or_default();
    let answer = Connection::open(engine.admin()).ask(&format!(
        "{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    (answer.status(), serde_json::from_slice(&answer.body).unwrap_or_default())
}

#[track_caller]
fn form(engine: &Engine, path: &str, form: &str) -> Message {
    Connection::open(engine.admin()).ask(&format!(
        "POST {path} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    ))
}

/// A client with these scopes; what it sends to say who it is.
#[track_caller]
fn client(engine: &Engine, name: &str, scopes: &[&str]) -> String {
    let (status, client) =
        admin(engine, "POST", "/clients", Some(&json!({ "name": name, "scopes": scopes })));
    assert_eq!(status, 201, "{client}");
    format!("client_id={name}&client_secret={}", client["secret"].as_str().expect("shown once"))
}

#[track_caller]
fn token(engine: &Engine, client: &str) -> String {
    let ask = || form(engine, "/token", &format!("grant_type=client_credentials&{client}"));
    // The first key is made by the first round of control.
    eventually("there is a key", || ask().status() != 503);
    let given = ask();
    assert_eq!(given.status(), 200, "{given:?}");
    let given: Value = serde_json::from_slice(&given.body).expect("JSON");
    assert_eq!(given["token_type"], json!("Bearer"));
    given["access_token"].as_str().expect("a token").to_owned()
}

fn ask(engine: &Engine, path: &str, fields: &str) -> Message {
    engine.connect().ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"))
}

fn with(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn a_request_with_a_token_goes_through_and_says_whom_it_is_about() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, LOCAL);
        let client = client(&engine, "reports", &["read", "list"]);
        let token = token(&engine, &client);
        ask(&engine, "/", &format!("{}X-Authenticated-Subject: root\r\n", with(&token))).assert_is(200, "ok");
        ask(&engine, "/read", &with(&token)).assert_is(200, "ok");
        ask(&engine, "/read", &format!("authorization: bearer  {token}\r\n")).assert_is(200, "ok");
        for (_, request) in &origin.seen().requests {
            assert_eq!(request.head.values("X-Authenticated-Subject"), ["reports"]);
        }
        assert_eq!(origin.seen().requests.len(), 3);
        assert_eq!(engine.faults(), [].into());
    });
}

#[test]
fn without_a_token_that_is_believed_nothing_goes_through() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, LOCAL);
        let (reader, other) = (client(&engine, "reader", &["read"]), client(&engine, "other", &[]));
        let token = token(&engine, &reader);
        let check = |fields: &str, path: &str, status: u16, challenge: &str| {
            let refused = ask(&engine, path, fields);
            assert_eq!(refused.status(), status, "{fields}: {refused:?}");
            assert_eq!(refused.head.value("WWW-Authenticate"), Some(challenge), "{fields}");
        };
        let invalid = "Bearer error=\"invalid_token\"";
        check("", "/", 401, "Bearer");
        check("Authorization: Basic eDp5\r\n", "/", 401, "Bearer");
        check("Authorization: Bearer\r\n", "/", 401, "Bearer");
        check(&format!("{}{}", with(&token), with(&token)), "/", 401, "Bearer");
        check(&with("a.b.c"), "/", 401, invalid);
        check(&with(&token[..token.len() - 1]), "/", 401, invalid);
        check(&with(&format!("{token}A")), "/", 401, invalid);
        // `none`, with the rest as it was.
        let (_, rest) = token.split_once('.').expect("three parts");
        let (claims, _) = rest.split_once('.').expect("three parts");
        check(&with(&format!("eyJhbGciOiJub25lIn0.{claims}.")), "/", 401, invalid);
        let scope = "Bearer error=\"insufficient_scope\", scope=\"read list\"";
        check(&with(&token), "/read", 403, scope);
        check(&with(&self::token(&engine, &other)), "/read", 403, scope);
        assert_eq!(origin.seen().requests.len(), 0, "nothing came through");
        engine.assert_counter("/faults/token_missing", 4);
        engine.assert_counter("/faults/token_rejected", 4);
        engine.assert_counter("/faults/scope_missing", 2);
        engine.assert_counter("/channels/0/over_scope", 2);
        engine.assert_counter("/channels/1/unauthorized", 8);
    });
}

#[test]
fn a_token_that_is_taken_back_is_refused_from_then_on_and_others_are_not() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, LOCAL);
        let (one, other) = (client(&engine, "one", &[]), client(&engine, "other", &[]));
        let (first, second, third) = (token(&engine, &one), token(&engine, &one), token(&engine, &other));
        for token in [&first, &second, &third] {
            ask(&engine, "/", &with(token)).assert_is(200, "ok");
        }
        assert_eq!(form(&engine, "/token/revoke", &format!("token={first}&{one}")).status(), 200);
        assert_eq!(ask(&engine, "/", &with(&first)).status(), 401);
        // Another's is left as it is, and so is what is none.
        assert_eq!(form(&engine, "/token/revoke", &format!("token={third}&{one}")).status(), 200);
        assert_eq!(form(&engine, "/token/revoke", &format!("token=x&{one}")).status(), 200);
        ask(&engine, "/", &with(&second)).assert_is(200, "ok");
        ask(&engine, "/", &with(&third)).assert_is(200, "ok");
        let revoked = admin(&engine, "POST", "/tokens/revoke", Some(&json!({ "token": third })));
        assert_eq!(revoked, (200, json!({ "revoked": true })));
        assert_eq!(ask(&engine, "/", &with(&third)).status(), 401);
        ask(&engine, "/", &with(&second)).assert_is(200, "ok");
    });
}

#[test]
fn after_a_rotation_what_was_signed_before_is_still_believed() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, LOCAL);
        let client = client(&engine, "one", &[]);
        let before = token(&engine, &client);
        let keys = || admin(&engine, "GET", "/jwks", None).1["keys"].as_array().map_or(0, Vec::len);
        assert_eq!(keys(), 1);
        let (status, rotated) = admin(&engine, "POST", "/keys/rotate", None);
        assert_eq!(status, 200, "{rotated}");
        assert_eq!(keys(), 2, "the next is shown before it signs");
        ask(&engine, "/", &with(&before)).assert_is(200, "ok");
        ask(&engine, "/", &with(&token(&engine, &client))).assert_is(200, "ok");
    });
}

#[test]
fn keys_may_come_from_a_file_and_from_an_address() {
    let origin = Origin::answering(OK);
    let issuing = start(Driver::Epoll, &origin, LOCAL);
    let client = client(&issuing, "one", &[]);
    let token = token(&issuing, &client);
    let terms = "issuer = \"https://auth.example\"\naudience = \"patients\"\n";
    let by_address = format!("jwks = \"http://{}/jwks\"\n{terms}", issuing.admin());
    let engine = start(Driver::Epoll, &origin, &by_address);
    ask(&engine, "/", &with(&token)).assert_is(200, "ok");

    let (_, keys) = admin(&issuing, "GET", "/jwks", None);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-jwks.json", std::process::id()));
    fs::write(&path, keys.to_string()).expect("a writable directory");
    let engine = start(Driver::Epoll, &origin, &format!("jwks = \"file:{}\"\n{terms}", path.display()));
    ask(&engine, "/", &with(&token)).assert_is(200, "ok");
    let other = format!(
        "jwks = \"file:{}\"\nissuer = \"https://auth.example\"\naudience = \"other\"\n",
        path.display()
    );
    let engine = start(Driver::Epoll, &origin, &other);
    assert_eq!(ask(&engine, "/", &with(&token)).status(), 401, "for somebody else");
    fs::remove_file(&path).expect("our file");
}

#[test]
fn a_client_is_told_what_is_wrong_as_oauth_has_it() {
    let origin = Origin::answering(OK);
    let engine = start(Driver::Epoll, &origin, LOCAL);
    let client = client(&engine, "one", &["a", "b"]);
    token(&engine, &client);
    let check = |body: &str, status: u16, error: &str| {
        let refused = form(&engine, "/token", body);
        let told: Value = serde_json::from_slice(&refused.body).expect("JSON");
        assert_eq!((refused.status(), told["error"].as_str()), (status, Some(error)), "{body}");
    };
    check(&client, 400, "invalid_request");
    check(&format!("grant_type=password&{client}"), 400, "unsupported_grant_type");
    check(&format!("grant_type=client_credentials&scope=a+c&{client}"), 400, "invalid_scope");
    check("grant_type=client_credentials", 401, "invalid_client");
    check("grant_type=client_credentials&client_id=one&client_secret=x", 401, "invalid_client");
    check("grant_type=client_credentials&client_id=nobody&client_secret=x", 401, "invalid_client");
    check(&format!("grant_type=client_credentials&{client}&client_id=two"), 400, "invalid_request");
    check("grant_type=%zz", 400, "invalid_request");
    let given = form(&engine, "/token", &format!("grant_type=client_credentials&scope=b&{client}"));
    let given: Value = serde_json::from_slice(&given.body).expect("JSON");
    assert_eq!((&given["scope"], &given["expires_in"]), (&json!("b"), &json!(300)));
    // The secret of a client that was given another is worth nothing.
    let (status, changed) = admin(&engine, "PATCH", "/clients/one", Some(&json!({ "new_secret": true })));
    assert!(status == 200 && changed["secret"].is_string(), "{changed}");
    check(&format!("grant_type=client_credentials&{client}"), 401, "invalid_client");
    assert_eq!(admin(&engine, "GET", "/clients", None).1["clients"][0].get("secret"), None);
}
