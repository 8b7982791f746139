//! Is a configuration that was translated from nginx or HAProxy the same one? Both programs, the same servers, the same questions.
//!
//! Never a translation of its own: the files are those of docs/migrate, with other ports.

mod common;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::connection::Connection;
use common::engine::{Driver, Engine};
use common::eventually;
use common::message::Message;
use common::origin::Origin;

/// A file of docs/migrate.
fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/migrate").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A server that says who it is and what it was asked, with fields that a gateway takes out.
fn origin(name: &'static str) -> Origin {
    Origin::start(move |peer| {
        while let Some(request) = peer.request() {
            if request.head.value("Upgrade").is_some() {
                peer.wire.send(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
                );
                return;
            }
            let field = |name: &str| request.head.value(name).unwrap_or("-").to_owned();
            let fields = ["Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Clinic"].map(field).join(" ");
            let body = format!("{name}: {} {} ({fields})", request.head.method(), request.head.target());
            peer.wire.send(format!(
                "HTTP/1.1 200 OK\r\nServer: test\r\nX-Powered-By: test\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

/// The servers of a file, by the port that it has them at: the first is 8101.
fn origins<const N: usize>(names: [&'static str; N]) -> [Origin; N] {
    names.map(origin)
}

/// The text with the ports of these servers, each in place of its own.
fn with_ports(text: &str, origins: &[Origin]) -> String {
    (8101..).zip(origins).fold(text.to_owned(), |text, (port, origin)| {
        let written = format!("127.0.0.1:{port}");
        assert!(text.contains(&written), "no server at {written}");
        text.replace(&written, &origin.address.to_string())
    })
}

/// An address that was free a moment ago: other programs cannot tell which port they were given.
fn free_address() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    free.expect("a port")
}

/// The other program, and its directory; both gone when dropped.
struct Other {
    process: Child,
    dir: PathBuf,
}

impl Other {
    #[track_caller]
    fn start(program: &str, arguments: &[&str], configuration: &str, accepts: SocketAddr) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{program}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a writable directory");
        fs::write(dir.join("file"), configuration).expect("a writable directory");
        let process = Command::new(program)
            .args(arguments)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs {program} (Debian: {program}): {error}"));
        let mut other = Self { process, dir };
        eventually("the other program accepts", || {
            assert!(matches!(other.process.try_wait(), Ok(None)), "{program} has ended");
            TcpStream::connect(accepts).is_ok()
        });
        other
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What a client is told, and by it what the server was asked: all that a translation must keep.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    location: Option<String>,
    /// What the gateway puts in or takes out.
    fields: Vec<Option<String>>,
    /// Only where it is the server's, or written in the configuration: pages of errors are each program's own.
    body: Option<String>,
}

fn ask(address: SocketAddr, head: &str) -> Answer {
    let answer: Message = Connection::open(address).ask(&format!("{head}\r\n\r\n"));
    let value = |name: &str| answer.head.value(name).map(str::to_owned);
    let status = answer.status();
    Answer {
        status,
        location: value("Location"),
        // nginx adds its fields to its own pages of errors too.
        fields: if status == 200 { ["X-Powered-By", "X-Served-By"].map(value).into() } else { Vec::new() },
        body: (status == 200).then(|| answer.text().to_owned()),
    }
}

/// Asks both, and fails at the first difference.
#[track_caller]
fn assert_alike(theirs: SocketAddr, ours: SocketAddr, heads: &[(&str, u16)]) {
    for (head, status) in heads {
        let (their, our) = (ask(theirs, head), ask(ours, head));
        assert_eq!(our, their, "{head:?}");
        assert_eq!(our.status, *status, "{head:?}");
    }
}

#[test]
fn nginx_and_its_translation_answer_alike() {
    let origins = origins(["pages", "pages", "pages", "api", "api"]);
    let theirs = free_address();
    // One process, everything inside of its directory; the ports are the only thing else that is new.
    let inside = "http {\n    access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; \
                  uwsgi_temp_path u; scgi_temp_path s;";
    let text = with_ports(&file("nginx.conf"), &origins)
        .replace("127.0.0.1:8080", &theirs.to_string())
        .replace("http {", inside);
    let text = format!("daemon off; master_process off; pid nginx.pid; error_log stderr crit;\n{text}");
    let _nginx = Other::start("nginx", &["-e", "stderr", "-p", ".", "-c", "file"], &text, theirs);
    let text = with_ports(&file("nginx.toml"), &origins).replace("127.0.0.1:8080", "127.0.0.1:0");
    let engine = Engine::start(Driver::Epoll, text.replace("127.0.0.1:9000", "127.0.0.1:0"));
    assert_alike(
        theirs,
        engine.web(),
        &[
            ("GET / HTTP/1.1\r\nHost: shop.example", 200),
            ("GET /a/b?c=d HTTP/1.1\r\nHost: www.shop.example", 200),
            ("GET /ping HTTP/1.1\r\nHost: shop.example", 200),
            ("GET /pingx HTTP/1.1\r\nHost: shop.example", 200),
            ("GET /api/orders?open=1 HTTP/1.1\r\nHost: shop.example", 200),
            ("DELETE /api/orders/7 HTTP/1.1\r\nHost: shop.example", 200),
            ("GET /live/x HTTP/1.1\r\nHost: shop.example", 200),
            ("GET /old/x?y=1 HTTP/1.1\r\nHost: shop.example", 308),
            ("GET /internal/x HTTP/1.1\r\nHost: shop.example", 403),
            ("GET / HTTP/1.1\r\nHost: elsewhere.example", 404),
            ("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2000000", 413),
        ],
    );
    for address in [theirs, engine.web()] {
        let head = "GET /live/x HTTP/1.1\r\nHost: shop.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        assert_eq!(Connection::open(address).ask(head).status(), 101, "{address}");
    }
}

#[test]
fn haproxy_and_its_translation_answer_alike() {
    let origins =
        origins(["fhir", "fhir", "office", "office", "pages", "pages-backup", "database", "database-backup"]);
    let (theirs, their_database) = (free_address(), free_address());
    let text = with_ports(&file("haproxy.cfg"), &origins)
        .replace("127.0.0.1:8080", &theirs.to_string())
        .replace("127.0.0.1:5432", &their_database.to_string())
        .replace("127.0.0.1:9999", &free_address().to_string())
        // It takes two descriptors for each at its start, or does not start.
        .replace("maxconn 20000", "maxconn 200");
    let _haproxy = Other::start("haproxy", &["-db", "-f", "file"], &text, theirs);
    let text = with_ports(&file("haproxy.toml"), &origins)
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:5432", "127.0.0.1:0");
    let engine = Engine::start(Driver::Epoll, text.replace("127.0.0.1:9000", "127.0.0.1:0"));
    assert_alike(
        theirs,
        engine.web(),
        &[
            ("GET / HTTP/1.1\r\nHost: clinic.example", 200),
            ("GET /health HTTP/1.1\r\nHost: clinic.example", 200),
            ("GET /portal HTTP/1.1\r\nHost: clinic.example", 302),
            ("GET /fhir/Patient/1?x=y HTTP/1.1\r\nHost: clinic.example", 200),
            ("GET /fhir/Patient HTTP/1.1\r\nHost: office.example", 200),
            ("GET /desk HTTP/1.1\r\nHost: office.example", 200),
            ("GET /lab/1 HTTP/1.1\r\nHost: office.example", 200),
            ("GET /lab/1 HTTP/1.1\r\nHost: clinic.example", 200),
        ],
    );
    for address in [theirs, engine.web()] {
        let sticky = Connection::open(address).ask("GET / HTTP/1.1\r\nHost: office.example\r\n\r\n");
        let cookie = sticky.head.value("Set-Cookie").expect("a cookie");
        assert!(cookie.starts_with("SERVERID="), "{address}: {cookie}");
        let fhir = Connection::open(address).ask("GET /fhir/x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(fhir.head.value("Server"), None, "{address}: the server's is taken out");
    }
    for address in [their_database, engine.listener("database")] {
        let answer = Connection::open(address).ask("SELECT /1 HTTP/1.1\r\nHost: b\r\n\r\n");
        answer.assert_is(200, "database: SELECT /1 (b - - -)");
    }
}

#[test]
fn every_translation_can_be_used() {
    for name in ["nginx.toml", "haproxy.toml", "lvs.toml", "openhim.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/migrate").join(name);
        let output =
            Engine::command().args(["check", "--config"]).arg(&path).output().expect("it can be run");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
