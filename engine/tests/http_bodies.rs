//! Does every byte of a body arrive, in its place, in both directions at once, without being held in memory?
//!
//! Never a body that breaks a rule: those are in `http_hostile`.

mod common;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::connection::{Connection, Sender};
use common::engine::Engine;
use common::message::{Framing, Head};
use common::on_both_drivers;
use common::origin::{OK, Origin, Peer};
use common::pattern::{self, Check};
use common::signal::Signal;
use socket2::{Domain, Socket, Type};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Sizes around nothing, a segment, and the engine's buffer of 64 KiB.
const SIZES: [u64; 10] =
    [0, 1, 1460, 16 * KIB, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB + 17, 300_001, MIB];

/// Sizes of writes and chunks, in turn: from a byte to more than a buffer, none of them a multiple of another.
const PIECES: [u64; 9] = [1, 70_001, 3, 16 * KIB, 977, 64 * KIB, 13, 8_191, 131_072];

/// Sends `length` bytes of the pattern, framed so; `UntilClose` closes this direction.
fn send_body(to: &Sender, framing: Framing, length: u64) -> bool {
    match framing {
        Framing::Length(_) | Framing::UntilClose => pattern::send(length, &PIECES, |piece| to.send(piece)),
        Framing::Chunked => {
            pattern::send(length, &PIECES, |piece| to.send(pattern::chunk(piece))) && to.send("0\r\n\r\n")
        }
    }
}

fn framing_field(framing: Framing) -> String {
    match framing {
        Framing::Length(bytes) => format!("Content-Length: {bytes}\r\n"),
        Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        Framing::UntilClose => String::new(),
    }
}

/// Reads a body and fails unless it is the first `length` bytes of the pattern and complete.
#[track_caller]
fn check_body(from: &mut Connection, framing: Framing, length: u64) {
    let mut check = Check::default();
    let end = from.body(framing, |bytes| check.take(bytes));
    assert_eq!((check.length(), end.is_complete), (length, true));
}

/// An origin that checks `/LENGTH/FRAMING`'s body, then answers with the same length, framed as `FRAMING` says.
fn mirror() -> Origin {
    Origin::start(|peer| {
        while let Some((head, length, framing)) = mirror_request(peer) {
            check_body(&mut peer.wire, head.request_framing(), length);
            peer.wire.send(format!("HTTP/1.1 200 OK\r\n{}\r\n", framing_field(framing)));
            send_body(&peer.wire.sender(), framing, length);
            if framing == Framing::UntilClose {
                return;
            }
        }
    })
}

fn mirror_request(peer: &mut Peer) -> Option<(Head, u64, Framing)> {
    let head = peer.head()?;
    let (length, framing) = head.target()[1..].split_once('/').expect("a length and a framing");
    let length = length.parse().expect("a length");
    let framing = match framing {
        "length" => Framing::Length(length),
        "chunked" => Framing::Chunked,
        _ => Framing::UntilClose,
    };
    Some((head, length, framing))
}

/// Sends `length` bytes framed as `up` says, has them answered framed as `down` says.
#[track_caller]
fn mirror_once(client: &mut Connection, length: u64, up: Framing, down: &str) {
    client.send(format!("POST /{length}/{down} HTTP/1.1\r\nHost: test\r\n{}\r\n", framing_field(up)));
    assert!(send_body(&client.sender(), up, length), "the engine takes the whole request");
    let head = client.head().expect("an answer");
    let framing = head.response_framing("POST");
    match down {
        "length" => assert_eq!(framing, Framing::Length(length)),
        // Towards a client of HTTP/1.1 what ends by closing becomes chunks.
        _ => assert_eq!(framing, Framing::Chunked),
    }
    check_body(client, framing, length);
    client.assert_open();
}

#[test]
fn bodies_arrive_whole_in_both_directions_however_framed() {
    on_both_drivers(|driver| {
        let origin = mirror();
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        for length in SIZES {
            for up in [Framing::Length(length), Framing::Chunked] {
                for down in ["length", "chunked", "close"] {
                    eprintln!("{length} bytes, {up:?} up, {down} down");
                    mirror_once(&mut client, length, up, down);
                }
            }
        }
    });
}

#[test]
fn large_bodies_arrive_whole_in_both_directions() {
    const LENGTH: u64 = 64 * MIB;
    on_both_drivers(|driver| {
        let origin = mirror();
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        mirror_once(&mut client, LENGTH, Framing::Length(LENGTH), "chunked");
        mirror_once(&mut client, LENGTH, Framing::Chunked, "length");
        mirror_once(&mut client, MIB, Framing::Chunked, "close");
    });
}

