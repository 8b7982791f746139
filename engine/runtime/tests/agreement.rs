//! Does the simulated driver behave as the real ones do? The same scenarios on all of them, with the same answers.
//!
//! A difference here would make the simulation prove things about a world that is not ours.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use runtime::simulation::{Faults, HostConfig, Limits, Simulation};
use runtime::{Core, CoreConfig, DriverChoice, DriverKind, Listener, ParkEvent, Pipe, Stream, run};

/// A core with a listener on it, and what the scenario has seen so far.
struct Stage {
    core: Core,
    listener: Listener,
    address: SocketAddr,
    seen: Rc<std::cell::RefCell<Vec<String>>>,
}

impl Stage {
    fn see(&self, what: impl Into<String>) {
        self.seen.borrow_mut().push(what.into());
    }

    /// Two ends of a connection: the one that asked, the one that was accepted.
    async fn pair(&self) -> (Stream, Stream) {
        let deadline = self.core.now() + Duration::from_secs(5);
        let asking = self.core.connect(self.address, deadline).await.expect("connect");
        let (accepted, peer) = self.listener.accept().await.expect("accept");
        assert_eq!(accepted.peer_address().expect("a peer"), peer);
        assert_eq!(asking.peer_address().expect("a peer"), self.address);
        assert_eq!(accepted.local_address().expect("an address"), self.address);
        assert_eq!(asking.local_address().expect("an address"), peer);
        for stream in [&asking, &accepted] {
            stream.set_deadline(self.core.now() + Duration::from_secs(5));
        }
        (asking, accepted)
    }

    /// Receives to the end of the stream, or the error that ends it.
    async fn drain(&self, name: &str, stream: &Stream) {
        let mut bytes = Vec::new();
        loop {
            match stream.recv().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => return self.see(format!("{name}: {} bytes, end", bytes.len())),
                Err(error) => {
                    return self.see(format!("{name}: {} bytes, {:?}", bytes.len(), error.kind()));
                }
            }
        }
    }

    /// Lets what is under way arrive. There is nothing to wait for where a test shows that nothing comes.
    async fn pause(&self) {
        self.core.sleep(Duration::from_millis(20)).await;
    }
}

fn outcome<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "taken".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

async fn bytes_and_half_close(stage: Stage) {
    let (asking, accepted) = stage.pair().await;
    asking.send_all(b"hello").await.expect("send");
    asking.shutdown_write().expect("shutdown");
    stage.drain("accepted", &accepted).await;
    accepted.send_all(&[1; 100_000]).await.expect("send");
    drop(accepted);
    stage.drain("asking", &asking).await;
    stage.drain("asking again", &asking).await;
}

async fn close_with_bytes_unread_resets(stage: Stage) {
    let (asking, accepted) = stage.pair().await;
    asking.send_all(b"never read").await.expect("send");
    stage.pause().await;
    drop(accepted);
    stage.drain("asking", &asking).await;
    stage.see(outcome(asking.shutdown_write()));
    stage.see(outcome(asking.peer_address()));
}

async fn what_was_sent_before_a_close_arrives(stage: Stage) {
    let (asking, accepted) = stage.pair().await;
    asking.send_all(&[7; 50_000]).await.expect("send");
    drop(asking);
    stage.drain("accepted", &accepted).await;
}

async fn sending_to_a_closed_peer_fails_the_second_time(stage: Stage) {
    let (asking, accepted) = stage.pair().await;
    drop(accepted);
    stage.pause().await;
    for _ in 0..2 {
        stage.see(outcome(asking.try_send(&[io::IoSlice::new(&[0; 3000])])));
        stage.pause().await;
    }
}

async fn an_answer_is_read_before_the_reset_behind_it(stage: Stage) {
    let (asking, accepted) = stage.pair().await;
    asking.send_all(b"never read").await.expect("send");
    stage.pause().await;
    accepted.send_all(b"an early answer").await.expect("send");
    stage.core.yield_now().await; // it leaves before the reset
    drop(accepted);
    stage.pause().await;
    // A small message: only the kernel's refusal at the turn's end tells that it goes nowhere.
    stage.see(outcome(asking.try_send(&[io::IoSlice::new(b"more")])));
    stage.pause().await;
    stage.drain("asking", &asking).await;
}

async fn a_refused_connect_says_so(stage: Stage) {
    let Stage { core, listener, address, seen } = stage;
    drop(listener);
    core.yield_now().await; // the driver lets go of the listener
    core.sleep(Duration::from_millis(5)).await;
    let made = core.connect(address, core.now() + Duration::from_secs(5)).await;
    seen.borrow_mut().push(outcome(made));
}

