//! Does a request reach its origin, and the answer its client, as HTTP/1.1 wants it?
//!
//! Never a large or a malformed message: those are in `http_bodies` and `http_hostile`.

mod common;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::message::Message;
use common::on_both_drivers;
use common::origin::{OK, Origin};
use common::signal::Signal;

/// What an origin received when a client sent `request`, and what the client received when the origin answered
/// `answer`.
#[track_caller]
fn pass_through(driver: Driver, listener: &str, request: &str, answer: &str) -> (Message, Message) {
    let origin = Origin::answering(answer);
    let engine =
        Engine::start(driver, Config { endpoints: &[origin.address], listener, ..Config::default() });
    let response = engine.connect().ask(request);
    (origin.only_request(), response)
}

#[test]
fn forwards_every_method_with_its_body() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE", "M-SEARCH"] {
            for body in ["", "a body"] {
                let length = body.len();
                let request =
                    format!("{method} /a?b=c HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
                client.ask(&(request + body)).assert_is(200, "ok");
                let (_, received) = origin.seen().requests.pop().expect("forwarded");
                assert_eq!(received.head.start_line, format!("{method} /a?b=c HTTP/1.1"));
                assert_eq!(received.text(), body);
                assert_eq!(received.head.value("Host"), Some("test"));
            }
        }
    });
}

#[test]
fn end_to_end_fields_stay_as_they_are() {
    let kept =
        [("X-Empty", ""), ("x-Odd-CASE", "a  b"), ("Cookie", "a=1"), ("Cookie", "b=2"), ("Accept", "*/*")];
    let lines: String = kept.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    on_both_drivers(|driver| {
        let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n");
        let answer = format!("HTTP/1.1 203 Not  really\r\n{lines}Content-Length: 0\r\n\r\n");
        let (received, response) = pass_through(driver, "", &request, &answer);
        for message in [received, response.clone()] {
            let fields = &message.head.fields;
            let found: Vec<_> =
                fields.iter().filter(|(name, _)| kept.iter().any(|(kept, _)| kept == name)).collect();
            let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, kept);
        }
        assert_eq!(response.head.start_line, "HTTP/1.1 203 Not  really");
    });
}

#[test]
fn a_connection_serves_many_requests() {
    on_both_drivers(|driver| {
        let origin = Origin::naming_targets();
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        for number in 0..20 {
            let response = client.get(&format!("/{number}"));
            response.assert_is(200, &format!("/{number}"));
            assert_eq!(response.head.value("Connection"), None);
        }
        assert_eq!(
            client.ask("GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").text(),
            "/last"
        );
        client.assert_closed();
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_however_they_are_split() {
    let requests: String = (0..10)
        .map(|number| match number % 3 {
            0 => format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n"),
            1 => format!("POST /{number} HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody"),
            _ => format!(
                "POST /{number} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
                2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
            ),
        })
        .collect();
    on_both_drivers(|driver| {
        let origin = Origin::naming_targets();
        let engine = Engine::before(driver, origin.address);
        for piece in [usize::MAX, 97, 40, 7, 1] {
            let mut client = engine.connect();
            client.send_split(&requests, piece);
            for number in 0..10 {
                client.response().assert_is(200, &format!("/{number}"));
            }
            client.assert_open();
        }
        let seen = origin.seen();
        let bodies_intact = seen
            .requests
            .iter()
            .enumerate()
            .all(|(at, (_, request))| request.text() == if at % 10 % 3 == 0 { "" } else { "body" });
        assert!(bodies_intact && seen.requests.len() == 50, "{seen:?}");
    });
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    on_both_drivers(|driver| {
        let origin = Origin::naming_targets();
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        client.ask("\r\nGET /a HTTP/1.1\r\nHost: test\r\n\r\n").assert_is(200, "/a");
        // Some old clients send a line end after a body.
        client.ask("POST /b HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx\r\n").assert_is(200, "/b");
        client.get("/c").assert_is(200, "/c");
    });
}

#[test]
fn http10_is_kept_only_when_asked() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = Engine::before(driver, origin.address);
        let mut kept = engine.connect();
        for _ in 0..3 {
            let response = kept.ask("GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n");
            response.assert_is(200, "ok");
            assert_eq!(response.head.start_line, "HTTP/1.1 200 OK");
            assert_eq!(response.head.value("Connection"), Some("keep-alive"));
        }
        let mut single = engine.connect();
        let response = single.ask("GET / HTTP/1.0\r\n\r\n");
        response.assert_is(200, "ok");
        assert_eq!(response.head.value("Connection"), Some("close"));
        single.assert_closed();
        let seen = origin.seen();
        assert!(seen.requests.iter().all(|(_, request)| request.head.start_line == "GET / HTTP/1.1"));
        // RFC 9112 §3.2: every 1.1 request has a Host, even if its client had none to name.
        assert!(seen.requests.last().expect("three").1.head.value("Host").is_some());
    });
}

