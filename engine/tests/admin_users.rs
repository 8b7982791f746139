//! Is somebody who may not turned away, however he asks? Log-in, sessions, roles, and what attackers try with them.
//!
//! Never takes the engine's word for who somebody is: every request is spelled out as a browser or a script would send it.

mod common;

use common::browser::{Browser, first_password, json_of, send, try_to_log_in};
use common::connection::Connection;
use common::engine::{Driver, Engine};
use serde_json::{Value, json};

const CONFIG: &str = r#"
[listener.web]
bind = "127.0.0.1:0"
[channel.all]
respond = {}
[security.local]
type = "local_inbound"
[admin]
bind = "127.0.0.1:0"
security = "local"
"#;

fn start() -> Engine {
    Engine::start(Driver::Epoll, CONFIG)
}

const GOOD: &str = "correct horse battery";

#[test]
fn nobody_is_let_in_before_he_has_logged_in_and_nobody_after_he_has_logged_out() {
    let engine = start();
    let password = first_password(&engine);
    for path in ["/stats", "/metrics", "/upstreams", "/users"] {
        let refused = send(&engine, "GET", path, "", None);
        assert_eq!(refused.status(), 401, "{path}");
        assert!(refused.head.value("WWW-Authenticate").is_some());
    }
    for path in ["/healthz", "/readyz", "/endpoint-health", "/openapi.json"] {
        assert_eq!(send(&engine, "GET", path, "", None).status(), 200, "{path}");
    }
    let admin = Browser::log_in(&engine, "admin", &password);
    assert_eq!(admin.get("/stats").status(), 200);
    let session = json_of(&admin.get("/session"));
    assert_eq!((&session["user"], &session["roles"]), (&json!("admin"), &json!(["administrator"])));
    assert_eq!(admin.change("POST", "/logout", None).status(), 204);
    assert_eq!(admin.get("/stats").status(), 401);
    assert_eq!(engine.log().matches(&password).count(), 1, "shown once");
}

#[test]
fn each_login_has_a_session_of_its_own_and_one_that_was_planted_is_worth_nothing() {
    let engine = start();
    let password = first_password(&engine);
    let planted = format!("corelane_session={}", "A".repeat(43));
    let first = Browser::log_in_with(&engine, "admin", &password, &format!("Cookie: {planted}\r\n"));
    assert_ne!(first.cookie, planted);
    assert_eq!(send(&engine, "GET", "/stats", &format!("Cookie: {planted}\r\n"), None).status(), 401);
    // Who logs in again is given another id, and the one before is over.
    let second = Browser::log_in_with(&engine, "admin", &password, &format!("Cookie: {}\r\n", first.cookie));
    assert_ne!(first.cookie, second.cookie);
    assert_eq!(first.get("/stats").status(), 401);
    assert_eq!(second.get("/stats").status(), 200);
    // Of two cookies of that name somebody else may have put one there.
    let both = format!("Cookie: {}; {planted}\r\n", second.cookie);
    assert_eq!(send(&engine, "GET", "/stats", &both, None).status(), 401);
}

#[test]
fn what_changes_something_by_a_cookie_has_to_prove_that_it_is_meant() {
    let engine = start();
    let admin = Browser::log_in(&engine, "admin", &first_password(&engine));
    let new = json!({ "name": "eva", "password": GOOD, "roles": ["viewer"] });
    let cookie = format!("Cookie: {}\r\n", admin.cookie);
    for fields in [
        cookie.clone(),
        format!("{cookie}X-CSRF-Token: \r\n"),
        format!("{cookie}X-CSRF-Token: {}\r\n", "A".repeat(43)),
        format!("{cookie}X-CSRF-Token: {}\r\n", admin.cookie),
        format!("{cookie}X-CSRF-Token: {}\r\nOrigin: http://evil.example\r\n", admin.csrf),
        format!("{cookie}X-CSRF-Token: {}\r\nSec-Fetch-Site: cross-site\r\n", admin.csrf),
    ] {
        assert_eq!(send(&engine, "POST", "/users", &fields, Some(&new)).status(), 403, "{fields}");
    }
    assert_eq!(send(&engine, "POST", "/logout", &cookie, None).status(), 403);
    assert_eq!(json_of(&admin.get("/users"))["users"].as_array().map(Vec::len), Some(1), "nothing was done");
    assert_eq!(admin.change("POST", "/users", Some(&new)).status(), 201);
    // A login that a form of another site could send is none.
    let form = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(Connection::open(engine.admin()).ask(form).status(), 415);
}

