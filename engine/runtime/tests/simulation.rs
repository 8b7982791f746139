//! Does the simulated world keep its word? Bytes, time, faults, replay and accounts.
//!
//! `SEED=<n> cargo test -p corelane-runtime --features simulation --test simulation` runs one seed instead of many.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use runtime::mailbox::mailbox;
use runtime::simulation::{
    FaultCounts, Faults, HostConfig, HostFaults, HostId, Limits, LinkFaults, Odds, Simulation, StopReason,
    World,
};
use runtime::{Core, CoreConfig, DriverKind, Handle, Instant, Stream};

const HOUR: Duration = Duration::from_secs(3600);

/// A client's host and a server's, with a listening socket of the server's.
struct Pair {
    simulation: Simulation,
    world: World,
    client: HostId,
    server: HostId,
    address: SocketAddr,
    socket: Handle,
}

fn pair(seed: u64, faults: Faults) -> Pair {
    let simulation = Simulation::new(seed, faults, Limits::default());
    let world = simulation.world().clone();
    let (client, server) = (world.host(HostConfig::new("client")), world.host(HostConfig::new("server")));
    let address = world.address(server, 80);
    let socket = world.listen(server, address, 16).expect("a port");
    Pair { simulation, world, client, server, address, socket }
}

/// Runs a pair whose mains end, and makes sure that nothing is left.
fn run(seed: u64, mut simulation: Simulation) {
    simulation.run().unwrap_or_else(|stopped| panic!("SEED={seed}: {stopped}"));
    assert_eq!(simulation.task_panics(), 0, "SEED={seed}");
    let remains = simulation.finish();
    assert!(remains.is_clean(), "SEED={seed}:\n{remains}");
}

/// The one that SEED names, or `count` of them.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let chosen = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    chosen.map_or(0..count, |seed: u64| seed..seed + 1)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|position| (position * 31 + position / 251) as u8).collect()
}

// ---- bytes -----------------------------------------------------------------------------------------------------

