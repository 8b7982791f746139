//! Is the name of a hello found, or the rule that it breaks, however it is cut and whatever records it comes in?

use std::sync::Arc;

use rustls::client::ClientConnection;
use rustls::pki_types::ServerName as Asked;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::*;

/// What a client of rustls says first.
fn hello_of(
    versions: &[&'static SupportedProtocolVersion],
    name: Option<&str>,
    protocols: &[&str],
) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.enable_sni = name.is_some();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let asked = Asked::try_from(name.unwrap_or("unnamed").to_owned()).expect("a host name");
    let mut client = ClientConnection::new(Arc::new(config), asked).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a vector takes what is written");
    hello
}

/// The same message in records of at most `fragment_len` bytes.
fn in_records(hello: &[u8], fragment_len: usize) -> Vec<u8> {
    let fragments = hello[RECORD_HEADER_BYTES..].chunks(fragment_len);
    let record = |part: &[u8]| [&[HANDSHAKE, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat();
    fragments.flat_map(record).collect()
}

/// Name and protocols of a hello, or the broken rule.
type Verdict<'t> = Result<Option<(Option<&'t str>, &'t [&'t str])>, HelloRejected>;

/// Holds a verdict for every cut.
#[track_caller]
fn check(bytes: &[u8], expected: Verdict<'_>) {
    let found = |bytes: &[u8]| {
        parse(bytes).map(|hello| {
            hello.map(|hello| {
                let protocols = hello.protocols().map(|name| String::from_utf8_lossy(name).into_owned());
                (hello.server_name.map(|name| name.as_str().to_owned()), protocols.collect::<Vec<_>>())
            })
        })
    };
    let owned = |(name, protocols): (Option<&str>, &[&str])| {
        (name.map(str::to_owned), protocols.iter().map(|&name| name.to_owned()).collect())
    };
    let expected = expected.map(|hello| hello.map(owned));
    assert_eq!(found(bytes), expected, "{}", bytes.escape_ascii());
    for cut in 0..bytes.len() {
        match found(&bytes[..cut]) {
            Ok(None) => {}
            early => assert_eq!(early, expected, "settled at {cut}"),
        }
    }
}

#[test]
fn reads_hellos_of_a_real_client() {
    for versions in [&[&TLS12][..], &[&TLS13], &[&TLS13, &TLS12]] {
        for (name, protocols) in [
            (Some("A.Example"), &["h2", "http/1.1"][..]),
            (Some("b.example"), &[]),
            (None, &["http/1.1"]),
            (None, &[]),
        ] {
            let hello = hello_of(versions, name, protocols);
            let lower = name.map(str::to_ascii_lowercase);
            check(&hello, Ok(Some((lower.as_deref(), protocols))));
            // Every cut of every byte in a record of its own is for the hellos that are short.
            for fragment_len in [1, 3, 100, 512].into_iter().filter(|len| len * 5 > hello.len() / 60) {
                check(&in_records(&hello, fragment_len), Ok(Some((lower.as_deref(), protocols))));
            }
        }
    }
}

#[test]
fn a_post_quantum_hello_is_larger_than_a_packet_and_read() {
    let hello = hello_of(&[&TLS13], Some("a.example"), &[]);
    assert!(hello.len() > 1300, "{} bytes: no post-quantum share", hello.len());
}

#[test]
fn what_follows_the_hello_is_left_alone() {
    let mut bytes = hello_of(&[&TLS13], Some("a.example"), &[]);
    let len = bytes.len();
    bytes.extend_from_slice(b"\x17\x03\x03whatever");
    check(&bytes[..len], Ok(Some((Some("a.example"), &[]))));
    check(&bytes, Ok(Some((Some("a.example"), &[]))));
}

/// A hello with these extensions, small enough to be told apart by eye.
fn hello_with(extensions: &[u8]) -> Vec<u8> {
    let extensions = [&(extensions.len() as u16).to_be_bytes()[..], extensions].concat();
    message(&[&[3; 2 + 32][..], b"\x01s", b"\x00\x02ci", b"\x01\x00", &extensions].concat())
}

