//! Does a TLS connection reach whoever serves the name that its client asks for, undecrypted and whole?
//!
//! Never decrypts anything itself: hellos are spelled out here, or OpenSSL's.

mod common;

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs, process};

use common::engine::{Driver, Engine};
use common::on_both_drivers;
use common::origin::{Origin, Peer};

const UNRECOGNIZED_NAME: &[u8] = b"\x15\x03\x03\x00\x02\x02\x70";
const DECODE_ERROR: &[u8] = b"\x15\x03\x03\x00\x02\x02\x32";

/// A listener `web` that knows names. Each table takes further keys.
#[derive(Default)]
struct Names<'a> {
    routes: &'a [(&'a str, &'a Origin)],
    listener: &'a str,
    upstream: &'a str,
    fallback: Option<&'a Origin>,
}

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { routes, listener, upstream, fallback } = self;
        writeln!(f, "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"tls\"\n{listener}")?;
        let names = routes.iter().enumerate().map(|(index, (name, _))| format!("{name:?} = \"up{index}\""));
        writeln!(f, "sni = {{ {} }}", names.collect::<Vec<_>>().join(", "))?;
        if fallback.is_some() {
            writeln!(f, "upstream = \"fallback\"")?;
        }
        let origins = routes.iter().enumerate().map(|(index, (_, origin))| (format!("up{index}"), *origin));
        for (name, origin) in origins.chain(fallback.map(|origin| ("fallback".to_owned(), origin))) {
            writeln!(f, "[upstream.{name}]\nendpoints = [\"{}\"]\n{upstream}", origin.address)?;
        }
        Ok(())
    }
}

/// A ClientHello for a name, if any, in records of at most `fragment` bytes.
fn hello(name: Option<&str>, fragment: usize) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).expect("a short hello").to_be_bytes();
    let entry = |name: &str| [&[0][..], &length(name.len()), name.as_bytes()].concat();
    let list = |name: &str| [&length(name.len() + 3)[..], &entry(name)].concat();
    let extension = |name: &str| [&[0, 0][..], &length(name.len() + 5), &list(name)].concat();
    let extensions = [name.map(extension).unwrap_or_default(), b"\xff\x01\x00\x01\x00".to_vec()].concat();
    let body =
        [b"\x03\x03", &[7; 32][..], b"\x00\x00\x02\x13\x01\x01\x00", &length(extensions.len()), &extensions]
            .concat();
    let message = [&[1, 0][..], &length(body.len()), &body].concat();
    let record = |part: &[u8]| [&b"\x16\x03\x01"[..], &length(part.len()), part].concat();
    message.chunks(fragment).flat_map(record).collect()
}

/// Sends all back that comes until the end, behind its own name.
fn echo(name: &'static str) -> Origin {
    Origin::start(move |peer: &mut Peer| {
        let all = peer.wire.rest();
        peer.wire.send(name);
        peer.wire.send(all);
    })
}

/// What comes back through the engine for these bytes.
fn exchange(engine: &Engine, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut client = engine.connect();
    assert!(client.send_split(bytes, piece));
    client.finish();
    client.rest()
}

#[test]
fn a_hello_reaches_the_server_of_its_name_however_it_is_cut() {
    on_both_drivers(|driver| {
        let (first, second) = (echo("first:"), echo("second:"));
        let routes = [("a.example", &first), ("*.b.example", &second)];
        let engine = Engine::start(driver, Names { routes: &routes, ..Names::default() });
        for (name, expected) in
            [("A.example", "first:"), ("x.b.example", "second:"), ("x.y.B.example", "second:")]
        {
            for fragment in [1, 40, 1000] {
                let bytes = [&hello(Some(name), fragment)[..], b"whatever follows"].concat();
                for piece in [1, 3, 100, bytes.len() - 1, bytes.len()] {
                    let echoed = exchange(&engine, &bytes, piece);
                    assert!(
                        echoed == [expected.as_bytes(), &bytes].concat(),
                        "{name} in {fragment}s, {piece}s"
                    );
                }
            }
        }
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
        engine.assert_counter("/listeners/0/connections_open", 0);
    });
}

#[test]
fn a_name_has_its_own_route_before_any_wildcard() {
    on_both_drivers(|driver| {
        let origins = [echo("0"), echo("1"), echo("2"), echo("default")];
        let routes = [("*.example", &origins[0]), ("*.b.example", &origins[1]), ("a.b.example", &origins[2])];
        let names = Names { routes: &routes, fallback: Some(&origins[3]), ..Names::default() };
        let engine = Engine::start(driver, names);
        for (name, expected) in [
            (Some("a.b.example"), "2"),
            (Some("x.b.example"), "1"),
            (Some("b.example"), "0"),
            (Some("example"), "default"),
            (None, "default"),
        ] {
            let bytes = hello(name, 1000);
            assert!(exchange(&engine, &bytes, 1000) == [expected.as_bytes(), &bytes].concat(), "{name:?}");
        }
    });
}

#[test]
fn a_name_that_nobody_serves_is_refused_by_an_alert() {
    on_both_drivers(|driver| {
        let origin = echo("");
        let engine = Engine::start(driver, Names { routes: &[("a.example", &origin)], ..Names::default() });
        for name in [Some("b.example"), Some("x.a.example"), None] {
            assert_eq!(exchange(&engine, &hello(name, 1000), 1000), UNRECOGNIZED_NAME, "{name:?}");
        }
        engine.assert_only_fault("server_name_unknown", 3);
        // Behind the hello there may be more that is not read.
        let bytes = [&hello(None, 1000)[..], &[0x17; 300_000]].concat();
        let mut client = engine.connect();
        client.send(&bytes);
        client.finish();
        assert_eq!(client.rest(), UNRECOGNIZED_NAME);
        assert_eq!(origin.seen().connections, 0);
    });
}