/// Where nothing has to be looked at, bytes go from socket to socket inside the kernel, and no further than the body.
#[test]
fn large_bodies_of_known_length_go_by_pipe() {
    const LENGTH: u64 = 100 * MIB;
    on_both_drivers(|driver| {
        let origin = mirror();
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        mirror_once(&mut client, LENGTH, Framing::Length(LENGTH), "length");
        let moved = engine.counter("/cores/0/spliced_bytes");
        assert!((LENGTH..=2 * LENGTH).contains(&moved), "{moved} bytes");
        engine.assert_counter("/channels/0/body_bytes_received", LENGTH);
        engine.assert_counter("/channels/0/body_bytes_sent", LENGTH);
        // The next request is there before the body ahead of it is through.
        for length in [MIB, 3 * MIB + 1] {
            let head =
                format!("POST /{length}/length HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
            client.send(&head);
            let mut tail = Vec::new();
            pattern::send(length, &[MIB], |piece| {
                tail.extend_from_slice(piece);
                true
            });
            let twice = [&tail[..], head.as_bytes(), &tail].concat();
            let sender = client.sender();
            thread::scope(|scope| {
                scope.spawn(move || assert!(sender.send(twice), "the engine takes both requests"));
                for _ in 0..2 {
                    let head = client.head().expect("an answer");
                    check_body(&mut client, head.response_framing("POST"), length);
                }
            });
        }
        client.assert_open();
        // Moving ends where the body does, and what is behind it was not looked at: the connection is kept all the same.
        assert_eq!(origin.seen().connections, 1);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn a_large_answer_that_ends_with_its_connection_goes_by_pipe() {
    const LENGTH: u64 = 24 * MIB;
    on_both_drivers(|driver| {
        let origin = mirror();
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        client.send(format!("POST /{LENGTH}/close HTTP/1.0\r\nContent-Length: {LENGTH}\r\n\r\n"));
        assert!(send_body(&client.sender(), Framing::Length(LENGTH), LENGTH), "the engine takes the request");
        let up = engine.counter("/cores/0/spliced_bytes");
        let framing = client.head().expect("an answer").response_framing("POST");
        assert_eq!(framing, Framing::UntilClose);
        let mut check = Check::default();
        assert!(client.body(framing, |bytes| check.take(bytes)).is_complete);
        assert_eq!(check.length(), LENGTH);
        assert!(engine.counter("/cores/0/spliced_bytes") > up);
    });
}

#[test]
fn clients_of_http10_get_no_chunks() {
    on_both_drivers(|driver| {
        let origin = mirror();
        let engine = Engine::before(driver, origin.address);
        for (length, down) in
            [(0, "chunked"), (5, "chunked"), (MIB, "chunked"), (MIB, "close"), (MIB, "length")]
        {
            let mut client = engine.connect();
            client.send(format!("POST /{length}/{down} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n"));
            assert!(send_body(&client.sender(), Framing::Length(length), length));
            let head = client.head().expect("an answer");
            assert_eq!(head.value("Transfer-Encoding"), None);
            let framing = if down == "length" { Framing::Length(length) } else { Framing::UntilClose };
            assert_eq!(head.response_framing("POST"), framing);
            check_body(&mut client, framing, length);
        }
    });
}

#[test]
fn a_message_may_be_split_anywhere() {
    const REQUEST: &str = "POST /16/chunked HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    on_both_drivers(|driver| {
        let origin = mirror();
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        let body = pattern::piece(0, 16);
        let whole =
            [REQUEST.as_bytes(), b"A;x=\"y\"\r\n", &body[..10], b"\r\n6\r\n", &body[10..], b"\r\n0\r\n\r\n"];
        let whole = whole.concat();
        for at in 1..whole.len() {
            client.send(&whole[..at]);
            client.send(&whole[at..]);
            let head = client.head().expect("an answer");
            check_body(&mut client, head.response_framing("POST"), 16);
        }
    });
}

#[test]
fn a_response_may_be_split_anywhere() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        4;x\r\nbody\r\n2\r\nok\r\n0\r\nX-After: 1\r\n\r\n";
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            while let Some(request) = peer.request() {
                let at = request.head.target()[1..].parse().expect("where to split");
                let (first, second) = ANSWER.split_at(at);
                peer.wire.send(first);
                peer.wire.send(second);
            }
        });
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        for at in 1..ANSWER.len() {
            let answer = client.get(&format!("/{at}"));
            answer.assert_is(200, "bodyok");
            assert_eq!(answer.end.trailers, [("X-After".to_owned(), "1".to_owned())]);
        }
    });
}

