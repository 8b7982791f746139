//! Is every message and every stream over plain TCP counted, and is a wrong echo noticed?

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use crate::harness::{DRIVERS, Origin, Outcome, loadgen, scratch_path, serve_at};

/// Runs against a server and expects every message to fail as `kind`.
fn check(kind: &str, server: impl Fn(TcpStream) + Clone + Send + 'static, args: &str) {
    for driver in DRIVERS {
        let address = serve_at(server.clone());
        let run = loadgen(
            &format!("tcp://{address}"),
            &format!("-c 1 -t 1 -n 3 --size 100 --driver {driver} {args}"),
        );
        assert_eq!(run.code, Some(1), "{kind}: {run:?}");
        run.assert_adds_up();
        assert_eq!(run.errors(kind), 3, "{kind}: {run:?}");
        assert_eq!((run.count("/requests/failed"), run.count("/errors/total")), (3, 3), "{kind}: {run:?}");
    }
}

fn bytes(run: &Outcome, name: &str) -> u64 {
    run.count(&format!("/bytes/{name}"))
}

/// A message of 100 bytes.
fn read_message(stream: &mut TcpStream) -> Option<[u8; 100]> {
    let mut message = [0; 100];
    stream.read_exact(&mut message).ok().map(|()| message)
}

#[test]
fn every_message_that_comes_back_is_counted() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--serve echo --driver {driver}"));
        for size in [1, 16, 17, 1_000] {
            let run = loadgen(
                &origin.url(),
                &format!("-c 3 -t 2 -n 301 --size {size} --timeout 5s --driver {driver}"),
            );
            assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 301), "{run:?}");
            run.assert_driver(driver);
            run.assert_adds_up();
            assert_eq!((bytes(&run, "sent"), bytes(&run, "received")), (301 * size, 301 * size));
            assert_eq!(run.json["unit"], "messages");
            assert!(run.out.contains("messages   301 sent = 301 completed"), "{}", run.out);
            assert!(!run.out.contains("status"), "{}", run.out);
            assert!(run.count("/latency_ns/min") > 0);
        }
    }
}

#[test]
fn a_message_larger_than_all_buffers_is_received_while_it_is_sent() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--serve echo --driver {driver}"));
        let run =
            loadgen(&origin.url(), &format!("-c 1 -t 1 -n 2 --size 24MiB --timeout 20s --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 2), "{run:?}");
        assert_eq!(bytes(&run, "received"), 2 * 24 * 1_024 * 1_024);
    }
}

#[test]
fn messages_follow_a_schedule_and_can_have_a_connection_each() {
    let origin = Origin::start("--serve echo");
    let run = loadgen(&origin.url(), "-c 8 -t 1 --rate 500 -d 400ms");
    assert_eq!(run.code, Some(0), "{run:?}");
    run.assert_adds_up();
    assert_eq!(run.count("/requests/sent") + run.count("/requests/unsent"), 200, "{run:?}");
    let run = loadgen(&origin.url(), "-c 2 -t 1 -n 20 --no-keepalive");
    assert_eq!((run.code, run.count("/generator/connects")), (Some(0), 20), "{run:?}");
    let run = loadgen(&origin.url(), "-c 1 -t 1 -n 20 --requests-per-connection 5");
    assert_eq!((run.code, run.count("/generator/connects")), (Some(0), 4), "{run:?}");
}

#[test]
fn the_command_and_the_url_are_the_same() {
    let origin = Origin::start("--serve echo");
    let address = origin.address.to_string();
    let run = loadgen("tcp", &format!("{address} -c 1 -n 5 --size 10"));
    assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 5), "{run:?}");
    assert_eq!(run.json["url"], format!("tcp://{address}"));
}

#[test]
fn other_bytes_than_were_sent() {
    let changed = |mut stream: TcpStream| {
        while let Some(mut message) = read_message(&mut stream) {
            message[99] ^= 1;
            let _ = stream.write_all(&message);
        }
    };
    check("wrong_echo", changed, "");
    // The right length, but of the message before.
    let stale = |mut stream: TcpStream| {
        while read_message(&mut stream).is_some() {
            let _ = stream.write_all(&[b' '; 100]);
        }
    };
    check("wrong_echo", stale, "");
}

#[test]
fn more_bytes_than_were_sent() {
    let longer = |mut stream: TcpStream| {
        while let Some(message) = read_message(&mut stream) {
            let _ = stream.write_all(&[&message[..], b"and more"].concat());
        }
    };
    check("surplus", longer, "");
}

