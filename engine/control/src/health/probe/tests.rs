//! What do probes say of servers that answer in this way or that?

use std::path::PathBuf;
use std::time::Duration;

use config::snapshot::Snapshot;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;

use super::*;

/// What the configuration makes of these keys.
fn snapshot(health: &str) -> Snapshot {
    let text = format!(
        "[listener.web]\nbind = '127.0.0.1:1'\n[channel.c]\nupstream = 'u'\n\
         [upstream.u]\nendpoints = ['127.0.0.1:1']\nhealth = {{ timeout = '5s', {health} }}"
    );
    let loaded = config::load_str("a.toml", &text, config::Format::Toml, &|_| None);
    loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}

/// Probes a server that takes one connection, reads until an empty line, says `said` and closes; what it was asked, too.
fn probe_of(health: &str, proxy: Option<ProxyVersion>, said: &'static [u8]) -> (Result<(), Ill>, Vec<u8>) {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound").into();
        let (tell, asked) = oneshot::channel();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a probe");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n")
                && stream.read_buf(&mut asked).await.is_ok_and(|read| read > 0)
            {}
            stream.write_all(said).await.expect("it listens");
            tell.send(asked).expect("the test waits");
        });
        let snapshot = snapshot(health);
        let settings = snapshot.upstreams[0].health.as_ref().expect("written");
        let outcome = probe(settings, proxy, None, &address).await;
        (outcome, asked.await.expect("the server ends"))
    })
}

#[track_caller]
fn check(health: &str, said: &'static [u8], expected: Result<(), &str>) {
    assert_eq!(
        probe_of(health, None, said).0,
        expected.map_err(|what| Ill::Endpoint(what.to_owned())),
        "{health}"
    );
}

#[test]
fn a_status_is_one_of_those_or_it_is_told() {
    check("", b"HTTP/1.1 204 No Content\r\n\r\n", Ok(()));
    check("", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.0 302 Found\r\n\r\n", Ok(()));
    check("", b"HTTP/1.1 503 Busy\r\n\r\n", Err("status 503"));
    check("status = ['200', '503']", b"HTTP/1.1 503 Busy\r\n\r\n", Ok(()));
    check("status = '200'", b"HTTP/1.1 204 No Content\r\n\r\n", Err("status 204"));
}

#[test]
fn a_body_is_searched_however_it_is_framed() {
    let missing = || Err("status 200, and no \"up\" in its body");
    for (said, expected) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nall up"[..], Ok(())),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nall op", missing()),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nallup", missing()),
        (b"HTTP/1.1 200 OK\r\n\r\nall up", Ok(())),
        (b"HTTP/1.1 200 OK\r\n\r\n", missing()),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall u\r\n1;x=y\r\np\r\n0\r\n\r\n",
            Ok(()),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nup\r\n",
            Err("connection closed within the body"),
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall up", Err("connection closed within the body")),
    ] {
        check("body = 'up'", said, expected);
    }
}

#[test]
fn what_a_core_would_refuse_is_no_answer() {
    check(
        "",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        Err("malformed answer: length_repeated"),
    );
    check("", b"SSH-2.0-OpenSSH\r\n", Err("malformed answer: status_line_malformed"));
    check("", b"HTTP/1.1 200 OK\r\n", Err("connection closed before an answer"));
    check("", b"", Err("connection closed before an answer"));
}

#[test]
fn it_asks_for_what_is_written_and_says_who_it_is() {
    let said = b"HTTP/1.1 200 OK\r\n\r\n";
    let (_, asked) = probe_of("path = '/up?full=1', method = 'POST', host = 'app.example:81'", None, said);
    let expected = "POST /up?full=1 HTTP/1.1\r\nHost: app.example:81\r\nUser-Agent: corelane-health\r\n\
                    Content-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&asked), expected);
    let (_, asked) = probe_of("", Some(ProxyVersion::V1), said);
    assert!(asked.starts_with(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: 127.0.0.1:"));
    let (_, asked) = probe_of("", Some(ProxyVersion::V2), said);
    assert!(asked.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET / HTTP/1.1\r\n"), "{asked:?}");
}

#[test]
fn who_does_not_listen_is_told_in_two_words_and_who_does_not_answer_after_the_timeout() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address: Address = listener.local_addr().expect("bound").into();
        let snapshot = snapshot("");
        let mut settings = snapshot.upstreams[0].health.clone().expect("written");
        settings.timeout = Duration::from_millis(20);
        // The kernel takes the connection; nobody reads from it.
        let outcome = probe(&settings, None, None, &address).await;
        assert_eq!(outcome, Err("no whole answer within 20ms".to_owned().into()));
        settings.probe = Probe::Tcp;
        settings.timeout = Duration::from_secs(5);
        assert_eq!(probe(&settings, None, None, &address).await, Ok(()));
        let Address::Tcp(bound) = address else { panic!("{address}") };
        settings.port = Some(bound.port());
        let elsewhere = SocketAddr::new(bound.ip(), 1).into();
        assert_eq!(probe(&settings, None, None, &elsewhere).await, Ok(()), "the port that is written");
        drop(listener);
        let outcome = probe(&settings, None, None, &elsewhere).await;
        assert_eq!(outcome, Err("connection refused".to_owned().into()));
    });
}

#[test]
fn a_path_is_asked_as_a_port_is() {
    let path: PathBuf = std::env::temp_dir().join(format!("corelane-probe-{}.sock", std::process::id()));
    let outcome = block_on(async {
        let listener = UnixListener::bind(&path).expect("a path of our own");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a probe");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("it listens");
        });
        let snapshot = snapshot("port = 7");
        let settings = snapshot.upstreams[0].health.as_ref().expect("written");
        probe(settings, None, None, &Address::Unix(path.as_path().into())).await
    });
    std::fs::remove_file(&path).expect("it is there");
    assert_eq!(outcome, Ok(()));
}
