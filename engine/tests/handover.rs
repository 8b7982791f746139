//! What becomes of connections handed to a core that does not come to take them? Two cores of the data plane in this process.
//!
//! Never loses one: what the mailbox holds is served later, what it refuses stays where it was accepted.

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use common::connection::Connection;
use common::{PATIENCE, eventually, on_both_drivers};
use config::Format;
use config::snapshot::{ListenerId, Snapshot};
use proxy::generation::Generation;
use proxy::message::CoreMessage;
use proxy::roster::keeper::Keeper;
use proxy::stats::CoreStats;
use proxy::{CoreSetup, Fellow, serve};
use runtime::mailbox::{Receiver, mailbox};
use runtime::net::listener::bind_per_core;
use runtime::net::unix::bind_unix;
use runtime::{CoreConfig, DriverChoice};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// A core keeps this many before it looks for an idler one.
const KEPT: usize = 5;
/// Connections that a mailbox has room for.
const MAILBOX: usize = 2;
const CONNECTIONS: usize = 10;

/// Two cores that know each other, the first with a listener.
struct Cores {
    address: SocketAddr,
    setups: Vec<CoreSetup>,
    fellows: Arc<[Fellow]>,
    stats: Box<[Arc<CoreStats>]>,
}

impl Cores {
    fn new(driver: common::engine::Driver) -> Self {
        Self::with_room_for(CONNECTIONS, driver)
    }

    fn with_room_for(connections: usize, driver: common::engine::Driver) -> Self {
        let text = format!(
            "listener.web = {{ bind = '127.0.0.1:0', limits = {{ connections = {connections} }} }}\n\
             channel.all.respond = {{ body = 'ok' }}"
        );
        let loaded = config::load_str("test.toml", &text, Format::Toml, &|_| None);
        let snapshot = Arc::new(loaded.expect("a configuration").snapshot);
        let kind = match driver {
            common::engine::Driver::Epoll => DriverChoice::Epoll.settle().kind,
            common::engine::Driver::Uring => DriverChoice::Uring.settle().kind,
        };
        let (insides, fellows): (Vec<_>, Vec<_>) = (0..2)
            .map(|index| {
                let config = CoreConfig::new(index, kind).expect("descriptors");
                let (sender, mailbox) = mailbox(&config.remote, MAILBOX);
                ((config, mailbox), Fellow { sender })
            })
            .unzip();
        let fellows: Arc<[Fellow]> = fellows.into();
        let roster = Arc::clone(Keeper::new(&snapshot, |_| unreachable!("none is configured")).roster());
        let counters = insides.iter().map(|(config, _): &(CoreConfig, _)| Arc::clone(&config.counters));
        let generation = Generation::first(Arc::clone(&snapshot), roster, Arc::default(), counters);
        let setup = |(config, mailbox): (CoreConfig, Receiver<CoreMessage>)| CoreSetup {
            config,
            generation: Arc::clone(&generation),
            listeners: Vec::new(),
            mailbox,
            fellows: Arc::clone(&fellows),
        };
        let mut setups: Vec<_> = insides.into_iter().map(setup).collect();
        let address = listen(&snapshot, &mut setups[0]);
        Self { address, setups, fellows, stats: generation.stats.clone() }
    }
}

fn listen(snapshot: &Snapshot, setup: &mut CoreSetup) -> SocketAddr {
    let listener = &snapshot.listeners[0];
    let socket =
        bind_per_core(listener.bind.tcp().expect("TCP"), listener.backlog, 1).expect("a port").remove(0);
    let address = socket.local_addr().expect("bound");
    setup.listeners.push((ListenerId(0), socket.into()));
    address
}

#[test]
fn a_core_that_takes_nothing_loses_nothing() {
    on_both_drivers(|driver| {
        let Cores { address, mut setups, fellows, stats } = Cores::new(driver);
        let stuck = setups.pop().expect("two cores");
        let busy = setups.pop().expect("two cores");
        let busy = thread::spawn(move || serve(busy));
        let [here, there] = &*stats else { panic!("two cores") };
        let accepted = || here.listeners[0].accepted.value();

        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Connection::open(address)).collect();
        eventually("all are accepted", || accepted() == CONNECTIONS as u64);
        for client in &clients {
            client.send(GET);
        }
        // The first stay, the next wait in the mailbox, and who finds it full stays too.
        let mut waiting: Vec<_> = clients.drain(KEPT..KEPT + MAILBOX).collect();
        for client in &mut clients {
            client.response().assert_is(200, "ok");
        }
        waiting.iter_mut().for_each(Connection::assert_open);
        assert_eq!(here.handed_over.value(), MAILBOX as u64);
        assert_eq!(here.handover_refused.value(), (CONNECTIONS - KEPT - MAILBOX) as u64);
        // Those on their way count among all.
        Connection::open(address).assert_closed();
        assert_eq!(here.listeners[0].over_connections.value(), 1);

        // The core comes to itself.
        let revived = thread::spawn(move || serve(stuck));
        for client in &mut waiting {
            client.response().assert_is(200, "ok");
        }
        assert_eq!(there.taken_over.value(), MAILBOX as u64);
        drop((clients, waiting));
        eventually("there is room again", || {
            let mut client = Connection::open(address);
            client.send(GET);
            client.head().is_some()
        });
        for fellow in &*fellows {
            assert!(
                fellow
                    .sender
                    .send(CoreMessage::Drain { timeout: PATIENCE, left: Default::default(), last: None })
                    .is_ok()
            );
        }
        for core in [busy, revived] {
            core.join().expect("no panic").expect("the core ends well");
        }
    });
}

/// More wait than a core accepts before it hears that it drains; the rest comes out of the queue that both share.
#[test]
fn connections_that_wait_at_a_path_when_the_cores_drain_are_served() {
    const WAITING: usize = 200;
    on_both_drivers(|driver| {
        let Cores { mut setups, fellows, .. } = Cores::with_room_for(WAITING, driver);
        let path = std::env::temp_dir().join(format!("corelane-drain-{driver}-{}", std::process::id()));
        let listeners = bind_unix(&path, None, WAITING as u32, setups.len()).expect("a path of its own");
        let connect = |_| {
            let mut client = UnixStream::connect(&path).expect("room in the queue");
            client.set_read_timeout(Some(PATIENCE)).expect("a deadline");
            client.write_all(GET.as_bytes()).expect("sent");
            client
        };
        let clients: Vec<_> = (0..WAITING).map(connect).collect();
        std::fs::remove_file(&path).expect("as control does before it tells the cores");
        for (setup, listener) in setups.iter_mut().zip(listeners) {
            setup.listeners = vec![(ListenerId(0), listener.into())];
        }
        for fellow in &*fellows {
            fellow
                .sender
                .send(CoreMessage::Drain { timeout: PATIENCE, left: Default::default(), last: None })
                .expect("room in the mailbox");
        }
        let cores: Vec<_> = setups.into_iter().map(|setup| thread::spawn(move || serve(setup))).collect();
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("an answer, and the end of the connection");
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer:?}");
        }
        for core in cores {
            core.join().expect("no panic").expect("a good end");
        }
    });
}