async fn deadlines_end_waits(stage: Stage) {
    let (asking, accepted) = stage.pair().await;
    let before = stage.core.now();
    asking.set_recv_deadline(before + Duration::from_millis(30));
    stage.see(outcome(asking.recv().await));
    let waited = stage.core.now().since(before);
    assert!((29..2000).contains(&waited.as_millis()), "{waited:?}");
    accepted.set_send_deadline(stage.core.now() + Duration::from_millis(30));
    stage.see(outcome(accepted.send_all(&vec![0; 64 << 20]).await));
    accepted.set_recv_deadline(stage.core.now() + Duration::from_secs(5));
    asking.send_all(b"still here").await.expect("send");
    stage.see(format!("{:?}", accepted.recv().await.expect("recv")));
}

async fn a_reset_breaks_and_a_half_close_does_not(stage: Stage) {
    let (asking, accepted) = stage.pair().await;
    let is_broken =
        async |stream: &Stream| poll_fn(|context| Poll::Ready(stream.poll_broken(context).is_ready())).await;
    stage.see(format!("broken: {}", is_broken(&accepted).await));
    asking.shutdown_write().expect("shutdown");
    stage.pause().await;
    stage.see(format!("broken: {}", is_broken(&accepted).await));
    accepted.send_all(b"not read").await.expect("send");
    stage.pause().await;
    drop(asking);
    poll_fn(|context| accepted.poll_broken(context)).await;
    stage.see("broken: true");
}

async fn a_parked_connection_comes_back(stage: Stage) {
    let (asking, accepted) = stage.pair().await;
    let (other, quiet) = stage.pair().await;
    let back = Rc::new(std::cell::RefCell::new(Vec::new()));
    let handed = Rc::clone(&back);
    stage.core.on_parked(move |stream, tag, event| handed.borrow_mut().push((stream, tag, event)));
    assert!(accepted.is_quiet() && quiet.is_quiet());
    quiet.set_recv_deadline(stage.core.now() + Duration::from_millis(200));
    accepted.park(1);
    quiet.park(2);
    asking.send_all(b"wake up").await.expect("send");
    while back.borrow().len() < 2 {
        stage.pause().await;
    }
    for (stream, tag, event) in back.take() {
        stage.see(format!("{tag} {event:?}"));
        if event == ParkEvent::Readable {
            assert!(!stream.is_quiet());
            stage.see(format!("{:?}", stream.recv().await.expect("recv")));
        }
    }
    drop(other);
    stage.core.on_parked(|_, _, _| {});
}

async fn a_listener_that_stops_keeps_what_it_has(stage: Stage) {
    let deadline = stage.core.now() + Duration::from_secs(5);
    let waiting = stage.core.connect(stage.address, deadline).await.expect("connect");
    stage.pause().await;
    let Stage { core, listener, address, seen } = stage;
    let mut backlog = listener.stop().await;
    let accepted = backlog.next().expect("the connection that waits");
    assert!(backlog.next().is_none());
    drop(backlog);
    core.sleep(Duration::from_millis(5)).await;
    let accepted = core.adopt(accepted.fd, runtime::buffer::Lane::Accepted).expect("adopt");
    waiting.send_all(b"kept").await.expect("send");
    let kept = accepted.recv().await.expect("recv");
    seen.borrow_mut().push(format!("{kept:?}"));
    let made = core.connect(address, core.now() + Duration::from_secs(5)).await;
    seen.borrow_mut().push(outcome(made));
}

async fn a_connection_closed_both_ways_ends_quietly(stage: Stage) {
    let (asking, accepted) = stage.pair().await;
    asking.shutdown_write().expect("shutdown");
    accepted.shutdown_write().expect("shutdown");
    stage.drain("asking", &asking).await;
    stage.drain("accepted", &accepted).await;
    stage.see(outcome(asking.try_send(&[io::IoSlice::new(&[0; 3000])])));
    poll_fn(|context| asking.poll_broken(context)).await;
    stage.see("broken: true");
}

/// Moves everything from one stream to another by pipe, at most `limit` bytes at a time, and then the end.
/// Says when it is dropped.
struct Said(Rc<std::cell::RefCell<Vec<String>>>);

impl Drop for Said {
    fn drop(&mut self) {
        self.0.borrow_mut().push("let go".to_owned());
    }
}

async fn what_a_connection_holds_goes_with_it(stage: Stage) {
    let (asking, accepted) = stage.pair().await;
    asking.hold_until_closed(Said(Rc::clone(&stage.seen)));
    let _ = asking.try_send(&[io::IoSlice::new(b"bye")]);
    // Whoever owns it in between.
    let asking = asking.park(1).resume(&stage.core).expect("nothing has come");
    stage.pause().await;
    stage.see("closed");
    drop(asking);
    stage.drain("accepted", &accepted).await;
}

