//! Does a run send what it should, and count it to the unit?

use std::io::Write;
use std::sync::mpsc;
use std::thread;

use rustix::process::Signal;

use crate::harness::{
    DRIVERS, Origin, RIGHT, loadgen, loadgen_meanwhile, read_request, scratch_path, serve, serve_always,
    serve_with_stall, signal,
};

#[test]
fn every_request_and_every_byte_is_counted_on_both_drivers() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--body 1000 --driver {driver}"));
        let run = loadgen(&origin.url(), &format!("-c 7 -t 2 -n 2001 --driver {driver}"));
        assert_eq!(run.code, Some(0), "{run:?}");
        run.assert_driver(driver);
        run.assert_adds_up();
        assert_eq!(
            (run.count("/requests/sent"), run.count("/requests/completed")),
            (2_001, 2_001),
            "{run:?}"
        );
        assert_eq!(run.count("/statuses/200"), 2_001);
        assert_eq!(run.count("/generator/connects"), 7);
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", origin.address);
        let response =
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n".len() + 1_000;
        assert_eq!(run.count("/bytes/sent"), 2_001 * request.len() as u64);
        assert_eq!(run.count("/bytes/received"), 2_001 * response as u64);
        assert!(
            run.out.contains("2,001 sent = 2,001 completed + 0 failed + 0 unanswered; 0 never sent"),
            "{}",
            run.out
        );
    }
}

#[test]
fn a_closed_loop_ends_with_its_duration() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--driver {driver}"));
        let run = loadgen(&origin.url(), &format!("-c 5 -t 1 -d 300ms --driver {driver}"));
        assert_eq!(run.code, Some(0), "{run:?}");
        run.assert_adds_up();
        assert!(run.count("/requests/completed") >= 5, "{run:?}");
        assert_eq!(run.count("/requests/unanswered"), 0);
        assert_eq!(run.json["duration_s"].as_f64(), Some(0.3));
        assert!(run.json["rate"]["requested"].is_null());
    }
}

#[test]
fn large_bodies_both_ways_are_moved_whole() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--body 3MB --driver {driver}"));
        let body = scratch_path("body");
        std::fs::write(&body, vec![b'y'; 2_000_000]).expect("a body file");
        let args =
            format!("-c 2 -t 1 -n 6 --timeout 5s -m POST --body-file {} --driver {driver}", body.display());
        let run = loadgen(&origin.url(), &args);
        std::fs::remove_file(&body).expect("the body file goes");
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 6), "{run:?}");
        assert!(
            run.count("/bytes/sent") > 12_000_000 && run.count("/bytes/received") > 18_000_000,
            "{run:?}"
        );
    }
}

#[test]
fn without_keepalive_every_request_has_its_own_connection() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--driver {driver}"));
        let run = loadgen(&origin.url(), &format!("-c 3 -t 1 -n 50 --no-keepalive --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 50), "{run:?}");
        assert_eq!(run.count("/generator/connects"), 50);
    }
}

#[test]
fn head_and_bodiless_answers_have_no_body_to_wait_for() {
    let origin = Origin::start("--body 100");
    let run = loadgen(&origin.url(), "-c 1 -n 5 -m HEAD");
    assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 5), "{run:?}");
    let url = serve_always("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n");
    let run = loadgen(&url, "-c 1 -n 5 --expect-status 200,304");
    assert_eq!((run.code, run.count("/statuses/304")), (Some(0), 5), "{run:?}");
}

