//! Is every wrong answer noticed, called by its name, and told by the exit code?

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;

use rustix::process::Signal;

use crate::harness::{
    DRIVERS, Origin, RIGHT, loadgen, loadgen_meanwhile, read_request, scratch_path, serve, serve_always,
    signal,
};

/// Runs against a server and expects every request to fail as `kind`.
fn check(kind: &str, server: impl Fn() -> String, args: &str) {
    for driver in DRIVERS {
        let run = loadgen(&server(), &format!("-c 1 -t 1 -n 3 --driver {driver} {args}"));
        assert_eq!(run.code, Some(1), "{kind}: {run:?}");
        run.assert_adds_up();
        assert_eq!(run.errors(kind), 3, "{kind}: {run:?}");
        assert_eq!((run.count("/requests/failed"), run.count("/errors/total")), (3, 3), "{kind}: {run:?}");
        assert!(run.out.contains(kind), "{kind}: {}", run.out);
    }
}

/// A server that says `answer` to the first request of each connection and closes.
fn serve_once(answer: &'static str) -> String {
    serve(move |mut stream| {
        if read_request(&mut stream) {
            let _ = stream.write_all(answer.as_bytes());
        }
    })
}

#[test]
fn a_wrong_status() {
    check("wrong_status", || serve_always("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno"), "");
    check("wrong_status", || serve_always(RIGHT), "--expect-status 204");
}

