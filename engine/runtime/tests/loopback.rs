//! Does a core keep its promises on real sockets? The same tests on every driver this machine allows.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use runtime::mailbox::mailbox;
use runtime::net::unix::bind_unix;
use runtime::{Core, CoreConfig, DriverChoice, DriverKind, Instant, ParkEvent, Pipe, run};

/// Runs `main` on a core of each driver, within ten seconds.
fn on_every_driver<F: Future<Output = ()> + 'static>(
    configure: impl Fn(&mut CoreConfig),
    main: impl Fn(Core) -> F,
) {
    let chosen = DriverChoice::Uring.settle();
    let mut drivers = vec![DriverKind::Epoll];
    match chosen.uring_error {
        None => drivers.push(DriverKind::Uring),
        Some(error) => {
            assert_eq!(chosen.kind, DriverKind::Epoll, "the fall-back when io_uring is refused");
            eprintln!("io_uring is refused here ({error}): tested on epoll alone");
        }
    }
    for driver in drivers {
        let mut config = CoreConfig::new(0, driver).expect("descriptors");
        configure(&mut config);
        let main = &main;
        run(config, move |core| {
            assert_eq!(core.driver(), driver);
            let test = main(core.clone());
            async move {
                let mut test = std::pin::pin!(test);
                let mut limit = std::pin::pin!(core.sleep(Duration::from_secs(10)));
                std::future::poll_fn(|context| {
                    let is_late = limit.as_mut().poll(context).is_ready();
                    assert!(!is_late, "the test did not finish on {driver} within ten seconds");
                    test.as_mut().poll(context)
                })
                .await;
            }
        })
        .expect("the test passes");
    }
}

#[test]
fn a_core_whose_main_task_panics_ends_with_an_error() {
    let config = CoreConfig::new(0, DriverKind::Epoll).expect("descriptors");
    let outcome = run(config, |_| async { panic!("expected in this test") });
    assert!(outcome.expect_err("a panic").to_string().contains("panicked"));
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

fn soon(core: &Core) -> Instant {
    core.now() + Duration::from_secs(5)
}

#[test]
fn bytes_come_back_from_an_echo_in_order() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            let listener = core.adopt_listener(listener).expect("adopt");
            let server = core.clone();
            core.spawn(async move {
                for _ in 0..20 {
                    let (stream, peer) = listener.accept().await.expect("accept");
                    assert!(peer.ip().is_loopback() && peer.port() != 0);
                    server.spawn(async move {
                        while let Some(chunk) = stream.recv().await.expect("recv") {
                            stream.send_all(&chunk).await.expect("send");
                        }
                    });
                }
            });
            for round in 0..20_u8 {
                let stream = core.connect(address, soon(&core)).await.expect("connect");
                for size in [1_usize, 100, 5000] {
                    let sent = vec![round; size];
                    stream.send_all(&sent).await.expect("send");
                    let mut got = Vec::new();
                    while got.len() < size {
                        got.extend_from_slice(&stream.recv().await.expect("recv").expect("bytes"));
                    }
                    assert_eq!(got, sent);
                }
                stream.shutdown_write().expect("shutdown");
                assert!(stream.recv().await.expect("recv").is_none(), "the echo closes when it is closed");
            }
        },
    );
}

/// 8 MiB each way at once through small socket buffers: nothing lost, nothing held beyond the bound.
#[test]
fn bulk_bytes_arrive_whole_and_in_order_under_back_pressure() {
    const TOTAL: usize = 8 << 20;
    let byte_at = |position: usize| (position * 31 + position / 251) as u8;
    on_every_driver(
        |config| config.buffers_per_lane = 8,
        |core| async move {
            let (listener, address) = listener();
            let sender = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("accept");
                let bytes: Vec<u8> = (0..TOTAL).map(byte_at).collect();
                stream.write_all(&bytes).expect("write");
            });
            let stream = core.connect(address, soon(&core)).await.expect("connect");
            let mut position = 0;
            while let Some(chunk) = stream.recv().await.expect("recv") {
                for byte in chunk.iter() {
                    assert_eq!(*byte, byte_at(position));
                    position += 1;
                }
                if position % 7 == 0 {
                    core.yield_now().await; // lets more than one buffer fill
                }
            }
            assert_eq!(position, TOTAL);
            sender.join().expect("sender");
        },
    );
}

