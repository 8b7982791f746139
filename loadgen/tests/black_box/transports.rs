//! Does it make no difference to the accounts how the server is reached? TLS and Unix sockets, seen from outside.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::{DRIVERS, Origin, Outcome, RIGHT, loadgen, scratch_path, serve, signal};

/// A certificate with its key, in files of its own.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    certificate_path: PathBuf,
    key_path: PathBuf,
}

impl Identity {
    fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
        // Otherwise all of them would have the same issuer.
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let (certificate_path, key_path) = (scratch_path("cert.pem"), scratch_path("key.pem"));
        fs::write(&certificate_path, certificate.pem()).expect("a writable directory");
        fs::write(&key_path, key.serialize_pem()).expect("a writable directory");
        Self {
            certificate: certificate.der().clone(),
            key: key.serialize_der().into(),
            certificate_path,
            key_path,
        }
    }

    /// An origin that proves to be this.
    fn origin(&self) -> Origin {
        let (certificate, key) = (self.certificate_path.display(), self.key_path.display());
        Origin::start(&format!("--tls --cert {certificate} --key {key}"))
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key().into())
            .expect("an identity");
        Arc::new(config)
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.certificate_path);
        let _ = fs::remove_file(&self.key_path);
    }
}

/// A path for a Unix socket: short, as it must be, and gone at the end.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("loadgen-{}-{number}", std::process::id())))
    }

    fn start_origin(&self, args: &str) -> UnixOrigin {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["origin", "--listen", &format!("unix:{}", self.0.display())])
            .args(args.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the origin starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        UnixOrigin { child, line }
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

struct UnixOrigin {
    child: Child,
    /// What it said when it was ready; empty when it was not.
    line: String,
}

impl Drop for UnixOrigin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn assert_right(outcome: &Outcome) {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    outcome.assert_adds_up();
}

#[test]
fn https_requests_are_answered_and_sessions_resumed() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--tls --driver {driver}"));
        for (version, shown) in [("1.2", "TLS 1.2"), ("1.3", "TLS 1.3")] {
            let args =
                format!("--insecure -c 4 -t 1 -n 200 -d 8s --no-keepalive --tls {version} --driver {driver}");
            let outcome = loadgen(&origin.url(), &args);
            assert_right(&outcome);
            outcome.assert_driver(driver);
            assert_eq!(outcome.count("/requests/completed"), 200);
            let (full, resumed) = (outcome.count("/tls/full"), outcome.count("/tls/resumed"));
            assert_eq!(full + resumed, outcome.count("/generator/connects"));
            assert!(full <= 4, "each connection begins once without a session: {outcome:?}");
            let agreed = outcome.json["tls"]["agreed"].as_object().expect("what was agreed");
            assert!(agreed.keys().all(|way| way.starts_with(shown)), "{agreed:?}");
            assert!(outcome.out.contains("nobody (--insecure)"), "{}", outcome.out);
            let part = format!("{full} full, {resumed} resumed");
            assert!(outcome.out.contains(&part), "{part} is missing from {}", outcome.out);

            let outcome = loadgen(&origin.url(), &format!("{args} --no-resumption"));
            assert_right(&outcome);
            assert_eq!(outcome.count("/tls/resumed"), 0, "{outcome:?}");
        }
    }
}

#[test]
fn kept_https_connections_carry_large_bodies_both_ways() {
    let body = scratch_path("body");
    fs::write(&body, vec![b'x'; 1 << 20]).expect("a writable directory");
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--tls --body 1MiB --driver {driver}"));
        let args = format!(
            "--insecure -c 4 -t 1 -n 40 -d 20s -m POST --body-file {} --driver {driver}",
            body.display()
        );
        let outcome = loadgen(&origin.url(), &args);
        assert_right(&outcome);
        assert_eq!((outcome.count("/tls/full"), outcome.count("/tls/resumed")), (4, 0), "before the start");
        assert!(outcome.count("/bytes/received") > 40 << 20 && outcome.count("/bytes/sent") > 40 << 20);
    }
    fs::remove_file(body).expect("it is there");
}

