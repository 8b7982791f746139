//! Does the null relay pass on every byte, and the end of them?

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A relay in front of `origin`, ended with the test.
struct Relay {
    child: Child,
    addr: SocketAddr,
    origin: TcpListener,
}

impl Relay {
    fn start() -> Self {
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        origin.set_nonblocking(true).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_null_relay"))
            .args(["127.0.0.1:0".to_owned(), origin.local_addr().unwrap().to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Self { child, addr, origin }
    }

    /// A client's end and the upstream's end of one pair.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.addr).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let upstream = loop {
            match self.origin.accept() {
                Ok((upstream, _)) => break upstream,
                Err(error) => assert!(Instant::now() < deadline, "the relay does not connect: {error}"),
            }
            thread::yield_now();
        };
        upstream.set_nonblocking(false).unwrap();
        for socket in [&client, &upstream] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
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

fn read_line(stream: &TcpStream) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn passes_bytes_both_ways_on_every_pair() {
    let relay = Relay::start();
    let pairs: Vec<_> = (0..20).map(|_| relay.connect()).collect();
    for (number, (client, upstream)) in pairs.iter().enumerate() {
        let (mut to_upstream, mut to_client) = (client, upstream);
        writeln!(to_upstream, "ask {number}").unwrap();
        assert_eq!(read_line(upstream), format!("ask {number}\n"));
        writeln!(to_client, "answer {number}").unwrap();
        assert_eq!(read_line(client), format!("answer {number}\n"));
    }
}

#[test]
fn loses_nothing_to_a_reader_that_starts_late() {
    // Far more than the sockets and the relay's own buffer hold.
    const BYTES: usize = 64 * 1024 * 1024;
    let relay = Relay::start();
    let (mut client, mut upstream) = relay.connect();
    let sent: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();
    let (stuck, wait_until_stuck) = mpsc::sync_channel(1);
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            upstream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let mut done = 0;
            while let Ok(count) = upstream.write(&sent[done..]) {
                done += count;
                assert!(done < BYTES, "nobody reads, yet all was taken");
            }
            stuck.send(()).unwrap();
            upstream.set_write_timeout(None).unwrap();
            upstream.write_all(&sent[done..]).unwrap();
            upstream.shutdown(Shutdown::Write).unwrap();
        });
        wait_until_stuck.recv().unwrap();
        let mut received = Vec::with_capacity(BYTES);
        client.read_to_end(&mut received).unwrap();
        received
    });
    assert!(received == sent, "{} of {BYTES} bytes arrived, or not as sent", received.len());
}

#[test]
fn passes_the_end_on_and_keeps_the_other_direction_open() {
    let relay = Relay::start();
    let (client, mut upstream) = relay.connect();
    (&client).write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    upstream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "last words");
    writeln!(upstream, "still here").unwrap();
    assert_eq!(read_line(&client), "still here\n");
}

#[test]
fn serves_the_next_pair_after_one_has_closed() {
    let relay = Relay::start();
    for number in 0..50 {
        let (client, upstream) = relay.connect();
        writeln!(&client, "{number}").unwrap();
        assert_eq!(read_line(&upstream), format!("{number}\n"));
        drop(client);
        assert_eq!((&upstream).read(&mut [0; 1]).unwrap(), 0, "the end was passed on");
    }
}

#[test]
fn says_how_it_is_used() {
    let output = Command::new(env!("CARGO_BIN_EXE_null_relay")).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "usage: null_relay LISTEN UPSTREAM\n");
}