async fn move_all(pipe: &mut Pipe, source: &Stream, sink: &Stream, limit: usize) -> io::Result<()> {
    while poll_fn(|context| pipe.poll_fill(source, limit, context)).await? > 0 {
        while pipe.held() > 0 {
            match pipe.try_drain(sink) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sink.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
    sink.shutdown_write()
}

async fn bytes_move_by_pipe(stage: Stage) {
    const TOTAL: usize = 1_000_000;
    let byte_at = |position: usize| (position * 31 + position / 251) as u8;
    let (client, near) = stage.pair().await;
    let (far, server) = stage.pair().await;
    stage.core.spawn(async move {
        let bytes: Vec<u8> = (0..TOTAL).map(byte_at).collect();
        client.send_all(&bytes).await.expect("send");
        client.shutdown_write().expect("shutdown");
        assert!(client.recv().await.expect("recv").is_none());
    });
    let mut pipe = Pipe::take(&stage.core).expect("a pipe");
    stage.core.spawn(async move {
        // A small message before the first move keeps its place.
        far.send_all(b"first").await.expect("send");
        move_all(&mut pipe, &near, &far, 100_000).await.expect("all of it moves");
        assert!(far.recv().await.expect("recv").is_none());
    });
    let mut got = Vec::new();
    while let Some(chunk) = server.recv().await.expect("recv") {
        got.extend_from_slice(&chunk);
    }
    let is_right = got.strip_prefix(b"first").is_some_and(|bytes| {
        bytes.len() == TOTAL && bytes.iter().enumerate().all(|(position, byte)| *byte == byte_at(position))
    });
    stage.see(format!("unchanged: {is_right}"));
}

async fn a_sink_that_does_not_read_stops_the_move(stage: Stage) {
    let (client, near) = stage.pair().await;
    let (far, server) = stage.pair().await;
    let sender = stage.core.now() + Duration::from_millis(300);
    client.set_send_deadline(sender);
    far.set_send_deadline(stage.core.now() + Duration::from_millis(100));
    stage.core.spawn(async move {
        let _ = client.send_all(&vec![0; 64 << 20]).await;
    });
    let mut pipe = Pipe::take(&stage.core).expect("a pipe");
    stage.see(outcome(move_all(&mut pipe, &near, &far, 1 << 20).await));
    stage.see(format!("held: {}", pipe.held() > 0));
    stage.see(outcome(pipe.try_drain(&far)));
    drop(server);
}

async fn a_reset_source_ends_the_move(stage: Stage) {
    let (client, near) = stage.pair().await;
    client.reset_on_close().expect("an open connection");
    drop(client);
    stage.pause().await;
    let mut pipe = Pipe::take(&stage.core).expect("a pipe");
    stage.see(outcome(poll_fn(|context| pipe.poll_fill(&near, 1000, context)).await));
    let (_silent, quiet) = stage.pair().await;
    quiet.set_recv_deadline(stage.core.now() + Duration::from_millis(30));
    stage.see(outcome(poll_fn(|context| pipe.poll_fill(&quiet, 1000, context)).await));
}

async fn a_closed_sink_refuses_the_move(stage: Stage) {
    let (client, near) = stage.pair().await;
    let (far, server) = stage.pair().await;
    server.reset_on_close().expect("an open connection");
    drop(server);
    client.send_all(&[1; 5000]).await.expect("send");
    stage.pause().await;
    let mut pipe = Pipe::take(&stage.core).expect("a pipe");
    let moved = poll_fn(|context| pipe.poll_fill(&near, 5000, context)).await.expect("bytes");
    stage.see(format!("{moved} bytes"));
    stage.see(outcome(pipe.try_drain(&far)));
    stage.see(outcome(pipe.try_drain(&far)));
}

/// What a scenario sees on a core that takes its own connections.
fn seen_by<F: Future<Output = ()> + 'static>(
    driver: DriverKind,
    scenario: impl Fn(Stage) -> F + 'static,
) -> Vec<String> {
    let seen = Rc::new(std::cell::RefCell::new(Vec::new()));
    let kept = Rc::clone(&seen);
    if driver == DriverKind::Simulated {
        let mut simulation = Simulation::new(1, Faults::calm(), Limits::default());
        let host = simulation.world().host(HostConfig::new("alone"));
        let address = simulation.world().address(host, 80);
        let socket = simulation.world().listen(host, address, 128).expect("a port");
        let main = async move |core: Core| {
            let listener = core.adopt_listener(socket).expect("adopt");
            scenario(Stage { core, listener, address, seen }).await;
        };
        simulation.start(host, |_| {}, main).expect("a core");
        simulation.run().unwrap_or_else(|stopped| panic!("{stopped}"));
        let remains = simulation.finish();
        assert!(remains.is_clean(), "{remains}");
    } else {
        let config = CoreConfig::new(0, driver).expect("descriptors");
        let main = async move |core: Core| {
            let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = socket.local_addr().expect("an address");
            let listener = core.adopt_listener(socket).expect("adopt");
            let limit = core.clone();
            let mut scenario = pin!(scenario(Stage { core, listener, address, seen }));
            let mut limit = pin!(limit.sleep(Duration::from_secs(20)));
            poll_fn(|context| {
                assert!(limit.as_mut().poll(context).is_pending(), "nothing more happens on {driver}");
                scenario.as_mut().poll(context)
            })
            .await;
        };
        run(config, main).expect("the scenario ends");
    }
    kept.take()
}

fn check<F: Future<Output = ()> + 'static>(
    scenario: impl Fn(Stage) -> F + Clone + 'static,
    expected: &[&str],
) {
    let mut drivers = vec![DriverKind::Epoll, DriverKind::Simulated];
    match DriverChoice::Uring.settle().uring_error {
        None => drivers.push(DriverKind::Uring),
        Some(error) => eprintln!("io_uring is refused here ({error}): compared with epoll alone"),
    }
    for driver in drivers {
        let seen = seen_by(driver, scenario.clone());
        assert_eq!(seen, expected, "on {driver}");
    }
}

