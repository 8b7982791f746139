//! Is the client whom a trusted proxy names taken for the client everywhere, and the next server told so?
//!
//! Never uses the engine's own reader or writer: headers are spelled out here, byte by byte.

mod common;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::{fs, thread};

use common::engine::{Config, Driver, Engine};
use common::on_both_drivers;
use common::origin::{OK, Origin};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const LINE: &str = "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Source and destination of [`LINE`].
const ADDRESSES: &[u8] = b"\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb";
/// ALPN "h2", and a type for private use.
const FIELDS: &[u8] = b"\x01\x00\x02h2\xe5\x00\x03abc";

/// Trusts whoever connects from here.
const TRUSTING: &str = "proxy_protocol = { from = [\"127.0.0.0/8\"] }\n";

fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).expect("a short block").to_be_bytes();
    [SIGNATURE, &[command, family], &len, block].concat()
}

/// What both versions say of the same client.
fn headers() -> [Vec<u8>; 3] {
    [LINE.into(), binary(0x21, 0x11, ADDRESSES), binary(0x21, 0x11, &[ADDRESSES, FIELDS].concat())]
}

fn start(driver: Driver, origin: &Origin, listener: &str, upstream: &str) -> Engine {
    Engine::start(driver, Config { endpoints: &[origin.address], listener, upstream, ..Config::default() })
}

/// The address that the origin was told of each request.
fn clients_told(origin: &Origin) -> Vec<String> {
    let address = |head: &common::message::Head| head.value("X-Forwarded-For").expect("a client").to_owned();
    origin.seen().requests.iter().map(|(_, request)| address(&request.head)).collect()
}

#[test]
fn a_client_is_whom_the_header_names_however_it_is_cut() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, TRUSTING, "");
        let mut asked = 0;
        for header in headers() {
            let all = [&header[..], GET.as_bytes()].concat();
            for piece in [1, 5, header.len() - 1, header.len(), header.len() + 3, all.len()] {
                let mut client = engine.connect();
                assert!(client.send_split(&all, piece));
                assert_eq!(client.response().status(), 200, "in pieces of {piece}");
                // The connection stays this client's.
                assert_eq!(client.get("/again").status(), 200);
                asked += 2;
            }
        }
        assert_eq!(clients_told(&origin), vec!["192.0.2.1"; asked]);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn a_header_may_name_an_address_of_ipv6() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, &format!("{TRUSTING}forwarding = {{ forwarded = true }}\n"), "");
        let mut client = engine.connect();
        assert!(client.send(format!("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n{GET}")));
        assert_eq!(client.response().status(), 200);
        let head = origin.only_request().head;
        assert_eq!(head.value("X-Forwarded-For"), Some("2001:db8::1"));
        assert!(head.value("Forwarded").expect("Forwarded").contains("for=\"[2001:db8::1]\""), "{head:?}");
    });
}

#[test]
fn a_proxy_that_speaks_for_itself_or_does_not_know_is_the_client() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, TRUSTING, "");
        let unspecific =
            [b"PROXY UNKNOWN\r\n".to_vec(), binary(0x20, 0x11, ADDRESSES), binary(0x21, 0, b"xyz")];
        for header in &unspecific {
            let mut client = engine.connect();
            assert!(client.send([&header[..], GET.as_bytes()].concat()));
            assert_eq!(client.response().status(), 200);
        }
        assert_eq!(clients_told(&origin), ["127.0.0.1"; 3]);
    });
}

#[test]
fn a_trusted_proxy_without_a_header_is_closed_and_counted_by_its_rule() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, TRUSTING, "");
        for (bytes, rule) in [
            (GET.as_bytes(), "header_missing"),
            (b"PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n", "address_invalid"),
            (&binary(0x21, 0x11, &[ADDRESSES, b"\x03\x00\x04sum!"].concat()), "checksum_wrong"),
        ] {
            let mut client = engine.connect();
            assert!(client.send(bytes));
            client.assert_closed();
            engine.assert_counter(&format!("/connections_rejected/{rule}"), 1);
        }
        engine.assert_only_fault("proxy_header_rejected", 3);
        engine.assert_counter("/listeners/0/connections_open", 0);
        assert_eq!(origin.seen().connections, 0);
    });
}

#[test]
fn whoever_is_not_trusted_cannot_say_who_he_is() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, "proxy_protocol = { from = [\"192.0.2.0/24\"] }\n", "");
        for header in headers() {
            let mut client = engine.connect();
            assert!(client.send([&header[..], GET.as_bytes()].concat()));
            assert_eq!(client.response().status(), 400);
        }
        engine.assert_only_fault("request_rejected", 3);
        assert_eq!(engine.connect().get("/").status(), 200);
        assert_eq!(clients_told(&origin), ["127.0.0.1"]);
    });
}