/// One buffer at a time is enough for bulk bytes, also when the others are lent out.
#[test]
fn bulk_bytes_flow_while_the_kernel_holds_buffers_for_others() {
    on_every_driver(
        |config| config.buffers_per_lane = 4,
        |core| async move {
            let (listener, address) = listener();
            let sender = std::thread::spawn(move || {
                let mut peers: Vec<TcpStream> =
                    (0..4).map(|_| listener.accept().expect("accept").0).collect();
                let last = peers.last_mut().expect("four peers");
                last.write_all(&vec![7; 4 << 20]).expect("write");
            });
            let mut streams = Vec::new();
            for _ in 0..4 {
                streams.push(core.connect(address, soon(&core)).await.expect("connect"));
            }
            let bulk = streams.pop().expect("four streams");
            let mut total = 0;
            bulk.set_deadline(soon(&core));
            while let Some(chunk) = bulk.recv().await.expect("recv") {
                total += chunk.len();
            }
            assert_eq!(total, 4 << 20);
            sender.join().expect("sender");
        },
    );
}

#[test]
fn a_peer_that_does_not_read_stops_the_sender_until_its_deadline() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            let stream = core.connect(address, soon(&core)).await.expect("connect");
            let _peer = listener.accept().expect("accept");
            stream.set_deadline(core.now() + Duration::from_millis(50));
            let error = stream.send_all(&vec![0; 64 << 20]).await.expect_err("nobody reads");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        },
    );
}

#[test]
fn a_receive_ends_at_its_deadline_and_a_later_one_goes_on() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            let stream = core.connect(address, soon(&core)).await.expect("connect");
            let (mut peer, _) = listener.accept().expect("accept");
            let began = core.now();
            stream.set_deadline(began + Duration::from_secs(4)); // a later one first: the timer must move
            stream.set_deadline(began + Duration::from_millis(30));
            let error = stream.recv().await.expect_err("silence");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(core.now().since(began) >= Duration::from_millis(30));
            stream.set_deadline(soon(&core));
            peer.write_all(b"late").expect("write");
            assert_eq!(&*stream.recv().await.expect("recv").expect("bytes"), b"late");
        },
    );
}

#[test]
fn a_refused_connection_is_an_error_and_a_black_hole_times_out() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            drop(listener);
            let error = core.connect(address, soon(&core)).await.expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        },
    );
}

#[test]
fn a_parked_connection_comes_back_with_its_bytes_its_end_or_its_deadline() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            let events = Rc::new(RefCell::new(Vec::new()));
            let (log, handler_core) = (Rc::clone(&events), core.clone());
            core.on_parked(move |stream, tag, event| {
                let log = Rc::clone(&log);
                handler_core.spawn(async move {
                    let got = match event {
                        ParkEvent::Deadline => None,
                        ParkEvent::Readable => {
                            stream.set_deadline(Instant::FAR_FUTURE);
                            Some(stream.recv().await.expect("recv").map_or(Vec::new(), |c| c.to_vec()))
                        }
                    };
                    log.borrow_mut().push((tag, got));
                });
            });
            let mut peers = Vec::new();
            for tag in 0..4 {
                let stream = core.connect(address, soon(&core)).await.expect("connect");
                peers.push(listener.accept().expect("accept").0);
                let wait = if tag == 2 { Duration::from_millis(20) } else { Duration::from_secs(5) };
                stream.set_deadline(core.now() + wait);
                let parked = stream.park(tag);
                if tag == 3 {
                    let resumed = parked.resume(&core).expect("still parked");
                    assert!(resumed.is_quiet());
                    assert!(parked.resume(&core).is_none(), "resumed only once");
                }
            }
            peers[0].write_all(b"hello").expect("write");
            peers.remove(1); // closes
            while events.borrow().len() < 3 {
                core.sleep(Duration::from_millis(5)).await;
            }
            core.sleep(Duration::from_millis(20)).await;
            let mut events = events.borrow().clone();
            events.sort();
            assert_eq!(events, [(0, Some(b"hello".to_vec())), (1, Some(Vec::new())), (2, None)]);
        },
    );
}