#[test]
fn what_is_not_tls_is_closed_and_what_is_malformed_is_told_so() {
    on_both_drivers(|driver| {
        let origin = echo("");
        let engine = Engine::start(
            driver,
            Names { fallback: Some(&origin), routes: &[("a", &origin)], ..Names::default() },
        );
        for (bytes, rule, answer) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], "not_tls", &b""[..]),
            (&hello(Some("a..b"), 1000), "name_invalid", DECODE_ERROR),
            (b"\x16\x03\x01\x00\x04\x01\x01\x00\x00", "too_large", DECODE_ERROR),
            (b"\x16\x03\x01\x00\x01\x02", "not_client_hello", DECODE_ERROR),
        ] {
            assert_eq!(exchange(&engine, bytes, 1000), answer, "{rule}");
            engine.assert_counter(&format!("/connections_rejected/{rule}"), 1);
        }
        engine.assert_only_fault("hello_rejected", 4);
        assert_eq!(origin.seen().connections, 0);
    });
}

#[test]
fn a_hello_that_does_not_come_in_time_is_not_waited_for() {
    on_both_drivers(|driver| {
        let origin = echo("");
        let listener = "timeouts = { handshake = '50ms' }\n";
        let engine = Engine::start(driver, Names { routes: &[("a", &origin)], listener, ..Names::default() });
        engine.connect().assert_closed();
        engine.assert_only_fault("handshake_timeout", 1);
        let mut client = engine.connect();
        assert!(client.send(&hello(Some("a"), 1000)[..30]));
        client.assert_closed();
        engine.assert_only_fault("handshake_timeout", 2);
        engine.assert_counter("/listeners/0/connections_open", 0);
    });
}

#[test]
fn a_waiting_connection_holds_no_buffer() {
    on_both_drivers(|driver| {
        let origin = echo("");
        let engine = Engine::start(driver, Names { routes: &[("a", &origin)], ..Names::default() });
        let kept: Vec<_> = (0..20)
            .map(|begun| {
                let client = engine.connect();
                assert!(client.send(&hello(Some("a"), 1000)[..begun]));
                client
            })
            .collect();
        engine.assert_counter("/listeners/0/bytes_received", (0..20).sum());
        engine.assert_counter("/cores/0/buffers", 0);
        drop(kept);
    });
}

#[test]
fn a_proxys_header_comes_before_the_hello_and_goes_before_it() {
    on_both_drivers(|driver| {
        let origin = echo("");
        let listener = "proxy_protocol = { from = [\"127.0.0.1\"] }\n";
        let upstream = "proxy_protocol = \"v2\"\n";
        let names = Names { routes: &[("a", &origin)], listener, upstream, ..Names::default() };
        let engine = Engine::start(driver, names);
        let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x12\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb\xe5\x00\x03abc";
        let bytes = [&header[..], &hello(Some("a"), 1000), b"rest"].concat();
        for piece in [1, 34, 35, 1000] {
            assert!(exchange(&engine, &bytes, piece) == bytes, "in pieces of {piece}");
        }
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

/// A directory of the test's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()));
        fs::create_dir_all(&path).expect("a writable directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server of OpenSSL's with a certificate for one name; killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(name: &str, scratch: &Scratch) -> Self {
        let file = |kind: &str| scratch.0.join(format!("{name}.{kind}")).display().to_string();
        let (certificate, key) = (file("pem"), file("key"));
        let subject = format!("/CN={name}");
        let mut request = Command::new("openssl");
        request.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        request.args(["-subj", &subject, "-days", "2", "-keyout", &key, "-out", &certificate]);
        assert!(request.stderr(Stdio::null()).status().expect("openssl runs").success());
        let mut server = Command::new("openssl");
        server.args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert", &certificate, "-key", &key]);
        server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = server.spawn().expect("openssl runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let mut addresses = lines.filter_map(|line| line.strip_prefix("ACCEPT ")?.trim().parse().ok());
        let address = addresses.next().expect("a line about where it accepts");
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client of OpenSSL's says of the server that it reached.
fn subject_reached(address: SocketAddr, name: &str, version: &str) -> String {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &address.to_string(), "-servername", name, version]);
    let output = client.stdin(Stdio::null()).output().expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = text.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or("none");
    subject.replace(' ', "")
}

fn pass_through(driver: Driver, servers: &[(&str, &Server)]) -> Engine {
    let names = servers.iter().enumerate().map(|(index, (name, _))| format!("\"{name}\" = \"up{index}\""));
    let upstreams = servers
        .iter()
        .enumerate()
        .map(|(index, (_, server))| format!("[upstream.up{index}]\nendpoints = [\"{}\"]\n", server.address));
    let listener = format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"tls\"\nsni = {{ {} }}\n",
        names.collect::<Vec<_>>().join(", ")
    );
    Engine::start(driver, listener + &upstreams.collect::<String>())
}

#[test]
fn openssl_reaches_the_server_it_names_and_its_certificate() {
    if Command::new("openssl").arg("version").output().is_err() {
        return eprintln!("no openssl here, not tested");
    }
    let scratch = Scratch::new("sni");
    let [first, second] = ["first.example", "second.example"].map(|name| Server::start(name, &scratch));
    on_both_drivers(|driver| {
        let engine = pass_through(driver, &[("first.example", &first), ("*.second.example", &second)]);
        for version in ["-tls1_2", "-tls1_3"] {
            let reached = |name| subject_reached(engine.web(), name, version);
            assert_eq!(reached("first.example"), "CN=first.example");
            assert_eq!(reached("any.second.example"), "CN=second.example");
            assert_eq!(reached("third.example"), "none");
        }
        engine.assert_counter("/faults/server_name_unknown", 2);
    });
}
