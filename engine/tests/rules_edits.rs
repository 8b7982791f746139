//! Are heads changed on their way as the rules of a channel say, and clients sent where they say? And nothing else?
//!
//! Over sockets: what an endpoint and a client get, to the letter where it matters.

mod common;

use common::engine::{Config, Driver, Engine};
use common::on_both_drivers;
use common::origin::{OK, Origin};

/// An engine before `origin` whose channel takes these further keys.
fn engine_with(driver: Driver, origin: &Origin, channel: &str) -> Engine {
    Engine::start(driver, Config { endpoints: &[origin.address], channel, ..Config::default() })
}

#[test]
fn fields_of_requests_are_set_added_and_removed() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let channel = r#"
            [channel.all.request_headers]
            set = { X-Client = "${client_address}", X-Asked = "${method} ${scheme}://${authority}${path}${query}", Host = "inner.example" }
            add = { X-Way = "${listener}/${channel}" }
            remove = ["Cookie", "X-Forwarded-For"]
        "#;
        let engine = engine_with(driver, &origin, channel);
        let request = "POST /a?b=c HTTP/1.1\r\nHost: out.example:80\r\nX_Client: forged\r\nx-client: forged\r\nCookie: a=b\r\n\
                       X-Way: here\r\nContent-Length: 3\r\n\r\nabc";
        engine.connect().ask(request).assert_is(200, "ok");
        let seen = origin.only_request();
        let value = |name: &str| seen.head.value(name);
        assert_eq!(value("X-Client"), Some("127.0.0.1"));
        assert_eq!(value("X_Client"), None);
        assert_eq!(value("X-Asked"), Some("POST http://out.example:80/a?b=c"));
        assert_eq!(value("Host"), Some("inner.example"));
        assert_eq!((value("Cookie"), value("X-Forwarded-For")), (None, None));
        assert_eq!(seen.head.values("X-Way"), ["here", "web/all"]);
        assert_eq!((value("Content-Length"), seen.text()), (Some("3"), "abc"));
    });
}

#[test]
fn fields_of_answers_are_changed_and_their_framing_is_not() {
    on_both_drivers(|driver| {
        let answers = [
            "HTTP/1.1 200 OK\r\nServer: secret\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSERVER: secret\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nServer: hint\r\n\r\nHTTP/1.1 200 OK\r\nServer: secret\r\nContent-Length: 2\r\n\r\nok",
        ];
        let origin = Origin::start(move |peer| {
            for answer in answers {
                if peer.request().is_none() || !peer.wire.send(answer) {
                    return;
                }
            }
        });
        let channel = r#"
            [channel.all.response_headers]
            set = { X-Frame-Options = "DENY", X-Id = "${request_id}", X-Path = "${path}" }
            remove = ["Server"]
        "#;
        let engine = engine_with(driver, &origin, channel);
        let mut client = engine.connect();
        for index in 0..3 {
            let mut answer = client.get("/path");
            if answer.status() == 103 {
                // A hint is not an answer, and passes as it is.
                assert_eq!(answer.head.value("Server"), Some("hint"));
                answer = client.response();
            }
            answer.assert_is(200, "ok");
            let value = |name: &str| answer.head.value(name);
            assert_eq!((value("Server"), value("X-Frame-Options")), (None, Some("DENY")), "{index}");
            assert_eq!(value("X-Path"), Some("/path"));
            let (_, asked) = &origin.seen().requests[index];
            assert!(value("X-Id").is_some_and(|id| id.len() == 32));
            assert_eq!(value("X-Id"), asked.head.value("X-Request-ID"));
        }
    });
}

#[test]
fn what_a_client_says_never_ends_a_line_of_ours() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let channel = r#"
            request_headers.set = { X-Said = "${path}|${query}|${authority}|${method}" }
            response_headers.set = { X-Said = "${path}|${query}" }
        "#;
        let engine = engine_with(driver, &origin, channel);
        let answer = engine.connect().ask("M-X /%0d%0aA:%20b?%0a HTTP/1.1\r\nHost: a%0ab\r\n\r\n");
        assert_eq!(answer.head.value("X-Said"), Some("/%0d%0aA:%20b|?%0a"));
        assert_eq!(origin.only_request().head.value("X-Said"), Some("/%0d%0aA:%20b|?%0a|a%0ab|M-X"));
        for bytes in ["GET /a\rB: c HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\rB: c\r\n\r\n"] {
            assert_eq!(engine.connect().ask(bytes).status(), 400);
        }
    });
}

