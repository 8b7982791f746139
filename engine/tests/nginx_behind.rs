//! Does a web server look the same through the engine as it does directly? nginx behind it, curl in front.
//!
//! Never compares with what a server ought to say, only with what this one says without the engine; `Via` is all that
//! the engine adds.

mod common;

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use common::engine::{Driver, Engine};
use common::message::Head;
use common::origin::Origin;
use common::pattern::{self, Check};
use common::{eventually, on_both_drivers};

/// Longer than every buffer of both programs, and than what their sockets hold.
const PLAIN_BYTES: u64 = 300_000;
/// Text, so that it can be compressed.
const TEXT: &str = "the same line again, and again\n";
const LARGE_BYTES: u64 = 200 * 1000 * 1000;

/// nginx serving a directory of its own; both gone when dropped.
struct Nginx {
    process: Child,
    dir: PathBuf,
    address: SocketAddr,
}

impl Nginx {
    fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nginx-{}-{number}", std::process::id()));
        fs::create_dir_all(dir.join("files")).expect("a writable directory");
        // Free a moment ago: nginx cannot tell which port it was given.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address = free.expect("a port");
        fs::write(dir.join("nginx.conf"), configuration(address)).expect("a writable directory");
        let process = Command::new("nginx")
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(&dir)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs nginx (Debian: nginx-light): {error}"));
        let mut nginx = Self { process, dir, address };
        eventually("nginx accepts", || {
            assert!(matches!(nginx.process.try_wait(), Ok(None)), "nginx has ended");
            TcpStream::connect(address).is_ok()
        });
        nginx
    }

    fn write_pattern(&self, name: &str, length: u64) {
        let mut file = BufWriter::new(File::create(self.file(name)).expect("a writable directory"));
        pattern::send(length, &[1024 * 1024], |piece| file.write_all(piece).is_ok());
        file.flush().expect("room for the file");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join("files").join(name)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// One process, everything inside its prefix. Unless told to, nginx compresses nothing for a request with a `Via`.
fn configuration(address: SocketAddr) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    types {{ text/plain txt; }}
    gzip on; gzip_types text/plain; gzip_proxied any;
    server {{ listen {address}; root files; }}
}}
"
    )
}

fn curl(arguments: &[&str], stdin: Stdio) -> Child {
    Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "30"])
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs curl (Debian: curl): {error}"))
}

/// What curl wrote to its standard output.
#[track_caller]
fn written(curl: Child) -> Vec<u8> {
    let Output { status, stdout, stderr } = curl.wait_with_output().expect("our child");
    assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    stdout
}

fn url(address: SocketAddr, target: &str) -> String {
    format!("http://{address}{target}")
}

/// A response as it looks to a client that does not care how it travelled.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status_line: String,
    /// In order; without those of the connection, and without the time of day.
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// Fetches `target`; `arguments` are curl's.
    #[track_caller]
    fn fetch(server: SocketAddr, target: &str, arguments: &[&str]) -> Self {
        let url = url(server, target);
        let raw = written(curl(&[&["--include", url.as_str()], arguments].concat(), Stdio::null()));
        let head_end = raw.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let head = Head::parse(&raw[..head_end]);
        let mut answer =
            Self { status_line: head.start_line, fields: head.fields, body: raw[head_end..].to_vec() };
        answer.fields.retain(|(name, _)| {
            !["date", "connection", "keep-alive", "transfer-encoding"]
                .contains(&name.to_ascii_lowercase().as_str())
        });
        answer.fix_boundary();
        answer
    }

    fn value(&self, name: &str) -> &str {
        let named = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map_or_else(|| panic!("no {name}: {:?}", self.fields), |(_, value)| value)
    }

    /// nginx numbers the boundaries of its multipart bodies: no two are alike.
    fn fix_boundary(&mut self) {
        let content_type = self.fields.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let Some((_, content_type)) = content_type else { return };
        let Some((_, boundary)) = content_type.split_once("boundary=") else { return };
        let (boundary, fixed) = (boundary.to_owned(), "=".repeat(boundary.len()));
        *content_type = content_type.replace(&boundary, &fixed);
        let mut at = 0;
        while let Some(found) =
            self.body[at..].windows(boundary.len()).position(|part| part == boundary.as_bytes())
        {
            at += found + boundary.len();
            self.body[at - boundary.len()..at].copy_from_slice(fixed.as_bytes());
        }
    }
}

/// nginx, and the engine before it.
fn behind(driver: Driver, nginx: &Nginx) -> Engine {
    Engine::before(driver, nginx.address)
}