#[test]
fn a_short_body() {
    check("closed_early", || serve_once("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), "");
    check(
        "closed_early",
        || serve_once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        "",
    );
    check("closed_early", || serve_once("HTTP/1.1 200 OK\r\nContent-Le"), "");
}

#[test]
fn no_answer_at_all() {
    check("closed_unanswered", || serve_once(""), "");
}

#[test]
fn garbage() {
    check("bad_head", || serve_once("220 mail.example ESMTP\r\n"), "");
    check("bad_head", || serve_once("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), "");
}

#[test]
fn contradictory_framing() {
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check("bad_framing", || serve_once(both), "");
    check(
        "bad_framing",
        || serve_once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"),
        "",
    );
}

#[test]
fn more_than_was_announced() {
    check("surplus", || serve_once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"), "");
}

#[test]
fn a_reset() {
    // A socket closed with unread bytes in it resets the connection.
    let server = || {
        serve(|stream: TcpStream| {
            let _ = stream.peek(&mut [0]);
        })
    };
    check("reset", server, "");
}

#[test]
fn a_server_that_never_answers() {
    let silent = || {
        let mut kept = Vec::new();
        serve(move |stream| kept.push(stream))
    };
    check("timeout", silent, "--timeout 100ms");
    for driver in DRIVERS {
        let run = loadgen(&silent(), &format!("-c 3 -t 1 -d 100ms --grace 50ms --driver {driver}"));
        assert_eq!(run.code, Some(1), "{run:?}");
        run.assert_adds_up();
        assert_eq!((run.count("/requests/sent"), run.count("/requests/unanswered")), (3, 3), "{run:?}");
    }
}

#[test]
fn bytes_nobody_asked_for() {
    let url = serve(|mut stream| {
        let _ = stream.write_all(b"hello, who is there?");
        let _ = stream.shutdown(Shutdown::Write);
        while read_request(&mut stream) {}
    });
    // The first request is due a tenth of a second after the connection was made.
    let run = loadgen(&url, "-c 1 -t 1 --rate 10 -d 300ms");
    assert_eq!(run.code, Some(1), "{run:?}");
    run.assert_adds_up();
    assert!(run.errors("unsolicited") > 0, "{run:?}");
}

#[test]
fn a_refused_connection_is_no_request() {
    let vacant = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    for driver in DRIVERS {
        let run = loadgen(&format!("http://{vacant}/"), &format!("-c 2 -t 1 -d 200ms --driver {driver}"));
        assert_eq!(run.code, Some(1), "{run:?}");
        run.assert_adds_up();
        assert_eq!(run.count("/requests/sent"), 0, "{run:?}");
        assert!(run.errors("connect") >= 2, "{run:?}");
        assert!(run.out.to_lowercase().contains("refused"), "{}", run.out);
    }
}

#[test]
fn a_number_of_requests_ends_without_a_server() {
    // A path, since a port that is free now may be another test's soon.
    let vacant = scratch_path("vacant.sock");
    for driver in DRIVERS {
        for load in ["", "--rate 100", "--no-keepalive"] {
            let args = format!(
                "-c 4 -t 2 -n 100 --timeout 100ms {load} --unix {} --driver {driver}",
                vacant.display()
            );
            let run = loadgen("http://h/", &args);
            assert_eq!(run.code, Some(1), "{args}: {run:?}");
            run.assert_adds_up();
            assert_eq!((run.count("/requests/sent"), run.count("/threads_stranded")), (0, 2), "{run:?}");
            assert!(run.errors("connect") >= 4, "{args}: {run:?}");
            assert!(run.out.contains("2 of 2 threads gave up before -n was reached"), "{}", run.out);
        }
    }
}

#[test]
fn a_number_of_requests_ends_when_the_server_goes_for_good() {
    for driver in DRIVERS {
        let path = scratch_path("gone.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            for _ in 0..3 {
                assert!(read_request(&mut stream), "a request");
                stream.write_all(RIGHT.as_bytes()).expect("it takes the answer");
            }
        });
        let args = format!("-c 1 -t 1 -n 100 --timeout 1s --unix {} --driver {driver}", path.display());
        let run = loadgen("http://h/", &args);
        std::fs::remove_file(&path).expect("the socket goes");
        server.join().expect("the server did its part");
        assert_eq!(run.code, Some(1), "{run:?}");
        run.assert_adds_up();
        assert_eq!((run.count("/requests/completed"), run.count("/threads_stranded")), (3, 1), "{run:?}");
    }
}

#[test]
fn right_and_wrong_answers_are_told_apart() {
    let mut number = 0;
    let url = serve(move |mut stream| {
        while read_request(&mut stream) {
            number += 1;
            let answer = if number % 4 == 0 { "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n" } else { RIGHT };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let run = loadgen(&url, "-c 1 -n 100");
    assert_eq!(run.code, Some(1));
    run.assert_adds_up();
    assert_eq!((run.count("/requests/completed"), run.errors("wrong_status")), (75, 25), "{run:?}");
    assert_eq!((run.count("/statuses/200"), run.count("/statuses/500")), (75, 25));
}

#[test]
fn a_server_that_dies_and_comes_back_costs_what_it_cost() {
    // Ends the first connection after three answers, within the fourth; serves all others.
    let mut connection = 0;
    let url = serve(move |mut stream| {
        connection += 1;
        let mut answers = 0;
        while read_request(&mut stream) {
            answers += 1;
            if connection == 1 && answers == 4 {
                let _ = stream.write_all(&RIGHT.as_bytes()[..30]);
                return;
            }
            if stream.write_all(RIGHT.as_bytes()).is_err() {
                return;
            }
        }
    });
    let run = loadgen(&url, "-c 1 -n 50");
    assert_eq!(run.code, Some(1));
    run.assert_adds_up();
    assert_eq!((run.count("/requests/completed"), run.errors("closed_early")), (49, 1), "{run:?}");
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let (began, has_begun) = mpsc::sync_channel(1);
    let mut kept = Vec::new();
    let url = serve(move |mut stream| {
        read_request(&mut stream);
        kept.push(stream);
        let _ = began.try_send(());
    });
    let run = loadgen_meanwhile(&url, "-c 1 -t 1 -d 50m --timeout 50m --grace 50m", |process| {
        has_begun.recv().expect("a request");
        signal(process, Signal::INT);
        // Two that are pending at once may count as one: the handler of the first must have run.
        while !is_signal_handled(process, Signal::INT) {
            thread::yield_now();
        }
        signal(process, Signal::INT);
    });
    assert_eq!(run.code, Some(130), "{run:?}");
}

/// Whether no `signal` is pending for `process` any more.
fn is_signal_handled(process: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("its status");
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).expect("its pending signals");
    let pending = u64::from_str_radix(pending.trim(), 16).expect("a mask");
    pending & (1 << (signal.as_raw() - 1)) == 0
}

#[test]
fn mistakes_of_use_exit_with_two_and_say_what_to_do() {
    let origin = Origin::start("");
    let url = origin.url();
    let mistakes = [
        ("ftp://127.0.0.1/", "-c 1", "use http://"),
        ("http://no-such-host.invalid/", "-c 1", "no-such-host.invalid"),
        (url.as_str(), "-c 0", "--connections"),
        (url.as_str(), "-d 10", "with a unit"),
        (url.as_str(), "--hdr /no/such/directory/file", "/no/such/directory/file"),
        (url.as_str(), "--body-file /no/such/file", "/no/such/file"),
        (url.as_str(), "-t none", "auto"),
        (url.as_str(), "--driver kqueue", "epoll"),
    ];
    for (url, args, hint) in mistakes {
        let run = loadgen(url, args);
        assert_eq!(run.code, Some(2), "{url} {args}: {run:?}");
        assert!(run.err.contains(hint), "{url} {args}: {}", run.err);
        assert!(run.out.is_empty(), "{url} {args}: {}", run.out);
    }
}
