//! Does HTTP over TLS keep the promises of HTTP in the clear, to clients and to endpoints?
//!
//! Never measures: what it waits for happens, or the test fails after a long time.

mod common;

use std::process::Command;
use std::sync::Arc;
use std::thread;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::origin::{OK, Origin, Peer};
use common::pattern;
use common::private::{Authority, Identity, accept, connect, https};
use common::{eventually, on_both_drivers};
use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};

/// An engine that speaks HTTPS as `localhost`, and who trusts it.
struct Stage {
    authority: Authority,
    engine: Engine,
}

impl Stage {
    fn new(driver: Driver, origin: &Origin) -> Self {
        Self::with(driver, &[origin], "", "")
    }

    fn with(driver: Driver, origins: &[&Origin], listener: &str, tls: &str) -> Self {
        let authority = Authority::new();
        let identity = authority.server(&["localhost", "other.test"]);
        let listener = format!("{listener}\n{}", https(&identity, tls));
        let endpoints = &origins.iter().map(|origin| origin.address).collect::<Vec<_>>();
        let engine = Engine::start(driver, Config { endpoints, listener: &listener, ..Config::default() });
        Self { authority, engine }
    }

    fn clients(&self) -> Arc<ClientConfig> {
        Arc::new(self.authority.clients(None))
    }

    fn connect(&self) -> Connection {
        connect(&self.engine, &self.clients(), "localhost").expect("an agreement")
    }
}

/// Answers every request with its body.
fn echo(peer: &mut Peer) {
    while let Some(request) = peer.request() {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        if !peer.wire.send([head.as_bytes(), &request.body].concat()) {
            return;
        }
    }
}

#[test]
fn both_versions_are_spoken_and_sessions_resumed() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let stage = Stage::new(driver, &origin);
        for (version, full, resumed) in [
            (&TLS12, "handshakes_tls12", "resumptions_tls12"),
            (&TLS13, "handshakes_tls13", "resumptions_tls13"),
        ] {
            let clients = Arc::new(stage.authority.clients_of(version));
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut client = connect(&stage.engine, &clients, "localhost").expect("an agreement");
                client.get("/").assert_is(200, "ok");
                client.get("/").assert_is(200, "ok");
                assert_eq!(client.agreed(|keys| keys.handshake_kind()), Some(kind), "{version:?}");
            }
            stage.engine.assert_counter(&format!("/listeners/0/{full}"), 1);
            stage.engine.assert_counter(&format!("/listeners/0/{resumed}"), 1);
        }
        stage.engine.assert_counter("/listeners/0/handshakes_open", 0);
        assert_eq!(origin.seen().connections, 1);
    });
}

#[test]
fn endpoints_are_told_that_the_client_came_in_private() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let stage = Stage::new(driver, &origin);
        let request = "GET https://localhost/a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: http\r\nClient-Cert: :AA==:\r\n\r\n";
        stage.connect().ask(request).assert_is(200, "ok");
        let request = origin.only_request();
        assert_eq!(request.head.target(), "/a");
        assert_eq!(request.head.values("x-forwarded-proto"), ["https"]);
        // Nobody here is asked for a certificate, so the field is like any other.
        assert_eq!(request.head.values("client-cert"), [":AA==:"]);
    });
}

#[test]
fn requests_may_follow_each_other_at_once() {
    on_both_drivers(|driver| {
        let origin = Origin::naming_targets();
        let stage = Stage::new(driver, &origin);
        let mut client = stage.connect();
        let requests: String = (0..20).map(|at| format!("GET /{at} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        assert!(client.send(requests));
        for at in 0..20 {
            client.response().assert_is(200, &format!("/{at}"));
        }
        // And one byte a record.
        assert!(client.send_split("GET /last HTTP/1.1\r\nHost: a\r\n\r\n", 1));
        client.response().assert_is(200, "/last");
    });
}

#[test]
fn bodies_pass_both_ways() {
    on_both_drivers(|driver| {
        let origin = Origin::start(echo);
        let stage = Stage::new(driver, &origin);
        let mut client = stage.connect();
        for length in [0, 1, 16 * 1024, 16 * 1024 + 1, 300_000, 8 << 20] {
            let mut body = Vec::new();
            pattern::send(length, &[1 << 20], |piece| {
                body.extend_from_slice(piece);
                true
            });
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            assert!(client.send([head.as_bytes(), &body].concat()));
            let answer = client.response();
            assert!(answer.status() == 200 && answer.body == body, "{length} bytes");
        }
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        client.ask(chunked).assert_is(200, "abc");
        let expecting = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi";
        client.ask(expecting).assert_is(200, "hi");
        client.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").assert_is(200, "");
    });
}

#[test]
fn an_end_is_said_by_close_notify() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let stage = Stage::with(driver, &[&origin], "timeouts = { idle = \"300ms\" }", "");
        let mut client = stage.connect();
        client.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").assert_is(200, "ok");
        assert!(client.ends_as_said(), "after the last answer");
        let mut client = stage.connect();
        client.get("/").assert_is(200, "ok");
        assert!(client.ends_as_said(), "after being idle");
        stage.engine.assert_counter("/listeners/0/idle_timeouts", 1);
        // A client may end its side the rude way or the polite one.
        let client = stage.connect();
        client.say_end();
        drop(stage.connect());
        stage.engine.assert_counter("/listeners/0/connections_open", 0);
        assert_eq!(stage.engine.faults().len(), 0);
    });
}