#[test]
fn an_origin_that_counts_is_asked_the_way_the_requests_go() {
    let path = SocketPath::new();
    let _by_path = path.start_origin("--ids --tls");
    let origin = Origin::start("--ids --tls");
    let by_path = format!("--unix {}", path.0.display());
    for (url, way) in [(origin.url().as_str(), ""), ("https://localhost/", &by_path)] {
        let outcome = loadgen(url, &format!("--insecure --ids -c 4 -t 1 -n 100 -d 8s {way}"));
        assert_right(&outcome);
        assert_eq!(outcome.count("/delivery/once"), 100, "{outcome:?}");
    }
}

#[test]
fn a_server_must_be_who_it_was_asked_to_be() {
    let (localhost, other) = (Identity::new("localhost"), Identity::new("elsewhere.test"));
    let origin = localhost.origin();
    let url = format!("https://localhost:{}/", origin.address.port());
    let run = |url: &str, args: &str| loadgen(url, &format!("-c 2 -t 1 -n 20 -d 500ms {args}"));

    let trusted = run(&url, &format!("--ca {}", localhost.certificate_path.display()));
    assert_right(&trusted);
    assert!(trusted.out.contains("by --ca"), "{}", trusted.out);

    let refused = |outcome: &Outcome, hint: &str| {
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        outcome.assert_adds_up();
        assert!(outcome.errors("tls") > 0 && outcome.count("/requests/sent") == 0, "{outcome:?}");
        let first = outcome.json["errors"]["first"]["tls"].as_str().expect("a text");
        assert!(first.contains(hint), "{hint} is missing from {first}");
    };
    let wrong_issuer = run(&url, &format!("--ca {}", other.certificate_path.display()));
    refused(&wrong_issuer, "--ca FILE trusts its issuer");

    let elsewhere = other.origin();
    let url = format!("https://localhost:{}/", elsewhere.address.port());
    let ca = format!("--ca {}", other.certificate_path.display());
    refused(&run(&url, &ca), "--sni NAME");
    assert_right(&run(&url, &format!("{ca} --sni elsewhere.test")));
}

#[test]
fn a_server_without_tls_is_one_clear_failure() {
    let origin = Origin::start("");
    let url = format!("https://{}/", origin.address);
    let outcome = loadgen(&url, "--insecure -c 1 -t 1 -d 100ms");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.errors("tls") > 0 && outcome.errors("connect") == 0, "{outcome:?}");
    let first = outcome.json["errors"]["first"]["tls"].as_str().expect("a text");
    assert!(first.contains("does the server speak TLS"), "{first}");
    let silent = serve(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
    let outcome = loadgen(&silent.replace("http:", "https:"), "--insecure -c 1 -t 1 -d 100ms");
    assert!(outcome.errors("tls") > 0, "{outcome:?}");
}

#[test]
fn a_handshake_that_gets_no_answer_is_over_in_time() {
    // The kernel makes the connection; nobody takes it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}/", listener.local_addr().expect("its address"));
    for driver in DRIVERS {
        let args = format!("--insecure -c 1 -t 1 -d 300ms --timeout 50ms --driver {driver}");
        let outcome = loadgen(&url, &args);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.errors("connect_timeout") > 0 && outcome.errors("tls") == 0, "{outcome:?}");
        let first = outcome.json["errors"]["first"]["connect_timeout"].as_str().expect("a text");
        assert!(first.contains("TLS handshake"), "{first}");
    }
}

#[test]
fn many_connections_to_a_server_that_is_silent_are_not_tried_one_by_one() {
    for driver in DRIVERS {
        let mut kept = Vec::new();
        let silent = serve(move |stream| kept.push(stream)).replace("http:", "https:");
        let args = format!("--insecure -c 960 -t 1 -n 10 --timeout 200ms --driver {driver}");
        let outcome = loadgen(&silent, &args);
        assert_eq!((outcome.code, outcome.count("/threads_stranded")), (Some(1), 1), "{outcome:?}");
        // A few dozen at once for a time-out before the start, and for one after it.
        let tried = outcome.errors("connect_timeout");
        assert!((1..960).contains(&tried), "{tried}: {outcome:?}");
    }
}

