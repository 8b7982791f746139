//! What is a client told that cannot be served? Short, in its own form, and nothing of the inside.
//!
//! Which status belongs to which fault is asserted where the fault is caused.

mod common;

use std::fs;
use std::path::Path;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::message::Message;
use common::on_both_drivers;
use common::origin::Origin;

/// An engine whose endpoint does not answer, for requests below `/app`.
fn engine_before_nobody(driver: Driver, listener: &str, channel: &str) -> Engine {
    let channel = format!("match = {{ path_prefix = '/app' }}\n{channel}");
    let (endpoints, channel) = (&[Origin::nowhere()], channel.as_str());
    Engine::start(driver, Config { endpoints, listener, channel, ..Config::default() })
}

fn ask(client: &mut Connection, method: &str, target: &str, fields: &str) -> Message {
    client.ask(&format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"))
}

#[test]
fn the_form_is_the_one_the_client_prefers() {
    let cases = [
        ("", "text/plain; charset=utf-8", "Bad Gateway\n", "Not Found\n"),
        (
            "Accept: application/json\r\n",
            "application/json",
            "{\"title\":\"Bad Gateway\",\"status\":502}\n",
            "{\"title\":\"Not Found\",\"status\":404}\n",
        ),
        (
            "Accept: text/plain;q=0.1\r\nAccept: application/problem+json, */*;q=0.01\r\n",
            "application/problem+json",
            "{\"title\":\"Bad Gateway\",\"status\":502}\n",
            "{\"title\":\"Not Found\",\"status\":404}\n",
        ),
    ];
    on_both_drivers(|driver| {
        let engine = engine_before_nobody(driver, "", "");
        let mut client = engine.connect();
        for (fields, content_type, unreachable, unknown) in cases {
            for (target, status, body) in [("/app", 502, unreachable), ("/other", 404, unknown)] {
                let answer = ask(&mut client, "GET", target, fields);
                answer.assert_is(status, body);
                assert_eq!(answer.head.value("Content-Type"), Some(content_type));
                assert_eq!(answer.head.value("Content-Length"), Some(&*body.len().to_string()));
                let head = ask(&mut client, "HEAD", target, fields);
                assert_eq!((head.status(), head.text()), (status, ""));
                assert_eq!(head.head.value("Content-Length"), Some(&*body.len().to_string()));
            }
        }
        client.assert_open();
    });
}

#[test]
fn an_answer_tells_nothing_of_the_inside() {
    on_both_drivers(|driver| {
        let engine = engine_before_nobody(driver, "", "");
        let mut told: Vec<Message> =
            ["/app/a?b=c", "/other"].map(|target| engine.connect().get(target)).into();
        told.push(
            engine.connect().ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nAccept: application/json\r\n\r\n"),
        );
        told.push(engine.connect().ask("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"));
        for answer in told {
            let names: Vec<_> = answer.head.fields.iter().map(|(name, _)| name.as_str()).collect();
            let expected = ["Content-Type", "Content-Length", "Date", "X-Request-ID", "Connection"];
            assert!(names.iter().all(|name| expected.contains(name)), "{answer:?}");
            assert!(answer.body.len() <= 30, "{answer:?}");
            let text = answer.text();
            assert!(
                !["127.0.0.1", "corelane", "0."].iter().any(|inside| text.contains(inside)),
                "{answer:?}"
            );
        }
    });
}

#[test]
fn an_answer_carries_the_id_of_its_request() {
    on_both_drivers(|driver| {
        let engine = engine_before_nobody(driver, "", "");
        let mut client = engine.connect();
        let given = ask(&mut client, "GET", "/app", "X-Request-ID: of-a-stranger\r\n");
        let id = given.head.value("X-Request-ID").expect("each request is given one");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        drop(engine);

        let trusting = "forwarding = { trusted = ['127.0.0.0/8'] }";
        let engine = engine_before_nobody(driver, trusting, "");
        let kept = ask(&mut engine.connect(), "GET", "/app", "X-Request-ID: of-a-friend\r\n");
        assert_eq!(kept.head.value("X-Request-ID"), Some("of-a-friend"));
        drop(engine);

        let engine = engine_before_nobody(driver, "forwarding = { request_id = false }", "");
        assert_eq!(engine.connect().get("/app").head.value("X-Request-ID"), None);
    });
}

#[test]
fn pages_are_the_operators() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{}.html", std::process::id()));
    fs::write(&file, "<h1>Away</h1>\n").expect("a writable directory");
    let listener = format!(
        "error_page = {{ 400.body = 'what?', 404.file = '{}', 502.body = 'away', 431.body = '' }}",
        file.display()
    );
    let channel = "[channel.all.error_page.502]\nbody = '{}'\ncontent_type = 'application/fhir+json'";
    on_both_drivers(|driver| {
        let engine = engine_before_nobody(driver, &listener, channel);
        let mut client = engine.connect();
        // A page is one for all, whatever they would have preferred.
        let unknown = ask(&mut client, "GET", "/other", "Accept: application/json\r\n");
        unknown.assert_is(404, "<h1>Away</h1>\n");
        assert_eq!(unknown.head.value("Content-Type"), Some("text/html; charset=utf-8"));
        let unreachable = client.get("/app");
        unreachable.assert_is(502, "{}");
        assert_eq!(unreachable.head.value("Content-Type"), Some("application/fhir+json"));
        assert_eq!(ask(&mut client, "HEAD", "/app", "").head.value("Content-Length"), Some("2"));
        // A head that could not be read has a page too, and the connection ends with it.
        let refused = client.ask("GET / HTTP/1.1\r\n\r\n");
        refused.assert_is(400, "what?");
        assert_eq!(refused.head.value("Connection"), Some("close"));
        client.assert_closed();
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100));
        engine.connect().ask(&large).assert_is(431, "");
    });
    fs::remove_file(&file).expect("still there");
}

#[test]
fn who_is_turned_away_for_now_is_told_when_to_come_back() {
    let config = |retry: &str| {
        format!(
            "[listener.web]\nbind = '127.0.0.1:0'\n{retry}\n[channel.closed]\nrespond = {{ status = 503, body = 'Later' }}"
        )
    };
    on_both_drivers(|driver| {
        for (retry, expected) in [("", "1"), ("retry_after = '2m'", "120"), ("retry_after = '1001ms'", "2")] {
            let engine = Engine::start(driver, config(retry));
            let answer = engine.connect().get("/");
            answer.assert_is(503, "Later");
            assert_eq!(answer.head.value("Retry-After"), Some(expected));
        }
        let engine = Engine::start(driver, config("").replace("503", "500"));
        assert_eq!(engine.connect().get("/").head.value("Retry-After"), None);
    });
}

#[test]
fn a_connection_whose_framing_is_lost_ends_and_others_stay() {
    on_both_drivers(|driver| {
        let engine = engine_before_nobody(driver, "", "");
        let mut client = engine.connect();
        // The body's end is known: it is read and dropped, and the next request is served.
        let small = "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
        assert_eq!(client.ask(small).head.value("Connection"), None);
        assert_eq!(client.ask(small).status(), 502);
        // It is not, or lies too far away.
        for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
            let mut client = engine.connect();
            let answer = ask(&mut client, "POST", "/other", &format!("{framing}\r\n"));
            assert_eq!((answer.status(), answer.head.value("Connection")), (404, Some("close")), "{framing}");
            client.finish();
            client.assert_closed();
        }
    });
}
