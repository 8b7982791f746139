//! Does the minimal relay pass on whole messages, on every runtime?

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const TIMEOUT: Duration = Duration::from_secs(10);

/// A relay in front of `origin`, ended with the test.
struct Relay {
    child: Child,
    addr: SocketAddr,
    origin: TcpListener,
}

impl Relay {
    fn start(runtime: &str) -> Self {
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        // Free a moment ago; the relay cannot tell which one it chose itself.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_minimal_relay"))
            .args([runtime, &addr.to_string(), &origin.local_addr().unwrap().to_string(), "4"])
            .spawn()
            .unwrap();
        Self { child, addr, origin }
    }

    /// A client's end and the upstream's end of one pair.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let deadline = Instant::now() + TIMEOUT;
        let client = loop {
            match TcpStream::connect(self.addr) {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < deadline, "the relay does not listen: {error}"),
            }
            std::thread::yield_now();
        };
        let (upstream, _) = self.origin.accept().unwrap();
        for socket in [&client, &upstream] {
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        }
        (client, upstream)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn expect(mut stream: &TcpStream, expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, expected);
}

/// Whether nothing is there to be read.
fn is_silent(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let outcome = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    outcome.is_err()
}

fn passes_whole_messages_on(runtime: &str) {
    let relay = Relay::start(runtime);
    let (mut client, mut upstream) = relay.connect();
    for _ in 0..3 {
        client.write_all(REQUEST).unwrap();
        expect(&upstream, REQUEST);
        upstream.write_all(REPLY).unwrap();
        expect(&client, REPLY);
    }
    // In two parts: what came first does not go on alone. The second pair proves that the relay had its turn.
    let (mut other_client, other_upstream) = relay.connect();
    client.write_all(&REQUEST[..10]).unwrap();
    other_client.write_all(REQUEST).unwrap();
    expect(&other_upstream, REQUEST);
    assert!(is_silent(&upstream), "half a request was passed on by {runtime}");
    client.write_all(&REQUEST[10..]).unwrap();
    expect(&upstream, REQUEST);
    upstream.write_all(&REPLY[..REPLY.len() - 1]).unwrap();
    upstream.write_all(&REPLY[REPLY.len() - 1..]).unwrap();
    expect(&client, REPLY);
    drop(client);
    assert_eq!(upstream.read(&mut [0]).unwrap(), 0, "the end was passed on by {runtime}");
}

#[test]
fn passes_whole_messages_on_with_epoll() {
    passes_whole_messages_on("epoll");
}

#[test]
fn passes_whole_messages_on_with_io_uring() {
    if runtime::DriverChoice::Uring.settle().kind != runtime::DriverKind::Uring {
        eprintln!("io_uring is refused here: not tested");
        return;
    }
    passes_whole_messages_on("uring");
}

#[test]
fn passes_whole_messages_on_with_tokio() {
    passes_whole_messages_on("tokio");
}

#[test]
fn says_how_it_is_used() {
    let output = Command::new(env!("CARGO_BIN_EXE_minimal_relay")).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "usage: minimal_relay epoll|uring|tokio LISTEN UPSTREAM BODY_BYTES\n");
}