#[test]
fn an_idle_pooled_connection_shows_that_its_peer_spoke_or_left() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            core.on_parked(|_, _, _| {});
            for speaks in [true, false] {
                let stream = core.connect(address, soon(&core)).await.expect("connect");
                let (mut peer, _) = listener.accept().expect("accept");
                // An exchange first, so that an io_uring receive is armed.
                peer.write_all(b"x").expect("write");
                assert_eq!(stream.recv().await.expect("recv").expect("bytes").len(), 1);
                assert!(stream.is_quiet());
                if speaks {
                    peer.write_all(b"unasked").expect("write");
                } else {
                    drop(peer);
                }
                core.sleep(Duration::from_millis(20)).await;
                let noticed = !stream.is_quiet();
                let parked = stream.park(0);
                let given_back = if noticed {
                    core.sleep(Duration::from_millis(5)).await;
                    parked.resume(&core).is_none()
                } else {
                    core.sleep(Duration::from_millis(20)).await;
                    parked.resume(&core).is_none()
                };
                assert!(given_back, "the handler got it: speaks={speaks}");
            }
        },
    );
}

/// More connections with bytes than buffers: each gets its turn, none is lost.
#[test]
fn exhausted_buffers_delay_reads_and_nothing_else() {
    on_every_driver(
        |config| {
            config.buffers_per_lane = 4;
            config.buffer_bytes = 4096;
        },
        |core| async move {
            let (listener, address) = listener();
            let total = Rc::new(Cell::new(0));
            let mut peers = Vec::new();
            for _ in 0..32 {
                let stream = core.connect(address, soon(&core)).await.expect("connect");
                let (mut peer, _) = listener.accept().expect("accept");
                peer.write_all(&[7; 1000]).expect("write");
                peers.push(peer);
                let (core, total) = (core.clone(), Rc::clone(&total));
                core.clone().spawn(async move {
                    let mut left = 1000;
                    while left > 0 {
                        let chunk = stream.recv().await.expect("recv").expect("bytes");
                        left -= chunk.len();
                        total.set(total.get() + chunk.len());
                        core.sleep(Duration::from_millis(2)).await; // holds the buffer
                    }
                });
            }
            while total.get() < 32_000 {
                core.sleep(Duration::from_millis(5)).await;
            }
        },
    );
}

#[test]
fn a_split_message_is_put_together_in_one_buffer() {
    on_every_driver(
        |config| config.buffer_bytes = 64,
        |core| async move {
            let (listener, address) = listener();
            let stream = core.connect(address, soon(&core)).await.expect("connect");
            let (mut peer, _) = listener.accept().expect("accept");
            peer.write_all(b"GET / ").expect("write");
            let begun = stream.recv().await.expect("recv").expect("bytes").to_vec();
            // More than fits behind the beginning: the rest waits.
            let rest = [b'x'; 100];
            peer.write_all(&rest).expect("write");
            core.sleep(Duration::from_millis(20)).await;
            let whole = stream.recv_behind(&begun).await.expect("recv").expect("bytes");
            assert!(whole.starts_with(b"GET / x") && whole.len() <= 64);
            let mut left = 106 - whole.len();
            drop(whole);
            while left > 0 {
                left -= stream.recv().await.expect("recv").expect("bytes").len();
            }
            drop(peer);
            assert!(stream.recv_behind(b"half").await.expect("recv").is_none());
            assert_eq!(
                stream.recv_behind(&[0; 64]).await.expect_err("no room").kind(),
                ErrorKind::StorageFull
            );
        },
    );
}

