//! Is every request accounted for exactly once, whatever the server does to it and to those sent with it?

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use crate::harness::{DRIVERS, Outcome, RIGHT, loadgen, read_request, scratch_path, serve};

/// What a server does to a batch.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// Keeps the connection and says nothing.
    Stall,
    /// Resets the connection.
    Reset,
    /// Ends the connection within this many bytes of the next answer.
    Truncate(usize),
    /// Says that the next answer is the last.
    SayClose,
    /// Sends what is no HTTP.
    Garble,
}

/// A server that reads `together` requests from each connection, answers `right` of them, and then does its deed.
fn serve_and(together: usize, right: usize, deed: Deed) -> String {
    let mut stalled: Vec<TcpStream> = Vec::new();
    serve(move |mut stream| {
        // For a reset something must lie unread.
        let read = if matches!(deed, Deed::Reset) { together - 1 } else { together };
        if !(0..read).all(|_| read_request(&mut stream)) {
            return;
        }
        if matches!(deed, Deed::Reset) {
            let _ = stream.peek(&mut [0]);
        }
        let mut answers = RIGHT.repeat(right);
        match deed {
            Deed::Stall | Deed::Reset => {}
            Deed::Truncate(bytes) => answers.push_str(&RIGHT[..bytes]),
            Deed::SayClose => {
                answers.push_str("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            }
            Deed::Garble => answers.push_str("220 mail.example ESMTP\r\n"),
        }
        let _ = stream.write_all(answers.as_bytes());
        if matches!(deed, Deed::Stall) {
            stalled.push(stream);
        }
    })
}

fn counts(run: &Outcome) -> [u64; 4] {
    ["sent", "completed", "failed", "unanswered"].map(|name| run.count(&format!("/requests/{name}")))
}

#[test]
fn a_batch_is_accounted_for_to_the_request_when_its_connection_breaks() {
    // Of each batch of four: how many are answered, what happens then, and as what the others count.
    let cases = [
        (1, Deed::Truncate(0), "closed_unanswered", 1, 2),
        (0, Deed::Truncate(0), "closed_unanswered", 1, 3),
        (3, Deed::Truncate(20), "closed_early", 1, 0),
        (2, Deed::Truncate(RIGHT.len() - 1), "closed_early", 1, 1),
        (0, Deed::Reset, "reset", 1, 3),
        (2, Deed::Garble, "bad_head", 1, 1),
        (1, Deed::SayClose, "cut_off", 2, 2),
        (2, Deed::Stall, "timeout", 1, 1),
    ];
    for driver in DRIVERS {
        for (right, deed, kind, failed, cut_off) in cases {
            // Only the stall is waited out; a slow machine must have sent the right answers by then.
            let timeout = if matches!(deed, Deed::Stall) { "1s" } else { "30s" };
            let args = format!("-c 1 -t 1 -n 8 --pipeline 4 --timeout {timeout} --driver {driver}");
            let run = loadgen(&serve_and(4, right, deed), &args);
            assert_eq!(run.code, Some(1), "{deed:?}: {run:?}");
            run.assert_adds_up();
            let last_right = u64::from(matches!(deed, Deed::SayClose));
            let completed = 2 * (right as u64 + last_right);
            assert_eq!(counts(&run), [8, completed, 8 - completed, 0], "{deed:?}: {run:?}");
            assert_eq!(
                (run.errors(kind), run.errors("cut_off")),
                (2 * failed, 2 * cut_off),
                "{deed:?}: {run:?}"
            );
            let statuses = run.json["statuses"]["200"].as_u64().unwrap_or(0);
            assert_eq!(statuses, completed, "{deed:?}: {run:?}");
        }
    }
}

#[test]
fn what_a_stalled_server_never_answers_is_unanswered_at_the_end() {
    for driver in DRIVERS {
        let args = format!("-c 1 -t 1 -d 1s --grace 50ms --pipeline 6 --driver {driver}");
        let run = loadgen(&serve_and(6, 2, Deed::Stall), &args);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_eq!(counts(&run), [6, 2, 0, 4], "{run:?}");
        assert!(run.out.contains("6 sent = 2 completed + 0 failed + 4 unanswered"), "{}", run.out);
    }
}

#[test]
fn what_was_due_and_never_sent_stands_beside_what_was_sent() {
    for driver in DRIVERS {
        // The only connection stalls with the first request: what falls due later finds none free.
        let url = serve_and(1, 0, Deed::Stall);
        let args = format!("-c 1 -t 1 --rate 100 -d 500ms --grace 50ms --driver {driver}");
        let run = loadgen(&url, &args);
        run.assert_adds_up();
        assert_eq!(counts(&run), [1, 0, 0, 1], "{run:?}");
        assert_eq!(run.count("/requests/unsent"), 49, "{run:?}");
        assert!(run.out.contains("1 unanswered; 49 never sent"), "{}", run.out);
    }
}

/// A server whose connections end in every way there is, one after the other, each after some right answers.
fn serve_every_fault() -> String {
    let mut connection = 0;
    serve(move |mut stream| {
        let turn = connection;
        connection += 1;
        thread::spawn(move || {
            for _ in 0..turn % 7 {
                if !read_request(&mut stream) || stream.write_all(RIGHT.as_bytes()).is_err() {
                    return;
                }
            }
            match turn % 5 {
                // With unread bytes, most often: a reset.
                0 => {
                    let _ = stream.peek(&mut [0]);
                }
                1 => {
                    let _ =
                        read_request(&mut stream) && stream.write_all(&RIGHT.as_bytes()[..turn % 40]).is_ok();
                }
                2 => {
                    let _ = stream
                        .write_all(b"HTTP/1.1 500 Oh\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                }
                // Says nothing until the client gives up.
                3 => while read_request(&mut stream) {},
                _ => while read_request(&mut stream) && stream.write_all(RIGHT.as_bytes()).is_ok() {},
            }
        });
    })
}

#[test]
fn sums_are_exact_amid_every_fault_at_once() {
    let file = scratch_path("requests.jsonl");
    std::fs::write(&file, "{\"name\": \"a\"}\n{\"name\": \"b\", \"path\": \"/{{seq}}\"}\n").expect("a file");
    for driver in DRIVERS {
        for shape in
            ["", "--pipeline 4", "--requests-per-connection 3", "--pipeline 5 --requests-per-connection 7"]
        {
            for load in ["-n 400", "-d 400ms --rate 2k --grace 20ms"] {
                let args = format!(
                    "-c 8 -t 2 {load} {shape} --timeout 50ms --requests-file {} --driver {driver}",
                    file.display()
                );
                let run = loadgen(&serve_every_fault(), &args);
                assert_eq!(run.code, Some(1), "{args}: {run:?}");
                run.assert_adds_up();
                let total = run.count("/requests/sent") + run.count("/requests/unsent");
                assert_eq!(total, if load.starts_with("-n") { 400 } else { 800 }, "{args}: {run:?}");
                let connects_failed = run.errors("connect") + run.errors("connect_timeout");
                assert_eq!(
                    run.count("/requests/failed") + connects_failed + run.errors("unsolicited"),
                    run.count("/errors/total"),
                    "{args}: {run:?}"
                );
                let rows = run.json["named"].as_array().expect("names");
                for what in ["sent", "completed", "failed", "unanswered"] {
                    let sum: u64 = rows.iter().filter_map(|row| row[what].as_u64()).sum();
                    assert_eq!(sum, run.count(&format!("/requests/{what}")), "{what}, {args}: {run:?}");
                }
            }
        }
    }
    std::fs::remove_file(&file).expect("the file goes");
}
