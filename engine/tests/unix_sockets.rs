//! Are endpoints at a path of the file system served like those at a port?
//!
//! Never a path that another test could have: each has a directory of its own.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use common::PATIENCE;
use common::engine::Engine;
use common::on_both_drivers;

/// A directory for one socket, removed at its end. In `/tmp`, because a path has at most 107 bytes.
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
        self.0.join("app.sock")
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