#[test]
fn a_message_that_is_cut_off_or_not_echoed() {
    let half = |mut stream: TcpStream| {
        if let Some(message) = read_message(&mut stream) {
            let _ = stream.write_all(&message[..50]);
        }
    };
    check("closed_early", half, "");
    check(
        "closed_unanswered",
        |mut stream| {
            let _ = read_message(&mut stream);
        },
        "",
    );
}

#[test]
fn a_connection_that_is_reset_and_one_that_stalls() {
    // A socket closed with unread bytes in it resets the connection.
    check("reset", |stream: TcpStream| drop(stream.peek(&mut [0])), "");
    let stalled = |mut stream: TcpStream| {
        if let Some(message) = read_message(&mut stream) {
            let _ = stream.write_all(&message[..99]);
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
        }
    };
    check("timeout", stalled, "--timeout 100ms");
}

#[test]
fn right_and_wrong_echoes_are_told_apart_to_the_unit() {
    for driver in DRIVERS {
        let mut number = 0;
        let address = serve_at(move |mut stream| {
            while let Some(mut message) = read_message(&mut stream) {
                number += 1;
                match number % 5 {
                    0 => message[0] ^= 1,
                    1 => return drop(stream.write_all(&message[..30])),
                    _ => {}
                }
                if stream.write_all(&message).is_err() {
                    return;
                }
            }
        });
        let run = loadgen(&format!("tcp://{address}"), &format!("-c 1 -n 100 --size 100 --driver {driver}"));
        assert_eq!(run.code, Some(1), "{run:?}");
        run.assert_adds_up();
        assert_eq!(
            (run.count("/requests/completed"), run.errors("wrong_echo"), run.errors("closed_early")),
            (60, 20, 20),
            "{run:?}"
        );
    }
}

#[test]
fn connections_are_set_up_one_by_one_and_timed() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--serve sink --driver {driver}"));
        let run = loadgen(&origin.url(), &format!("--mode connect -c 4 -t 2 -n 200 --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 200), "{run:?}");
        run.assert_adds_up();
        assert_eq!(run.count("/generator/connects"), 200);
        assert_eq!((bytes(&run, "sent"), bytes(&run, "received")), (0, 0));
        assert!(run.out.contains("connections 200 sent = 200 completed"), "{}", run.out);
        assert!(run.count("/latency_ns/min") > 0);
        let open = loadgen(
            &origin.url(),
            &format!("--mode connect -c 4 -t 1 --rate 200 -d 300ms --driver {driver}"),
        );
        assert_eq!(open.code, Some(0), "{open:?}");
        assert_eq!(open.count("/requests/sent") + open.count("/requests/unsent"), 60, "{open:?}");
    }
}

#[test]
fn a_connection_that_is_not_set_up_is_a_failed_one_of_its_kind() {
    let vacant = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    for driver in DRIVERS {
        let run =
            loadgen(&format!("tcp://{vacant}"), &format!("--mode connect -c 2 -t 1 -n 9 --driver {driver}"));
        assert_eq!(
            (run.code, run.errors("refused"), run.count("/requests/failed")),
            (Some(1), 9, 9),
            "{run:?}"
        );
        run.assert_adds_up();
    }
}

#[test]
fn a_full_accept_queue_shows_as_set_ups_that_time_out() {
    for driver in DRIVERS {
        // A queue for one, which the kernel makes two, and nobody who accepts: the third SYN is dropped.
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                .expect("a socket");
        rustix::net::bind(&socket, &std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a port");
        rustix::net::listen(&socket, 0).expect("it listens");
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().expect("its address");
        let run = loadgen(
            &format!("tcp://{address}"),
            &format!("--mode connect -c 1 -t 1 -n 4 --timeout 200ms --driver {driver}"),
        );
        assert_eq!(run.code, Some(1), "{run:?}");
        run.assert_adds_up();
        assert!(run.errors("set_up_timeout") >= 1, "{run:?}");
        assert_eq!(run.count("/requests/completed") + run.errors("set_up_timeout"), 4, "{run:?}");
    }
}

#[test]
fn streams_report_bytes_and_no_latency() {
    for driver in DRIVERS {
        for (serve, direction, way, other) in
            [("sink", "send", "sent", "received"), ("source", "receive", "received", "sent")]
        {
            let origin = Origin::start(&format!("--serve {serve} --driver {driver}"));
            let run = loadgen(
                &origin.url(),
                &format!("--mode stream --direction {direction} -c 2 -t 1 -d 1200ms --driver {driver}"),
            );
            assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 2), "{run:?}");
            run.assert_adds_up();
            assert!(bytes(&run, way) > 1_000_000 && bytes(&run, other) == 0, "{run:?}");
            assert_eq!(run.json["unit"], "streams");
            let rate = |name: &str| run.json["bytes"][name].as_f64().expect("a rate");
            assert!(
                rate("both_per_s") > 0.0 && rate("both_per_s") == rate(&format!("{way}_per_s")),
                "{run:?}"
            );
            assert!(run.json.get("latency_ns").is_none() && !run.out.contains("p99"), "{run:?}");
            assert!(run.out.contains("both       "), "{}", run.out);
            let intervals = run.json["intervals"].as_array().expect("intervals");
            let sum = |name: &str| intervals.iter().filter_map(|second| second[name].as_u64()).sum::<u64>();
            assert!(
                intervals.len() >= 2 && intervals[0][format!("bytes_{way}")].as_u64() > Some(0),
                "{run:?}"
            );
            assert_eq!(sum(&format!("bytes_{way}")), bytes(&run, way), "{run:?}");
        }
    }
}