#[test]
fn chunks_and_interim_responses_are_understood() {
    let chunked = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n";
    for driver in DRIVERS {
        let run = loadgen(&serve_always(chunked), &format!("-c 2 -n 20 --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 20), "{run:?}");
    }
}

#[test]
fn an_answer_that_trickles_in_is_one_answer() {
    for driver in DRIVERS {
        let url = serve(|mut stream| {
            stream.set_nodelay(true).expect("no delay");
            while read_request(&mut stream) {
                for byte in RIGHT.as_bytes() {
                    if stream.write_all(&[*byte]).is_err() {
                        return;
                    }
                    thread::yield_now();
                }
            }
        });
        let run = loadgen(&url, &format!("-c 1 -n 20 --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 20), "{run:?}");
        assert_eq!(run.count("/bytes/received"), 20 * RIGHT.len() as u64);
    }
}

#[test]
fn connections_closed_between_requests_are_opened_again() {
    for driver in DRIVERS {
        // Closes after each answer without having said so. The next request is due long after that.
        let url = serve(|mut stream| {
            if read_request(&mut stream) {
                let _ = stream.write_all(RIGHT.as_bytes());
            }
        });
        let run = loadgen(&url, &format!("-c 1 -n 4 --rate 10 --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 4), "{run:?}");
        assert!(run.count("/generator/reconnects") >= 3, "{run:?}");
    }
}

#[test]
fn a_stall_shows_in_the_latency_of_every_request_it_delayed() {
    for driver in DRIVERS {
        let url = serve_with_stall();
        let run = loadgen(&url, &format!("-c 1 -n 100 --rate 100 --driver {driver}"));
        assert_eq!((run.code, run.count("/requests/completed")), (Some(0), 100), "{run:?}");
        // The stalled request and the 19 that fell due meanwhile waited 200, 190, … 10 ms. A slow machine only adds.
        assert!(run.count("/latency_ns/max") >= 199_000_000, "{run:?}");
        assert!(run.count("/latency_ns/p99") >= 180_000_000, "{run:?}");
        assert!(run.count("/latency_ns/p90") >= 90_000_000, "{run:?}");
        // A closed loop would have seen one slow request of a hundred: that is what the service time shows.
        assert!(run.count("/service_time_ns/p90") < run.count("/latency_ns/p90"), "{run:?}");
        assert_eq!(run.json["rate"]["requested"].as_f64(), Some(100.0));
    }
}

#[test]
fn a_server_that_is_too_slow_does_not_slow_the_schedule() {
    // One connection and 50 ms an answer: at most 10 of the 100 requests due in half a second can be sent.
    let origin = Origin::start("--delay 50ms");
    let run = loadgen(&origin.url(), "-c 1 --rate 200 -d 500ms");
    run.assert_adds_up();
    let (sent, unsent) = (run.count("/requests/sent"), run.count("/requests/unsent"));
    assert!(sent <= 10, "{run:?}");
    assert_eq!(sent + unsent, 100, "{run:?}");
    assert!(run.out.contains("were due but never sent"), "{}", run.out);
}

#[test]
fn poisson_arrivals_repeat_with_their_seed() {
    let origin = Origin::start("");
    let run = || loadgen(&origin.url(), "-c 20 -t 1 --rate 500 --arrival poisson -d 400ms --seed 11");
    let (first, second) = (run(), run());
    let due = |run: &crate::harness::Outcome| run.count("/requests/sent") + run.count("/requests/unsent");
    assert_eq!((first.code, first.count("/seed")), (Some(0), 11), "{first:?}");
    assert_eq!(due(&first), due(&second), "{first:?} {second:?}");
    assert_ne!(due(&first), 200, "as regular as constant arrivals");
}

#[test]
fn an_interrupt_ends_the_run_with_its_summary() {
    for driver in DRIVERS {
        let (began, has_begun) = mpsc::sync_channel(1);
        let url = serve(move |mut stream| {
            while read_request(&mut stream) && stream.write_all(RIGHT.as_bytes()).is_ok() {
                let _ = began.try_send(());
            }
        });
        let run = loadgen_meanwhile(&url, &format!("-c 1 -t 1 -d 50m --driver {driver}"), |process| {
            has_begun.recv().expect("a request");
            signal(process, Signal::INT);
        });
        assert_eq!(run.code, Some(0), "{run:?}");
        run.assert_adds_up();
        assert!(run.count("/requests/completed") >= 1, "{run:?}");
        assert!(run.out.contains("latency"), "{}", run.out);
    }
}

#[test]
fn the_distribution_is_written_as_text() {
    let origin = Origin::start("");
    let path = scratch_path("latency.hgrm");
    let run = loadgen(&origin.url(), &format!("-c 2 -n 100 --hdr {}", path.display()));
    let text = std::fs::read_to_string(&path).expect("a distribution");
    std::fs::remove_file(&path).expect("the distribution goes");
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(text.trim_start().starts_with("Value") && text.contains("#[Max"), "{text}");
    let total = text.lines().find(|line| line.starts_with("#[Max")).expect("a total");
    assert!(total.contains("Total count    =          100]"), "{total}");
}