#[test]
fn chunks_of_one_byte_arrive_whole() {
    const LENGTH: u64 = 20_000;
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            while let Some(head) = peer.head() {
                check_body(&mut peer.wire, head.request_framing(), LENGTH);
                let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                pattern::send(LENGTH, &[1], |piece| answer.write_all(&pattern::chunk(piece)).is_ok());
                answer.extend_from_slice(b"0\r\n\r\n");
                peer.wire.send(answer);
            }
        });
        let engine = Engine::before(driver, origin.address);
        let mut body = Vec::new();
        pattern::send(LENGTH, &[1], |piece| body.write_all(&pattern::chunk(piece)).is_ok());
        let mut client = engine.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(body);
        client.send("0\r\n\r\n");
        assert_eq!(client.head().expect("an answer").status(), 200);
        check_body(&mut client, Framing::Chunked, LENGTH);

        let mut old = engine.connect();
        old.send(format!("POST / HTTP/1.0\r\nContent-Length: {LENGTH}\r\n\r\n"));
        pattern::send(LENGTH, &PIECES, |piece| old.send(piece));
        assert_eq!(old.head().expect("an answer").status(), 200);
        check_body(&mut old, Framing::UntilClose, LENGTH);
    });
}

#[test]
fn large_heads_pass_both_ways() {
    // Close to the default bound of 32 KiB and 100 fields; what is dropped in between scatters the rest.
    let value = "v".repeat(300);
    let fields: String =
        (0..90).map(|number| format!("X-{number}: {number}{value}\r\nKeep-Alive: x\r\n")).take(45).collect();
    on_both_drivers(|driver| {
        let origin = Origin::answering(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok"));
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        for piece in [usize::MAX, 1000, 100] {
            client.send_split(format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n"), piece);
            let answer = client.response();
            answer.assert_is(200, "ok");
            let (_, request) = origin.seen().requests.pop().expect("forwarded");
            for head in [request.head, answer.head] {
                for number in 0..45 {
                    assert_eq!(head.value(&format!("X-{number}")), Some(format!("{number}{value}").as_str()));
                }
            }
        }
    });
}

#[test]
fn an_answer_may_run_beside_its_request() {
    const LENGTH: u64 = 64 * MIB;
    const FIRST: u64 = 100_000;
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            while let Some(head) = peer.head() {
                peer.wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                let back = peer.wire.sender();
                peer.wire.body(head.request_framing(), |bytes| assert!(back.send(pattern::chunk(bytes))));
                back.send("0\r\n\r\n");
            }
        });
        let engine = Engine::before(driver, origin.address);
        for up in [Framing::Length(LENGTH), Framing::Chunked] {
            let mut client = engine.connect();
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{}\r\n", framing_field(up)));
            let begun = Signal::default();
            let has_begun = begun.clone();
            let sender = client.sender();
            let upload = thread::spawn(move || {
                let mut sent = 0;
                let put = |piece: &[u8]| match up {
                    Framing::Chunked => sender.send(pattern::chunk(piece)),
                    _ => sender.send(piece),
                };
                let is_sent = pattern::send(LENGTH, &PIECES, |piece| {
                    if sent < FIRST && sent + piece.len() as u64 >= FIRST {
                        // The rest goes only once the answer to the beginning has come.
                        has_begun.take();
                    }
                    sent += piece.len() as u64;
                    put(piece)
                });
                is_sent && (up != Framing::Chunked || sender.send("0\r\n\r\n"))
            });
            let head = client.head().expect("an answer");
            // The answer has overtaken its request, whose end nobody knew by then.
            assert_eq!((head.status(), head.value("Connection")), (200, Some("close")));
            let mut check = Check::default();
            let end = client.body(Framing::Chunked, |bytes| {
                if check.length() == 0 {
                    begun.give();
                }
                check.take(bytes);
            });
            assert_eq!((check.length(), end.is_complete), (LENGTH, true));
            assert!(upload.join().expect("no panic"), "the whole request was taken");
            client.assert_closed();
        }
    });
}

