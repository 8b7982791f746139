//! How does a browser talk to the admin listener? With a cookie, and with proof that a change is meant.
//!
//! Never takes the engine's word for who somebody is: every request is spelled out as a browser or a script would send it.

use serde_json::{Value, json};

use super::connection::Connection;
use super::engine::Engine;
use super::eventually;
use super::message::Message;

/// The password of the first user, which is shown once.
pub(crate) fn first_password(engine: &Engine) -> String {
    let find = || {
        let log = engine.log();
        let line = log.lines().find(|line| line.starts_with("There was no user yet."))?;
        line.split('"').nth(3).map(str::to_owned)
    };
    eventually("the first user is made", || find().is_some());
    find().expect("it has been there")
}

/// Sends a request with these further field lines to the admin listener.
#[track_caller]
pub(crate) fn send(engine: &Engine, method: &str, path: &str, fields: &str, body: Option<&Value>) -> Message {
    let body = body.map(Value::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    Connection::open(engine.admin()).ask(&format!(
        "{method} {path} HTTP/1.1\r\nHost: admin\r\n{kind}{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// What an answer says in JSON.
#[track_caller]
pub(crate) fn json_of(message: &Message) -> Value {
    serde_json::from_slice(&message.body).unwrap_or_else(|error| panic!("{error}: {message:?}"))
}

/// Asks for a session.
#[track_caller]
pub(crate) fn try_to_log_in(engine: &Engine, user: &str, password: &str, fields: &str) -> Message {
    send(engine, "POST", "/login", fields, Some(&json!({ "user": user, "password": password })))
}

/// Somebody's browser, logged in.
pub(crate) struct Browser<'e> {
    pub(crate) engine: &'e Engine,
    pub(crate) cookie: String,
    pub(crate) csrf: String,
}

impl<'e> Browser<'e> {
    #[track_caller]
    pub(crate) fn log_in(engine: &'e Engine, user: &str, password: &str) -> Self {
        Self::log_in_with(engine, user, password, "")
    }

    /// Logs in by a request with these further field lines.
    #[track_caller]
    pub(crate) fn log_in_with(engine: &'e Engine, user: &str, password: &str, fields: &str) -> Self {
        let answer = try_to_log_in(engine, user, password, fields);
        assert_eq!(answer.status(), 200, "{answer:?}");
        let cookie = answer.head.value("Set-Cookie").expect("a cookie");
        let (cookie, attributes) = cookie.split_once(';').expect("attributes");
        for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(attributes.contains(attribute), "{attributes}");
        }
        assert_eq!(answer.head.value("Cache-Control"), Some("no-store"));
        let csrf = json_of(&answer)["csrf_token"].as_str().expect("a token").to_owned();
        assert!(
            !answer.text().contains(cookie.split_once('=').expect("a value").1),
            "the id is the cookie's alone"
        );
        Self { engine, cookie: cookie.to_owned(), csrf }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Message {
        send(self.engine, "GET", path, &format!("Cookie: {}\r\n", self.cookie), None)
    }

    #[track_caller]
    pub(crate) fn change(&self, method: &str, path: &str, body: Option<&Value>) -> Message {
        let fields = format!("Cookie: {}\r\nX-CSRF-Token: {}\r\n", self.cookie, self.csrf);
        send(self.engine, method, path, &fields, body)
    }
}
