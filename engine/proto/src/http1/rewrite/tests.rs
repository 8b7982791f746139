//! Is what goes out what the standard asks of a gateway, and never more than one reading?

use proptest::prelude::*;

use super::*;
use crate::http1::head::{FIELDS_MAX, Limits, Parsed, parse_request, parse_response};
use crate::http1::persist::connection_option;

const LIMITS: Limits =
    Limits { head_bytes_max: u32::MAX, fields_max: u16::MAX, target_bytes_max: 8192, is_secured: false };

const BARE: RequestPlan<'static> = RequestPlan::bare("192.0.2.1", "10.0.0.1:8000");

/// Adds everything.
const FULL: RequestPlan<'static> = RequestPlan {
    x_forwarded_for: true,
    x_forwarded_proto: true,
    x_forwarded_host: true,
    forwarded: true,
    via: Some("gate"),
    request_id: Some("id-1"),
    ..BARE
};

const PASS: ResponsePlan<'static> = ResponsePlan {
    delivery: Delivery::Length(3),
    connection: None,
    via: None,
    upgrade: false,
    date: None,
    set_cookie: None,
};

#[track_caller]
fn request(input: &str, plan: &RequestPlan<'_>) -> String {
    let (mut head, mut out) = (RequestHead::new(), b"left over".to_vec());
    assert_eq!(parse_request(input.as_bytes(), 0, &LIMITS, &mut head), Ok(Parsed::Complete), "{input:?}");
    rewrite_request(input.as_bytes(), &head, plan, &mut out);
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check(input: &str, plan: &RequestPlan<'_>, expected: &str) {
    assert_eq!(request(input, plan), expected, "{input:?}");
}

/// `GET /` with a `Host` and these lines becomes itself with those lines.
#[track_caller]
fn check_fields(plan: &RequestPlan<'_>, fields: &str, expected: &str) {
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    check(&head(fields), plan, &head(expected));
}

#[track_caller]
fn check_response(input: &str, plan: &ResponsePlan<'_>, expected: &str) {
    let (mut head, mut out) = (ResponseHead::new(), b"left over".to_vec());
    assert_eq!(parse_response(input.as_bytes(), 0, &LIMITS, &mut head), Ok(Parsed::Complete), "{input:?}");
    rewrite_response(input.as_bytes(), &head, plan, &mut out);
    assert_eq!(std::str::from_utf8(&out).unwrap(), expected, "{input:?}");
}

#[test]
fn an_unchanged_request_goes_out_as_it_came() {
    let input = "GET /x?y HTTP/1.1\r\nHost: a\r\nAccept:  */*\t\r\nCookie: b\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(request(input, &BARE), input);
}

#[test]
fn request_line_is_in_origin_form_and_our_version() {
    let rest = "HTTP/1.1\r\nHost: a:80\r\n\r\n";
    for (line, expected) in [
        ("GET /x?y", "GET /x?y"),
        ("OPTIONS *", "OPTIONS *"),
        ("GET http://a:80/x?y", "GET /x?y"),
        ("GET http://a:80", "GET /"),
        ("GET http://a:80?y", "GET /?y"),
        ("OPTIONS http://a:80", "OPTIONS *"),
        ("OPTIONS http://a:80/", "OPTIONS /"),
        ("OPTIONS http://a:80?y", "OPTIONS /?y"),
        ("\r\nGET /", "GET /"),
    ] {
        check(&format!("{line} {rest}"), &BARE, &format!("{expected} {rest}"));
    }
    check("GET /x HTTP/1.0\r\nHost: a\r\n\r\n", &BARE, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    check("GET /x HTTP/1.7\r\nHost: a\r\n\r\n", &BARE, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn host_is_the_effective_authority() {
    check(
        "GET http://A/ HTTP/1.1\r\nX: y\r\nHost: a:80\r\n\r\n",
        &BARE,
        "GET / HTTP/1.1\r\nHost: A\r\nX: y\r\n\r\n",
    );
    check("GET / HTTP/1.0\r\nX: y\r\n\r\n", &BARE, "GET / HTTP/1.1\r\nHost: 10.0.0.1:8000\r\nX: y\r\n\r\n");
    check("GET http://a/ HTTP/1.0\r\n\r\n", &BARE, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn hop_by_hop_fields_end_here() {
    for removed in [
        "Connection: close\r\n",
        "Connection: x-a\r\nX-A: 1\r\n",
        "X-A: 1\r\nConnection: keep-alive, x-a\r\nx-a: 2\r\n",
        "Keep-Alive: timeout=5\r\n",
        "Proxy-Connection: keep-alive\r\n",
        "TE: gzip\r\n",
        "Upgrade: websocket\r\nConnection: upgrade\r\n",
        "Upgrade: h2c\r\nHTTP2-Settings: a\r\nConnection: Upgrade, HTTP2-Settings\r\n",
    ] {
        check_fields(&BARE, removed, "");
        check_fields(&BARE, &format!("Accept: b\r\n{removed}Cookie: c\r\n"), "Accept: b\r\nCookie: c\r\n");
    }
    let essential = "Authorization: b\r\nCache-Control: c\r\nContent-Length: 0\r\nTrailer: X-Sum\r\n";
    let named = "Connection: host, authorization, cache-control, content-length, trailer\r\n";
    check_fields(&BARE, &format!("{named}{essential}"), essential);
    check_fields(&BARE, "Proxy-Authorization: b\r\n", "Proxy-Authorization: b\r\n");
}

#[test]
fn te_trailers_and_a_taken_upgrade_are_ours_to_announce() {
    check_fields(&BARE, "TE: gzip;q=1, Trailers\r\nConnection: TE\r\n", "TE: trailers\r\nConnection: TE\r\n");
    let upgrade = RequestPlan { upgrade: true, ..BARE };
    let fields = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
    check_fields(&upgrade, fields, "Upgrade: websocket\r\nConnection: upgrade\r\n");
    let both = "TE: trailers\r\nConnection: TE, upgrade\r\nUpgrade: websocket\r\n";
    check_fields(&upgrade, both, "Upgrade: websocket\r\nTE: trailers\r\nConnection: TE, upgrade\r\n");
}

#[test]
fn framing_is_spelled_to_the_letter() {
    for (spelled, expected) in [
        ("Content-Length: 5\r\n", "Content-Length: 5\r\n"),
        ("content-length: 5\r\n", "content-length: 5\r\n"),
        ("Content-Length:5\r\n", "Content-Length: 5\r\n"),
        ("Content-Length: 5\t\r\n", "Content-Length: 5\r\n"),
        ("Content-Length: 005\r\n", "Content-Length: 5\r\n"),
        ("Transfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n"),
        ("Transfer-Encoding:\tchunked\r\n", "Transfer-Encoding: chunked\r\n"),
        ("transfer-encoding: CHUNKED\r\n", "Transfer-Encoding: chunked\r\n"),
    ] {
        check_fields(&BARE, spelled, expected);
        check_fields(&BARE, &format!("A: b\r\n{spelled}C: d\r\n"), &format!("A: b\r\n{expected}C: d\r\n"));
    }
}

#[test]
fn expect_is_passed_on_unless_answered() {
    check_fields(&BARE, "Expect: 100-continue\r\n", "Expect: 100-continue\r\n");
    check_fields(&RequestPlan { expect: false, ..BARE }, "Expect: 100-continue\r\n", "");
    check(
        "GET / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        &BARE,
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
}

const ADDED: &str = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1;host=\"a\";proto=http\r\nVia: 1.1 gate\r\n\
                     X-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nX-Request-ID: id-1\r\n";

#[test]
fn an_untrusted_client_forwards_nothing() {
    check_fields(&FULL, "", ADDED);
    let forged = "X-Forwarded-For: 1\r\nx-forwarded-proto: https\r\nX-Forwarded-Host: b\r\nForwarded: for=2\r\n\
                  X-Request-ID: 3\r\nX-Forwarded-Port: 4\r\nX_Forwarded_For: 5\r\n";
    check_fields(&FULL, forged, ADDED);
    check_fields(&BARE, forged, "");
}

#[test]
fn a_trusted_client_is_extended() {
    let trusted = RequestPlan { is_trusted: true, ..FULL };
    check_fields(&trusted, "", ADDED);
    check_fields(
        &trusted,
        "X-Forwarded-For: 1\r\nX-Forwarded-For: 2, 3 \r\nForwarded: for=2\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: b\r\nX-Request-ID: 3\r\nX-Forwarded-Port: 4\r\n",
        "X-Forwarded-For: 1\r\nX-Forwarded-For: 2, 3, 192.0.2.1\r\n\
         Forwarded: for=2, for=192.0.2.1;host=\"a\";proto=http\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: b\r\nX-Request-ID: 3\r\nX-Forwarded-Port: 4\r\nVia: 1.1 gate\r\n",
    );
    let quiet = RequestPlan { is_trusted: true, ..BARE };
    check_fields(
        &quiet,
        "X-Forwarded-For: 1\r\nForwarded: for=2\r\n",
        "X-Forwarded-For: 1\r\nForwarded: for=2\r\n",
    );
    let only_list = RequestPlan { is_trusted: true, x_forwarded_for: true, ..BARE };
    check_fields(&only_list, "X-Forwarded-For:\r\n", "X-Forwarded-For:\r\nX-Forwarded-For: 192.0.2.1\r\n");
    check_fields(
        &only_list,
        "Connection: x-forwarded-for\r\nX-Forwarded-For: 1\r\n",
        "X-Forwarded-For: 1, 192.0.2.1\r\n",
    );
}

#[test]
fn an_ipv6_client_is_quoted_in_forwarded_only() {
    let plan = RequestPlan { client: "2001:db8::1", x_forwarded_for: true, forwarded: true, ..BARE };
    let expected =
        "X-Forwarded-For: 2001:db8::1\r\nForwarded: for=\"[2001:db8::1]\";host=\"a\";proto=http\r\n";
    check_fields(&plan, "", expected);
}

#[test]
fn a_client_without_an_address_is_unknown_in_forwarded() {
    let plan = RequestPlan { client: "", forwarded: true, ..BARE };
    check_fields(&plan, "", "Forwarded: for=unknown;host=\"a\";proto=http\r\n");
}

#[test]
fn via_names_the_version_received_and_keeps_the_chain() {
    let plan = RequestPlan { via: Some("gate"), ..BARE };
    check_fields(
        &plan,
        "Via: 1.0 x\r\nA: b\r\nVia: 1.1 y\r\nC: d\r\n",
        "Via: 1.0 x\r\nA: b\r\nVia: 1.1 y, 1.1 gate\r\nC: d\r\n",
    );
    check("GET / HTTP/1.0\r\nHost: a\r\n\r\n", &plan, "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 gate\r\n\r\n");
}

#[test]
fn nothing_forwarded_names_a_host_that_is_not_there() {
    let added = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1;proto=http\r\nVia: 1.0 gate\r\n\
                 X-Forwarded-Proto: http\r\nX-Request-ID: id-1\r\n";
    check("GET / HTTP/1.0\r\n\r\n", &FULL, &format!("GET / HTTP/1.1\r\nHost: 10.0.0.1:8000\r\n{added}\r\n"));
}

#[test]
fn a_pseudonym_is_a_token_or_an_authority() {
    assert!(is_pseudonym("gate.example.org:80") && is_pseudonym("[::1]:80"));
    assert!(!is_pseudonym("") && !is_pseudonym("a b") && !is_pseudonym("a\r\nb") && !is_pseudonym("a,b"));
    assert!(
        is_pseudonym(&"a".repeat(PSEUDONYM_BYTES_MAX)) && !is_pseudonym(&"a".repeat(PSEUDONYM_BYTES_MAX + 1))
    );
}

#[test]
fn status_line_is_ours_with_the_upstreams_words() {
    for (line, expected) in [
        ("HTTP/1.1 200 OK", "HTTP/1.1 200 OK"),
        ("HTTP/1.0 404 Not Found", "HTTP/1.1 404 Not Found"),
        ("HTTP/1.1 200 ", "HTTP/1.1 200 "),
        ("HTTP/1.1 200", "HTTP/1.1 200 "),
        ("HTTP/1.0 200", "HTTP/1.1 200 "),
    ] {
        let head = |line: &str| format!("{line}\r\nContent-Length: 3\r\n\r\n");
        check_response(&head(line), &PASS, &head(expected));
    }
}

#[test]
fn a_response_loses_what_belongs_to_its_hop() {
    check_response(
        "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close, x-a\r\nX-A: c\r\nKeep-Alive: d\r\nUpgrade: e\r\nTrailer: f\r\n\
         Proxy-Connection: g\r\nContent-Length: 3\r\nSet-Cookie: h\r\nSet-Cookie: i\r\nProxy-Authenticate: j\r\n\r\n",
        &PASS,
        "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\nSet-Cookie: h\r\nSet-Cookie: i\r\nProxy-Authenticate: j\r\n\r\n",
    );
}

#[test]
fn response_framing_follows_the_delivery() {
    let length = "Content-Length: 3\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let trailer = "Trailer: X-Sum\r\n";
    for (status, fields, delivery, expected) in [
        (200, length.to_owned(), Delivery::Length(3), length.to_owned()),
        (200, format!("{trailer}{chunked}"), Delivery::Chunked, format!("{trailer}{chunked}")),
        (200, "Transfer-Encoding:CHUNKED\r\n".to_owned(), Delivery::Chunked, chunked.to_owned()),
        (200, format!("{chunked}{trailer}"), Delivery::UntilClose, String::new()),
        (200, String::new(), Delivery::ChunkedHere, chunked.to_owned()),
        (200, String::new(), Delivery::UntilClose, String::new()),
        (200, length.to_owned(), Delivery::None, length.to_owned()),
        (200, "Content-Length: 03\r\n".to_owned(), Delivery::None, length.to_owned()),
        (200, chunked.to_owned(), Delivery::None, String::new()),
        (304, length.to_owned(), Delivery::None, length.to_owned()),
        (204, length.to_owned(), Delivery::None, String::new()),
        (103, chunked.to_owned(), Delivery::None, String::new()),
    ] {
        let head = |fields: &str| format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
        check_response(&head(&fields), &ResponsePlan { delivery, ..PASS }, &head(&expected));
    }
}

#[test]
fn a_response_says_what_becomes_of_the_connection() {
    use crate::http1::persist::Persistence::{Close, Keep};
    for (version, persistence, expected) in [
        (Version::Http11, Keep, ""),
        (Version::Http11, Close, "Connection: close\r\n"),
        (Version::Http10, Keep, "Connection: keep-alive\r\n"),
        (Version::Http10, Close, "Connection: close\r\n"),
    ] {
        let plan = ResponsePlan { connection: connection_option(version, persistence), ..PASS };
        let head = |fields: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n{fields}\r\n");
        check_response(&head("Connection: keep-alive\r\n"), &plan, &head(expected));
    }
}

#[test]
fn a_switch_of_protocols_is_passed_on_when_planned() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n";
    let plan = ResponsePlan { delivery: Delivery::None, upgrade: true, via: Some("gate"), ..PASS };
    check_response(
        &format!("{head}Connection: Upgrade\r\n\r\n"),
        &plan,
        &format!("{head}Via: 1.1 gate\r\nConnection: upgrade\r\n\r\n"),
    );
    let refused = ResponsePlan { connection: Some(ConnectionOption::Close), upgrade: true, ..PASS };
    check_response(
        "HTTP/1.1 426 x\r\nUpgrade: a\r\nContent-Length: 3\r\n\r\n",
        &refused,
        "HTTP/1.1 426 x\r\nUpgrade: a\r\nContent-Length: 3\r\nConnection: close, upgrade\r\n\r\n",
    );
}

#[test]
fn response_via_is_appended() {
    let plan = ResponsePlan { via: Some("gate"), ..PASS };
    let length = "Content-Length: 3\r\n";
    check_response(
        &format!("HTTP/1.0 200 OK\r\nVia: 1.1 x\r\n{length}\r\n"),
        &plan,
        &format!("HTTP/1.1 200 OK\r\nVia: 1.1 x, 1.0 gate\r\n{length}\r\n"),
    );
    check_response(
        &format!("HTTP/1.1 200 OK\r\n{length}\r\n"),
        &plan,
        &format!("HTTP/1.1 200 OK\r\n{length}Via: 1.1 gate\r\n\r\n"),
    );
}

/// Field lines of every fate, alternating as they like.
fn any_fields() -> impl Strategy<Value = Vec<&'static str>> {
    let line = prop::sample::select(vec![
        "A: b",
        "Connection: x-a",
        "X-A: 1",
        "Keep-Alive: c",
        "X-Forwarded-For: 1",
        "Forwarded: for=2",
        "Via: 1.1 x",
        "X-Forwarded-Host: y",
        "X-Request-ID: z",
        "TE: trailers",
        "Empty:",
    ]);
    prop::collection::vec(line, 0..FIELDS_MAX - 1)
}

proptest! {
    #[test]
    fn rewriting_is_always_one_valid_request(
        fields in any_fields(),
        is_trusted: bool,
        upgrade: bool,
        line in prop::sample::select(vec!["GET /x", "GET http://a/x", "GET http://a", "OPTIONS http://a"]),
        framing in prop::sample::select(vec!["", "content-length:05\r\n", "Transfer-Encoding:chunked \r\n"]),
    ) {
        prop_assume!(fields.iter().filter(|line| line.starts_with("Conn")).count() <= 32);
        let input = format!("{line} HTTP/1.1\r\nHost: a\r\n{framing}{}\r\n", fields.iter().map(|f| format!("{f}\r\n")).collect::<String>());
        prop_assume!(input.matches("\r\n").count() <= FIELDS_MAX + 2);
        let first = request(&input, &RequestPlan { is_trusted, upgrade, ..FULL });
        let has_end_once = first.find("\r\n\r\n") == Some(first.len() - 4);
        prop_assert!(has_end_once);
        let (mut before, mut after) = (RequestHead::new(), RequestHead::new());
        parse_request(input.as_bytes(), 0, &LIMITS, &mut before).unwrap();
        if first.matches("\r\n").count() <= FIELDS_MAX + 2 {
            prop_assert_eq!(parse_request(first.as_bytes(), 0, &LIMITS, &mut after), Ok(Parsed::Complete));
            prop_assert_eq!(before.framing, after.framing);
            prop_assert_eq!(before.method, after.method);
            prop_assert_eq!(before.path(input.as_bytes()).len().max(1), after.path(first.as_bytes()).len());
            let kept = |text: &str| text.matches("\r\nA: b").count() + text.matches("\r\nEmpty:").count();
            prop_assert_eq!(kept(&input), kept(&first));
        }
    }
}

#[test]
fn fields_kept_and_dropped_in_turn_keep_their_order() {
    let rest = (FIELDS_MAX - 1) / 2;
    let alternating = |dropped: &str| {
        let pairs: String = (0..rest).map(|n| format!("A{n}: b\r\n{dropped}")).collect();
        format!("GET / HTTP/1.1\r\nHost: a\r\n{pairs}\r\n")
    };
    assert_eq!(request(&alternating("Keep-Alive: c\r\n"), &BARE), alternating(""));
}

#[test]
fn our_own_cookie_goes_no_further() {
    let plan = RequestPlan { own_cookie: Some(b"at"), ..BARE };
    for (received, expected) in [
        ("Cookie: at=1\r\n", ""),
        ("Cookie: at=1; at=2\r\n", ""),
        ("Cookie: a=b; at=1; c=d\r\n", "Cookie: a=b; c=d\r\n"),
        ("cookie:  at=1;c=d ; e\r\n", "Cookie: c=d; e\r\n"),
        ("Cookie: a=b; at\r\n", "Cookie: a=b; at\r\n"),
        ("Cookie: a=at=1; bat=1; at2=3; AT=4\r\n", "Cookie: a=at=1; bat=1; at2=3; AT=4\r\n"),
        ("Cookie: \r\nAuthorization: at=1\r\n", "Cookie: \r\nAuthorization: at=1\r\n"),
        ("Cookie: ;at=1;;\r\nX: y\r\n", "X: y\r\n"),
        ("Cookie: a=b\r\nCookie: at=1\r\n", "Cookie: a=b\r\n"),
    ] {
        check_fields(&plan, received, expected);
        check_fields(&BARE, received, received);
    }
}

#[test]
fn a_cookie_of_ours_is_set_beside_those_of_the_endpoint() {
    let plan = ResponsePlan { set_cookie: Some("Set-Cookie: at=1; Path=/\r\n"), ..PASS };
    let received = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 3\r\n\r\n";
    let expected =
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 3\r\nSet-Cookie: at=1; Path=/\r\n\r\n";
    check_response(received, &plan, expected);
}

#[test]
fn only_we_say_whose_certificate_a_client_has_shown() {
    let proven = RequestPlan { proof: Proof::Fields("Client-Cert: :AA==:\r\n"), is_trusted: true, ..BARE };
    let forged = "Client-Cert: :AQ==:\r\nclient_cert: x\r\nClient-Cert-Chain: y\r\nX-Client-Certificate-Subject: CN=a\r\n\
                  x_client-certificate_Fingerprint: z\r\nX-Client: b\r\n";
    check_fields(&proven, forged, "X-Client: b\r\nClient-Cert: :AA==:\r\n");
    let unproven = RequestPlan { proof: Proof::Fields(""), ..BARE };
    check_fields(&unproven, forged, "X-Client: b\r\n");
    check_fields(&BARE, forged, forged);
}
