//! How do tests run the program and read what it says?
//!
//! Never waits for a time, only for events: a line, a connection, the end of a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_loadgen");

/// Both drivers of the runtime, by their names on the command line.
pub(crate) const DRIVERS: [&str; 2] = ["epoll", "uring"];

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    /// The JSON summary, `Null` when none was written.
    pub(crate) json: Value,
}

impl Outcome {
    /// A count in the JSON summary.
    pub(crate) fn count(&self, pointer: &str) -> u64 {
        let value = self.json.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no count {pointer} in {self:?}"))
    }

    /// How often an error kind occurred.
    pub(crate) fn errors(&self, kind: &str) -> u64 {
        self.json["errors"]["by_kind"].get(kind).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Every request that was sent must be in exactly one place.
    pub(crate) fn assert_adds_up(&self) {
        let count = |name: &str| self.count(&format!("/requests/{name}"));
        assert_eq!(count("sent"), count("completed") + count("failed") + count("unanswered"), "{self:?}");
        let by_kind = self.json["errors"]["by_kind"].as_object().expect("kinds of errors");
        let total: u64 = by_kind.values().filter_map(Value::as_u64).sum();
        assert_eq!(self.count("/errors/total"), total, "{self:?}");
    }

    /// The driver that was asked for ran, or the fall-back did and said so.
    pub(crate) fn assert_driver(&self, asked: &str) {
        let ran = self.json["driver"].as_str().expect("a driver");
        let fell_back = self.err.contains("io_uring is not available here");
        match asked {
            "epoll" => assert_eq!((ran, fell_back), ("epoll", false), "{self:?}"),
            _ if fell_back => {
                eprintln!(
                    "NOTE: io_uring is refused on this machine; the fall-back to epoll was tested instead"
                );
                assert_eq!(ran, "epoll", "{self:?}");
            }
            _ => assert_eq!(ran, "io_uring", "{self:?}"),
        }
    }
}

/// A path for a file of one test's own.
pub(crate) fn scratch_path(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}-{name}", std::process::id()))
}

/// Runs `loadgen URL ARGS…` to its end.
pub(crate) fn loadgen(url: &str, args: &str) -> Outcome {
    let json_path = scratch_path("summary.json");
    let mut command = Command::new(PROGRAM);
    command.arg(url).args(args.split_whitespace()).arg("--json").arg(&json_path);
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("loadgen starts"), &json_path)
}

/// Starts `loadgen URL ARGS…`, calls `meanwhile` with its process id, and waits for its end.
pub(crate) fn loadgen_meanwhile(url: &str, args: &str, meanwhile: impl FnOnce(u32)) -> Outcome {
    let json_path = scratch_path("summary.json");
    let mut command = Command::new(PROGRAM);
    command.arg(url).args(args.split_whitespace()).arg("--json").arg(&json_path);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("loadgen starts");
    meanwhile(child.id());
    finish(child, &json_path)
}

fn finish(child: Child, json_path: &PathBuf) -> Outcome {
    let output = child.wait_with_output().expect("loadgen ends");
    let json = std::fs::read(json_path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let _ = std::fs::remove_file(json_path);
    Outcome {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        json: json.unwrap_or(Value::Null),
    }
}

/// A running `loadgen origin`; ended when dropped.
pub(crate) struct Origin {
    child: Child,
    scheme: String,
    pub(crate) address: SocketAddr,
}

impl Origin {
    pub(crate) fn start(args: &str) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["origin", "--listen", "127.0.0.1:0"])
            .args(args.split_whitespace())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the origin starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its first line");
        let place = line.trim().strip_prefix("origin listening on ").expect(&line);
        let (scheme, address) = place.split_once("://").expect(&line);
        Self { address: address.parse().expect("an address"), scheme: scheme.to_owned(), child }
    }

    /// As it said where it listens.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}/", self.scheme, self.address)
    }

    pub(crate) fn websocket_url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).expect("the origin accepts")
    }

    /// Asks it to end with a signal, and waits until it has.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        signal(self.child.id(), rustix::process::Signal::TERM);
        self.child.wait().expect("the origin ends")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(process: u32, signal: rustix::process::Signal) {
    let process = rustix::process::Pid::from_raw(process.cast_signed()).expect("a process id");
    rustix::process::kill_process(process, signal).expect("the signal is delivered");
}

/// A server that treats each of its connections, one after the other, as `treat` says; returns its URL.
pub(crate) fn serve(treat: impl FnMut(TcpStream) + Send + 'static) -> String {
    format!("http://{}/", serve_at(treat))
}

/// The same; returns its address.
pub(crate) fn serve_at(mut treat: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || listener.incoming().flatten().for_each(&mut treat));
    address
}

/// A server that answers rightly, one connection after the other, and stands still for 200 ms before its 30th answer.
pub(crate) fn serve_with_stall() -> String {
    let mut answered = 0;
    serve(move |mut stream| {
        while read_request(&mut stream) {
            answered += 1;
            if answered == 30 {
                // The stall itself.
                thread::sleep(Duration::from_millis(200));
            }
            if stream.write_all(RIGHT.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Reads one request head without a body; false at the end of the stream.
pub(crate) fn read_request(stream: &mut impl Read) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Reads one request, head and body, as text; `None` at the end of the stream.
pub(crate) fn read_request_text(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).expect("a head of text");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    stream.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8(body).expect("a body of text"))
}

/// A server that answers every request rightly, and tells which requests came over which connection.
pub(crate) fn record() -> (String, mpsc::Receiver<(usize, String)>) {
    let (told, requests) = mpsc::channel();
    let mut connections = 0;
    let url = serve(move |mut stream| {
        let (told, connection) = (told.clone(), connections);
        connections += 1;
        thread::spawn(move || {
            while let Some(request) = read_request_text(&mut stream) {
                let _ = told.send((connection, request));
                if stream.write_all(RIGHT.as_bytes()).is_err() {
                    return;
                }
            }
        });
    });
    (url, requests)
}

/// A server that answers every request on every connection with `answer`, and goes on until the client closes.
pub(crate) fn serve_always(answer: impl Into<String>) -> String {
    let answer = answer.into();
    serve(move |mut stream| {
        let answer = answer.clone();
        thread::spawn(
            move || while read_request(&mut stream) && stream.write_all(answer.as_bytes()).is_ok() {},
        );
    })
}

/// A right answer of ten bytes.
pub(crate) const RIGHT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
