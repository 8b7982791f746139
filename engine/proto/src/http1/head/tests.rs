//! Does the parser accept what it should, refuse each broken rule by its name, and not care where a head is split?

use proptest::prelude::*;

use super::*;
use crate::http1::framing::{ResponseFraming, decide_response_framing};
use crate::http1::rejected::FramingRejected;

const LIMITS: Limits =
    Limits { head_bytes_max: 4096, fields_max: 100, target_bytes_max: 1024, is_secured: false };

fn parse_whole(input: &[u8]) -> Result<(Parsed, RequestHead), RequestRejected> {
    let mut head = RequestHead::new();
    parse_request(input, 0, &LIMITS, &mut head).map(|parsed| (parsed, head))
}

#[track_caller]
fn accept(input: &str) -> RequestHead {
    let (parsed, head) =
        parse_whole(input.as_bytes()).unwrap_or_else(|rule| panic!("{input:?} broke {rule}"));
    assert_eq!(parsed, Parsed::Complete, "{input:?}");
    head
}

/// Feeds `input` byte by byte and all at once: the same rule must be found broken.
#[track_caller]
fn reject(input: impl AsRef<[u8]>, expected: impl Into<RequestRejected>) {
    let (input, expected) = (input.as_ref(), expected.into());
    let shown = String::from_utf8_lossy(input);
    assert_eq!(parse_whole(input).map(|(parsed, _)| parsed), Err(expected), "{shown:?}");
    let mut head = RequestHead::new();
    let trickled =
        (1..=input.len()).find_map(|len| match parse_request(&input[..len], len - 1, &LIMITS, &mut head) {
            Ok(Parsed::Incomplete) => None,
            outcome => Some(outcome),
        });
    assert_eq!(trickled, Some(Err(expected)), "{shown:?} byte by byte");
}

