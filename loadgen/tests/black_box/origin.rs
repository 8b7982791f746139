//! Is the origin an HTTP/1.1 server that one can put load on?

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{DRIVERS, Origin};

/// Sends `request` in one piece, lets the origin close, and returns everything it said.
fn converse(origin: &Origin, request: &str) -> String {
    let mut stream = origin.connect();
    stream.write_all(request.as_bytes()).expect("the origin reads");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("the origin closes in order");
    said
}

fn count(said: &str, part: &str) -> usize {
    said.matches(part).count()
}

const LAST: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

#[test]
fn pipelined_requests_of_every_kind_are_answered_in_order() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--body 3 --driver {driver}"));
        let said = converse(
            &origin,
            &format!(
                "GET /a HTTP/1.1\r\nHost: h\r\n\r\n\
                 HEAD /b HTTP/1.1\r\nHost: h\r\n\r\n\
                 POST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nGET /\
                 PUT /d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n\
                 BREW /e HTTP/1.1\r\nHost: h\r\n\r\n{LAST}"
            ),
        );
        assert_eq!(count(&said, "HTTP/1.1 200 OK\r\n"), 6, "{driver}: {said}");
        assert_eq!(
            count(&said, "Content-Length: 3\r\n\r\nxxx"),
            5,
            "{driver}, all but HEAD have a body: {said}"
        );
        assert_eq!(count(&said, "Connection: close\r\n"), 1, "{driver}: {said}");
    }
}

#[test]
fn requests_that_trickle_in_are_answered() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--driver {driver}"));
        let mut stream = origin.connect();
        stream.set_nodelay(true).expect("no delay");
        let request = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n{LAST}"
        );
        for byte in request.as_bytes() {
            stream.write_all(&[*byte]).expect("the origin reads");
        }
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("the origin closes in order");
        assert_eq!(count(&said, "HTTP/1.1 200 OK\r\n"), 2, "{driver}: {said}");
    }
}

#[test]
fn old_clients_are_told_whether_the_connection_stays() {
    let origin = Origin::start("");
    let said = converse(&origin, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    assert_eq!(count(&said, "Connection: keep-alive\r\n"), 1, "{said}");
    assert_eq!(count(&said, "Connection: close\r\n"), 1, "{said}");
}

#[test]
fn a_client_that_waits_for_leave_gets_it() {
    let origin = Origin::start("--body 2");
    let mut stream = origin.connect();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
        .expect("the origin reads");
    let mut leave = [0; 25];
    stream.read_exact(&mut leave).expect("leave to send");
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").expect("the origin reads");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("the answer");
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nxx"), "{said}");
}

#[test]
fn an_origin_that_counts_ids_repeats_and_reports_them() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--ids --body 3 --driver {driver}"));
        let ask = |id: &str| format!("GET / HTTP/1.1\r\nHost: h\r\nx-loadgen-id: {id}\r\n\r\n");
        let (one, two) = ("00000000000000aa-1", "00000000000000aa-2");
        let said =
            converse(&origin, &[ask(one), ask(two), ask(one), ask("nonsense"), LAST.to_owned()].concat());
        assert_eq!(count(&said, "Content-Length: 3\r\n\r\nxxx"), 5, "{driver}: {said}");
        assert_eq!(
            count(&said, &format!("HTTP/1.1 200 OK\r\nX-Loadgen-Id: {one}\r\n")),
            2,
            "{driver}: {said}"
        );
        assert_eq!(count(&said, "X-Loadgen-Id"), 3, "what is no id is not repeated: {said}");
        for (run, report) in [
            ("00000000000000aa", r#"{"once":1,"twice":1,"more":0,"uncounted":0}"#),
            ("00000000000000bb", r#"{"once":0,"twice":0,"more":0,"uncounted":0}"#),
        ] {
            let said = converse(&origin, &format!("GET /loadgen-ids?run={run} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert!(said.ends_with(&format!("\r\n\r\n{report}")), "{driver}: {said}");
        }
    }
    let plain = Origin::start("");
    let said =
        converse(&plain, &format!("GET /loadgen-ids?run=00000000000000aa HTTP/1.1\r\nHost: h\r\n\r\n{LAST}"));
    assert!(!said.contains("once"), "only with --ids: {said}");
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_closed() {
    let origin = Origin::start("");
    let refused = [
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
        ("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "405"),
        ("GET / HTTP/3.0\r\nHost: h\r\n\r\n", "505"),
    ];
    for (request, status) in refused {
        let said = converse(&origin, request);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {said}");
        assert_eq!(count(&said, "HTTP/1.1 "), 1, "{request:?}: {said}");
    }
}

#[test]
fn a_delay_comes_before_the_answer() {
    let origin = Origin::start("--delay 60ms");
    let began = Instant::now();
    let said = converse(&origin, LAST);
    assert!(began.elapsed() >= Duration::from_millis(60));
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
}

#[test]
fn several_threads_listen_on_one_port() {
    let origin = Origin::start("-t 2");
    for _ in 0..20 {
        assert!(converse(&origin, LAST).starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[test]
fn a_signal_ends_it_in_order() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--driver {driver}"));
        let _idle = origin.connect();
        assert_eq!(origin.terminate().code(), Some(0));
    }
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["origin", "--listen", &address])
        .output()
        .expect("the origin tries");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains(&format!("cannot listen on {address}")) && said.contains("in use"), "{said}");
}
