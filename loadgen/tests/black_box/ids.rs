//! Is a request that is delivered twice found, and an answer that belongs to another request?

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use crate::harness::{DRIVERS, Origin, loadgen, read_request_text, scratch_path, serve, serve_always};

/// Passes one request on over a connection of its own, and returns the answer.
fn pass_on(origin: SocketAddr, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(origin).expect("the origin accepts");
    stream.write_all(request.as_bytes()).expect("the origin reads");
    stream.shutdown(Shutdown::Write).expect("nothing follows");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer
}

/// A relay that delivers each request as often as `deliveries` says of its place among all.
fn relay(origin: SocketAddr, deliveries: impl Fn(usize) -> usize + Clone + Send + 'static) -> String {
    relay_over(vec![origin], move |seq| &[0; 8][..deliveries(seq)])
}

/// A relay that delivers each request to the origins that `deliveries` says of its place among all.
fn relay_over(
    origins: Vec<SocketAddr>,
    deliveries: impl Fn(usize) -> &'static [usize] + Clone + Send + 'static,
) -> String {
    serve(move |mut stream| {
        let (origins, deliveries) = (origins.clone(), deliveries.clone());
        thread::spawn(move || {
            while let Some(request) = read_request_text(&mut stream) {
                let seq =
                    request.lines().find_map(|line| line.strip_prefix("X-Loadgen-Id: ")?.split_once('-'));
                let places = seq.map_or(&[0][..], |(_, seq)| deliveries(seq.parse().expect("a number")));
                let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
                for place in places {
                    answer = pass_on(origins[*place], &request);
                }
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        });
    })
}

#[test]
fn every_request_delivered_once_is_a_clean_run() {
    for driver in DRIVERS {
        let origin = Origin::start(&format!("--ids -t 2 --driver {driver}"));
        for args in ["-c 4 -t 2 -n 2000", "-c 3 -t 1 -n 1000 --pipeline 8", "-c 2 -t 2 -n 100 --no-keepalive"]
        {
            let run = loadgen(&origin.url(), &format!("{args} --ids --driver {driver}"));
            assert_eq!(run.code, Some(0), "{run:?}");
            run.assert_adds_up();
            assert_eq!(run.count("/delivery/once"), run.count("/requests/sent"), "{run:?}");
            assert_eq!((run.count("/delivery/twice"), run.count("/delivery/never")), (0, 0), "{run:?}");
        }
    }
}

#[test]
fn a_request_delivered_twice_fails_the_run() {
    let origin = Origin::start("--ids");
    // Every fifth of 50 twice, and one three times.
    let url = relay(origin.address, |seq| match seq {
        7 => 3,
        seq if seq % 5 == 0 => 2,
        _ => 1,
    });
    let run = loadgen(&url, "-c 2 -t 1 -n 50 --ids");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!((run.count("/requests/completed"), run.count("/errors/total")), (50, 0), "{run:?}");
    let delivery = |what: &str| run.count(&format!("/delivery/{what}"));
    assert_eq!(
        (delivery("once"), delivery("twice"), delivery("more"), delivery("never")),
        (39, 10, 1, 0),
        "{run:?}"
    );
    assert!(run.out.contains("once 39, twice 10, more often 1, never 0"), "{}", run.out);
}

#[test]
fn an_answer_without_its_own_id_is_wrong_and_its_request_was_never_delivered() {
    let origin = Origin::start("--ids");
    // Every tenth request is answered by the relay itself, as a cache would.
    let url = relay(origin.address, |seq| usize::from(seq % 10 != 0));
    let run = loadgen(&url, "-c 1 -t 1 -n 50 --ids");
    assert_eq!(run.code, Some(1), "{run:?}");
    run.assert_adds_up();
    assert_eq!((run.errors("wrong_id"), run.count("/delivery/never")), (5, 5), "{run:?}");
    // One request's answer for all: what a mixed-up gateway does.
    let same = "HTTP/1.1 200 OK\r\nX-Loadgen-Id: 0000000000000000-0\r\nContent-Length: 0\r\n\r\n";
    let at = origin.url();
    let run = loadgen(&serve_always(same), &format!("-c 1 -n 5 --ids --ids-at {at}"));
    assert_eq!((run.code, run.errors("wrong_id"), run.count("/delivery/never")), (Some(1), 5, 5), "{run:?}");
}

#[test]
fn several_origins_are_asked_and_added_up() {
    let (one, other) = (Origin::start("--ids"), Origin::start("--ids"));
    let addresses = [one.address, other.address];
    let url = serve(move |mut stream| {
        let mut number = 0;
        while let Some(request) = read_request_text(&mut stream) {
            number += 1;
            // The last one reaches both.
            let answer = pass_on(addresses[number % 2], &request);
            if number == 20 {
                pass_on(addresses[1], &request);
            }
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    });
    let run =
        loadgen(&url, &format!("-c 1 -t 1 -n 20 --ids --ids-at {} --ids-at {}", one.url(), other.url()));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!((run.count("/delivery/once"), run.count("/delivery/twice")), (19, 1), "{run:?}");
}

#[test]
fn an_origin_that_does_not_count_is_no_proof() {
    let origin = Origin::start("");
    let run = loadgen(&origin.url(), "-c 1 -n 5 --ids");
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.err.contains("is it a loadgen origin --ids?"), "{}", run.err);
}

#[test]
fn an_account_in_a_file_outlives_its_origin_and_spans_several() {
    let file = scratch_path("ids");
    let args = format!("--ids --ids-file {}", file.display());
    // Three origins take turns; one of them is no more when the account is asked for.
    let mut origins: Vec<Option<Origin>> = (0..3).map(|_| Some(Origin::start(&args))).collect();
    let addresses: Vec<SocketAddr> = origins.iter().flatten().map(|origin| origin.address).collect();
    let url = relay_over(addresses.clone(), |seq| if seq == 4 { &[0, 1] } else { &[[0], [1], [2]][seq % 3] });
    let run = loadgen(&url, &format!("-c 1 -t 1 -n 30 --ids --ids-at http://{}", addresses[1]));
    let delivery = |what: &str| run.count(&format!("/delivery/{what}"));
    assert_eq!((delivery("once"), delivery("twice"), delivery("never")), (29, 1, 0), "{run:?}");

    drop(origins[0].take());
    let lines = std::fs::read_to_string(&file).expect("the account");
    assert_eq!(lines.lines().count(), 31, "{lines}");
    let id = lines.lines().next().expect("an id");
    let run = id.split_once('-').expect("a run").0;
    let later = Origin::start(&args);
    let answer = pass_on(
        later.address,
        &format!("GET /loadgen-ids?run={run} HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n"),
    );
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.ends_with(r#"{"once":29,"twice":1,"more":0,"uncounted":0}"#), "{answer}");
}