/// A request with these field lines besides a valid `Host`.
fn with_fields(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[track_caller]
fn check_response(input: &str, expected: impl Into<ResponseRejected>) {
    let mut head = ResponseHead::new();
    let expected = expected.into();
    assert_eq!(parse_response(input.as_bytes(), 0, &LIMITS, &mut head), Err(expected), "{input:?}");
    let trickled = (1..=input.len())
        .find_map(|len| parse_response(&input.as_bytes()[..len], len - 1, &LIMITS, &mut head).err());
    assert_eq!(trickled, Some(expected), "{input:?} byte by byte");
}

#[track_caller]
fn accept_response(input: &str) -> ResponseHead {
    let mut head = ResponseHead::new();
    assert_eq!(parse_response(input.as_bytes(), 0, &LIMITS, &mut head), Ok(Parsed::Complete), "{input:?}");
    head
}

#[test]
fn keeps_ranges_of_every_part() {
    let input = "GET /a/b?c=d HTTP/1.1\r\nHost: example.org:8080\r\nX-Empty:\r\nAccept:\t */* \t\r\n\r\nbody";
    let head = accept(input);
    let of = |span: Span| std::str::from_utf8(span.of(input.as_bytes())).unwrap();
    assert_eq!((head.method, of(head.method_span)), (Method::Get, "GET"));
    assert_eq!((of(head.target), head.target_form), ("/a/b?c=d", TargetForm::Origin));
    assert_eq!((of(head.path), of(head.path_and_query)), ("/a/b", "/a/b?c=d"));
    assert_eq!(head.authority(input.as_bytes()), Some(&b"example.org:8080"[..]));
    let fields: Vec<_> =
        head.fields.iter().map(|field| (of(field.name), of(field.value), field.known)).collect();
    assert_eq!(
        fields,
        [
            ("Host", "example.org:8080", KnownField::Host),
            ("X-Empty", "", KnownField::Other),
            ("Accept", "*/*", KnownField::Other),
        ]
    );
    assert_eq!(head.head_bytes as usize, input.len() - "body".len());
    assert_eq!(head.framing, RequestFraming::None);
}

#[test]
fn a_field_stays_small() {
    assert!(size_of::<Field>() <= 12);
}

#[test]
fn skips_a_few_empty_lines_and_counts_them() {
    let head = accept("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.head_bytes, head.method_span.start()), (4 + 27, 4));
    reject("\r\n".repeat(EMPTY_LINES_MAX + 1), RequestRule::EmptyLinesTooMany);
    reject("\r\r\nGET / HTTP/1.1\r\n", SyntaxRejected::BareCarriageReturn);
    reject("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", SyntaxRejected::BareLineFeed);
}

#[test]
fn methods_are_classified() {
    for (name, method, is_safe, is_idempotent) in [
        ("GET", Method::Get, true, true),
        ("HEAD", Method::Head, true, true),
        ("POST", Method::Post, false, false),
        ("PUT", Method::Put, false, true),
        ("DELETE", Method::Delete, false, true),
        ("PATCH", Method::Patch, false, false),
        ("OPTIONS", Method::Options, true, true),
        ("TRACE", Method::Trace, true, true),
        ("get", Method::Extension, false, false),
        ("PROPFIND", Method::Extension, false, false),
    ] {
        let head = accept(&format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(
            (head.method, method.is_safe(), method.is_idempotent()),
            (method, is_safe, is_idempotent),
            "{name}"
        );
    }
    assert_eq!(accept("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Connect);
    reject("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", RequestRule::MethodInvalid);
    reject(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", RequestRule::MethodInvalid);
    reject(b"\x16\x03\x01\x02\x00\x01\x00", RequestRule::MethodInvalid);
}

#[test]
fn request_line_has_three_parts_and_two_spaces() {
    for line in ["GET", "GET /", "GET  HTTP/1.1", "GET  / HTTP/1.1"] {
        reject(format!("{line}\r\nHost: a\r\n\r\n"), RequestRule::RequestLineMalformed);
    }
    for line in ["GET /  HTTP/1.1", "GET / HTTP/1.1 ", "GET / x HTTP/1.1", "GET /\tHTTP/1.1 HTTP/1.1x"] {
        let outcome = parse_whole(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).map(|(parsed, _)| parsed);
        assert_eq!(outcome, Err(RequestRule::VersionInvalid.into()), "{line}");
    }
    reject("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", RequestRule::MethodInvalid);
    reject("GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n", SyntaxRejected::BareCarriageReturn);
}

#[test]
fn versions() {
    assert_eq!(accept("GET / HTTP/1.0\r\n\r\n").version, Version::Http10);
    assert_eq!(accept("GET / HTTP/1.2\r\nHost: a\r\n\r\n").version, Version::Http11);
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/3.1"] {
        reject(format!("GET / {version}\r\nHost: a\r\n\r\n"), RequestRule::VersionUnsupported);
    }
    reject("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", RequestRule::VersionUnsupported);
    for version in
        ["HTTP/1", "HTTP/11", "HTTP/1.10", "http/1.1", "HTTP/1,1", "HTTPS/1.1", "HTTP/+1.1", "HTTP/x.1"]
    {
        reject(format!("GET / {version}\r\nHost: a\r\n\r\n"), RequestRule::VersionInvalid);
    }
}

#[test]
fn targets_by_form() {
    for (line, form, path, path_and_query, authority) in [
        ("GET /", TargetForm::Origin, "/", "/", "a"),
        ("GET //x/../%2f?y=/?z", TargetForm::Origin, "//x/../%2f", "//x/../%2f?y=/?z", "a"),
        ("GET /?a\\b", TargetForm::Origin, "/", "/?a\\b", "a"),
        ("OPTIONS *", TargetForm::Asterisk, "*", "*", "a"),
        ("OPTIONS /x", TargetForm::Origin, "/x", "/x", "a"),
        ("GET http://a/x?y", TargetForm::Absolute, "/x", "/x?y", "a"),
        ("GET HTTP://A", TargetForm::Absolute, "/", "", "A"),
        ("GET http://a?y", TargetForm::Absolute, "/", "?y", "a"),
        ("GET http://a:80/", TargetForm::Absolute, "/", "/", "a:80"),
        ("GET http://a:/", TargetForm::Absolute, "/", "/", "a:"),
        ("CONNECT b:443", TargetForm::Authority, "", "", "b:443"),
        ("CONNECT [::1]:443", TargetForm::Authority, "", "", "[::1]:443"),
    ] {
        let input = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (head, buf) = (accept(&input), input.as_bytes());
        assert_eq!(head.target_form, form, "{line}");
        assert_eq!(head.path(buf), path.as_bytes(), "{line}");
        assert_eq!(head.path_and_query.of(buf), path_and_query.as_bytes(), "{line}");
        assert_eq!(head.authority(buf), Some(authority.as_bytes()), "{line}");
    }
}

#[test]
fn targets_refused() {
    use RequestRule as Rule;
    for (line, rule) in [
        ("GET a", Rule::TargetFormUnknown),
        ("GET a/b", Rule::TargetFormUnknown),
        ("GET ?x", Rule::TargetFormUnknown),
        ("GET example.org:80", Rule::TargetFormUnknown),
        ("GET mailto:a@b", Rule::TargetFormUnknown),
        ("GET http:/a", Rule::TargetFormUnknown),
        ("GET ftp://a/", Rule::TargetSchemeUnsupported),
        ("GET file:///etc", Rule::TargetSchemeUnsupported),
        ("GET http://", Rule::TargetAuthorityInvalid),
        ("GET http:///x", Rule::TargetAuthorityInvalid),
        ("GET http://:80/", Rule::TargetAuthorityInvalid),
        ("GET http://u@a/", Rule::TargetAuthorityInvalid),
        ("GET http://u:p@a/", Rule::TargetAuthorityInvalid),
        ("GET http://a:x/", Rule::TargetAuthorityInvalid),
        ("GET http://a:65536/", Rule::TargetAuthorityInvalid),
        ("GET http://[::1/", Rule::TargetAuthorityInvalid),
        ("GET https://a/", Rule::TargetSchemeUnsecured),
        ("GET HTTPS://a:443/", Rule::TargetSchemeUnsecured),
        ("GET http://a\\b/", Rule::TargetByte),
        ("GET /a\\b", Rule::TargetByte),
        ("GET /\\?b", Rule::TargetByte),
        ("GET *", Rule::TargetAsteriskWithoutOptions),
        ("OPTIONS **", Rule::TargetFormUnknown),
        ("CONNECT a", Rule::TargetNotAuthority),
        ("CONNECT /", Rule::TargetNotAuthority),
        ("CONNECT http://a:80/", Rule::TargetNotAuthority),
        ("GET /a#b", Rule::TargetByte),
        ("GET /\u{e9}", Rule::TargetByte),
        ("GET /\x01", Rule::TargetByte),
        ("GET /\0", Rule::TargetByte),
        ("GET /\x7f", Rule::TargetByte),
        ("GET /a\tb", Rule::TargetByte),
    ] {
        reject(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), rule);
    }
}

#[test]
fn host_is_there_once_and_valid() {
    for host in [
        "a",
        "a.b-c_d~e",
        "A:80",
        "a:",
        "127.0.0.1:8080",
        "[::1]",
        "[2001:db8::1]:443",
        "%41b",
        "a!$&'()*+;=",
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(accept(&input).authority(input.as_bytes()), Some(host.as_bytes()));
    }
    for host in [
        "", ":80", "a b", "a,b", "a/", "u@a", "a:b", "a:1:2", "a:99999", "a:-1", "::1", "[::1", "[g]",
        "[::1]x", "%4", "a?", "a#", "a\\b", "\"a\"", "http://a", "é",
    ] {
        reject(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), RequestRule::HostInvalid);
        reject(format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n"), RequestRule::HostInvalid);
    }
    reject("GET / HTTP/1.1\r\n\r\n", RequestRule::HostMissing);
    reject("GET http://a/ HTTP/1.1\r\nX: y\r\n\r\n", RequestRule::HostMissing);
    reject("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", RequestRule::HostRepeated);
    reject("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", RequestRule::HostRepeated);
    assert!(accept("GET / HTTP/1.0\r\n\r\n").authority.is_empty());
}

#[test]
fn absolute_form_wins_and_must_agree_with_host() {
    for (target, host) in
        [("http://a/", "A"), ("http://a:80/", "a"), ("http://a/", "a:80"), ("http://a:8/", "a:8")]
    {
        let input = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let head = accept(&input);
        assert!(
            target
                .as_bytes()
                .windows(head.authority.len())
                .any(|part| part == head.authority.of(input.as_bytes()))
        );
        assert!(head.authority.end() <= head.target.end());
    }
    for (target, host) in
        [("http://a/", "b"), ("http://a/", "a:8080"), ("http://a:443/", "a"), ("http://a.b/", "a")]
    {
        reject(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"), RequestRule::HostDiffers);
    }
}

#[test]
fn field_lines_refused() {
    use SyntaxRejected as Rule;
    for (fields, rule) in [
        ("A : b\r\n", Rule::FieldSpaceBeforeColon),
        ("A\t: b\r\n", Rule::FieldSpaceBeforeColon),
        ("Content-Length : 1\r\n", Rule::FieldSpaceBeforeColon),
        ("A: b\r\n c\r\n", Rule::FieldFolded),
        ("A: b\r\n\tc: d\r\n", Rule::FieldFolded),
        ("A: b\r\n \r\n", Rule::FieldFolded),
        (": b\r\n", Rule::FieldNameEmpty),
        ("A\r\n", Rule::FieldColonMissing),
        ("A B: c\r\n", Rule::FieldNameByte),
        ("A\0: c\r\n", Rule::FieldNameByte),
        ("A\x0b: c\r\n", Rule::FieldNameByte),
        ("\u{e9}: c\r\n", Rule::FieldNameByte),
        ("A(: c\r\n", Rule::FieldNameByte),
        ("A: \0\r\n", Rule::FieldValueByte),
        ("A: \x7f\r\n", Rule::FieldValueByte),
        ("A: b\x1bc\r\n", Rule::FieldValueByte),
        ("A: b\rc\r\n", Rule::BareCarriageReturn),
        ("A: b\r\r\n", Rule::BareCarriageReturn),
        ("\rA: b\r\n", Rule::BareCarriageReturn),
        ("A: b\nC: d\r\n", Rule::BareLineFeed),
        ("A: b\n", Rule::BareLineFeed),
        ("A: b\n\r\n", Rule::BareLineFeed),
        ("A: b\nC : d\r\n", Rule::BareLineFeed),
        ("A: b\nTransfer-Encoding: chunked\r\n", Rule::BareLineFeed),
    ] {
        reject(with_fields(fields), rule);
    }
    reject("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Rule::FieldLeadingSpace);
    reject("GET / HTTP/1.1\r\n\tX: a\r\nHost: a\r\n\r\n", Rule::FieldLeadingSpace);
    reject("GET / HTTP/1.1\nHost: a\r\n\r\n", Rule::BareLineFeed);
    reject("GET / HTTP/1.1\r\nHost: a\n\n", Rule::BareLineFeed);
    reject("GET / HTTP/1.1\r\nHost: a\r\n\n", Rule::BareLineFeed);
    reject("GET / HTTP/1.0\r\n\n", Rule::BareLineFeed);
}

#[test]
fn field_values_may_hold_tabs_and_bytes_beyond_ascii() {
    let mut input = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\tc \x80\xff\r\n\r\n".to_vec();
    let (_, head) = parse_whole(&input).unwrap();
    assert_eq!(head.fields[1].value.of(&input), b"b\tc \x80\xff");
    input.extend_from_slice(b"\n\0 what follows is not part of the head");
    assert_eq!(parse_whole(&input).unwrap().1.head_bytes, head.head_bytes);
}

#[test]
fn length_is_digits_once() {
    use FramingRejected as Rule;
    for (value, bytes) in
        [("0", 0), ("5", 5), ("0005", 5), ("9223372036854775807", i64::MAX as u64), (" 7\t", 7)]
    {
        let head = accept(&with_fields(&format!("Content-Length:{value}\r\n")));
        assert_eq!(head.framing, RequestFraming::Length(bytes));
    }
    for (value, rule) in [
        ("", Rule::LengthInvalid),
        ("+5", Rule::LengthInvalid),
        ("-5", Rule::LengthInvalid),
        ("5 5", Rule::LengthInvalid),
        ("0x5", Rule::LengthInvalid),
        ("5e1", Rule::LengthInvalid),
        ("1_0", Rule::LengthInvalid),
        ("5.0", Rule::LengthInvalid),
        ("5;a", Rule::LengthInvalid),
        ("\"5\"", Rule::LengthInvalid),
        ("\u{665}", Rule::LengthInvalid),
        ("\u{ff15}", Rule::LengthInvalid),
        ("5, 5", Rule::LengthRepeated),
        ("5,6", Rule::LengthRepeated),
        ("5,", Rule::LengthRepeated),
        ("9223372036854775808", Rule::LengthOverflow),
        ("18446744073709551615", Rule::LengthOverflow),
        ("18446744073709551621", Rule::LengthOverflow),
        ("99999999999999999999999999999999999999999", Rule::LengthOverflow),
    ] {
        reject(with_fields(&format!("Content-Length: {value}\r\n")), rule);
        check_response(&format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\n"), rule);
    }
    reject(with_fields("Content-Length: 5\x0b\r\n"), SyntaxRejected::FieldValueByte);
    for (first, second) in [("5", "5"), ("5", "6")] {
        let fields = format!("Content-Length: {first}\r\ncontent-length: {second}\r\n");
        reject(with_fields(&fields), Rule::LengthRepeated);
        check_response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), Rule::LengthRepeated);
    }
}

#[test]
fn transfer_encoding_is_chunked_once() {
    use FramingRejected as Rule;
    for value in ["chunked", "Chunked", "\tCHUNKED "] {
        let head = accept(&with_fields(&format!("Transfer-Encoding:{value}\r\n")));
        assert_eq!(head.framing, RequestFraming::Chunked);
    }
    for (value, rule) in [
        ("", Rule::TransferEncodingInvalid),
        ("chunked,", Rule::TransferEncodingInvalid),
        (",chunked", Rule::TransferEncodingInvalid),
        ("\"chunked\"", Rule::TransferEncodingInvalid),
        ("chunked;a=b", Rule::TransferEncodingInvalid),
        ("chun ked", Rule::TransferEncodingInvalid),
        ("chunked identity", Rule::TransferEncodingInvalid),
        ("chunked, chunked", Rule::ChunkedRepeated),
        ("chunked,gzip,chunked", Rule::ChunkedRepeated),
        ("xchunked", Rule::ChunkedNotLast),
        ("identity", Rule::ChunkedNotLast),
        ("chunked, identity", Rule::ChunkedNotLast),
        ("gzip", Rule::ChunkedNotLast),
        ("gzip, chunked", Rule::TransferCodingUnsupported),
        ("identity, chunked", Rule::TransferCodingUnsupported),
    ] {
        reject(with_fields(&format!("Transfer-Encoding: {value}\r\n")), rule);
        check_response(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}\r\n\r\n"), rule);
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    reject(with_fields(twice), Rule::ChunkedRepeated);
    reject(with_fields("Transfer-Encoding: \x0bchunked\r\n"), SyntaxRejected::FieldValueByte);
    reject(with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), Rule::ChunkedNotLast);
}

#[test]
fn rejects_length_with_chunked_and_chunked_in_http10() {
    use FramingRejected as Rule;
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    for fields in
        [format!("{length}{chunked}"), format!("{chunked}{length}"), format!("{length}X: y\r\n{chunked}")]
    {
        reject(with_fields(&fields), Rule::LengthWithTransferEncoding);
        check_response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), Rule::LengthWithTransferEncoding);
    }
    reject(format!("POST / HTTP/1.0\r\n{chunked}\r\n"), Rule::TransferEncodingInHttp10);
    check_response(&format!("HTTP/1.0 200 OK\r\n{chunked}\r\n"), Rule::TransferEncodingInHttp10);
    // Naming a framing field in Connection does not take its meaning away.
    let fields = format!("Connection: content-length, close\r\n{length}{chunked}");
    reject(with_fields(&fields), Rule::LengthWithTransferEncoding);
}

#[test]
fn limits_hold() {
    use SyntaxRejected as Rule;
    let long = |len: usize| "a".repeat(len);
    reject(with_fields(&format!("X: {}\r\n", long(5000))), Rule::HeadTooLarge);
    reject(with_fields(&"X: y\r\n".repeat(1000)), Rule::HeadTooLarge);
    reject(with_fields(&"X: y\r\n".repeat(100)), Rule::FieldsTooMany);
    reject(with_fields(&"X: y\r\n".repeat(FIELDS_MAX)), Rule::FieldsTooMany);
    assert_eq!(accept(&with_fields(&"X: y\r\n".repeat(99))).fields.len(), 100);
    accept(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(1023)));
    reject(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(1024)), RequestRule::TargetTooLong);
    reject(format!("GET /{}", long(5000)), RequestRule::TargetTooLong);
    reject(format!("{} / HTTP/1.1\r\n", long(5000)), RequestRule::MethodTooLong);
    reject(format!("{} / HTTP/1.1\r\n", long(METHOD_BYTES_MAX + 1)), RequestRule::MethodTooLong);
    accept(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", long(METHOD_BYTES_MAX)));
    check_response(&format!("HTTP/1.1 200 OK\r\nX: {}", long(5000)), Rule::HeadTooLarge);
    check_response(&format!("HTTP/1.1 200 {}", long(5000)), Rule::HeadTooLarge);
}

#[test]
fn a_head_at_the_limit_is_accepted() {
    let room = LIMITS.head_bytes_max as usize - with_fields("X: \r\n").len();
    let input = with_fields(&format!("X: {}\r\n", "a".repeat(room)));
    assert_eq!(accept(&input).head_bytes, LIMITS.head_bytes_max);
    reject(with_fields(&format!("X: {}\r\n", "a".repeat(room + 1))), SyntaxRejected::HeadTooLarge);
}

#[test]
fn expectations() {
    assert!(accept(&with_fields("Expect: 100-Continue\r\n")).expect_continue);
    assert!(!accept("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expect_continue);
    reject(with_fields("Expect: 200-ok\r\n"), RequestRule::ExpectationUnknown);
    reject(with_fields("Expect: 100-continue, x\r\n"), RequestRule::ExpectationUnknown);
    assert!(accept(&with_fields("Expect: ,100-continue\r\nExpect:\r\n")).expect_continue);
    assert!(!accept(&with_fields("Expect:\r\n")).expect_continue);
}

#[test]
fn hops_are_counted_for_options_and_trace() {
    for (method, value, expected) in [
        ("OPTIONS", "0", Some(0)),
        ("TRACE", "007", Some(7)),
        ("TRACE", "99999999999", Some(u32::MAX)),
        ("GET", "x", None),
    ] {
        let head = accept(&format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n"));
        assert_eq!(head.max_forwards, expected, "{method} {value}");
    }
    for value in ["", "-1", "+1", "1, 1", "1\r\nMax-Forwards: 1"] {
        let input = format!("TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n");
        reject(input, RequestRule::MaxForwardsInvalid);
    }
}

#[test]
fn a_field_that_looks_like_framing_is_refused_in_requests() {
    for name in ["Content_Length", "TRANSFER_ENCODING"] {
        reject(with_fields(&format!("{name}: 5\r\n")), RequestRule::FramingLookalike);
        accept_response(&format!("HTTP/1.1 200 OK\r\n{name}: 5\r\n\r\n"));
    }
}

#[test]
fn upgrade_counts_when_listed_in_connection_and_not_to_http2() {
    for (version, fields, expected) in [
        ("1.1", "Upgrade: websocket\r\nConnection: Upgrade\r\n", true),
        ("1.1", "Connection: keep-alive, upgrade\r\nUpgrade: a/1, b\r\n", true),
        ("1.1", "Upgrade: websocket\r\n", false),
        ("1.1", "Connection: upgrade\r\n", false),
        ("1.0", "Upgrade: websocket\r\nConnection: Upgrade\r\n", false),
        ("1.1", "Upgrade: h2c\r\nConnection: Upgrade\r\n", false),
        ("1.1", "Upgrade: websocket, H2C\r\nConnection: Upgrade\r\n", false),
        ("1.1", "Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", false),
    ] {
        let head = accept(&format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(head.upgrade, expected, "{fields:?}");
    }
}

#[test]
fn connection_names_fields_but_not_essential_ones() {
    let input = with_fields(
        "Connection: x-a, host, content-length, X-FORWARDED-FOR, authorization, te\r\nX-A: 1\r\nX-B: 2\r\n\
         Content-Length: 3\r\nX-Forwarded-For: 4\r\nAuthorization: 5\r\nConnection: X-B\r\n",
    );
    let head = accept(&input);
    let named: Vec<_> = head
        .fields
        .iter()
        .filter(|field| field.connection_named)
        .map(|field| field.name.of(input.as_bytes()))
        .collect();
    assert_eq!(named, [b"X-A", b"X-B"]);
    let names = |count: usize| format!("Connection: {}close\r\n", "x,".repeat(count));
    assert!(accept(&with_fields(&names(32))).connection.close);
    reject(with_fields(&names(33)), SyntaxRejected::ConnectionNamesTooMany);
}

#[test]
fn responses_parse() {
    for (input, version, status, reason) in [
        ("HTTP/1.1 200 OK\r\n\r\n", Version::Http11, 200, "OK"),
        ("HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n", Version::Http10, 404, "Not Found"),
        ("HTTP/1.1 204 \r\n\r\n", Version::Http11, 204, ""),
        ("HTTP/1.1 599\r\n\r\n", Version::Http11, 599, ""),
        ("HTTP/1.1 200 \u{e9}\tx\r\n\r\n", Version::Http11, 200, "\u{e9}\tx"),
        ("HTTP/1.1 200  two\r\n\r\n", Version::Http11, 200, " two"),
    ] {
        let head = accept_response(input);
        assert_eq!((head.version, head.status), (version, status), "{input:?}");
        assert_eq!(head.reason.of(input.as_bytes()), reason.as_bytes(), "{input:?}");
        assert_eq!(head.head_bytes as usize, input.len());
    }
    assert!(accept_response("HTTP/1.1 103 Early Hints\r\n\r\n").is_interim());
    assert!(!accept_response("HTTP/1.1 101 Switching Protocols\r\n\r\n").is_interim());
}

#[test]
fn responses_refused() {
    use ResponseRule as Rule;
    for (line, rule) in [
        ("garbage", Rule::StatusLineMalformed),
        ("", Rule::StatusLineMalformed),
        (" HTTP/1.1 200 OK", Rule::StatusLineMalformed),
        ("HTTP/1.1", Rule::StatusLineMalformed),
        ("HTTP/1.1 ", Rule::StatusLineMalformed),
        ("HTTP/1.1 20", Rule::StatusLineMalformed),
        ("HTTP/1.1 2000 OK", Rule::StatusLineMalformed),
        ("HTTP/1.1  200 OK", Rule::StatusLineMalformed),
        ("HTTP/1.1 200OK", Rule::StatusLineMalformed),
        ("HTTP/1.1 +20 OK", Rule::StatusLineMalformed),
        ("HTTP/1.1 2x0 OK", Rule::StatusLineMalformed),
        ("HTTP/1.1\t200 OK", Rule::StatusLineMalformed),
        ("HTTP/1 200 OK", Rule::StatusLineMalformed),
        ("HTTP/2.0 200 OK", Rule::ResponseVersionInvalid),
        ("HTTP/1.1 099 x", Rule::StatusInvalid),
        ("HTTP/1.1 600 x", Rule::StatusInvalid),
        ("HTTP/1.1 000 x", Rule::StatusInvalid),
        ("HTTP/1.1 200 a\0b", Rule::ReasonByte),
    ] {
        check_response(&format!("{line}\r\n\r\n"), rule);
    }
    check_response("HTTP/1.1 200 a\rb\r\n\r\n", SyntaxRejected::BareCarriageReturn);
    check_response("HTTP/1.1 200 OK\n\n", SyntaxRejected::BareLineFeed);
    check_response("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", SyntaxRejected::FieldValueByte);
    check_response("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", SyntaxRejected::FieldFolded);
    check_response("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", SyntaxRejected::FieldSpaceBeforeColon);
}

#[test]
fn response_bodies_end_by_the_rules() {
    use ResponseFraming as Framing;
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    for (method, status, fields, expected) in [
        (Method::Get, 200, length, Framing::Length(5)),
        (Method::Get, 200, chunked, Framing::Chunked),
        (Method::Get, 200, "", Framing::UntilClose),
        (Method::Post, 404, "Content-Length: 0\r\n", Framing::Length(0)),
        (Method::Head, 200, length, Framing::None),
        (Method::Head, 200, chunked, Framing::None),
        (Method::Head, 500, "", Framing::None),
        (Method::Get, 204, length, Framing::None),
        (Method::Get, 304, length, Framing::None),
        (Method::Get, 100, "", Framing::None),
        (Method::Get, 101, "", Framing::None),
        (Method::Get, 103, length, Framing::None),
        (Method::Connect, 200, length, Framing::None),
        (Method::Connect, 403, length, Framing::Length(5)),
        (Method::Extension, 205, "", Framing::UntilClose),
    ] {
        let head = accept_response(&format!("HTTP/1.1 {status} x\r\n{fields}\r\n"));
        assert_eq!(decide_response_framing(&head, method), expected, "{method:?} {status} {fields:?}");
    }
}

#[test]
fn every_rule_has_a_status_a_place_and_a_name_of_its_own() {
    let requests: Vec<_> = RequestRejected::all().collect();
    let responses: Vec<_> = ResponseRejected::all().collect();
    assert_eq!((requests.len(), responses.len()), (RequestRejected::COUNT, ResponseRejected::COUNT));
    assert!(requests.iter().enumerate().all(|(place, rule)| rule.index() == place));
    assert!(responses.iter().enumerate().all(|(place, rule)| rule.index() == place));
    assert!(requests.iter().all(|rule| (400..=505).contains(&rule.status())));
    let mut names: Vec<_> = requests.iter().map(|rule| rule.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RequestRejected::COUNT);
}

/// Bytes that matter to the parser, in any order, so that every rule is met by chance. It always ends like a head:
/// a broken line in a head that trickles in may go unnoticed until then.
fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => "[A-Za-z-]{1,12}: [a-z0-9, ]{0,12}\r\n",
        2 => Just("Host: a\r\n".to_owned()),
        2 => Just("Content-Length: 3\r\n".to_owned()),
        2 => Just("Transfer-Encoding: chunked\r\n".to_owned()),
        1 => "[ \t\r\n:\0a-c\u{e9}]{1,6}",
        2 => Just("\r\n".to_owned()),
    ];
    let line = prop_oneof![
        6 => Just("GET / HTTP/1.1\r\n".to_owned()),
        1 => "[A-Z/ \r\n*]{1,12}HTTP/[0-2].[0-2]\r\n",
        1 => "(\r\n){0,6}[ -~]{0,20}\r?\n",
    ];
    (line, prop::collection::vec(part, 0..12))
        .prop_map(|(line, parts)| format!("{line}{}\r\n\r\n", parts.concat()).into_bytes())
}

proptest! {
    #[test]
    fn split_anywhere_is_the_same_parse(input in any_head(), cuts in prop::collection::vec(1..40_usize, 1..80)) {
        let whole = parse_whole(&input).map(|(parsed, head)| (parsed, head.head_bytes, head.fields));
        let mut head = RequestHead::new();
        let mut examined = 0;
        let mut split = Ok(Parsed::Incomplete);
        for cut in cuts.into_iter().chain([input.len()]) {
            let len = (examined + cut).min(input.len());
            split = parse_request(&input[..len], examined, &LIMITS, &mut head);
            examined = len;
            if split != Ok(Parsed::Incomplete) {
                break;
            }
        }
        match (whole, split) {
            (Ok((Parsed::Complete, head_bytes, fields)), Ok(Parsed::Complete)) => {
                prop_assert_eq!((head_bytes, fields), (head.head_bytes, head.fields));
            }
            (Ok((whole, ..)), split) => prop_assert_eq!(Ok(whole), split),
            (Err(rule), split) => prop_assert_eq!(Err(rule), split),
        }
    }

    #[test]
    fn what_is_accepted_has_only_proper_lines(input in any_head()) {
        if let Ok((Parsed::Complete, head)) = parse_whole(&input) {
            let text = &input[..head.head_bytes as usize];
            prop_assert!(text.ends_with(b"\r\n\r\n"));
            let start = head.method_span.start();
            let lines: Vec<_> = text[start..].split_inclusive(|&byte| byte == b'\n').collect();
            prop_assert!(lines.iter().all(|line| line.ends_with(b"\r\n")));
            prop_assert_eq!(lines.iter().position(|line| line.len() == 2), Some(lines.len() - 1));
            prop_assert_eq!(lines.len(), head.fields.len() + 2);
        }
    }

    #[test]
    fn noise_never_panics(input in prop::collection::vec(any::<u8>(), 0..300), examined in 0..400_usize) {
        let examined = examined.min(input.len());
        let _ = parse_request(&input, examined, &LIMITS, &mut RequestHead::new());
        let _ = parse_response(&input, examined, &LIMITS, &mut ResponseHead::new());
    }
}