#[test]
fn after_ten_failures_in_a_minute_nobody_is_let_try_not_even_with_the_right_password() {
    let engine = start();
    let password = first_password(&engine);
    for number in 0..10 {
        let wrong = try_to_log_in(&engine, "admin", &format!("wrong {number}"), "");
        assert_eq!(wrong.status(), 401);
        let unknown = json!("the name or the password is wrong");
        assert_eq!(json_of(&wrong)["error"], unknown, "it does not say which");
    }
    let locked_out = try_to_log_in(&engine, "admin", &password, "");
    assert_eq!(locked_out.status(), 429);
    let seconds: u64 = locked_out.head.value("Retry-After").expect("when").parse().expect("seconds");
    assert!((1..=61).contains(&seconds), "{seconds}");
    // The address has failed as often, whoever it tries next; and Basic is no way around.
    assert_eq!(try_to_log_in(&engine, "somebody", "x", "").status(), 429);
    let basic = "Authorization: Basic YWRtaW46eA==\r\n";
    assert_eq!(send(&engine, "GET", "/stats", basic, None).status(), 429);
}

#[test]
fn who_is_disabled_changed_or_removed_is_not_logged_in_any_more() {
    let engine = start();
    let admin = Browser::log_in(&engine, "admin", &first_password(&engine));
    let new = json!({ "name": "eva", "password": GOOD, "roles": ["operator"] });
    assert_eq!(admin.change("POST", "/users", Some(&new)).status(), 201);
    assert_eq!(admin.change("POST", "/users", Some(&new)).status(), 409);
    let check = |change: Value| {
        let eva = Browser::log_in(&engine, "eva", GOOD);
        assert_eq!(eva.get("/stats").status(), 200);
        assert_eq!(admin.change("PATCH", "/users/eva", Some(&change)).status(), 200, "{change}");
        assert_eq!(eva.get("/stats").status(), 401, "{change}");
    };
    check(json!({ "roles": ["viewer"] }));
    check(json!({ "disabled": true }));
    assert_eq!(try_to_log_in(&engine, "eva", GOOD, "").status(), 401);
    assert_eq!(admin.change("PATCH", "/users/eva", Some(&json!({ "disabled": false }))).status(), 200);
    let eva = Browser::log_in(&engine, "eva", GOOD);
    assert_eq!(admin.change("DELETE", "/users/eva", None).status(), 204);
    assert_eq!(eva.get("/stats").status(), 401);
    // Somebody has to be able to undo what is done.
    assert_eq!(admin.change("DELETE", "/users/admin", None).status(), 409);
    assert_eq!(admin.change("PATCH", "/users/admin", Some(&json!({ "disabled": true }))).status(), 409);
    assert_eq!(admin.get("/stats").status(), 200);
}

#[test]
fn bad_users_are_refused_with_the_rule() {
    let engine = start();
    let admin = Browser::log_in(&engine, "admin", &first_password(&engine));
    let check = |user: Value, at: &str, error: &str| {
        let refused = admin.change("POST", "/users", Some(&user));
        let told = json_of(&refused);
        assert_eq!((refused.status(), &told["at"]), (422, &json!(at)), "{told}");
        assert!(told["error"].as_str().expect("text").contains(error), "{told}");
    };
    let user =
        |name: &str, password: &str| json!({ "name": name, "password": password, "roles": ["viewer"] });
    check(user("", GOOD), "name", "1 to 64");
    check(user("eva/../admin", GOOD), "name", "1 to 64");
    check(user("<script>", GOOD), "name", "1 to 64");
    check(user("eva", "short"), "password", "at least 12 characters");
    check(user("eva", "Password123456"), "password", "tried first");
    check(user("evangeline", "my evangeline secret"), "password", "own name");
    check(json!({ "name": "eva", "password": GOOD, "roles": ["king"] }), "roles", "unknown role");
    check(json!({ "name": "eva", "password": GOOD, "roles": "viewer" }), "roles", "a list of strings");
    check(json!({ "name": "eva", "password": GOOD, "roles": [], "x": 1 }), "x", "unknown key");
}