#[test]
fn responses_without_body_end_with_their_head() {
    let cases = [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", 200, Some("1234")),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None),
        ("HEAD", "HTTP/1.1 404 Not Found\r\n\r\n", 404, None),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        ("DELETE", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"a\"\r\n\r\n", 304, Some("99")),
        ("GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, None),
    ];
    on_both_drivers(|driver| {
        let origin = Origin::start(move |peer| {
            while let Some(request) = peer.request() {
                let row: usize = request.head.target()[1..].parse().expect("a row");
                peer.wire.send(cases[row].1);
            }
        });
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        for (row, (method, _, status, length)) in cases.into_iter().enumerate() {
            let response = client.ask(&format!("{method} /{row} HTTP/1.1\r\nHost: test\r\n\r\n"));
            assert_eq!(
                (response.status(), response.head.value("Content-Length")),
                (status, length),
                "row {row}"
            );
            client.assert_open();
        }
        assert_eq!(origin.seen().connections, 1, "none of them ends the connection");
    });
}

#[test]
fn interim_responses_reach_clients_that_know_them() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let answer = format!("{answer}HTTP/1.1 199 Odd\r\n\r\n{OK}");
    on_both_drivers(|driver| {
        let origin = Origin::answering(answer.as_str());
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(client.response().status(), 100);
            let hints = client.response();
            assert_eq!((hints.status(), hints.head.value("Link")), (103, Some("</a.css>")));
            assert_eq!(hints.head.value("Connection"), None);
            assert_eq!(client.response().status(), 199);
            client.response().assert_is(200, "ok");
        }
        engine.connect().ask("GET / HTTP/1.0\r\n\r\n").assert_is(200, "ok");
    });
}

#[test]
fn expect_continue_waits_for_the_origin() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            while let Some(head) = peer.head() {
                assert_eq!(head.value("Expect"), Some("100-continue"));
                peer.wire.send("HTTP/1.1 100 Continue\r\n\r\n");
                let mut body = Vec::new();
                peer.wire.body(head.request_framing(), |bytes| body.extend_from_slice(bytes));
                assert_eq!(body, b"body");
                peer.wire.send(OK);
            }
        });
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        for _ in 0..2 {
            client.send(HEAD);
            assert_eq!(client.response().status(), 100);
            client.send("body");
            client.response().assert_is(200, "ok");
        }
        client.assert_open();
    });
}

#[test]
fn a_refused_expectation_does_not_make_the_body_a_request() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 38\r\n\r\n";
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            if peer.head().is_some() {
                peer.wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
                peer.wire.rest();
            }
        });
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        client.ask(HEAD).assert_is(413, "no");
        client.send("GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n");
        client.finish();
        client.assert_closed();
        assert_eq!(origin.targets(), ["/"]);
    });
}

#[test]
fn fields_of_one_hop_stay_on_it() {
    let dropped = ["Keep-Alive", "Proxy-Connection", "Upgrade", "HTTP2-Settings", "X-Named", "X-Too", "TE"];
    let kept = ["X-Kept", "Cache-Control"];
    let mut lines = "Connection: X-Named, keep-alive,x-too\r\nConnection: cache-control\r\n".to_owned();
    for name in dropped.iter().chain(&kept) {
        lines += &format!("{name}: h2c\r\n");
    }
    on_both_drivers(|driver| {
        let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n");
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
        let (received, response) = pass_through(driver, "", &request, &answer);
        for message in [received, response] {
            for name in dropped.iter().chain(&["Connection"]) {
                assert_eq!(message.head.value(name), None, "{message:?}");
            }
            // Cache-Control is meant for every recipient: naming it in Connection does not take it away.
            for name in kept {
                assert_eq!(message.head.value(name), Some("h2c"), "{message:?}");
            }
        }
    });
}