fn message(body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_be_bytes();
    let record_len = (body.len() as u16 + 4).to_be_bytes();
    [&[HANDSHAKE, 3, 1][..], &record_len, &[CLIENT_HELLO], &len[1..], body].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// A list with one name of this type.
fn names(kind: u8, name: &[u8]) -> Vec<u8> {
    let entry = [&[kind][..], &(name.len() as u16).to_be_bytes(), name].concat();
    [&(entry.len() as u16).to_be_bytes()[..], &entry].concat()
}

fn hello_named(name: &[u8]) -> Vec<u8> {
    hello_with(&extension(SERVER_NAME, &names(HOST_NAME, name)))
}

#[test]
fn a_hello_may_have_no_extensions() {
    check(&message(&[&[3; 2 + 32][..], b"\x00", b"\x00\x02ci", b"\x01\x00"].concat()), Ok(Some((None, &[]))));
    check(&hello_with(b""), Ok(Some((None, &[]))));
    check(&hello_with(&extension(0xff01, b"\x00")), Ok(Some((None, &[]))));
}

#[test]
fn a_name_is_a_host_name_in_ascii_without_a_final_dot() {
    let longest = [&[b'a'; 63][..], b".", &[b'b'; 63], b".", &[b'c'; 63], b".", &[b'd'; 61]].concat();
    let longest = str::from_utf8(&longest).expect("ASCII");
    for (name, expected) in [
        ("a", Some("a")),
        ("A.b-C.example", Some("a.b-c.example")),
        ("_x.example", Some("_x.example")),
        ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
        (longest, Some(longest)),
        (&format!("{longest}d"), None),
        (&"a".repeat(64), None),
        ("", None),
        (".", None),
        ("a.", None),
        (".a", None),
        ("a..b", None),
        ("*.example", None),
        ("a b", None),
        ("a\0", None),
        ("a:443", None),
        ("[::1]", None),
        ("b\u{fc}cher.example", None),
    ] {
        let expected = expected.map(|name| Some((Some(name), &[][..]))).ok_or(HelloRejected::NameInvalid);
        check(&hello_named(name.as_bytes()), expected);
    }
}

#[test]
fn a_list_of_names_holds_one_host_name() {
    let named = |list: &[u8]| hello_with(&extension(SERVER_NAME, list));
    for (list, rule) in [
        (&b"\x00\x00"[..], HelloRejected::NameListInvalid),
        (&names(1, b"a"), HelloRejected::NameListInvalid),
        (b"\x00\x08\x00\x00\x01a\x00\x00\x01b", HelloRejected::NameListInvalid),
        (b"", HelloRejected::LengthInvalid),
        (b"\x00\x05\x00\x00\x01a", HelloRejected::LengthInvalid),
        (b"\x00\x04\x00\x00\x02a", HelloRejected::LengthInvalid),
        (b"\x00\x04\x00\x00\x01ab", HelloRejected::LengthInvalid),
    ] {
        check(&named(list), Err(rule));
    }
    let twice = extension(SERVER_NAME, &names(HOST_NAME, b"a")).repeat(2);
    check(&hello_with(&twice), Err(HelloRejected::ExtensionRepeated));
}

#[test]
fn a_list_of_protocols_has_no_empty_one() {
    let offered = |list: &[u8]| hello_with(&extension(PROTOCOLS, list));
    check(&offered(b"\x00\x05\x01x\x02h2"), Ok(Some((None, &["x", "h2"]))));
    for (list, rule) in [
        (&b"\x00\x00"[..], HelloRejected::ProtocolsInvalid),
        (b"\x00\x01\x00", HelloRejected::ProtocolsInvalid),
        (b"\x00\x03\x01x\x00", HelloRejected::ProtocolsInvalid),
        (b"\x00\x02\x02x", HelloRejected::LengthInvalid),
        (b"\x00\x02\x01xy", HelloRejected::LengthInvalid),
    ] {
        check(&offered(list), Err(rule));
    }
    let twice = extension(PROTOCOLS, b"\x00\x02\x01x").repeat(2);
    check(&hello_with(&twice), Err(HelloRejected::ExtensionRepeated));
}

#[test]
fn refuses_what_is_no_hello() {
    use HelloRejected::*;
    for (bytes, rule) in [
        (&b"GET / HTTP/1.1\r\n"[..], NotTls),
        (b"SSH-2.0-OpenSSH\r\n", NotTls),
        // A hello of SSL 2.0.
        (b"\x80\x2e\x01\x03\x01", NotTls),
        (b"\x15\x03\x03\x00\x02\x02\x28", NotTls),
        (b"\x16\x02", NotTls),
        (b"\x16\x03\x01\x00\x00", RecordEmpty),
        (b"\x16\x03\x01\x40\x01", RecordTooLong),
        (b"\x16\x03\x01\x00\x01\x02", NotClientHello),
        (b"\x16\x03\x01\x00\x01\x01\x17", RecordForeign),
        (b"\x16\x03\x01\x00\x01\x01\x16\x04", RecordForeign),
        (b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x00", RecordEmpty),
        (b"\x16\x03\x01\x00\x04\x01\x00\x40\x00", TooLarge),
        (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", LengthInvalid),
    ] {
        check(bytes, Err(rule));
    }
    for incomplete in [&b""[..], b"\x16", b"\x16\x03\x01\x00", b"\x16\x03\x01\x00\x02\x01"] {
        check(incomplete, Ok(None));
    }
}

#[test]
fn the_bound_counts_the_headers_of_records() {
    // 9 bytes in front of the body.
    let largest = message(&[0; HELLO_BYTES_MAX - 9]);
    assert_eq!(largest.len(), HELLO_BYTES_MAX);
    assert_eq!(parse(&largest[..HELLO_BYTES_MAX - 1]), Ok(None));
    assert_eq!(parse(&largest), Err(HelloRejected::LengthInvalid), "whole, though nonsense");
    let in_two = in_records(&largest, 1 << 13);
    assert_eq!(parse(&in_two[..HELLO_BYTES_MAX - 1]), Ok(None));
    assert_eq!(parse(&in_two[..HELLO_BYTES_MAX]), Err(HelloRejected::TooLarge));
}

#[test]
fn lengths_must_add_up() {
    let hello = hello_named(b"a.example");
    // Each body cut short, with the message's own length made to fit.
    for cut in 0..hello.len() - 9 {
        let body = &hello[9..9 + cut];
        let may_end_here = cut == 2 + 32 + 2 + 4 + 2;
        let expected =
            if may_end_here { Ok(Some((None, &[][..]))) } else { Err(HelloRejected::LengthInvalid) };
        check(&message(body), expected);
    }
    check(&message(&[&hello[9..], b"\0"].concat()), Err(HelloRejected::LengthInvalid));
    for body in [
        [&[3; 34][..], b"\x21", &[0; 33], b"\x00\x02ci\x01\x00"].concat(),
        [&[3; 34][..], b"\x00\x00\x00\x01\x00"].concat(),
        [&[3; 34][..], b"\x00\x00\x03abc\x01\x00"].concat(),
        [&[3; 34][..], b"\x00\x00\x02ci\x00"].concat(),
    ] {
        check(&message(&body), Err(HelloRejected::LengthInvalid));
    }
}

#[test]
fn alerts_are_fatal_and_in_a_record() {
    assert_eq!(UNRECOGNIZED_NAME, *b"\x15\x03\x03\x00\x02\x02\x70");
    assert_eq!(DECODE_ERROR, *b"\x15\x03\x03\x00\x02\x02\x32");
}