#[test]
fn an_answer_that_ends_with_its_connection_is_cut_when_it_is_not_whole() {
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        });
        let stage = Stage::new(driver, &origin);
        let mut client = stage.connect();
        assert!(client.send("GET / HTTP/1.0\r\n\r\n"));
        let answer = client.response();
        assert_eq!((answer.body.as_slice(), answer.end.is_complete), (&b"half"[..], false));
        stage.engine.assert_only_fault("response_truncated", 1);
    });
}

#[test]
fn http_in_the_clear_is_told_where_it_is() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let stage = Stage::new(driver, &origin);
        let mut client = stage.engine.connect();
        let answer = client.get("/");
        assert_eq!(answer.status(), 400);
        assert!(answer.text().contains("HTTPS"), "{answer:?}");
        client.assert_closed();
        stage.engine.assert_counter("/handshake_faults/plain_http", 1);
        let mut client = stage.engine.connect();
        assert!(client.send(b"\x00\x01\x02nonsense"));
        client.assert_closed();
        stage.engine.assert_counter("/handshake_faults/not_tls", 1);
        assert_eq!(origin.seen().connections, 0);
    });
}

#[test]
fn who_stalls_in_a_handshake_is_gone_by_the_deadline_and_keeps_nobody_waiting() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let stage = Stage::with(driver, &[&origin], "timeouts = { handshake = \"1s\" }", "handshakes = 8");
        let mut kept = stage.connect();
        // A third says nothing, the others begin a record and say no more: more than may be in progress at a time.
        let stalled: Vec<Connection> = (0..200)
            .map(|at| {
                let client = stage.engine.connect();
                if at % 3 > 0 {
                    assert!(client.send(b"\x16\x03\x01\x02\x00\x01"));
                }
                client
            })
            .collect();
        kept.get("/").assert_is(200, "ok");
        for mut client in stalled {
            client.assert_closed();
            kept.get("/").assert_is(200, "ok");
        }
        stage.engine.assert_counter("/handshake_faults/timed_out", 200);
        stage.engine.assert_counter("/listeners/0/handshakes_open", 0);
        stage.connect().get("/").assert_is(200, "ok");
    });
}

#[test]
fn more_clients_at_once_than_places_are_all_served() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let stage = Stage::with(driver, &[&origin], "", "handshakes = 1");
        let clients = stage.clients();
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let mut client = connect(&stage.engine, &clients, "localhost").expect("an agreement");
                    client.get("/").assert_is(200, "ok");
                });
            }
        });
        stage.engine.assert_counter("/listeners/0/handshakes_failed", 0);
    });
}

#[test]
fn old_versions_are_refused_by_name() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let stage = Stage::new(driver, &origin);
        // A hello of TLS 1.1: version, random, no session, one suite, no compression.
        let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
        let hello = [&[22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8][..], &body].concat();
        let mut client = stage.engine.connect();
        assert!(client.send(hello));
        assert_eq!(client.rest(), [21, 3, 1, 0, 2, 2, 70]);
        stage.engine.assert_counter("/handshake_faults/no_shared_version", 1);
        let stage = Stage::with(driver, &[&origin], "", "min_version = \"1.3\"");
        let clients = Arc::new(stage.authority.clients_of(&TLS12));
        connect(&stage.engine, &clients, "localhost").expect_err("no TLS 1.2");
        stage.engine.assert_counter("/handshake_faults/no_shared_version", 1);
    });
}