#[test]
fn a_reset_is_noticed_while_waiting_for_something_else_and_a_half_close_is_not_one() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            for resets in [false, true] {
                let stream = core.connect(address, soon(&core)).await.expect("connect");
                let (mut peer, _) = listener.accept().expect("accept");
                peer.write_all(b"x").expect("write");
                drop(stream.recv().await.expect("recv"));
                if resets {
                    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("linger");
                    drop(peer);
                    std::future::poll_fn(|context| stream.poll_broken(context)).await;
                } else {
                    peer.shutdown(std::net::Shutdown::Write).expect("shutdown");
                    core.sleep(Duration::from_millis(20)).await;
                    let broken = std::future::poll_fn(|context| {
                        std::task::Poll::Ready(stream.poll_broken(context).is_ready())
                    });
                    assert!(!broken.await);
                }
            }
        },
    );
}

#[test]
fn slices_leave_in_one_send() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            let stream = core.connect(address, soon(&core)).await.expect("connect");
            let (mut peer, _) = listener.accept().expect("accept");
            let slices = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
            assert_eq!(stream.try_send(&slices).expect("send"), 7);
            core.yield_now().await; // small messages leave at the end of the turn
            let mut got = [0; 7];
            peer.read_exact(&mut got).expect("read");
            assert_eq!(&got, b"one two");
        },
    );
}

#[test]
fn mail_wakes_a_sleeping_core_and_the_box_is_bounded() {
    on_every_driver(
        |_| {},
        |core| async move {
            let config = CoreConfig::new(1, core.driver()).expect("descriptors");
            let (sender, receiver) = mailbox::<u32>(&config.remote, 4);
            let (told, hear) = mpsc::channel();
            let other = std::thread::spawn(move || {
                run(config, |core| async move {
                    loop {
                        let message = receiver.recv(&core).await;
                        told.send(message).expect("the test listens");
                        if message == 0 {
                            return;
                        }
                    }
                })
            });
            for message in (0..100).rev() {
                while sender.send(message).is_err() {
                    core.yield_now().await; // full: the bound holds, the message came back
                }
            }
            other.join().expect("thread").expect("core");
            assert_eq!(hear.iter().collect::<Vec<_>>(), (0..100).rev().collect::<Vec<_>>());
        },
    );
}

#[test]
fn a_waker_used_on_another_thread_wakes_its_task() {
    on_every_driver(
        |_| {},
        |core| async move {
            let flag = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let (flag_there, mut started) = (Arc::clone(&flag), false);
            std::future::poll_fn(move |context| {
                if flag.load(std::sync::atomic::Ordering::SeqCst) {
                    return std::task::Poll::Ready(());
                }
                if !std::mem::replace(&mut started, true) {
                    let (waker, flag) = (context.waker().clone(), Arc::clone(&flag_there));
                    std::thread::spawn(move || {
                        flag.store(true, std::sync::atomic::Ordering::SeqCst);
                        waker.wake();
                    });
                }
                std::task::Poll::Pending
            })
            .await;
            drop(core);
        },
    );
}

/// What was sent before a close arrives, also when the kernel could not take it at once.
#[test]
fn a_close_and_a_shutdown_lose_nothing_that_was_sent() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            for (full, shuts_down) in [(false, false), (true, false), (true, true)] {
                let stream = core.connect(address, soon(&core)).await.expect("connect");
                let (mut peer, _) = listener.accept().expect("accept");
                let mut sent = 0;
                if full {
                    // Fills the kernel's buffers with small messages, until one does not go out whole.
                    while let Ok(count) = stream.try_send(&[IoSlice::new(&[7; 2000])]) {
                        sent += count;
                        core.yield_now().await;
                    }
                } else {
                    sent += stream.try_send(&[IoSlice::new(b"bye")]).expect("send");
                }
                let kept = if shuts_down {
                    stream.shutdown_write().expect("shutdown");
                    Some(stream)
                } else {
                    drop(stream);
                    None
                };
                let reader = std::thread::spawn(move || {
                    let mut got = Vec::new();
                    peer.read_to_end(&mut got).expect("read");
                    got.len()
                });
                while !reader.is_finished() {
                    core.sleep(Duration::from_millis(2)).await;
                }
                assert_eq!(reader.join().expect("reader"), sent, "full: {full}, shuts down: {shuts_down}");
                drop(kept);
            }
        },
    );
}