#[test]
fn trailers_pass_both_ways() {
    const REQUEST: &str = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\
        Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\nX-Other: a\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
        2\r\nok\r\n0\r\nX-Sum: 43\r\n\r\n";
    on_both_drivers(|driver| {
        let origin = Origin::answering(ANSWER);
        let engine = Engine::before(driver, origin.address);
        let mut client = engine.connect();
        for _ in 0..2 {
            let answer = client.ask(REQUEST);
            answer.assert_is(200, "ok");
            assert_eq!(answer.end.trailers, [("X-Sum".to_owned(), "43".to_owned())]);
            assert_eq!(answer.head.value("Trailer"), Some("X-Sum"));
        }
        let (_, received) = origin.seen().requests[0].clone();
        assert_eq!(received.text(), "abc");
        let expected = [("X-Sum", "42"), ("X-Other", "a")];
        assert_eq!(received.end.trailers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        // To a client of HTTP/1.0 they cannot be told.
        engine.connect().ask("GET / HTTP/1.0\r\n\r\n").assert_is(200, "ok");
    });
}

#[test]
fn an_early_final_answer_reaches_a_client_that_still_sends() {
    const LENGTH: u64 = 32 * MIB;
    const ANSWER: &str = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    on_both_drivers(|driver| {
        // One origin goes on reading, one does not, one is gone at once.
        for after in ["reads", "stalls", "closes"] {
            eprintln!("the origin {after}");
            let over = Signal::default();
            let is_over = over.clone();
            let origin = Origin::start(move |peer| {
                if peer.head().is_none() {
                    return;
                }
                peer.wire.send(ANSWER);
                match after {
                    "reads" => drop(peer.wire.rest()),
                    "stalls" => is_over.take(),
                    _ => {}
                }
            });
            let engine = Engine::before(driver, origin.address);
            let mut client = engine.connect();
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LENGTH}\r\n\r\n"));
            let sender = client.sender();
            // Ends early when the engine reads no more; that is its right.
            let upload = thread::spawn(move || send_body(&sender, Framing::Length(LENGTH), LENGTH));
            client.response().assert_is(413, "no");
            drop(client.rest());
            upload.join().expect("no panic");
            over.give();
            assert_eq!(origin.targets(), ["/"]);
        }
    });
}

/// An origin that answers before it reads a body (`/measure` not at all), then notes how much of it came and
/// whether a GET was part of it.
fn hasty(may_answer: Signal, body_bytes: Arc<AtomicU64>, is_foreign: Arc<AtomicBool>) -> Origin {
    // A small and fixed receive buffer, so that what the kernel holds is the same each time.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 * KIB as usize).expect("SO_RCVBUF");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    socket.listen(16).expect("a queue");
    Origin::start_on(socket.into(), move |peer| {
        while let Some(head) = peer.head() {
            let framing = head.request_framing();
            if framing != Framing::Length(0) {
                may_answer.take();
            }
            if head.target() != "/measure" {
                peer.wire.send(OK);
            }
            let end = peer.wire.body(framing, |bytes| {
                is_foreign.fetch_or(bytes.contains(&b'G'), Ordering::Relaxed);
            });
            body_bytes.store(end.length, Ordering::Relaxed);
        }
    })
}