/// What a client of a listener that demands certificates sees of it.
fn mutual(driver: Driver, origin: &Origin, more: &str) -> (Stage, Authority) {
    let people = Authority::new();
    let tls = format!("client_auth = {{ mode = \"require\", ca = {:?}{more} }}", people.file());
    (Stage::with(driver, &[origin], "", &tls), people)
}

#[test]
fn a_client_without_the_right_certificate_gets_nothing() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let (stage, people) = mutual(driver, &origin, "");
        let strangers = Authority::new();
        let check = |identity: Option<&Identity>, cause: &str| {
            let clients = Arc::new(stage.authority.clients(identity));
            // TLS 1.3 lets the client think that it is done before it is refused.
            if let Ok(mut client) = connect(&stage.engine, &clients, "localhost") {
                client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
                assert!(client.rest().is_empty());
            }
            stage.engine.assert_counter(&format!("/handshake_faults/{cause}"), 1);
        };
        check(None, "certificate_missing");
        check(Some(&strangers.client("lab 7")), "certificate_issuer");
        check(Some(&people.server(&["localhost"])), "certificate_refused");
        assert_eq!(origin.seen().requests.len(), 0);
    });
}

#[test]
fn a_proven_identity_goes_along_and_a_claimed_one_does_not() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let (stage, people) = mutual(driver, &origin, "");
        let identity = people.client("lab, 7");
        let clients = Arc::new(stage.authority.clients(Some(&identity)));
        let mut client = connect(&stage.engine, &clients, "localhost").expect("an agreement");
        let request = "GET / HTTP/1.1\r\nHost: LOCALHOST:8443\r\nClient-Cert: :forged:\r\nx_client_certificate_subject: forged\r\n\
                       X-Client-Certificate-Fingerprint: forged\r\n\r\n";
        client.ask(request).assert_is(200, "ok");
        let head = origin.only_request().head;
        assert_eq!(head.values("x-client-certificate-subject"), [r"CN=lab\, 7"]);
        assert!(head.values("x_client_certificate_subject").is_empty());
        let [fingerprint] = &head.values("x-client-certificate-fingerprint")[..] else { panic!("{head:?}") };
        assert!(fingerprint.starts_with("sha256:") && fingerprint.len() == 71, "{fingerprint}");
        let [certificate] = &head.values("client-cert")[..] else { panic!("{head:?}") };
        assert!(certificate.starts_with(":MII") && certificate.ends_with(':'), "{certificate}");
        assert_eq!(certificate.len(), 2 + identity.der.len().div_ceil(3) * 4);
    });
}

#[test]
fn a_certificate_shown_to_one_host_is_not_for_another() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let (stage, people) = mutual(driver, &origin, "");
        let clients = Arc::new(stage.authority.clients(Some(&people.client("lab 7"))));
        let mut client = connect(&stage.engine, &clients, "localhost").expect("an agreement");
        client.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").assert_is(200, "ok");
        let answer = client.ask("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
        assert_eq!(answer.status(), 421);
        assert!(client.ends_as_said());
        stage.engine.assert_only_fault("misdirected", 1);
        assert_eq!(origin.seen().requests.len(), 1);
    });
}

/// An origin that speaks TLS, with what the upstream is told of it.
fn private_origin(identity: &Identity, clients: Option<&Authority>) -> Origin {
    let config = Authority::origins(identity, clients);
    Origin::start(move |peer| {
        if peer.agree(accept(&config)) {
            while peer.request().is_some_and(|_| peer.wire.send(OK)) {}
        }
    })
}

fn engine_before(driver: Driver, origin: &Origin, tls: &str) -> Engine {
    let upstream = &format!("tls = {{ {tls} }}");
    Engine::start(driver, Config { endpoints: &[origin.address], upstream, ..Config::default() })
}

#[test]
fn endpoints_are_spoken_to_in_private_over_kept_connections() {
    on_both_drivers(|driver| {
        let authority = Authority::new();
        let origin = private_origin(&authority.server(&["app.test"]), None);
        let trust = format!("ca = {:?}, server_name = \"app.test\"", authority.file());
        let engine = engine_before(driver, &origin, &trust);
        for _ in 0..5 {
            engine.connect().get("/").assert_is(200, "ok");
        }
        assert_eq!(origin.seen().connections, 1);
        engine.assert_counter("/upstreams/0/endpoints/0/handshakes", 1);
        engine.assert_counter("/upstreams/0/endpoints/0/reused", 4);
    });
}