#[test]
fn a_header_that_does_not_come_in_time_is_not_waited_for() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, &format!("{TRUSTING}timeouts = {{ handshake = '50ms' }}\n"), "");
        engine.connect().assert_closed();
        engine.assert_only_fault("handshake_timeout", 1);
        let mut client = engine.connect();
        assert!(client.send(&LINE[..20]));
        client.assert_closed();
        engine.assert_only_fault("handshake_timeout", 2);
    });
}

#[test]
fn who_only_looks_whether_somebody_listens_has_done_nothing_wrong() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, TRUSTING, "");
        engine.connect().finish();
        engine.assert_counter("/listeners/0/accepted", 1);
        engine.assert_counter("/listeners/0/connections_open", 0);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn each_client_behind_a_proxy_has_its_own_share() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let listener = format!("{TRUSTING}limits = {{ connections_per_address = 1 }}\n");
        let engine = start(driver, &origin, &listener, "");
        let connect = |last: u8| {
            let client = engine.connect();
            assert!(client.send(format!("PROXY TCP4 192.0.2.{last} 198.51.100.2 1 2\r\n{GET}")));
            client
        };
        let mut kept = [connect(1), connect(2)];
        for client in &mut kept {
            assert_eq!(client.response().status(), 200);
        }
        connect(1).assert_closed();
        engine.assert_counter("/listeners/0/over_connections_per_address", 1);
        assert_eq!(connect(3).response().status(), 200);
        assert_eq!(kept[0].get("/").status(), 200);
    });
}

/// An origin that reads so many bytes of a header, or a line, before each connection's requests, and answers with it.
fn naming_clients(header_bytes: Option<usize>) -> Origin {
    Origin::start(move |peer| {
        let header = match header_bytes {
            Some(bytes) => peer.wire.bytes(bytes).escape_ascii().to_string(),
            None => peer.wire.line().expect("a line"),
        };
        while peer.request().is_some() {
            let len = header.len();
            peer.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{header}"));
        }
    })
}

#[test]
fn an_endpoint_is_told_of_each_client_on_a_connection_of_its_own() {
    on_both_drivers(|driver| {
        let origin = naming_clients(None);
        let engine = start(driver, &origin, "", "proxy_protocol = \"v1\"\n");
        let mut clients = [engine.connect(), engine.connect()];
        for _ in 0..2 {
            for client in &mut clients {
                let (from, to) = (client.local_address(), engine.web());
                let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}", from.port(), to.port());
                assert_eq!(client.get("/").text(), expected);
            }
        }
        origin.wait_until(|seen| seen.connections == 4 && seen.ended == 4);
    });
}

#[test]
fn what_a_trusted_proxy_says_is_passed_on_with_its_fields() {
    on_both_drivers(|driver| {
        let header = binary(0x21, 0x11, &[ADDRESSES, FIELDS].concat());
        let origin = naming_clients(Some(header.len()));
        let engine = start(driver, &origin, TRUSTING, "proxy_protocol = \"v2\"\n");
        let mut client = engine.connect();
        assert!(client.send([&header[..], GET.as_bytes()].concat()));
        assert_eq!(client.response().text(), header.escape_ascii().to_string());
        let origin = naming_clients(None);
        let engine = start(driver, &origin, TRUSTING, "proxy_protocol = \"v1\"\n");
        let mut client = engine.connect();
        assert!(client.send([&header[..], GET.as_bytes()].concat()));
        assert_eq!(client.response().text(), LINE.trim_end());
    });
}

/// A `tcp` listener `web` before one origin.
fn relay(driver: Driver, origin: SocketAddr, listener: &str, upstream: &str) -> Engine {
    Engine::start(
        driver,
        format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"app\"\n{listener}\n\
             [upstream.app]\nendpoints = [\"{origin}\"]\n{upstream}\n"
        ),
    )
}

/// An origin that sends all back that comes until the end.
fn echo() -> Origin {
    Origin::start(|peer| {
        let all = peer.wire.rest();
        peer.wire.send(all);
    })
}