/// Begins a POST of `length` bytes and waits until the engine takes no more of them.
fn post_unread(engine: &Engine, client: &Connection, target: &str, length: u64) {
    client.send(format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"));
    let sender = client.sender();
    // Ends with the connection.
    thread::spawn(move || sender.send(vec![b'x'; length as usize]));
    standstill(|| engine.counter("/channels/0/body_bytes_received"));
}

#[test]
fn a_connection_with_an_unfinished_request_is_not_used_again() {
    on_both_drivers(|driver| {
        let (answer, kernel_bytes) = (Signal::default(), Arc::new(AtomicU64::new(0)));
        let is_foreign = Arc::new(AtomicBool::new(false));
        let origin = hasty(answer.clone(), Arc::clone(&kernel_bytes), Arc::clone(&is_foreign));
        let engine = Engine::before(driver, origin.address);
        post_unread(&engine, &engine.connect(), "/measure", 64 * MIB);
        drop(engine);
        answer.give();
        origin.wait_until(|seen| seen.ended == 1);
        // Of a body a little longer than what the kernel holds, the engine has the end but cannot send it.
        let kernel_bytes = kernel_bytes.load(Ordering::Relaxed);
        for beyond in [1, 100, 1_000, 10_000] {
            let engine = Engine::before(driver, origin.address);
            let mut client = engine.connect();
            post_unread(&engine, &client, "/", kernel_bytes + beyond);
            answer.give();
            client.response().assert_is(200, "ok");
            engine.connect().get("/next").assert_is(200, "ok");
            assert!(!is_foreign.load(Ordering::Relaxed), "a request became part of another's body");
        }
    });
}

#[test]
fn what_is_left_of_a_body_is_never_a_request() {
    const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 76\r\n\r\n";
    on_both_drivers(|driver| {
        let origin = Origin::start(|peer| {
            if peer.head().is_some() {
                peer.wire.send(OK);
                drop(peer.wire.rest());
            }
        });
        let engine = Engine::before(driver, origin.address);
        for with_head in [0, 20, 38] {
            let mut client = engine.connect();
            let body = [HIDDEN, HIDDEN].concat();
            client.send([HEAD, &body[..with_head]].concat());
            client.response().assert_is(200, "ok");
            client.send(&body[with_head..]);
            client.finish();
            client.assert_closed();
        }
        assert_eq!(origin.targets(), ["/", "/", "/"]);
    });
}

/// Waits until a number moves no more, and says what it is then.
fn standstill(number: impl Fn() -> u64) -> u64 {
    let (mut last, mut unchanged) = (0, 0);
    while unchanged < 5 {
        // A standstill is nothing but time in which nothing happens.
        thread::sleep(Duration::from_millis(40));
        let now = number();
        unchanged = if now == last && now > 0 { unchanged + 1 } else { 0 };
        last = now;
    }
    last
}

/// Bytes a thread has sent.
#[derive(Clone, Debug, Default)]
struct Meter(Arc<AtomicU64>);

impl Meter {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn standstill(&self) -> u64 {
        standstill(|| self.0.load(Ordering::Relaxed))
    }
}

/// What the kernel's socket buffers on both sides of the engine may hold of a body that nobody reads, and more.
const STANDSTILL_BYTES_MAX: u64 = 64 * MIB;
const RESIDENT_GROWTH_MAX: u64 = 32 * MIB;

#[test]
fn a_slow_reader_slows_its_origin_not_the_memory() {
    const LENGTH: u64 = 256 * MIB;
    on_both_drivers(|driver| {
        let meter = Meter::default();
        let sent = meter.clone();
        let origin = Origin::start(move |peer| {
            peer.request();
            peer.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
            let to = peer.wire.sender();
            pattern::send(LENGTH, &[64 * KIB], |piece| {
                sent.add(piece.len());
                to.send(piece)
            });
        });
        let engine = Engine::before(driver, origin.address);
        let before = engine.bytes_at_rest();
        let mut client = engine.connect();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let stood_at = meter.standstill();
        let grown = engine.resident_bytes().saturating_sub(before);
        assert!(stood_at < STANDSTILL_BYTES_MAX, "{stood_at} bytes were taken from the origin");
        assert!(grown < RESIDENT_GROWTH_MAX, "grew by {grown} bytes");
        let framing = client.head().expect("an answer").response_framing("GET");
        check_body(&mut client, framing, LENGTH);
        let grown = engine.resident_bytes().saturating_sub(before);
        assert!(grown < RESIDENT_GROWTH_MAX, "grew by {grown} bytes");
    });
}

#[test]
fn a_slow_origin_slows_its_client_not_the_memory() {
    const LENGTH: u64 = 128 * MIB;
    on_both_drivers(|driver| {
        let measured = Signal::default();
        let is_measured = measured.clone();
        let origin = Origin::start(move |peer| {
            let framing = peer.head().expect("a request").request_framing();
            is_measured.take();
            check_body(&mut peer.wire, framing, LENGTH);
            peer.wire.send(OK);
        });
        let engine = Engine::before(driver, origin.address);
        let before = engine.bytes_at_rest();
        let mut client = engine.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LENGTH}\r\n\r\n"));
        let meter = Meter::default();
        let sent = meter.clone();
        let to = client.sender();
        let upload = thread::spawn(move || {
            pattern::send(LENGTH, &[64 * KIB], |piece| {
                sent.add(piece.len());
                to.send(piece)
            })
        });
        let stood_at = meter.standstill();
        let grown = engine.resident_bytes().saturating_sub(before);
        assert!(stood_at < STANDSTILL_BYTES_MAX, "{stood_at} bytes were taken from the client");
        assert!(grown < RESIDENT_GROWTH_MAX, "grew by {grown} bytes");
        measured.give();
        client.response().assert_is(200, "ok");
        assert!(upload.join().expect("no panic"), "the whole request was taken");
    });
}
