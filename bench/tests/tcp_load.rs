//! Does the load for relays of bytes count what came back, and notice what did not?

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A server of `tcp_load`, ended with the test.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(service: &str) -> Self {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child =
            Command::new(env!("CARGO_BIN_EXE_tcp_load")).args([service, &addr.to_string()]).spawn().unwrap();
        let server = Self { child, addr };
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = TcpStream::connect(addr) {
            assert!(Instant::now() < deadline, "{service} does not listen: {error}");
            thread::yield_now();
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tcp_load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tcp_load")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn count(output: &Output) -> u64 {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().strip_prefix("completed ").unwrap().parse().unwrap()
}

#[test]
fn messages_that_come_back_are_counted() {
    let server = Server::start("echo");
    assert!(count(&tcp_load(&["ping", &server.addr.to_string(), "3", "300"])) > 3);
}

#[test]
fn bytes_that_are_poured_are_counted_by_the_mib() {
    let server = Server::start("source");
    assert!(count(&tcp_load(&["drain", &server.addr.to_string(), "2", "1000"])) > 0);
}

/// The outcome of a ping whose one connection is served by `serve`.
fn ping_against(serve: impl FnOnce(TcpStream) + Send) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let output = thread::scope(|scope| {
        scope.spawn(|| serve(listener.accept().unwrap().0));
        tcp_load(&["ping", &target, "1", "5000"])
    });
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn another_message_than_the_one_sent_is_an_error() {
    let said = ping_against(|mut stream| {
        let mut message = [0; 64];
        stream.read_exact(&mut message).unwrap();
        message[0] ^= 1;
        stream.write_all(&message).unwrap();
        // Open until the client has judged.
        let _ = stream.read(&mut message);
    });
    assert_eq!(said, "tcp_load: another message came back\n");
}

#[test]
fn a_connection_that_ends_early_is_an_error() {
    let said = ping_against(|mut stream| {
        stream.read_exact(&mut [0; 64]).unwrap();
    });
    assert!(said.contains("unexpected end of file"), "{said}");
}

#[test]
fn says_how_it_is_used() {
    let output = tcp_load(&["pong"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("usage: tcp_load echo|source LISTEN\n"));
}