#[test]
fn a_refused_message_is_told_by_the_next_receive() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            let stream = core.connect(address, soon(&core)).await.expect("connect");
            let (peer, _) = listener.accept().expect("accept");
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("linger");
            drop(peer);
            core.sleep(Duration::from_millis(20)).await;
            assert_eq!(stream.try_send(&[IoSlice::new(b"lost")]).expect("posted"), 4);
            core.yield_now().await;
            let error = stream.recv().await.expect_err("refused");
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
            assert!(stream.send_was_refused());
        },
    );
}

/// Closing with operations in the kernel and opening at once must not mix up the connections.
#[test]
fn reused_slots_and_descriptors_never_see_the_bytes_of_their_predecessors() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            for round in 0..200_u32 {
                let stream = core.connect(address, soon(&core)).await.expect("connect");
                let (mut peer, _): (TcpStream, _) = listener.accept().expect("accept");
                // Arms a receive, then gives up without waiting for it.
                stream.set_deadline(core.now() + Duration::from_secs(5));
                let nothing = std::future::poll_fn(|context| {
                    std::task::Poll::Ready(stream.poll_recv(context).is_pending())
                });
                assert!(nothing.await);
                let _ = peer.write_all(&round.to_be_bytes());
                drop(stream);
                let next = core.connect(address, soon(&core)).await.expect("connect");
                let (mut next_peer, _) = listener.accept().expect("accept");
                next_peer.write_all(&(!round).to_be_bytes()).expect("write");
                let got = next.recv().await.expect("recv").expect("bytes");
                assert_eq!(*got, (!round).to_be_bytes());
            }
        },
    );
}

/// A path for a Unix socket, removed at the end of its test.
struct SocketPath(std::path::PathBuf);

impl SocketPath {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id())))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_unix_socket_carries_bulk_bytes_both_ways_and_their_end() {
    const TOTAL: usize = 4 << 20;
    on_every_driver(
        |config| config.buffers_per_lane = 4,
        |core| async move {
            let path = SocketPath::new("bulk");
            let listener = bind_unix(&path.0, None, 16, 1).expect("bind").remove(0);
            let listener = core.adopt_listener(listener).expect("adopt");
            let server = core.clone();
            core.spawn(async move {
                let (stream, peer) = listener.accept().await.expect("accept");
                assert!(peer.ip().is_unspecified(), "a client by path has no address");
                assert_eq!(stream.peer_address().expect_err("no address").kind(), ErrorKind::Unsupported);
                stream.set_deadline(soon(&server));
                while let Some(chunk) = stream.recv().await.expect("recv") {
                    stream.send_all(&chunk).await.expect("send");
                }
            });
            let stream = Rc::new(core.connect_unix(&path.0, soon(&core)).await.expect("connect"));
            let sent: Rc<Vec<u8>> = Rc::new((0..TOTAL).map(|at| (at * 31 + at / 251) as u8).collect());
            let (sender, bytes) = (Rc::clone(&stream), Rc::clone(&sent));
            core.spawn(async move {
                sender.send_all(&bytes).await.expect("send");
                sender.shutdown_write().expect("shutdown");
            });
            let mut got = Vec::with_capacity(TOTAL);
            while let Some(chunk) = stream.recv().await.expect("recv") {
                got.extend_from_slice(&chunk);
            }
            assert!(got == *sent, "{} bytes came back", got.len());
        },
    );
}

