//! Are endpoints and listeners at a path of the file system served like those at a port?
//!
//! Never a path that another test could have: each has a directory of its own.

mod common;
#[allow(dead_code, reason = "each test binary takes what it needs")]
#[path = "common/tls.rs"]
mod tls;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use common::engine::{Driver, Engine};
use common::{PATIENCE, eventually, on_both_drivers};
use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tls::{Authority, Files};

/// A directory for sockets, removed at its end. In `/tmp`, because a path has at most 107 bytes.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("corelane-sock-{}-{number}", std::process::id()));
        fs::create_dir(&directory).expect("a directory");
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.beside("app.sock")
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Answers every request at `path` with the number of its connection and its head.
fn echo_heads_at(path: &Path) {
    let listener = UnixListener::bind(path).expect("a free path");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            thread::spawn(move || echo_heads(number, stream));
        }
    });
}

fn echo_heads(number: usize, mut stream: UnixStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8(std::mem::take(&mut head)).expect("text");
            let body = format!("connection {number}\n{head}");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn before(path: &Path) -> String {
    format!(
        "[listener.web]\nbind = \"127.0.0.1:0\"\n[channel.all]\nupstream = \"app\"\n\
         [upstream.app]\nendpoints = [\"unix:{}\"]\n",
        path.display()
    )
}

#[test]
fn an_endpoint_at_a_path_answers_and_its_connection_is_kept() {
    on_both_drivers(|driver| {
        let place = Place::new();
        echo_heads_at(&place.path());
        let engine = Engine::start(driver, before(&place.path()));
        for _ in 0..3 {
            let answer = engine.connect().get("/x");
            assert!(answer.text().starts_with("connection 0\nGET /x HTTP/1.1\r\n"), "{}", answer.text());
        }
        // A path cannot stand in `Host` (RFC 3986 §3.2.2).
        let answer = engine.connect().ask("GET / HTTP/1.0\r\n\r\n");
        assert!(answer.text().contains("\r\nHost: localhost\r\n"), "{}", answer.text());
    });
}

#[test]
fn a_path_where_nobody_listens_is_502_until_somebody_does() {
    on_both_drivers(|driver| {
        let place = Place::new();
        let engine = Engine::start(driver, before(&place.path()));
        let mut client = engine.connect();
        assert_eq!(client.get("/").status(), 502, "no file");
        drop(UnixListener::bind(place.path()).expect("a free path"));
        assert_eq!(client.get("/").status(), 502, "nobody behind the file");
        fs::remove_file(place.path()).expect("it was left behind");
        echo_heads_at(&place.path());
        assert_eq!(client.get("/").status(), 200);
    });
}

// ---- listeners ----

/// Sends one request that ends its connection, and reads all that comes.
fn ask_at(path: &Path, fields: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET /x HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A listener at `path` that answers itself. Its table takes further keys.
fn answering_at(path: &Path, listener: &str) -> String {
    format!(
        "[listener.web]\nbind = \"unix:{}\"\n{listener}\n[channel.all]\nrespond = {{ body = \"here\" }}\n",
        path.display()
    )
}

#[track_caller]
fn assert_here(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nhere"), "{answer:?}");
}

/// Starts an engine that is to give up; what it said.
fn start_in_vain(driver: Driver, config: impl std::fmt::Display) -> String {
    let arguments = ["--driver".to_owned(), driver.to_string()];
    let mut engine = Engine::spawn(&mut Engine::command(), &arguments, config);
    assert_eq!(engine.wait().code(), Some(1), "{}", engine.log());
    engine.log()
}

#[test]
fn a_client_by_a_path_has_no_address_for_anybody() {
    on_both_drivers(|driver| {
        let place = Place::new();
        echo_heads_at(&place.path());
        // Networks that contain any address contain none of his.
        let config = format!(
            "[listener.web]\nbind = \"unix:{}\"\n\
             forwarding = {{ trusted = [\"0.0.0.0/0\", \"::/0\"], forwarded = true }}\n\
             [channel.all]\nupstream = \"app\"\n[upstream.app]\nendpoints = [\"unix:{}\"]\n",
            place.beside("web.sock").display(),
            place.path().display()
        );
        let engine = Engine::start_on_cores(driver, 2, config);
        let forged = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n";
        let answer = ask_at(&place.beside("web.sock"), forged).expect("an answer");
        assert!(answer.contains("\r\nForwarded: for=unknown;host=\"test\";proto=http\r\n"), "{answer}");
        assert!(!answer.contains("X-Forwarded-For") && !answer.contains("192.0.2.1"), "{answer}");

        let url = format!("unix:{}", place.beside("web.sock").display());
        assert_eq!(engine.stats().pointer("/listeners/0/address").and_then(|url| url.as_str()), Some(&*url));
        assert!(
            engine.log().contains(&format!("listener web     {url} (http, 2 cores)")),
            "{}",
            engine.log()
        );
    });
}

#[test]
fn an_endpoint_is_told_of_no_address_where_there_is_none() {
    on_both_drivers(|driver| {
        let place = Place::new();
        let origin = UnixListener::bind(place.path()).expect("a free path");
        let config = format!(
            "[listener.db]\nbind = \"unix:{}\"\nprotocol = \"tcp\"\nupstream = \"app\"\n\
             [upstream.app]\nendpoints = [\"unix:{}\"]\nproxy_protocol = \"v1\"\n",
            place.beside("db.sock").display(),
            place.path().display()
        );
        let _engine = Engine::start(driver, config);
        let mut client = UnixStream::connect(place.beside("db.sock")).expect("connect");
        client.write_all(b"hello").expect("sent");
        client.shutdown(Shutdown::Write).expect("shut down");
        let (mut server, _) = origin.accept().expect("accept");
        server.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let mut got = String::new();
        server.read_to_string(&mut got).expect("all of it");
        assert_eq!(got, "PROXY UNKNOWN\r\nhello");
    });
}

#[test]
fn bytes_are_relayed_from_path_to_path_with_each_end() {
    on_both_drivers(|driver| {
        let place = Place::new();
        let origin = UnixListener::bind(place.path()).expect("a free path");
        let config = format!(
            "[listener.db]\nbind = \"unix:{}\"\nprotocol = \"tcp\"\nupstream = \"app\"\n\
             [upstream.app]\nendpoints = [\"unix:{}\"]\n",
            place.beside("db.sock").display(),
            place.path().display()
        );
        let engine = Engine::start(driver, config);
        eventually("it is told", || engine.log().contains("db.sock (tcp, 1 core)"));
        let server = thread::spawn(move || {
            let (mut stream, _) = origin.accept().expect("accept");
            stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("all of it");
            // Only now: the other way is open still.
            stream.write_all(&got).expect("sent back");
        });
        let sent: Vec<u8> = (0..4 << 20).map(|at: usize| (at * 31 + at / 251) as u8).collect();
        let mut client = UnixStream::connect(place.beside("db.sock")).expect("connect");
        client.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        client.write_all(&sent).expect("sent");
        client.shutdown(Shutdown::Write).expect("shut down");
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect("all of it");
        assert!(got == sent, "{} of {} bytes came back", got.len(), sent.len());
        server.join().expect("no panic");
    });
}

#[test]
fn permissions_are_those_configured_whatever_the_umask() {
    on_both_drivers(|driver| {
        for (key, expected) in [("", 0o660), ("unix_mode = \"0606\"", 0o606)] {
            let place = Place::new();
            let _engine = Engine::start(driver, answering_at(&place.path(), key));
            let mode = fs::symlink_metadata(place.path()).expect("a file").permissions().mode();
            assert_eq!(mode & 0o7777, expected);
        }
    });
}

#[test]
fn a_socket_that_was_left_behind_is_replaced_and_goes_with_the_process() {
    on_both_drivers(|driver| {
        let place = Place::new();
        let mut killed = Engine::start(driver, answering_at(&place.path(), ""));
        killed.signal(Signal::KILL);
        killed.wait();
        assert!(place.path().exists(), "nobody was left to remove it");
        let mut engine = Engine::start(driver, answering_at(&place.path(), ""));
        assert_here(&ask_at(&place.path(), "").expect("an answer"));
        engine.signal(Signal::TERM);
        assert!(engine.wait().success(), "{}", engine.log());
        assert!(!place.path().exists());
    });
}

#[test]
fn a_path_that_is_not_to_be_had_is_told_with_what_to_do() {
    on_both_drivers(|driver| {
        let place = Place::new();
        let _engine = Engine::start(driver, answering_at(&place.path(), ""));
        let said = start_in_vain(driver, answering_at(&place.path(), ""));
        let path = place.path();
        let path = path.display();
        let expected = format!(
            "cannot listen on unix:{path} (listener.web.bind): another process listens there; \
             `ss -xlp src {path}` shows which"
        );
        assert!(said.contains(&expected), "{said}");
        assert_here(&ask_at(&place.path(), "").expect("the first one serves on"));

        let precious = place.beside("file");
        fs::write(&precious, "precious").expect("written");
        let said = start_in_vain(driver, answering_at(&precious, ""));
        let expected = "something other than a socket is there; remove that or choose another path";
        assert!(said.contains(expected), "{said}");
        assert_eq!(fs::read_to_string(&precious).expect("untouched"), "precious");

        let said = start_in_vain(driver, answering_at(&place.beside("none/x.sock"), ""));
        assert!(said.contains("its directory does not exist; create it first"), "{said}");
    });
}

#[test]
fn at_its_end_a_process_leaves_the_socket_of_its_successor() {
    on_both_drivers(|driver| {
        let place = Place::new();
        let mut engine = Engine::start(driver, answering_at(&place.path(), ""));
        fs::remove_file(place.path()).expect("removed by somebody");
        let _successor = UnixListener::bind(place.path()).expect("a free path");
        engine.signal(Signal::TERM);
        assert!(engine.wait().success(), "{}", engine.log());
        UnixStream::connect(place.path()).expect("the successor's");
    });
}

/// Who has a connection is served, from whichever core's hands; who has none is told so.
#[test]
fn a_drain_loses_no_connection_of_a_shared_queue() {
    const CLIENTS: usize = 4;
    const WAITING: usize = 40;
    on_both_drivers(|driver| {
        let place = Place::new();
        let mut engine = Engine::start_on_cores(driver, 2, answering_at(&place.path(), ""));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let path = place.path();
                thread::spawn(move || {
                    let mut served = 0;
                    loop {
                        match UnixStream::connect(&path) {
                            Ok(stream) => assert_here(&ask_over(stream)),
                            Err(error) => break (served, error.kind()),
                        }
                        served += 1;
                    }
                })
            })
            .collect();
        eventually("clients come and go", || engine.counter("/listeners/0/accepted") > 100);
        // Connections that no core has seen when the drain begins. They have asked by then, since who says nothing is not
        // waited for long.
        engine.signal(Signal::STOP);
        let waiting: Vec<_> = (0..WAITING)
            .map(|_| {
                let mut stream = UnixStream::connect(place.path()).expect("room in the queue");
                ask(&mut stream);
                stream
            })
            .collect();
        engine.signal(Signal::TERM);
        engine.signal(Signal::CONT);
        for stream in waiting {
            assert_here(&answer(stream));
        }
        for client in clients {
            let (served, refused) = client.join().expect("no connection was lost");
            assert!(served > 0);
            assert!([ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&refused), "{refused}");
        }
        assert!(engine.wait().success(), "{}", engine.log());
    });
}