#[test]
fn messages_streams_and_set_ups_go_over_unix_sockets_too() {
    for driver in DRIVERS {
        for (serve, url, args, unit) in [
            ("http", "ws://h/", "-n 100", "messages"),
            ("echo", "tcp://h:1", "-n 100", "messages"),
            ("sink", "tcp://h:1", "--mode stream -d 100ms", "streams"),
            ("sink", "tcp://h:1", "--mode connect -n 100", "connections"),
        ] {
            let path = SocketPath::new();
            let _origin = path.start_origin(&format!("--serve {serve} --driver {driver}"));
            let args = format!("{args} -c 2 -t 1 --unix {} --driver {driver}", path.0.display());
            let outcome = loadgen(url, &args);
            assert_right(&outcome);
            assert_eq!(outcome.json["unit"], unit, "{outcome:?}");
            assert!(outcome.count("/requests/completed") > 0, "{outcome:?}");
        }
    }
}

#[test]
fn options_of_tls_are_refused_where_there_is_none() {
    let outcome = loadgen("http://127.0.0.1:9/", "--insecure");
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.err.contains("--insecure is for https"), "{}", outcome.err);
    for (url, way_out) in [("ws://127.0.0.1:9/", "write wss://"), ("tcp://127.0.0.1:9", "leave it out")] {
        let outcome = loadgen(url, "--insecure");
        assert_eq!(outcome.code, Some(2));
        assert!(outcome.err.contains(way_out), "{}", outcome.err);
    }
    let outcome = loadgen("https://127.0.0.1:9/", "--ca /nowhere.pem");
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.err.contains("/nowhere.pem"), "{}", outcome.err);
}

/// A body that ends with its connection is whole only if the server said that this was the end.
#[test]
fn an_answer_cut_off_by_the_end_of_its_connection_is_not_taken_for_whole() {
    let identity = Identity::new("localhost");
    for (answer, says_so, failure) in [
        ("HTTP/1.1 200 OK\r\n\r\nas far as it goes", true, None),
        ("HTTP/1.1 200 OK\r\n\r\nas far as it goes", false, Some("closed_early")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour", false, None),
        ("", false, Some("closed_unanswered")),
    ] {
        let config = identity.server_config();
        let url = serve(move |stream: TcpStream| {
            let session = ServerConnection::new(config.clone()).expect("a session");
            let mut stream = StreamOwned::new(session, stream);
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                head.push(byte[0]);
            }
            let _ = stream.write_all(answer.as_bytes());
            if says_so {
                stream.conn.send_close_notify();
            }
            let _ = stream.flush();
        });
        let outcome =
            loadgen(&url.replace("http:", "https:"), "--insecure -c 1 -t 1 -n 5 -d 8s --no-keepalive");
        outcome.assert_adds_up();
        let failures = failure.map_or(0, |_| 5);
        assert_eq!(failure.map_or(0, |kind| outcome.errors(kind)), failures, "{outcome:?}");
        assert_eq!(outcome.count("/requests/completed"), 5 - failures);
    }
}

#[test]
fn a_unix_socket_is_a_server_like_any_other() {
    for driver in DRIVERS {
        let path = SocketPath::new();
        let origin = path.start_origin(&format!("--threads 2 --driver {driver}"));
        assert_eq!(origin.line, format!("origin listening on unix:{} (http)\n", path.0.display()));
        for more in ["", "--no-keepalive"] {
            let args =
                format!("--unix {} -c 64 -t 2 -n 2000 -d 8s --driver {driver} {more}", path.0.display());
            let outcome = loadgen("http://name.test:81/", &args);
            assert_right(&outcome);
            outcome.assert_driver(driver);
            assert_eq!(outcome.count("/requests/completed"), 2_000);
            assert!(outcome.json.get("tls").is_none());
        }
    }
}