#[test]
fn framing_fields_named_in_connection_keep_their_meaning() {
    on_both_drivers(|driver| {
        let request = "POST / HTTP/1.1\r\nHost: test\r\nConnection: content-length, host\r\n\
            Content-Length: 4\r\n\r\nbody";
        let answer = "HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok";
        let (received, response) = pass_through(driver, "", request, answer);
        assert_eq!((received.text(), received.head.value("Host")), ("body", Some("test")));
        response.assert_is(200, "ok");
    });
}

#[test]
fn acceptance_of_trailers_is_passed_on() {
    on_both_drivers(|driver| {
        let request = "GET / HTTP/1.1\r\nHost: test\r\nTE: gzip, trailers\r\nConnection: TE\r\n\r\n";
        let (received, _) = pass_through(driver, "", request, OK);
        assert_eq!(received.head.value("TE"), Some("trailers"));
        assert_eq!(received.head.value("Connection"), Some("TE"));
    });
}

/// Fields by which a client could pretend to be a proxy.
const CLAIMED: &str = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: claimed\r\n\
    Forwarded: for=192.0.2.1\r\nX-Request-ID: claimed\r\n";

#[test]
fn forwarding_fields_of_strangers_are_replaced() {
    on_both_drivers(|driver| {
        for claimed in ["", CLAIMED] {
            let request = format!("GET / HTTP/1.1\r\nHost: test:81\r\n{claimed}\r\n");
            let (received, _) = pass_through(driver, "", &request, OK);
            let head = received.head;
            assert_eq!(head.value("X-Forwarded-For"), Some("127.0.0.1"));
            assert_eq!(head.value("X-Forwarded-Proto"), Some("http"));
            assert_eq!(head.value("X-Forwarded-Host"), Some("test:81"));
            assert_eq!(head.value("Forwarded"), None);
            let id = head.value("X-Request-ID").expect("a request id");
            assert!(id != "claimed" && id.len() >= 16, "{id}");
        }
    });
}

#[test]
fn forwarding_fields_of_trusted_proxies_are_extended() {
    let listener = r#"forwarding = { trusted = ["127.0.0.0/8"], forwarded = true }"#;
    on_both_drivers(|driver| {
        let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{CLAIMED}\r\n");
        let head = pass_through(driver, listener, &request, OK).0.head;
        assert_eq!(head.value("X-Forwarded-For"), Some("192.0.2.1, 127.0.0.1"));
        assert_eq!(head.value("X-Forwarded-Proto"), Some("https"));
        assert_eq!(head.value("X-Forwarded-Host"), Some("claimed"));
        assert_eq!(head.value("Forwarded"), Some(r#"for=192.0.2.1, for=127.0.0.1;host="test";proto=http"#));
        assert_eq!(head.value("X-Request-ID"), Some("claimed"));
    });
}

#[test]
fn forwarding_fields_can_be_turned_off() {
    let listener = "forwarding = { x_forwarded_for = false, x_forwarded_proto = false, \
        x_forwarded_host = false, via = false, request_id = false }";
    on_both_drivers(|driver| {
        let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{CLAIMED}\r\n");
        let (received, response) = pass_through(driver, listener, &request, OK);
        // What a stranger claims is dropped all the same: nothing behind us may believe it.
        assert_eq!(received.head.fields, [("Host".to_owned(), "test".to_owned())]);
        let names: Vec<_> = response.head.fields.iter().map(|(name, _)| name.as_str()).collect();
        // The time is no forwarding field: who has a clock says it, RFC 9110 §6.6.1.
        assert_eq!(names, ["Content-Length", "Date"]);
    });
}

#[test]
fn request_ids_differ() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let config = Config { endpoints: &[origin.address], ..Config::default() };
        let engine = Engine::start_on_cores(driver, 2, config);
        for _ in 0..20 {
            let mut client = engine.connect();
            client.get("/");
            client.get("/");
        }
        let seen = origin.seen();
        let mut ids: Vec<_> =
            seen.requests.iter().map(|(_, request)| request.head.value("X-Request-ID")).collect();
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() == 40 && ids[0].is_some(), "{ids:?}");
    });
}