#[test]
fn every_kind_of_answer_is_the_same_through_the_engine() {
    let nginx = Nginx::start();
    nginx.write_pattern("plain", PLAIN_BYTES);
    nginx.write_pattern("empty", 0);
    fs::write(nginx.file("text.txt"), TEXT.repeat(2000)).expect("a writable directory");
    let plain = Answer::fetch(nginx.address, "/plain", &[]);
    let since = format!("If-Modified-Since: {}", plain.value("last-modified"));
    let none_match = format!("If-None-Match: {}", plain.value("etag"));
    let range_if = format!("If-Range: {}", plain.value("etag"));

    let cases: &[(&str, &[&str], u16)] = &[
        ("/plain", &[], 200),
        ("/empty", &[], 200),
        ("/plain", &["--http1.0"], 200),
        ("/plain", &["--head"], 200),
        ("/plain", &["--range", "0-0"], 206),
        ("/plain", &["--range", "1000-250000"], 206),
        ("/plain", &["--range", "-5000"], 206),
        ("/plain", &["--range", "0-99,70000-80000,-100"], 206),
        ("/plain", &["--range", "10-20", "-H", &range_if], 206),
        ("/plain", &["--range", "9999999-"], 416),
        ("/plain", &["-H", &since], 304),
        ("/plain", &["-H", &none_match], 304),
        ("/plain", &["-H", "If-None-Match: \"another\""], 200),
        ("/plain", &["-H", "If-Match: \"another\""], 412),
        ("/text.txt", &[], 200),
        ("/text.txt", &["-H", "Accept-Encoding: gzip"], 200),
        ("/text.txt", &["--head", "-H", "Accept-Encoding: gzip"], 200),
        ("/missing", &[], 404),
        ("/plain", &["--request", "DELETE"], 405),
    ];
    let direct: Vec<Answer> =
        cases.iter().map(|(target, arguments, _)| Answer::fetch(nginx.address, target, arguments)).collect();
    let gzip = &direct[cases
        .iter()
        .position(|(_, arguments, _)| arguments.contains(&"Accept-Encoding: gzip"))
        .expect("a case")];
    assert_eq!(gzip.value("content-encoding"), "gzip", "nothing was compressed");

    on_both_drivers(|driver| {
        let engine = behind(driver, &nginx);
        for ((target, arguments, status), direct) in cases.iter().zip(&direct) {
            let through = Answer::fetch(engine.web(), target, arguments);
            let expected = format!("HTTP/1.1 {status} ");
            assert!(
                direct.status_line.starts_with(&expected),
                "{target} {arguments:?}: {}",
                direct.status_line
            );
            assert_eq!(through.status_line, direct.status_line, "{target} {arguments:?}");
            let fields =
                [direct.fields.as_slice(), &[("Via".to_owned(), "1.1 corelane".to_owned())]].concat();
            assert_eq!(through.fields, fields, "{target} {arguments:?}");
            assert!(through.body == direct.body, "{target} {arguments:?}: the body differs");
        }
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn one_connection_fetches_file_after_file() {
    let nginx = Nginx::start();
    let names: Vec<String> = (0..5).map(|number| format!("/file-{number}")).collect();
    for (number, name) in (0..).zip(&names) {
        nginx.write_pattern(&name[1..], 1 + number * 50_000);
    }
    let fetch_all = |server: SocketAddr| {
        let urls: Vec<String> = names.iter().map(|name| url(server, name)).collect();
        let mut arguments = vec!["--write-out", "\nconnections opened: %{num_connects}\n"];
        arguments.extend(urls.iter().map(String::as_str));
        written(curl(&arguments, Stdio::null()))
    };
    let direct = fetch_all(nginx.address);
    on_both_drivers(|driver| {
        let engine = behind(driver, &nginx);
        let through = fetch_all(engine.web());
        assert!(through == direct, "other bytes, or connections not kept");
        engine.assert_counter("/listeners/0/accepted", 1);
        engine.assert_counter("/totals/requests", names.len() as u64);
    });
    let opened =
        |count: usize| String::from_utf8_lossy(&direct).matches(&format!("opened: {count}\n")).count();
    assert_eq!((opened(1), opened(0)), (1, names.len() - 1));
}

#[test]
fn a_file_larger_than_all_buffers_arrives_whole() {
    let nginx = Nginx::start();
    nginx.write_pattern("large", LARGE_BYTES);
    on_both_drivers(|driver| {
        let engine = behind(driver, &nginx);
        let mut curl = curl(&["--fail", &url(engine.web(), "/large")], Stdio::null());
        let mut body = curl.stdout.take().expect("piped");
        let (mut check, mut buffer) = (Check::default(), vec![0; 256 * 1024]);
        while let Ok(received @ 1..) = body.read(&mut buffer) {
            check.take(&buffer[..received]);
        }
        written(curl);
        assert_eq!(check.length(), LARGE_BYTES);
    });
}

/// Sends every body back; a client that asks first is told to go on.
fn echo() -> Origin {
    Origin::start(|peer| {
        while let Some(head) = peer.head() {
            if head.value("Expect").is_some() {
                peer.wire.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            let mut body = Vec::new();
            if !peer.wire.body(head.request_framing(), |bytes| body.extend_from_slice(bytes)).is_complete {
                break;
            }
            peer.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            peer.wire.send(body);
        }
    })
}

#[test]
fn a_chunked_upload_arrives_and_comes_back_whole() {
    const LENGTH: u64 = 8 * 1000 * 1000;
    on_both_drivers(|driver| {
        let origin = echo();
        let engine = Engine::before(driver, origin.address);
        let url = url(engine.web(), "/echo");
        let mut curl = curl(&["--fail", "-T", "-", "-H", "Transfer-Encoding: chunked", &url], Stdio::piped());
        let mut upload = curl.stdin.take().expect("piped");
        let sender = thread::spawn(move || {
            pattern::send(LENGTH, &[70_000, 1, 4096], |piece| upload.write_all(piece).is_ok())
        });
        let body = written(curl);
        assert!(sender.join().expect("no panic"), "curl did not take it all");
        let mut check = Check::default();
        check.take(&body);
        assert_eq!(check.length(), LENGTH);
        let request = origin.only_request();
        assert_eq!(
            (request.head.method(), request.head.value("Transfer-Encoding")),
            ("PUT", Some("chunked"))
        );
    });
}