#[test]
fn a_channels_own_answers_get_its_fields_too() {
    on_both_drivers(|driver| {
        let config = "[listener.web]\nbind = '127.0.0.1:0'\n[channel.all]\nrespond = { body = 'here' }\n\
                      response_headers.set = { X-Host = '${host}', Content-Type = 'text/x' }\n";
        let engine = Engine::start(driver, config);
        let mut client = engine.connect();
        for _ in 0..2 {
            let answer = client.get("/");
            answer.assert_is(200, "here");
            let value = |name: &str| answer.head.value(name);
            assert_eq!((value("X-Host"), value("Content-Type")), (Some("test"), Some("text/x")));
        }
    });
}

#[test]
fn an_endpoint_sees_the_path_that_the_rules_make_and_the_query_as_it_came() {
    on_both_drivers(|driver| {
        let check = |rewrite: &str, expected: &[(&str, &str)]| {
            let origin = Origin::answering(OK);
            let engine = engine_with(driver, &origin, rewrite);
            let mut client = engine.connect();
            for (asked, _) in expected {
                let method = if *asked == "*" { "OPTIONS" } else { "GET" };
                let request = format!("{method} {asked} HTTP/1.1\r\nHost: a\r\n\r\n");
                client.ask(&request).assert_is(200, "ok");
            }
            let made: Vec<&str> = expected.iter().map(|(_, made)| *made).collect();
            assert_eq!(origin.targets(), made, "{rewrite}");
        };
        check(
            "rewrite = { strip_prefix = '/api/', add_prefix = '/v1' }",
            &[
                ("/api/x?q=/api/y", "/v1/x?q=/api/y"),
                ("/api", "/v1"),
                ("/apis", "/v1/apis"),
                ("http://a/api/x?q", "/v1/x?q"),
                ("http://a?q", "/v1/?q"),
                ("*", "*"),
            ],
        );
        check(
            "rewrite = { path = '^/patient/([0-9]+)(/.*)?$', to = '/fhir/Patient/$1$2' }",
            &[
                ("/patient/7/history?a=b", "/fhir/Patient/7/history?a=b"),
                ("/patient/7", "/fhir/Patient/7"),
                ("/patient/x?/patient/7", "/patient/x?/patient/7"),
            ],
        );
        check("rewrite = { path = '^.*$', to = 'all' }", &[("/x/y?z", "/all?z")]);
    });
}

#[test]
fn a_request_with_a_body_is_rewritten_and_its_body_is_not() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let channel =
            "rewrite = { add_prefix = '/a/longer/path/than/before' }\nrequest_headers.set = { X = 'y' }";
        let engine = engine_with(driver, &origin, channel);
        for bytes in [10, 5_000, 300_000] {
            let body = "GET / HTTP/1.1\r\nX: z\r\n\r\n".repeat(bytes / 10);
            let head = format!("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            engine.connect().ask(&format!("{head}{body}")).assert_is(200, "ok");
            let (_, seen) = origin.seen().requests.pop().expect("a request");
            assert_eq!(
                (seen.head.target(), seen.head.value("X")),
                ("/a/longer/path/than/before/b", Some("y"))
            );
            assert!(seen.text() == body);
        }
    });
}

#[test]
fn a_client_is_sent_where_the_channel_says() {
    on_both_drivers(|driver| {
        let check = |redirect: &str, target: &str, status: u16, location: &str| {
            let config =
                format!("[listener.web]\nbind = '127.0.0.1:0'\n[channel.all]\nredirect = {redirect}\n");
            let engine = Engine::start(driver, config);
            let mut client = engine.connect();
            for method in ["GET", "POST"] {
                let request = format!(
                    "{method} {target} HTTP/1.1\r\nHost: a.example:8080\r\nContent-Length: 1\r\n\r\nx"
                );
                let answer = client.ask(&request);
                assert_eq!((answer.status(), answer.head.value("Location")), (status, Some(location)));
                assert!(answer.end.is_complete);
            }
            engine.assert_counter("/totals/responses/3xx", 2);
        };
        let config =
            "[listener.web]\nbind = '127.0.0.1:0'\n[channel.all]\nredirect.to = 'https://${host}${path}'\n";
        let engine = Engine::start(driver, config);
        // A client that names no host is sent to where it came.
        let answer = engine.connect().ask("GET /x HTTP/1.0\r\n\r\n");
        assert_eq!(answer.head.value("Location"), Some("https://127.0.0.1/x"));
        check(r#"{ to = "https://${host}${path}" }"#, "/x?y", 302, "https://a.example/x");
        check(
            r#"{ status = 308, to = "https://${host}${path}${query}" }"#,
            "/x?y",
            308,
            "https://a.example/x?y",
        );
        check(r#"{ status = 301, to = "${path}/" }"#, "//evil.example", 301, "/evil.example/");
        check(r#"{ status = 303, to = "/new?from=${path}" }"#, "/\"<>", 303, "/new?from=/%22%3C%3E");
    });
}