#[test]
fn via_names_every_hop_both_ways() {
    on_both_drivers(|driver| {
        let (received, response) = pass_through(driver, "", "GET / HTTP/1.0\r\n\r\n", OK);
        assert_eq!(received.head.value("Via"), Some("1.0 corelane"));
        assert_eq!(response.head.value("Via"), Some("1.1 corelane"));
        let request = "GET / HTTP/1.1\r\nHost: test\r\nVia: 1.0 first\r\n\r\n";
        let answer = "HTTP/1.0 200 OK\r\nVia: 1.1 last\r\nContent-Length: 2\r\n\r\nok";
        let (received, response) = pass_through(driver, "forwarding = { via = \"edge\" }", request, answer);
        assert_eq!(received.head.value("Via"), Some("1.0 first, 1.1 edge"));
        assert_eq!(response.head.value("Via"), Some("1.1 last, 1.0 edge"));
    });
}

#[test]
fn absolute_targets_are_forwarded_as_path_and_host() {
    let cases = [
        ("GET http://test/a?b=c HTTP/1.1", "test", "GET /a?b=c HTTP/1.1"),
        ("GET http://test:8080 HTTP/1.1", "test:8080", "GET / HTTP/1.1"),
        ("GET HTTP://TEST/ HTTP/1.1", "test", "GET / HTTP/1.1"),
        ("GET http://test?q HTTP/1.1", "test", "GET /?q HTTP/1.1"),
        ("OPTIONS http://test HTTP/1.1", "test", "OPTIONS * HTTP/1.1"),
        ("OPTIONS * HTTP/1.1", "test", "OPTIONS * HTTP/1.1"),
    ];
    on_both_drivers(|driver| {
        for (line, host, expected) in cases {
            let (received, _) = pass_through(driver, "", &format!("{line}\r\nHost: {host}\r\n\r\n"), OK);
            assert_eq!(received.head.start_line, expected);
            let received_host = received.head.value("Host").expect("a host");
            assert!(received_host.eq_ignore_ascii_case(host), "{received_host}");
        }
    });
}

#[test]
fn what_no_channel_takes_is_answered_here() {
    let config =
        "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.a]\nmatch = { path_exact = \"/a\" }\nrespond = {}";
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, config);
        let mut client = engine.connect();
        assert_eq!(client.get("/a").status(), 200);
        let missed = client.get("/b");
        assert_eq!(missed.status(), 404);
        assert!(missed.end.is_complete && !missed.text().contains("channel"), "{missed:?}");
        let posted = client.ask("POST /b HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(posted.status(), 404);
        assert_eq!(client.ask("HEAD /b HTTP/1.1\r\nHost: test\r\n\r\n").status(), 404);
        assert_eq!(client.get("/a").status(), 200, "the connection is kept");
        engine.assert_only_fault("no_channel", 3);
    });
}

#[test]
fn connect_is_not_a_way_through() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        assert_eq!(client.ask("CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n").status(), 501);
        engine.assert_only_fault("tunnel_refused", 1);
        assert_eq!(origin.seen().connections, 0);
    });
}