/// A server that echoes, and clients that compare; every error is one that the faults explain.
fn echo(seed: u64, faults: Faults, is_lossy: bool) -> (u64, FaultCounts) {
    const CLIENTS: usize = 4;
    let Pair { mut simulation, world, client, server, address, socket } = pair(seed, faults);
    let done = Rc::new(Cell::new(0));
    let served = Rc::clone(&done);
    let serve = async move |core: Core| {
        let listener = core.adopt_listener(socket).expect("adopt");
        let fellow = core.clone();
        core.spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    fellow.sleep(Duration::from_millis(50)).await;
                    continue;
                };
                stream.set_deadline(fellow.now() + Duration::from_secs(100));
                fellow.spawn(async move {
                    // An error ends the connection, and the client judges what it got.
                    while let Ok(Some(chunk)) = stream.recv().await {
                        if stream.send_all(&chunk).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        while served.get() < CLIENTS {
            core.sleep(Duration::from_millis(100)).await;
        }
    };
    let ask = async move |core: Core| {
        for number in 0..CLIENTS {
            let (asking, done) = (core.clone(), Rc::clone(&done));
            core.spawn(async move {
                let sent = pattern(1 << (4 * number));
                let outcome = ask_echo(&asking, address, &sent).await;
                assert!(is_lossy || outcome.is_ok(), "client {number}: {outcome:?}");
                done.set(done.get() + 1);
            });
        }
        core.sleep(Duration::from_secs(1)).await;
    };
    let configure = |config: &mut CoreConfig| {
        config.buffers_per_lane = 4;
        // Smaller than what a window holds, or larger.
        config.buffer_bytes = if seed.is_multiple_of(2) { 1024 } else { 64 * 1024 };
    };
    simulation.start(server, configure, serve).expect("a core");
    simulation.start(client, configure, ask).expect("a core");
    simulation.run().unwrap_or_else(|stopped| panic!("SEED={seed}: {stopped}"));
    assert_eq!(simulation.task_panics(), 0, "SEED={seed}");
    let remains = simulation.finish();
    assert!(remains.is_clean(), "SEED={seed}:\n{remains}");
    assert_eq!(world.connections_open(), 0, "SEED={seed}");
    (world.trace_hash(), world.fault_counts())
}

/// Sends and receives at once; what comes back is what was sent, as far as it comes.
async fn ask_echo(core: &Core, address: SocketAddr, sent: &[u8]) -> Result<(), ErrorKind> {
    let deadline = core.now() + Duration::from_secs(100);
    let stream = Rc::new(core.connect(address, deadline).await.map_err(|error| error.kind())?);
    stream.set_deadline(deadline);
    let (sender, bytes) = (Rc::clone(&stream), sent.to_vec());
    core.spawn(async move {
        if sender.send_all(&bytes).await.is_ok() {
            let _ = sender.shutdown_write(); // refused when the connection broke, which the receiver notices
        }
    });
    let mut got = Vec::new();
    while let Some(chunk) = stream.recv().await.map_err(|error| error.kind())? {
        got.extend_from_slice(&chunk);
        assert!(sent.starts_with(&got), "foreign bytes before {}", got.len());
    }
    // An echo that lost its client says so by a reset, never by an end: unless it was late itself.
    if got.len() == sent.len() { Ok(()) } else { Err(ErrorKind::UnexpectedEof) }
}

#[test]
fn an_echo_is_exact_to_the_byte_whatever_the_network_does_to_it() {
    for seed in seeds(150) {
        echo(seed, Faults::jittery(), false);
    }
}

#[test]
fn an_echo_that_breaks_is_exact_up_to_there() {
    let mut seen = Vec::new();
    for seed in seeds(150) {
        seen.push(echo(seed, Faults::rough(), true).1);
    }
    // A fault that no seed brings is not tested by anybody.
    let count = |fault: fn(&FaultCounts) -> u64| seen.iter().map(fault).sum::<u64>();
    let counts = [
        ("splits", count(|counts| counts.splits)),
        ("delays", count(|counts| counts.delays)),
        ("stalls", count(|counts| counts.stalls)),
        ("stalls for ever", count(|counts| counts.stalls_for_ever)),
        ("resets", count(|counts| counts.resets)),
        ("partial sends", count(|counts| counts.partial_sends)),
        ("blocked sends", count(|counts| counts.blocked_sends)),
        ("partial receives", count(|counts| counts.partial_receives)),
        ("refusals", count(|counts| counts.refusals)),
        ("black holes", count(|counts| counts.black_holes)),
        ("slow connects", count(|counts| counts.slow_connects)),
        ("descriptors refused", count(|counts| counts.descriptors_refused)),
        ("accepts aborted", count(|counts| counts.accepts_aborted)),
        ("spurious events", count(|counts| counts.spurious_events)),
        ("late events", count(|counts| counts.late_events)),
        ("slow turns", count(|counts| counts.slow_turns)),
    ];
    let absent: Vec<_> = counts.iter().filter(|(_, count)| *count == 0).collect();
    assert!(absent.is_empty() || seen.len() == 1, "never happened: {absent:?}");
}

#[test]
fn a_swarm_of_faults_loses_nothing_it_should_not() {
    for seed in seeds(100) {
        echo(seed, Faults::swarm(seed), true);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut hashes = Vec::new();
    for seed in seeds(20) {
        let (first, counts) = echo(seed, Faults::rough(), true);
        assert_eq!(echo(seed, Faults::rough(), true), (first, counts), "SEED={seed}");
        hashes.push(first);
    }
    hashes.sort_unstable();
    let runs = hashes.len();
    hashes.dedup();
    assert_eq!(hashes.len(), runs, "different seeds are different runs");
}

/// Connects two streams, one on each core, and gives them to `client` and `server`.
fn connected<C, S>(
    seed: u64,
    faults: Faults,
    client: impl FnOnce(Core, Stream) -> C + 'static,
    server: impl FnOnce(Core, Stream) -> S + 'static,
) -> World
where
    C: Future<Output = ()>,
    S: Future<Output = ()>,
{
    let Pair { mut simulation, world, client: here, server: there, address, socket } = pair(seed, faults);
    let serve = async move |core: Core| {
        let listener = core.adopt_listener(socket).expect("adopt");
        let (stream, _) = listener.accept().await.expect("accept");
        server(core, stream).await;
    };
    let ask = async move |core: Core| {
        let stream = core.connect(address, core.now() + HOUR).await.expect("connect");
        client(core, stream).await;
    };
    simulation.start(there, |_| {}, serve).expect("a core");
    simulation.start(here, |_| {}, ask).expect("a core");
    run(seed, simulation);
    world
}

#[test]
fn a_peer_that_does_not_read_stops_the_sender() {
    let link = LinkFaults {
        send_buffer_bytes: 10_000..=10_000,
        receive_window_bytes: 5_000..=5_000,
        ..LinkFaults::calm()
    };
    let faults = Faults { link, ..Faults::calm() };
    let client = async |core: Core, stream: Stream| {
        let bytes = [0; 100_000];
        assert_eq!(stream.try_send(&[IoSlice::new(&bytes)]).expect("room"), 10_000);
        let full = stream.try_send(&[IoSlice::new(&bytes)]).expect_err("no room");
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        stream.writable().await.expect("what arrives makes room");
        assert_eq!(stream.try_send(&[IoSlice::new(&bytes)]).expect("room"), 5_000);
        stream.set_send_deadline(core.now() + Duration::from_secs(60));
        assert_eq!(stream.writable().await.expect_err("nobody reads").kind(), ErrorKind::TimedOut);
    };
    let server = async |core: Core, stream: Stream| {
        core.sleep(Duration::from_secs(100)).await;
        let mut total = 0;
        while let Some(chunk) = stream.recv().await.expect("recv") {
            total += chunk.len();
        }
        assert_eq!(total, 15_000, "what was taken arrives after the close");
    };
    connected(1, faults, client, server);
}

#[test]
fn what_is_larger_than_a_buffer_is_received_without_another_event() {
    const BYTES: usize = 10_000; // one segment
    let Pair { mut simulation, client, server, address, socket, .. } = pair(1, Faults::calm());
    let serve = async move |core: Core| {
        let listener = core.adopt_listener(socket).expect("adopt");
        let (stream, _) = listener.accept().await.expect("accept");
        let mut left = BYTES;
        while left > 0 {
            left -= stream.recv().await.expect("recv").expect("bytes").len();
        }
        stream.send_all(b"got it").await.expect("send");
    };
    let ask = async move |core: Core| {
        let stream = core.connect(address, core.now() + HOUR).await.expect("connect");
        stream.send_all(&[0; BYTES]).await.expect("send");
        assert_eq!(&**stream.recv().await.expect("recv").as_ref().expect("bytes"), b"got it");
    };
    simulation.start(server, |config| config.buffer_bytes = 1000, serve).expect("a core");
    simulation.start(client, |_| {}, ask).expect("a core");
    run(1, simulation);
}

#[test]
fn a_reset_reaches_both_ends() {
    let link = LinkFaults { reset: Odds::ALWAYS, ..LinkFaults::calm() };
    let client = async |_: Core, stream: Stream| {
        stream.send_all(b"lost").await.expect("taken");
        assert_eq!(stream.recv().await.expect_err("reset").kind(), ErrorKind::ConnectionReset);
        let refused = stream.try_send(&[IoSlice::new(&[0; 3000])]).expect_err("broken");
        assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
    };
    let server = async |_: Core, stream: Stream| {
        assert_eq!(stream.recv().await.expect_err("reset").kind(), ErrorKind::ConnectionReset);
    };
    let world = connected(1, Faults { link, ..Faults::calm() }, client, server);
    assert_eq!(world.fault_counts().resets, 1);
}

#[test]
fn a_direction_that_stalls_for_ever_leaves_the_other_alone() {
    let Pair { mut simulation, world, client, server, address, socket } = pair(1, Faults::calm());
    let switch = world.clone();
    let serve = async move |core: Core| {
        let listener = core.adopt_listener(socket).expect("adopt");
        let (stream, _) = listener.accept().await.expect("accept");
        stream.send_all(b"before").await.expect("send");
        assert_eq!(&**stream.recv().await.expect("recv").as_ref().expect("bytes"), b"go");
        switch.set_link(client, server, LinkFaults { stalled_for_ever: Odds::ALWAYS, ..LinkFaults::calm() });
        stream.send_all(b"never").await.expect("send");
        core.yield_now().await;
        switch.set_link(client, server, LinkFaults::calm());
        assert_eq!(&**stream.recv().await.expect("recv").as_ref().expect("bytes"), b"still");
    };
    let ask = async move |core: Core| {
        let stream = core.connect(address, core.now() + HOUR).await.expect("connect");
        assert_eq!(&**stream.recv().await.expect("recv").as_ref().expect("bytes"), b"before");
        stream.send_all(b"go").await.expect("send");
        stream.set_recv_deadline(core.now() + Duration::from_secs(30));
        assert_eq!(stream.recv().await.expect_err("stalled").kind(), ErrorKind::TimedOut);
        stream.send_all(b"still").await.expect("send");
        stream.shutdown_write().expect("shutdown");
        core.sleep(Duration::from_secs(1)).await;
    };
    simulation.start(server, |_| {}, serve).expect("a core");
    simulation.start(client, |_| {}, ask).expect("a core");
    run(1, simulation);
    assert_eq!(world.fault_counts().stalls_for_ever, 1);
}

// ---- time ------------------------------------------------------------------------------------------------------

/// How late a wait of `duration` ends.
async fn lateness(core: &Core, duration: Duration, wait: impl AsyncFnOnce(Instant)) -> Duration {
    let deadline = core.now() + duration;
    wait(deadline).await;
    assert!(core.now() >= deadline, "no wait ends early");
    core.now().since(deadline)
}

#[test]
fn deadlines_fire_at_their_virtual_time_while_the_wall_clock_jumps() {
    let silent = async |_: Core, stream: Stream| assert!(stream.recv().await.expect("recv").is_none());
    let faults =
        Faults { host: HostFaults { clock_jump: Odds::ALWAYS, ..HostFaults::calm() }, ..Faults::calm() };
    let waiting = async |core: Core, stream: Stream| {
        let mut readings = Vec::new();
        for seconds in [0, 1, 60, 1500] {
            let duration = Duration::from_secs(seconds) + Duration::from_micros(700);
            let slept = lateness(&core, duration, async |deadline| core.sleep_until(deadline).await).await;
            let waited = lateness(&core, duration, async |deadline| {
                stream.set_recv_deadline(deadline);
                assert_eq!(stream.recv().await.expect_err("silent").kind(), ErrorKind::TimedOut);
            });
            for late in [slept, waited.await] {
                assert!(late <= Duration::from_millis(1) + Duration::from_micros(100), "{late:?}");
            }
            readings.push(core.wall_clock());
        }
        let mut steps = readings.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        assert!(steps.any(|step| step.is_ok_and(|step| step > HOUR)), "400 days on, sooner or later");
    };
    let world = connected(3, faults, waiting, silent);
    assert!(world.fault_counts().clock_jumps >= 4);
}

#[test]
fn a_connect_that_nobody_answers_ends_when_its_caller_or_the_kernel_says_so() {
    let link = LinkFaults { black_hole: Odds::ALWAYS, ..LinkFaults::calm() };
    let Pair { mut simulation, client, address, socket, .. } = pair(1, Faults { link, ..Faults::calm() });
    let ask = async move |core: Core| {
        let _listens = socket;
        let start = core.now();
        let deadline = start + Duration::from_secs(5);
        let late = core.connect(address, deadline).await.expect_err("nobody answers");
        assert_eq!((late.kind(), core.now().since(start).as_secs()), (ErrorKind::TimedOut, 5));
        let start = core.now();
        let late = core.connect(address, Instant::FAR_FUTURE).await.expect_err("nobody answers");
        assert_eq!((late.raw_os_error().is_some(), core.now().since(start).as_secs()), (true, 127));
    };
    simulation.start(client, |_| {}, ask).expect("a core");
    run(1, simulation);
}

#[test]
fn a_slow_core_is_late_and_nothing_else() {
    let slow = HostFaults {
        slow_turn: Odds::ALWAYS,
        slow_turn_extra: Duration::from_millis(30)..=Duration::from_millis(30),
        ..HostFaults::calm()
    };
    let mut simulation = Simulation::new(1, Faults::calm(), Limits::default());
    let host = simulation.world().host(HostConfig { faults: Some(slow), ..HostConfig::new("slow") });
    let main = async |core: Core| {
        let start = core.now();
        for _ in 0..10 {
            core.yield_now().await;
        }
        assert_eq!(core.now().since(start).as_millis(), 300);
    };
    simulation.start(host, |_| {}, main).expect("a core");
    run(1, simulation);
}

// ---- sockets ---------------------------------------------------------------------------------------------------

#[test]
fn a_full_descriptor_table_refuses_and_recovers() {
    let Pair { mut simulation, world, client, server, address, socket } = pair(1, Faults::calm());
    world.set_descriptors_max(server, 2);
    let serve = async move |core: Core| {
        let listener = core.adopt_listener(socket).expect("adopt");
        core.sleep(Duration::from_secs(1)).await; // both clients wait now, and nothing more will be heard of them
        let (first, _) = listener.accept().await.expect("one descriptor is left");
        let full = listener.accept().await.expect_err("none is left");
        assert_eq!(full.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        let full = core.connect(address, core.now() + HOUR).await.expect_err("none is left");
        assert_eq!(full.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        drop(first);
        let (second, _) = listener.accept().await.expect("the one that waited");
        assert_eq!(&**second.recv().await.expect("recv").as_ref().expect("bytes"), b"patient");
    };
    let ask = async move |core: Core| {
        let first = core.connect(address, core.now() + HOUR).await.expect("connect");
        let second = core.connect(address, core.now() + HOUR).await.expect("connect");
        second.send_all(b"patient").await.expect("send");
        assert!(first.recv().await.expect("recv").is_none());
    };
    simulation.start(server, |_| {}, serve).expect("a core");
    simulation.start(client, |_| {}, ask).expect("a core");
    run(1, simulation);
    assert_eq!(world.fault_counts().descriptors_refused, 2);
}

#[test]
fn a_full_backlog_lets_clients_ask_again() {
    let Pair { mut simulation, world, client, server, address, socket } = pair(1, Faults::calm());
    drop(socket);
    let socket = world.listen(server, address, 0).expect("the port is free again");
    let serve = async move |core: Core| {
        let listener = core.adopt_listener(socket).expect("adopt");
        core.sleep(Duration::from_millis(500)).await;
        for _ in 0..2 {
            let _ = listener.accept().await.expect("accept");
        }
    };
    let ask = async move |core: Core| {
        let start = core.now();
        let _first = core.connect(address, core.now() + HOUR).await.expect("connect");
        let _second = core.connect(address, core.now() + HOUR).await.expect("connect");
        assert_eq!(core.now().since(start).as_millis(), 1000, "a second later, and then at once");
    };
    simulation.start(server, |_| {}, serve).expect("a core");
    simulation.start(client, |_| {}, ask).expect("a core");
    run(1, simulation);
}

#[test]
fn listeners_of_one_address_share_and_a_connection_may_change_its_core() {
    const CONNECTIONS: usize = 40;
    let Pair { mut simulation, world, client, server, address, socket } = pair(5, Faults::jittery());
    let second = world.listen(server, address, 16).expect("a port");
    let counts = Rc::new(RefCell::new([0; 2]));
    let taken = Rc::clone(&counts);
    let config = CoreConfig::new(0, DriverKind::Simulated).expect("descriptors");
    let (sender, receiver) = mailbox::<Handle>(&config.remote, CONNECTIONS);
    // The third core of the server accepts nothing, and serves what the first hands over.
    let serving = simulation.start(
        server,
        |place| *place = config,
        async move |core: Core| {
            loop {
                let handle = receiver.recv(&core).await;
                let stream = core.adopt(handle, runtime::buffer::Lane::Accepted).expect("adopt");
                core.spawn(async move {
                    stream.send_all(b"served elsewhere").await.expect("send");
                });
            }
        },
    );
    serving.expect("a core");
    for (number, socket) in [socket, second].into_iter().enumerate() {
        let (counts, sender) = (Rc::clone(&counts), sender.clone());
        let accept = async move |core: Core| {
            let listener = core.adopt_listener(socket).expect("adopt");
            loop {
                let accepted = listener.accept_fd().await.expect("accept");
                counts.borrow_mut()[number] += 1;
                if number == 0 {
                    sender.send(accepted.fd).expect("room");
                } else {
                    let stream = core.adopt(accepted.fd, runtime::buffer::Lane::Accepted).expect("adopt");
                    stream.send_all(b"served here").await.expect("send");
                }
            }
        };
        simulation.start(server, |_| {}, accept).expect("a core");
    }
    let done = Rc::new(Cell::new(false));
    let finished = Rc::clone(&done);
    let ask = async move |core: Core| {
        for _ in 0..CONNECTIONS {
            let stream = core.connect(address, core.now() + HOUR).await.expect("connect");
            let mut answer = Vec::new();
            while let Some(chunk) = stream.recv().await.expect("recv") {
                answer.extend_from_slice(&chunk);
            }
            assert!([b"served here".as_slice(), b"served elsewhere"].contains(&&*answer));
        }
        finished.set(true);
    };
    simulation.start(client, |_| {}, ask).expect("a core");
    simulation.run_until(|| done.get()).unwrap_or_else(|stopped| panic!("{stopped}"));
    let [first, second] = *taken.borrow();
    assert_eq!(first + second, CONNECTIONS);
    assert!(first > CONNECTIONS / 5 && second > CONNECTIONS / 5, "{first} and {second}");
    drop(sender);
    let remains = simulation.finish();
    assert!(remains.is_clean(), "{remains}");
}

// ---- bounds and accounts ---------------------------------------------------------------------------------------

fn alone<F: Future<Output = ()> + 'static>(limits: Limits, main: impl FnOnce(Core) -> F) -> Simulation {
    let mut simulation = Simulation::new(1, Faults::calm(), limits);
    let host = simulation.world().host(HostConfig::new("alone"));
    simulation.start(host, |_| {}, main).expect("a core");
    simulation
}

#[test]
fn a_run_that_cannot_end_says_which_bound_it_met_and_what_is_alive() {
    let check = |limits: Limits,
                 reason: StopReason,
                 main: fn(Core) -> std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        let stopped = alone(limits, main).run().expect_err("it cannot end");
        assert_eq!(stopped.reason, reason);
        assert!(stopped.alive.contains("core 0") && stopped.alive.contains("1 tasks"), "{stopped}");
    };
    let limits = Limits { virtual_time_max: Duration::from_secs(60), steps_max: 10_000 };
    check(limits, StopReason::Stuck, |_| Box::pin(std::future::pending()));
    check(limits, StopReason::VirtualTime, |core| {
        Box::pin(async move {
            loop {
                core.sleep(Duration::from_secs(1)).await;
            }
        })
    });
    check(limits, StopReason::Steps, |core| {
        Box::pin(async move {
            loop {
                core.yield_now().await;
            }
        })
    });
}

#[test]
fn a_main_that_panics_stops_the_run() {
    let mut simulation = alone(Limits::default(), async |_| panic!("expected in this test"));
    assert_eq!(simulation.run().expect_err("a panic").reason, StopReason::Panicked(0));
}

#[test]
fn a_handle_that_somebody_keeps_is_a_leak() {
    let Pair { simulation, world, server, socket, .. } = pair(1, Faults::calm());
    assert_eq!(world.handles_open(server), 1);
    let remains = simulation.finish();
    assert!(!remains.is_clean());
    assert_eq!(remains.handles_open, [("client".to_owned(), 0), ("server".to_owned(), 1)]);
    drop(socket);
    assert_eq!(world.handles_open(server), 0);
}

#[test]
fn a_core_tells_what_it_holds() {
    let Pair { mut simulation, world, client, server, address, socket } = pair(1, Faults::calm());
    let serve = async move |core: Core| {
        let listener = core.adopt_listener(socket).expect("adopt");
        let (stream, _) = listener.accept().await.expect("accept");
        let _kept = stream.recv().await.expect("recv");
        core.sleep(HOUR).await;
    };
    let ask = async move |core: Core| {
        let stream = core.connect(address, core.now() + HOUR).await.expect("connect");
        stream.send_all(b"kept").await.expect("send");
        core.sleep(HOUR).await;
    };
    simulation.start(server, |_| {}, serve).expect("a core");
    simulation.start(client, |_| {}, ask).expect("a core");
    simulation.run_for(Duration::from_secs(1)).unwrap_or_else(|stopped| panic!("{stopped}"));
    let usage = simulation.usage(0);
    assert_eq!((usage.tasks_live, usage.sockets_open, usage.buffers_in_use, usage.sleepers), (1, 2, 1, 1));
    assert_eq!((world.handles_open(server), world.handles_open(client), world.connections_open()), (2, 1, 1));
    assert_eq!(world.elapsed(), Duration::from_secs(1));
    assert!(simulation.finish().is_clean());
}

#[test]
fn a_simulated_network_refuses_unix_sockets() {
    let mut simulation = Simulation::new(1, Faults::calm(), Limits::default());
    let host = simulation.world().clone().host(HostConfig::new("host"));
    let started = simulation.start(
        host,
        |_| {},
        |core| async move {
            let path = std::path::Path::new("/run/socket");
            let error =
                core.connect_unix(path, core.now() + Duration::from_secs(1)).await.expect_err("refused");
            assert_eq!(error.raw_os_error(), Some(97), "EAFNOSUPPORT: {error}");
        },
    );
    started.expect("a core");
    simulation.run().unwrap_or_else(|stopped| panic!("{stopped}"));
}