#[test]
fn a_report_of_streams_shows_bytes_and_comparing_them_is_refused() {
    let origin = Origin::start("--serve source");
    let [html, json] = ["streams.html", "streams.json"].map(scratch_path);
    let run = loadgen(
        &origin.url(),
        &format!("--mode stream --direction receive -c 1 -t 1 -d 100ms --html {}", html.display()),
    );
    let page = std::fs::read_to_string(&html).expect("a page");
    assert!(page.contains("<h2>Streams</h2>") && page.contains("Bytes per second"), "{page}");
    assert!(!page.contains("Latency") && !page.contains("NaN"), "{page}");
    std::fs::write(&json, run.json.to_string()).expect("a summary");
    let compared = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .arg("compare")
        .args([&json, &json])
        .output()
        .expect("loadgen runs");
    let said = String::from_utf8_lossy(&compared.stderr);
    assert!(compared.status.code() == Some(2) && said.contains("A measured streams"), "{said}");
    for path in [html, json] {
        std::fs::remove_file(path).expect("the file goes");
    }
}

#[test]
fn a_report_of_set_ups_tells_of_connections_once() {
    let origin = Origin::start("--serve sink");
    let html = scratch_path("set-ups.html");
    let run = loadgen(&origin.url(), &format!("--mode connect -c 1 -t 1 -n 20 --html {}", html.display()));
    let page = std::fs::read_to_string(&html).expect("a page");
    std::fs::remove_file(html).expect("the file goes");
    assert_eq!((run.code, page.matches("<h2>Connections</h2>").count()), (Some(0), 1), "{page}");
    assert!(page.contains("<h2>Latency</h2>"), "{page}");
}

#[test]
fn a_stream_that_ends_too_early_has_failed() {
    for driver in DRIVERS {
        // Takes a little and closes, which with unread bytes is a reset.
        let taker = serve_at(|mut stream| drop(stream.read_exact(&mut [0; 1_000])));
        let run = loadgen(
            &format!("tcp://{taker}"),
            &format!("--mode stream -c 1 -t 1 -d 200ms --driver {driver}"),
        );
        assert_eq!(run.code, Some(1), "{run:?}");
        run.assert_adds_up();
        assert!(run.errors("reset") + run.errors("closed_early") >= 1, "{run:?}");
        let silent = serve_at(drop);
        let run = loadgen(
            &format!("tcp://{silent}"),
            &format!("--mode stream --direction receive -c 1 -t 1 -d 50ms --driver {driver}"),
        );
        assert_eq!(run.code, Some(1), "{run:?}");
        run.assert_adds_up();
        assert!(run.errors("closed_unanswered") >= 1, "{run:?}");
    }
}

#[test]
fn a_sink_that_does_not_read_holds_no_more_than_the_buffers() {
    for driver in DRIVERS {
        let mut kept = Vec::new();
        let address = serve_at(move |stream| kept.push(stream));
        let run = loadgen(
            &format!("tcp://{address}"),
            &format!("--mode stream -c 1 -t 1 -d 300ms --grace 100ms --driver {driver}"),
        );
        assert_eq!((run.code, run.count("/requests/unanswered")), (Some(1), 1), "{run:?}");
        run.assert_adds_up();
        // Linux lets a socket's buffers grow to 4 MiB here and 6 MiB there by default; a bound of ours is far below.
        assert!(bytes(&run, "sent") < 64 * 1_024 * 1_024, "{run:?}");
    }
}