#[test]
fn the_first_channel_by_priority_takes_the_request() {
    let channels = [
        ("rest", ""),
        ("urgent", "priority = 1\nmatch = { path_prefix = \"/both\" }"),
        ("late", "priority = 2\nmatch = { path_prefix = \"/both\" }"),
        ("exact", "priority = 9\nmatch = { path_exact = \"/exact\" }"),
        ("prefix", "priority = 9\nmatch = { path_prefix = \"/pre/\" }"),
        ("pattern", "priority = 9\nmatch = { path = \"^/fhir/(Patient|Encounter)$\" }"),
        ("method", "priority = 9\nmatch = { path_exact = \"/m\", methods = [\"PUT\", \"PATCH\"] }"),
        ("host", "priority = 9\nmatch = { host = [\"one.test\", \"*.wild.test\"] }"),
        ("door", "priority = 8\nmatch = { listener = \"door\" }"),
        ("off", "enabled = false\npriority = 1\nmatch = { path_exact = \"/off\" }"),
    ];
    let mut config =
        "[listener.web]\nbind = \"127.0.0.1:0\"\n[listener.door]\nbind = \"127.0.0.1:0\"\n".to_owned();
    for (name, keys) in channels {
        config += &format!("[channel.{name}]\nrespond = {{ body = \"{name}\" }}\n{keys}\n");
    }
    let cases = [
        ("GET", "/", "test", "rest"),
        ("GET", "/both", "test", "urgent"),
        ("GET", "/exact", "test", "exact"),
        ("GET", "/exact?a=b", "test", "exact"),
        ("GET", "/exact/", "test", "rest"),
        ("GET", "/pre/a", "test", "prefix"),
        ("GET", "/pre", "test", "rest"),
        ("GET", "/fhir/Patient", "test", "pattern"),
        ("GET", "/fhir/Patient?name=x", "test", "pattern"),
        ("GET", "/fhir/Patients", "test", "rest"),
        ("PUT", "/m", "test", "method"),
        ("GET", "/m", "test", "rest"),
        ("put", "/m", "test", "rest"),
        ("GET", "/", "one.test", "host"),
        ("GET", "/", "ONE.test:8080", "host"),
        ("GET", "/", "a.wild.test", "host"),
        ("GET", "/", "a.b.wild.test", "host"),
        ("GET", "/", "wild.test", "rest"),
        ("GET", "http://one.test/", "one.test", "host"),
        ("GET", "/off", "test", "rest"),
    ];
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, &config);
        let mut client = engine.connect();
        for (method, target, host, channel) in cases {
            let answer = client.ask(&format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(answer.text(), channel, "{method} {target} of {host}");
        }
        Connection::open(engine.listener("door")).get("/").assert_is(200, "door");
        Connection::open(engine.listener("door")).get("/both").assert_is(200, "urgent");
    });
}

#[test]
fn fixed_answers_are_whole_messages() {
    let config = "[listener.web]\nbind = \"127.0.0.1:0\"\n\
        [channel.all]\nrespond = { status = 503, content_type = \"text/x\", body = \"later\\n\" }";
    on_both_drivers(|driver| {
        let engine = Engine::start(driver, config);
        let mut client = engine.connect();
        for body in ["", "body"] {
            let length = body.len();
            let request = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}");
            let answer = client.ask(&request);
            answer.assert_is(503, "later\n");
            assert_eq!(answer.head.value("Content-Type"), Some("text/x"));
        }
        let head = client.ask("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!((head.status(), head.head.value("Content-Length")), (503, Some("6")));
        client.get("/").assert_is(503, "later\n");
        client.ask("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").assert_is(503, "later\n");
        client.assert_closed();
        engine.assert_counter("/totals/requests", 5);
    });
}

#[test]
fn pipelined_bytes_after_close_are_not_a_request() {
    let closing = ["GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"];
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = Engine::before(driver, origin.address);
        for request in closing {
            let mut client = engine.connect();
            client.send(format!("{request}GET /after HTTP/1.1\r\nHost: test\r\n\r\n"));
            client.response().assert_is(200, "ok");
            client.assert_closed();
        }
        assert_eq!(origin.targets(), ["/", "/"]);
    });
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answers() {
    on_both_drivers(|driver| {
        let origin = Origin::naming_targets();
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        client.send("GET /a HTTP/1.1\r\nHost: test\r\n\r\nGET /b HTTP/1.1\r\nHost: test\r\n\r\n");
        client.finish();
        client.response().assert_is(200, "/a");
        client.response().assert_is(200, "/b");
        client.assert_closed();
    });
}

#[test]
fn a_client_that_leaves_takes_its_exchange_with_it() {
    on_both_drivers(|driver| {
        let asked = Signal::default();
        let is_asked = asked.clone();
        let origin = Origin::start(move |peer| {
            peer.request();
            is_asked.give();
            // Ends when the engine gives the connection up.
            peer.wire.rest();
        });
        let engine = Engine::before(driver, origin.address);
        let client = engine.connect();
        client.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
        asked.take();
        client.reset_when_dropped();
        drop(client);
        origin.wait_until(|seen| seen.ended == 1);
        engine.assert_only_fault("client_gone_in_response", 1);
        engine.assert_counter("/totals/exchanges_open", 0);
        engine.assert_counter("/totals/connections_open", 0);
    });
}