#[test]
fn sessions_with_endpoints_are_resumed() {
    on_both_drivers(|driver| {
        let authority = Authority::new();
        let config = Authority::origins(&authority.server(&["app.test"]), None);
        let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        let origin = Origin::start(move |peer| {
            if peer.agree(accept(&config)) && peer.request().is_some() {
                peer.wire.send(closing);
                peer.wire.say_end();
            }
        });
        let trust = format!("ca = {:?}, server_name = \"app.test\"", authority.file());
        let engine = engine_before(driver, &origin, &trust);
        for _ in 0..3 {
            engine.connect().get("/").assert_is(200, "ok");
        }
        engine.assert_counter("/upstreams/0/endpoints/0/handshakes", 1);
        engine.assert_counter("/upstreams/0/endpoints/0/resumptions", 2);
    });
}

#[test]
fn an_endpoint_that_cannot_prove_who_it_is_is_sent_nothing() {
    on_both_drivers(|driver| {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let check = |origin: &Origin, trust: &Authority, name: &str, cause: &str| {
            let trust = format!("ca = {:?}, server_name = \"{name}\"", trust.file());
            let engine = engine_before(driver, origin, &trust);
            assert_eq!(engine.connect().get("/").status(), 502);
            engine.assert_only_fault("upstream_tls_failed", 1);
            engine.assert_counter(&format!("/upstream_handshake_faults/{cause}"), 1);
            engine.assert_counter("/upstreams/0/endpoints/0/connect_failures", 1);
            assert_eq!(origin.seen().requests.len(), 0);
        };
        let origin = private_origin(&authority.server(&["app.test"]), None);
        check(&origin, &stranger, "app.test", "certificate_issuer");
        check(&origin, &authority, "other.test", "certificate_name");
        let in_the_clear = Origin::start(|peer| {
            peer.wire.send("HTTP/1.1 400 Bad Request\r\n\r\n");
            peer.wire.rest();
        });
        check(&in_the_clear, &authority, "app.test", "not_tls");
    });
}

#[test]
fn endpoints_are_shown_the_certificate_they_ask_for() {
    on_both_drivers(|driver| {
        let (authority, people) = (Authority::new(), Authority::new());
        let origin = private_origin(&authority.server(&["app.test"]), Some(&people));
        let identity = people.client("gate");
        let trust = format!(
            "ca = {:?}, server_name = \"app.test\", certificate = {:?}, key = {:?}",
            authority.file(),
            identity.certificate,
            identity.key_file
        );
        engine_before(driver, &origin, &trust).connect().get("/").assert_is(200, "ok");
        let trust = format!("ca = {:?}, server_name = \"app.test\"", authority.file());
        let status = engine_before(driver, &origin, &trust).connect().get("/").status();
        assert_eq!(status, 502, "nothing to show");
    });
}

#[test]
fn a_drain_ends_private_connections_politely() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let mut stage = Stage::new(driver, &origin);
        let mut client = stage.connect();
        client.get("/").assert_is(200, "ok");
        let silent = stage.engine.connect();
        stage.engine.assert_counter("/listeners/0/connections_open", 2);
        stage.engine.signal(Signal::TERM);
        assert!(client.ends_as_said());
        drop(silent);
        assert!(stage.engine.wait().success());
    });
}

#[test]
fn curl_and_openssl_are_served() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let stage = Stage::new(driver, &origin);
        let web = stage.engine.web();
        let url = format!("https://localhost:{}/", web.port());
        let resolve = format!("localhost:{}:{}", web.port(), web.ip());
        let ran = Command::new("curl")
            .args(["--silent", "--show-error", "--http1.1", "--max-time", "10", "--cacert"])
            .arg(stage.authority.file())
            .args(["--resolve", &resolve, &url, &url])
            .output();
        match ran {
            Ok(ran) => assert_eq!(String::from_utf8_lossy(&ran.stdout), "okok", "{ran:?}"),
            Err(error) => eprintln!("no curl here, not tested: {error}"),
        }
        let ran = Command::new("openssl")
            .args(["s_client", "-connect", &web.to_string(), "-servername", "localhost"])
            .args(["-verify_return_error", "-tls1_3", "-CAfile"])
            .arg(stage.authority.file())
            .stdin(std::process::Stdio::null())
            .output();
        match ran {
            Ok(ran) => {
                let said = String::from_utf8_lossy(&ran.stdout);
                assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
            }
            Err(error) => eprintln!("no openssl here, not tested: {error}"),
        }
        eventually("all is closed", || stage.engine.counter("/listeners/0/connections_open") == 0);
    });
}