#[track_caller]
fn ask_over(mut stream: UnixStream) -> String {
    ask(&mut stream);
    answer(stream)
}

#[track_caller]
fn ask(stream: &mut UnixStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it is open");
}

#[track_caller]
fn answer(mut stream: UnixStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn an_internal_listener_at_a_path_serves_until_the_end() {
    on_both_drivers(|driver| {
        let place = Place::new();
        let config = format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\n[listener.inner]\nbind = \"unix:{}\"\ninternal = true\n\
             [channel.inner]\nmatch = {{ listener = \"inner\" }}\nrespond = {{ body = \"inside\" }}\n\
             [channel.web]\nmatch = {{ listener = \"web\" }}\nupstream = \"inner\"\n\
             [upstream.inner]\nendpoints = [\"listener:inner\"]\n",
            place.path().display()
        );
        let mut engine = Engine::start(driver, config);
        engine.connect().get("/").assert_is(200, "inside");
        let mut begun = engine.connect();
        assert!(begun.send("GET / HTTP/1.1\r\n"));
        engine.assert_counter("/totals/connections_open", 1);
        engine.signal(Signal::TERM);
        eventually("it drains", || engine.log().contains("SIGTERM: draining"));
        begun.ask("Host: test\r\n\r\n").assert_is(200, "inside");
        assert!(engine.wait().success(), "{}", engine.log());
        assert!(!place.path().exists());
    });
}

#[test]
fn a_private_connection_by_a_path_is_one_like_any_other() {
    on_both_drivers(|driver| {
        let (place, files, authority) = (Place::new(), Files::new(), Authority::new());
        let pair = files.write_pair("web", &authority.issue(&["a.example"]));
        let keys = format!("protocol = \"https\"\ntls = {{ certificates = [{pair}] }}");
        let _engine = Engine::start(driver, answering_at(&place.path(), &keys));
        let name = ServerName::try_from("a.example").expect("a name");
        let tls = ClientConnection::new(authority.client(&rustls::version::TLS13, None), name);
        let stream = UnixStream::connect(place.path()).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let mut private = StreamOwned::new(tls.expect("a client"), stream);
        private.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        private.read_to_string(&mut answer).expect("an answer, and an end that was announced");
        assert_here(&answer);
    });
}