#[test]
fn the_url_gives_the_host_where_a_path_leads_there() {
    let path = SocketPath::new();
    let listener = UnixListener::bind(&path.0).expect("a free path");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a line") > 0);
        }
        stream.write_all(RIGHT.as_bytes()).expect("the client reads");
        head
    });
    let args = format!("--unix {} -c 1 -n 1 -d 8s", path.0.display());
    assert_right(&loadgen("http://name.test:81/where", &args));
    assert_eq!(server.join().expect("a head"), "GET /where HTTP/1.1\r\nHost: name.test:81\r\n\r\n");
}

#[test]
fn an_origin_takes_the_place_of_a_dead_one_alone() {
    let path = SocketPath::new();
    // Killed, its file stays. With io_uring the kernel closes the socket only some time after the process has ended.
    drop(path.start_origin("--driver epoll"));
    assert!(path.0.exists());
    let mut origin = path.start_origin("");
    assert!(origin.line.starts_with("origin listening"), "{:?}", origin.line);

    let mut second = path.start_origin("");
    assert_eq!(second.child.wait().expect("it ends").code(), Some(2));
    let mut said = String::new();
    second.child.stderr.take().expect("its errors").read_to_string(&mut said).expect("text");
    assert!(said.contains("another process listens there"), "{said}");
    UnixStream::connect(&path.0).expect("the first is still there");

    signal(origin.child.id(), rustix::process::Signal::TERM);
    assert!(origin.child.wait().expect("it ends").success());
    assert!(!path.0.exists(), "its file goes with it");
}

#[test]
fn a_path_without_a_server_is_a_failure_to_connect() {
    let path = SocketPath::new();
    let outcome = loadgen("http://h/", &format!("--unix {} -c 1 -d 100ms", path.0.display()));
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.errors("connect") > 0, "{outcome:?}");
    let first = outcome.json["errors"]["first"]["connect"].as_str().expect("a text");
    assert!(first.contains(&path.0.display().to_string()), "{first}");
}

/// A TLS stack that is not ours on the other end: OpenSSL's, in nginx, by a Unix socket.
#[test]
fn nginx_is_spoken_to_in_both_versions_and_resumed() {
    let (identity, path) = (Identity::new("localhost"), SocketPath::new());
    let nginx = Nginx::start(&identity, &path.0);
    for (version, driver) in [("1.2", "epoll"), ("1.3", "epoll"), ("1.2", "uring"), ("1.3", "uring")] {
        let args = format!(
            "--unix {} --ca {} -c 4 -t 1 -n 200 -d 8s --no-keepalive --tls {version} --driver {driver}",
            path.0.display(),
            identity.certificate_path.display()
        );
        let outcome = loadgen("https://localhost/", &args);
        assert_right(&outcome);
        assert_eq!(outcome.count("/requests/completed"), 200);
        assert!(outcome.count("/tls/full") <= 4 && outcome.count("/tls/resumed") >= 196, "{outcome:?}");
    }
    drop(nginx);
}

/// nginx at a path; ended when dropped.
struct Nginx {
    process: Child,
    dir: PathBuf,
}

impl Nginx {
    fn start(identity: &Identity, socket: &Path) -> Self {
        let dir = scratch_path("nginx");
        fs::create_dir_all(dir.join("temporary")).expect("a writable directory");
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit;
             events {{ worker_connections 256; }}
             http {{ access_log off; client_body_temp_path temporary; proxy_temp_path temporary;
               fastcgi_temp_path temporary; uwsgi_temp_path temporary; scgi_temp_path temporary;
               ssl_certificate {}; ssl_certificate_key {}; ssl_session_cache shared:s:1m;
               ssl_protocols TLSv1.2 TLSv1.3;
               server {{ listen unix:{} ssl; location / {{ return 200 hello; }} }} }}",
            identity.certificate_path.display(),
            identity.key_path.display(),
            socket.display()
        );
        fs::write(dir.join("nginx.conf"), configuration).expect("a writable directory");
        let process = Command::new("nginx")
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(&dir)
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs nginx (Debian: nginx-light): {error}"));
        let mut nginx = Self { process, dir };
        while UnixStream::connect(socket).is_err() {
            assert!(matches!(nginx.process.try_wait(), Ok(None)), "nginx has ended");
            std::thread::yield_now();
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