#[test]
fn a_unix_socket_with_a_full_queue_is_waited_for_until_the_deadline() {
    on_every_driver(
        |_| {},
        |core| async move {
            let path = SocketPath::new("queue");
            let listener = bind_unix(&path.0, None, 0, 1).expect("bind").remove(0);
            let first = core.connect_unix(&path.0, soon(&core)).await.expect("the queue takes one");
            let in_50_ms = core.now() + Duration::from_millis(50);
            let error = core.connect_unix(&path.0, in_50_ms).await.expect_err("the queue is full");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(core.now() >= in_50_ms);
            let (accepting, connected) = (core.clone(), Rc::new(Cell::new(false)));
            let is_connected = Rc::clone(&connected);
            core.spawn(async move {
                // Whoever waits has been refused at least once by then.
                accepting.sleep(Duration::from_millis(20)).await;
                assert!(!is_connected.get());
                listener.accept().expect("accept");
                std::future::pending::<()>().await; // the socket stays open
            });
            core.connect_unix(&path.0, soon(&core)).await.expect("there is room now");
            connected.set(true);
            drop(first);
        },
    );
}

#[test]
fn a_unix_socket_without_a_listener_is_an_error() {
    on_every_driver(
        |_| {},
        |core| async move {
            let path = SocketPath::new("gone");
            let error = core.connect_unix(&path.0, soon(&core)).await.expect_err("no file");
            assert_eq!(error.kind(), ErrorKind::NotFound);
            drop(bind_unix(&path.0, None, 16, 1).expect("bind"));
            let error = core.connect_unix(&path.0, soon(&core)).await.expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        },
    );
}

/// A connection through a shared socket is told to every core's driver; one takes it, and all go on.
#[test]
fn cores_that_share_a_unix_socket_take_each_connection_once() {
    const CONNECTIONS: usize = 100;
    on_every_driver(
        |_| {},
        |core| async move {
            let path = SocketPath::new("shared");
            let listeners = bind_unix(&path.0, None, 16, 2).expect("bind");
            let accepted = Rc::new(Cell::new(0));
            for listener in listeners {
                let listener = core.adopt_listener(listener).expect("adopt");
                let accepted = Rc::clone(&accepted);
                core.spawn(async move {
                    loop {
                        let (stream, _) = listener.accept().await.expect("accept");
                        accepted.set(accepted.get() + 1);
                        stream.send_all(b"hello").await.expect("send");
                    }
                });
            }
            for _ in 0..CONNECTIONS {
                let stream = core.connect_unix(&path.0, soon(&core)).await.expect("connect");
                assert_eq!(&*stream.recv().await.expect("recv").expect("bytes"), b"hello");
            }
            assert_eq!(accepted.get(), CONNECTIONS);
        },
    );
}

/// The driver forgets a listener that ends while another core's goes on: its slot is the next socket's.
#[test]
fn a_listener_that_ends_leaves_its_unix_socket_to_the_others() {
    on_every_driver(
        |_| {},
        |core| async move {
            let path = SocketPath::new("leaves");
            let mut listeners = bind_unix(&path.0, None, 16, 2).expect("bind");
            let ends = core.adopt_listener(listeners.remove(0)).expect("adopt");
            drop(ends);
            let (other, address) = listener();
            let idle = core.connect(address, soon(&core)).await.expect("takes the slot");
            let _peer = other.accept().expect("accept");
            let stays = listeners.remove(0);
            let _client = core.connect_unix(&path.0, soon(&core)).await.expect("connect");
            core.sleep(Duration::from_millis(5)).await; // turns in which an event of the listener would be told
            stays.accept().expect("accept");
            assert!(idle.is_quiet(), "an event of the listener was told to the socket that has its slot");
        },
    );
}