#[test]
fn bytes_behind_the_header_are_relayed_and_the_header_is_not() {
    on_both_drivers(|driver| {
        let origin = echo();
        let engine = relay(driver, origin.address, TRUSTING, "");
        for header in headers() {
            for piece in [1, header.len(), 1000] {
                let mut client = engine.connect();
                assert!(client.send_split([&header[..], b"question"].concat(), piece));
                client.finish();
                assert_eq!(client.rest(), b"question");
            }
        }
        // A message that came with the header counts as any other.
        let framed = relay(driver, origin.address, &format!("{TRUSTING}framing = \"line\""), "");
        let mut client = framed.connect();
        assert!(client.send(format!("{LINE}one\ntwo\n")));
        framed.assert_counter("/listeners/0/messages_received", 2);
        client.finish();
        assert_eq!(client.rest(), b"one\ntwo\n");
        // Nothing but a header.
        let mut client = engine.connect();
        assert!(client.send(LINE));
        client.finish();
        client.assert_closed();
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn relayed_connections_begin_with_the_header_that_is_asked_for() {
    on_both_drivers(|driver| {
        let origin = echo();
        let received = binary(0x21, 0x11, &[ADDRESSES, FIELDS].concat());
        let engine = relay(driver, origin.address, TRUSTING, "proxy_protocol = \"v2\"");
        let mut client = engine.connect();
        assert!(client.send([&received[..], b"question"].concat()));
        client.finish();
        assert_eq!(client.rest(), [&received[..], b"question"].concat());

        let engine = relay(driver, origin.address, "", "proxy_protocol = \"v1\"");
        let mut client = engine.connect();
        let (from, to) = (client.local_address().port(), engine.web().port());
        client.finish();
        assert_eq!(client.rest(), format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n").as_bytes());
    });
}

#[test]
fn a_drain_does_not_wait_for_a_header() {
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let listener = format!("{TRUSTING}timeouts = {{ handshake = '1h' }}\n");
        let mut engine = start(driver, &origin, &listener, "");
        let mut client = engine.connect();
        engine.assert_counter("/listeners/0/connections_open", 1);
        engine.signal(rustix::process::Signal::TERM);
        client.assert_closed();
        assert!(engine.wait().success());
    });
}

#[test]
fn curl_speaks_it() {
    let Ok(version) = Command::new("curl").arg("--version").output() else {
        return eprintln!("no curl here, not tested");
    };
    assert!(version.status.success());
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let engine = start(driver, &origin, TRUSTING, "");
        let mut curl = Command::new("curl");
        let output = curl
            .args(["-sS", "--haproxy-protocol", "--max-time", "10"])
            .arg(format!("http://{}/", engine.web()));
        let output = output.output().expect("curl runs");
        assert_eq!(output.stdout, b"ok", "{}", String::from_utf8_lossy(&output.stderr));
        let told: Vec<IpAddr> =
            clients_told(&origin).iter().map(|text| text.parse().expect("an address")).collect();
        assert_eq!(told, [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    });
}

/// Passes one connection on to the engine, with a header in front of the first bytes and in one segment with them.
fn proxy(engine: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let mut client = listener.accept().expect("a client").0;
        let mut server = TcpStream::connect(engine).expect("the listener accepts");
        let mut bytes = vec![0; 16 * 1024];
        let count = client.read(&mut bytes).expect("a first word");
        server.write_all(&[LINE.as_bytes(), &bytes[..count]].concat()).expect("the engine takes it");
        let (mut from, mut to) = (client.try_clone().expect("a clone"), server.try_clone().expect("a clone"));
        let up = thread::spawn(move || io::copy(&mut from, &mut to));
        let _ = io::copy(&mut server, &mut client);
        drop((server, client));
        drop(up);
    });
    address
}

#[test]
fn a_header_comes_before_the_handshake() {
    if Command::new("openssl").arg("version").output().is_err() {
        return eprintln!("no openssl here, not tested");
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = |kind: &str| directory.join(format!("proxied-{}.{kind}", process::id())).display().to_string();
    let (certificate, key) = (file("pem"), file("key"));
    let mut request = Command::new("openssl");
    request.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    request.args(["-subj", "/CN=test", "-days", "2", "-keyout", &key, "-out", &certificate]);
    assert!(request.stderr(Stdio::null()).status().expect("openssl runs").success());
    let curl = |arguments: &[&str], address: SocketAddr| {
        let mut curl = Command::new("curl");
        curl.args(["-sSk", "--max-time", "10"]).args(arguments).arg(format!("https://{address}/"));
        let output = curl.output().expect("curl runs");
        assert_eq!(output.stdout, b"ok", "{}", String::from_utf8_lossy(&output.stderr));
    };
    on_both_drivers(|driver| {
        let origin = Origin::answering(OK);
        let listener = format!(
            "{TRUSTING}protocol = \"https\"\n\
             tls = {{ certificates = [{{ certificate = {certificate:?}, key = {key:?} }}] }}\n"
        );
        let engine = start(driver, &origin, &listener, "");
        curl(&["--haproxy-protocol"], engine.web());
        curl(&["--tlsv1.3"], proxy(engine.web()));
        curl(&["--tls-max", "1.2"], proxy(engine.web()));
        assert_eq!(clients_told(&origin), ["127.0.0.1", "192.0.2.1", "192.0.2.1"]);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
    let _ = (fs::remove_file(certificate), fs::remove_file(key));
}