#[test]
fn a_half_close_ends_one_direction() {
    check(
        bytes_and_half_close,
        &["accepted: 5 bytes, end", "asking: 100000 bytes, end", "asking again: 0 bytes, end"],
    );
}

#[test]
fn a_close_with_bytes_unread_is_a_reset() {
    check(
        close_with_bytes_unread_resets,
        &["asking: 0 bytes, ConnectionReset", "NotConnected", "NotConnected"],
    );
}

#[test]
fn a_close_loses_nothing_that_was_sent() {
    check(what_was_sent_before_a_close_arrives, &["accepted: 50000 bytes, end"]);
}

#[test]
fn a_closed_peer_refuses_what_is_sent() {
    check(sending_to_a_closed_peer_fails_the_second_time, &["taken", "BrokenPipe"]);
}

#[test]
fn what_came_before_a_reset_is_not_lost_to_a_send() {
    check(an_answer_is_read_before_the_reset_behind_it, &["taken", "asking: 15 bytes, ConnectionReset"]);
}

#[test]
fn a_connect_without_a_listener_is_refused() {
    check(a_refused_connect_says_so, &["ConnectionRefused"]);
}

#[test]
fn a_deadline_ends_a_wait_and_nothing_else() {
    check(deadlines_end_waits, &["TimedOut", "TimedOut", "Some(Chunk(10 bytes))"]);
}

#[test]
fn broken_is_what_was_reset() {
    check(a_reset_breaks_and_a_half_close_does_not, &["broken: false", "broken: false", "broken: true"]);
}

#[test]
fn parked_connections_wake_by_bytes_and_by_deadline() {
    check(a_parked_connection_comes_back, &["1 Readable", "Some(Chunk(7 bytes))", "2 Deadline"]);
}

#[test]
fn a_stopped_listener_loses_no_connection() {
    check(a_listener_that_stops_keeps_what_it_has, &["Some(Chunk(4 bytes))", "ConnectionRefused"]);
}

#[test]
fn what_is_held_is_let_go_when_the_connection_is_closed() {
    check(what_a_connection_holds_goes_with_it, &["closed", "let go", "accepted: 3 bytes, end"]);
}

#[test]
fn closing_both_directions_is_the_end() {
    check(
        a_connection_closed_both_ways_ends_quietly,
        &["asking: 0 bytes, end", "accepted: 0 bytes, end", "BrokenPipe", "broken: true"],
    );
}

#[test]
fn what_moves_by_pipe_arrives_unchanged_and_in_order() {
    check(bytes_move_by_pipe, &["unchanged: true"]);
}

#[test]
fn a_pipe_waits_for_a_sink_that_does_not_read() {
    check(a_sink_that_does_not_read_stops_the_move, &["TimedOut", "held: true", "WouldBlock"]);
}

#[test]
fn filling_a_pipe_tells_what_receiving_would() {
    check(a_reset_source_ends_the_move, &["ConnectionReset", "TimedOut"]);
}

#[test]
fn draining_a_pipe_tells_what_sending_would() {
    check(a_closed_sink_refuses_the_move, &["5000 bytes", "ConnectionReset", "BrokenPipe"]);
}