/// All descriptors are of one socket: a stop on one core is a stop on all, and the queue stays to be emptied.
#[test]
fn a_unix_socket_that_has_stopped_refuses_new_clients_and_keeps_those_who_wait() {
    on_every_driver(
        |_| {},
        |core| async move {
            let path = SocketPath::new("stops");
            let mut listeners = bind_unix(&path.0, None, 16, 2).expect("bind");
            let (stops, goes_on) = (listeners.remove(0), listeners.remove(0));
            let goes_on = core.adopt_listener(goes_on).expect("adopt");
            let mut waiting = Vec::new();
            for _ in 0..3 {
                waiting.push(core.connect_unix(&path.0, soon(&core)).await.expect("connect"));
            }
            let mut backlog = core.adopt_listener(stops).expect("adopt").stop().await;
            let error = core.connect_unix(&path.0, soon(&core)).await.expect_err("it has stopped");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let _first = backlog.next().expect("waits");
            drop(backlog);
            let _second = goes_on.accept().await.expect("waits on the other core, too");
            let mut backlog = goes_on.stop().await;
            let _third = backlog.next().expect("waits");
            assert!(backlog.next().is_none(), "nobody else came");
            assert!(waiting.iter().all(runtime::Stream::is_quiet), "none was closed");
        },
    );
}

/// A pipe with bytes in it is nobody else's; an empty one serves again, and there are no more than there may be.
#[test]
fn pipes_are_bounded_and_none_goes_on_with_bytes_of_another() {
    on_every_driver(
        |config| config.pipes_max = 2,
        |core| async move {
            let (listener, address) = listener();
            let source = core.connect(address, soon(&core)).await.expect("connect");
            let (mut client, _) = listener.accept().expect("accept");
            client.write_all(b"left in a pipe").expect("write");
            let mut first = Pipe::take(&core).expect("a pipe");
            let second = Pipe::take(&core).expect("another");
            assert!(Pipe::take(&core).is_none(), "two may be open");
            let moved = std::future::poll_fn(|context| first.poll_fill(&source, 4, context)).await;
            assert_eq!((moved.expect("bytes"), first.held()), (4, 4), "no more than asked for");
            drop(first);
            drop(second);
            let (mut third, fourth) =
                (Pipe::take(&core).expect("a pipe"), Pipe::take(&core).expect("another"));
            assert_eq!((third.held(), fourth.held()), (0, 0));
            let sink = core.connect(address, soon(&core)).await.expect("connect");
            let (mut server, _) = listener.accept().expect("accept");
            std::future::poll_fn(|context| third.poll_fill(&source, 1000, context)).await.expect("bytes");
            assert_eq!(third.try_drain(&sink).expect("room"), 10);
            let mut got = [0; 10];
            server.read_exact(&mut got).expect("bytes");
            assert_eq!(&got, b" in a pipe");
        },
    );
}

/// What a pipe has moved was many bytes, and what follows may be: they are not copied to learn what they are.
#[test]
fn the_first_receive_after_a_move_takes_little_and_the_next_takes_all() {
    on_every_driver(
        |_| {},
        |core| async move {
            let (listener, address) = listener();
            let source = core.connect(address, soon(&core)).await.expect("connect");
            let (mut client, _) = listener.accept().expect("accept");
            let sink = core.connect(address, soon(&core)).await.expect("connect");
            let (mut server, _) = listener.accept().expect("accept");
            client.write_all(b"moved").expect("write");
            let mut pipe = Pipe::take(&core).expect("a pipe");
            std::future::poll_fn(|context| pipe.poll_fill(&source, 5, context)).await.expect("bytes");
            // A small message and what follows it by pipe stay in order.
            assert_eq!(sink.try_send(&[IoSlice::new(b"head ")]).expect("posted"), 5);
            assert_eq!(pipe.try_drain(&sink).expect("room"), 5);
            let mut got = [0; 10];
            server.read_exact(&mut got).expect("bytes");
            assert_eq!(&got, b"head moved");

            let answer = [7; 16 * 1024];
            client.write_all(&answer).expect("write");
            let first = source.recv().await.expect("recv").expect("bytes").len();
            assert!((1..=2048).contains(&first), "{first} bytes");
            let mut received = first;
            let mut receives = 1;
            while received < answer.len() {
                received += source.recv().await.expect("recv").expect("bytes").len();
                receives += 1;
            }
            assert_eq!((received, receives), (answer.len(), 2));
        },
    );
}
