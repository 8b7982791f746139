//! Does a relay of bytes ever change, lose, invent or misjudge anything? Connections through a listener for TCP, or for TLS by
//! name, each with a client and a server that send bytes of a pattern, end, break off, or fall silent.
//!
//! Never looks into the engine: what both ends saw, and what was counted, says whether the laws hold.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proxy::Fellow;
use proxy::generation::Generation;
use proxy::message::CoreMessage;
use proxy::stats::ListenerCounters;
use runtime::counter::Counter;
use runtime::simulation::{Faults, HostConfig, Limits, Simulation, Stopped};
use runtime::{Core, Instant, Stream};

use crate::dice::{Dice, mix};
use crate::opening::Opening;
use crate::world::{Started, start_engine};

const ENGINE: [u8; 4] = [10, 0, 0, 1];
const SERVERS: [u8; 4] = [10, 0, 2, 1];
/// Largest number of bytes that one side sends.
const BYTES_MAX: u64 = 1_000_000;
/// The first bytes of a client: which connection of the scenario it is.
const NUMBER_BYTES: u64 = 4;
/// A peer that waits longer than this was forgotten by the engine: all of its deadlines together are shorter.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What one side of a connection does.
#[derive(Clone, Copy, Debug)]
struct Part {
    bytes: u64,
    piece_bytes: u64,
    pause: Duration,
    pauses: u32,
    end: PartEnd,
    /// Stops reading for so long after so many bytes.
    nap: Option<(u64, Duration)>,
}

/// What it does once its bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartEnd {
    /// Says that nothing more follows, and reads on.
    Ends,
    /// Breaks the connection.
    Resets,
    /// Nothing.
    FallsSilent,
}

/// What one side has done and seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    sent: u64,
    has_ended: bool,
    received: u64,
    /// The engine has said the end.
    was_ended: bool,
}

#[derive(Debug)]
struct Plan {
    parts: [Part; 2],
    starts_after: Duration,
    /// How the client's opening is cut, and how long it waits after the first pieces.
    opening_piece: usize,
    opening_pause: Duration,
}

/// Everything that happens from one seed, apart from what the network does.
#[derive(Debug)]
struct Scenario {
    is_clean: bool,
    cores: usize,
    idle: Duration,
    opening: Opening,
    config: String,
    faults: Faults,
    plans: Vec<Plan>,
}

/// How one seed ended.
#[derive(Clone, Debug, Default)]
pub struct Relayed {
    /// The first law that was broken.
    pub broken: Option<String>,
    /// Connections that were relayed to the end, both ways.
    pub whole: u64,
    /// Those among them that began with a PROXY header or a hello.
    pub opened: u64,
    /// Connections that broke off or were cut.
    pub cut: u64,
    /// Bytes that went from socket to socket without being copied.
    pub spliced_bytes: u64,
    /// Bytes that the engine took, both ways.
    pub bytes: u64,
    /// A number that differs when anything happened otherwise or at another moment.
    pub trace_hash: u64,
}

impl fmt::Display for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broken, whole, opened, cut, spliced_bytes, bytes, .. } = self;
        write!(f, "{whole} connections whole ({opened} behind a header or hello), {cut} cut, ")?;
        write!(f, "{bytes} bytes, of which {spliced_bytes} spliced")?;
        broken.as_ref().map_or(Ok(()), |broken| write!(f, "; broken: {broken}"))
    }
}

/// What everybody has done and seen; the first law broken.
#[derive(Debug, Default)]
struct Book {
    /// By connection: its client, its server.
    seen: Vec<[Seen; 2]>,
    /// By connection: the client's address.
    clients: Vec<Option<SocketAddr>>,
    clients_open: usize,
    forgotten: Option<String>,
    broken: Option<String>,
}

impl Book {
    fn breaks(&mut self, what: impl Into<String>) {
        self.broken.get_or_insert(what.into());
    }
}

impl Scenario {
    fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x7263_7074);
        let is_clean = dice.chance(40);
        let faults = match (is_clean, dice.chance(50)) {
            (true, true) => Faults::calm(),
            (true, false) => Faults::jittery(),
            (false, true) => Faults::rough(),
            (false, false) => Faults::swarm(seed),
        };
        let idle = dice.millis(40_000, 90_000);
        let opening = Opening::of(seed);
        let [listener, upstream] = opening.settings();
        let config = format!(
            "[process]\nbuffers_per_core = {}\nbuffer_size = \"{}KiB\"\n\n[admin]\nenabled = false\n\n\
             [listener.bytes]\nbind = \"{}\"\n{listener}\
             timeouts = {{ tunnel = \"{}ms\" }}\n\n\
             [upstream.servers]\nendpoints = [\"{}\", \"{}\"]\ntimeouts = {{ connect = \"8s\" }}\n{upstream}",
            dice.pick(&[16, 24, 256]),
            dice.pick(&[16, 64, 64]),
            address(ENGINE, 8000),
            idle.as_millis(),
            address(SERVERS, 9000),
            address(SERVERS, 9001),
        );
        let count = dice.between(1, 8);
        let part = |dice: &mut Dice| Part {
            bytes: NUMBER_BYTES
                + if dice.chance(60) { dice.size(BYTES_MAX) } else { dice.between(0, BYTES_MAX) },
            piece_bytes: if dice.chance(50) { 200_000 } else { dice.between(1, 20_000) },
            pause: dice.millis(1, 500),
            pauses: if dice.chance(60) { 0 } else { dice.between(1, 8) as u32 },
            end: match dice.between(0, 9) {
                0 if !is_clean => PartEnd::Resets,
                1 if !is_clean => PartEnd::FallsSilent,
                _ => PartEnd::Ends,
            },
            nap: dice.chance(25).then(|| {
                let longest = if is_clean { 20_000 } else { 150_000 };
                (dice.between(0, 500_000), dice.millis(10, longest))
            }),
        };
        let plans = (0..count)
            .map(|number| {
                let mut apart = Dice::new(mix(seed) ^ number);
                Plan {
                    parts: [part(&mut dice), part(&mut dice)],
                    starts_after: dice.millis(0, 2_000),
                    opening_piece: apart.pick(&[1, 3, 16, 30, 64, 1_000]),
                    opening_pause: apart.millis(0, 500),
                }
            })
            .collect();
        Self { is_clean, cores: dice.between(1, 2) as usize, idle, opening, config, faults, plans }
    }
}

fn address([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from(([a, b, c, d], port))
}

/// The byte at a place of what a side sends.
fn byte_at(connection: usize, side: usize, at: u64) -> u8 {
    if side == 0 && at < NUMBER_BYTES {
        return (connection as u32).to_be_bytes()[at as usize];
    }
    let word = mix((connection as u64) << 40 | (side as u64) << 36 | (at / 8));
    word.to_le_bytes()[(at % 8) as usize]
}

/// Plays the scenario of a seed; `prints` shows what it is and how it ended.
///
/// # Panics
/// When the scenario itself is at fault: its configuration or its hosts.
#[must_use]
pub fn play_relays(seed: u64, prints: bool) -> Relayed {
    let scenario = Rc::new(Scenario::of(seed));
    if prints {
        println!("{scenario:#?}");
    }
    let limits = Limits { virtual_time_max: Duration::from_secs(7_200), steps_max: 3_000_000 };
    let mut simulation = Simulation::new(seed, scenario.faults.clone(), limits);
    let host = |name: &str, address: [u8; 4]| {
        let mut config = HostConfig::new(name);
        config.addresses = vec![IpAddr::from(address)];
        simulation.world().host(config)
    };
    let [engine, clients, servers] = [("engine", ENGINE), ("clients", [10, 0, 1, 1]), ("servers", SERVERS)]
        .map(|(name, at)| host(name, at));
    let loaded = config::load_str("scenario", &scenario.config, config::Format::Toml, &|_| None);
    let snapshot = Arc::new(loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot);
    let seen = vec![[Seen::default(); 2]; scenario.plans.len()];
    let clients_of = vec![None; scenario.plans.len()];
    let book = Rc::new(RefCell::new(Book { seen, clients: clients_of, ..Book::default() }));
    let told = Rc::clone(&book);
    let on_failure: Rc<dyn Fn(Instant, String)> = Rc::new(move |_, what| told.borrow_mut().breaks(what));
    let Started { fellows, generation, .. } =
        start_engine(&mut simulation, engine, scenario.cores, &snapshot, &on_failure);
    let peers = [clients, servers].map(|host| {
        simulation.start(host, |_| {}, |_| std::future::pending()).expect("a core for the peers")
    });
    for port in [9000, 9001] {
        let core = simulation.core(peers[1]).clone();
        let handle = simulation.world().listen(servers, address(SERVERS, port), 128).expect("a free port");
        let listener = core.adopt_listener(handle).expect("a listener");
        let (scenario, book) = (Rc::clone(&scenario), Rc::clone(&book));
        core.clone().spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Without a descriptor it fails at once, again and again.
                    core.sleep(Duration::from_millis(10)).await;
                    continue;
                };
                core.spawn(serve(core.clone(), stream, Rc::clone(&scenario), Rc::clone(&book)));
            }
        });
    }
    if let Err(stopped) = perform(&mut simulation, peers[0], &scenario, &book, &fellows) {
        book.borrow_mut().breaks(format!("{:?}\n{}", stopped.reason, stopped.alive));
    }
    // A link that has stopped for ever tells nobody of a reset either.
    let forgotten = book.borrow_mut().forgotten.take();
    if let Some(forgotten) = forgotten.filter(|_| simulation.world().fault_counts().stalls_for_ever == 0) {
        book.borrow_mut().breaks(forgotten);
    }
    let mut relayed = judge(&scenario, &book, &generation);
    relayed.trace_hash = simulation.world().trace_hash();
    let remains = simulation.finish();
    if !remains.is_clean() && relayed.broken.is_none() {
        relayed.broken = Some(format!("left at the end: {remains}"));
    }
    if prints {
        println!("{:#?}\n{relayed}", book.borrow().seen);
    }
    relayed
}

/// All connections, the silence after them, and the end of the engine.
fn perform(
    simulation: &mut Simulation,
    clients: usize,
    scenario: &Rc<Scenario>,
    book: &Rc<RefCell<Book>>,
    fellows: &[Fellow],
) -> Result<(), Stopped> {
    simulation.run_for(Duration::from_millis(50))?;
    let at_rest: Vec<_> = (0..scenario.cores).map(|core| simulation.usage(core)).collect();
    let core = simulation.core(clients).clone();
    book.borrow_mut().clients_open = scenario.plans.len();
    for number in 0..scenario.plans.len() {
        core.spawn(ask(core.clone(), number, Rc::clone(scenario), Rc::clone(book)));
    }
    let open = Rc::clone(book);
    simulation.run_until(move || open.borrow().clients_open == 0)?;
    simulation.world().calm();
    // Every deadline of the engine passes; what its peers still do ends sooner.
    simulation.run_for(scenario.idle * 2 + Duration::from_secs(30))?;
    for (core, before) in at_rest.iter().enumerate() {
        let usage = simulation.usage(core);
        if usage != *before {
            book.borrow_mut().breaks(format!("core {core} keeps {usage}, at first {before}"));
        }
    }
    for fellow in fellows {
        if fellow
            .sender
            .send(CoreMessage::Drain { timeout: DRAIN_TIMEOUT, left: Default::default(), last: None })
            .is_err()
        {
            book.borrow_mut().breaks("a mailbox is full");
        }
    }
    simulation.run_for(DRAIN_TIMEOUT + Duration::from_secs(3))?;
    for core in 0..scenario.cores {
        if !simulation.main_has_ended(core) {
            book.borrow_mut().breaks(format!("core {core} does not end"));
        }
    }
    if simulation.task_panics() > 0 {
        book.borrow_mut().breaks("a task panicked");
    }
    Ok(())
}

/// A client's connection.
async fn ask(core: Core, number: usize, scenario: Rc<Scenario>, book: Rc<RefCell<Book>>) {
    let plan = &scenario.plans[number];
    core.sleep(plan.starts_after).await;
    let made = core.connect(address(ENGINE, 8000), core.now() + Duration::from_secs(200)).await;
    if let Ok(stream) = made
        && open(&core, &stream, number, &scenario, &book).await
    {
        play_part(&core, &stream, number, 0, plan.parts[0], 0, &book).await;
    }
    book.borrow_mut().clients_open -= 1;
}

/// Says what comes before a client's own bytes; false when the connection is over.
async fn open(
    core: &Core,
    stream: &Stream,
    number: usize,
    scenario: &Scenario,
    book: &RefCell<Book>,
) -> bool {
    const PAUSES: usize = 3;
    book.borrow_mut().clients[number] = stream.local_address().ok();
    let plan = &scenario.plans[number];
    stream.set_send_deadline(core.now() + FORGOTTEN_AFTER);
    for (index, piece) in scenario.opening.said(number).chunks(plan.opening_piece).enumerate() {
        if stream.send_all(piece).await.is_err() {
            return false;
        }
        if index < PAUSES {
            core.sleep(plan.opening_pause).await;
        }
    }
    true
}

/// A server's: whose it is, its first bytes say.
async fn serve(core: Core, stream: Stream, scenario: Rc<Scenario>, book: Rc<RefCell<Book>>) {
    stream.set_recv_deadline(core.now() + FORGOTTEN_AFTER);
    let mut first = Vec::new();
    let opening = loop {
        let opening = scenario.opening.expected_len(&first);
        if let Some(len) = opening.filter(|len| first.len() >= len + NUMBER_BYTES as usize) {
            break len;
        }
        match stream.recv_behind(&first).await {
            Ok(Some(chunk)) => first = chunk.to_vec(),
            Ok(None) | Err(_) => return,
        }
    };
    let (opening, first) = first.split_at(opening);
    let number = u32::from_be_bytes([first[0], first[1], first[2], first[3]]) as usize;
    let Some(plan) = scenario.plans.get(number) else {
        return book.borrow_mut().breaks(format!("nobody is connection {number}"));
    };
    let client = book.borrow().clients[number].expect("it has connected");
    let expected = scenario.opening.expected(number, client, address(ENGINE, 8000));
    if opening != expected {
        let (opening, expected) = (opening.escape_ascii(), expected.escape_ascii());
        return book.borrow_mut().breaks(format!("connection {number} begins {opening} and not {expected}"));
    }
    if !take(first, number, 1, &book) {
        return;
    }
    play_part(&core, &stream, number, 1, plan.parts[1], first.len() as u64, &book).await;
}

/// Notes what a side has received; false when it is not what the other has sent.
fn take(bytes: &[u8], number: usize, side: usize, book: &RefCell<Book>) -> bool {
    let mut book = book.borrow_mut();
    let at = book.seen[number][side].received;
    let is_right = (at..).zip(bytes).all(|(at, byte)| *byte == byte_at(number, 1 - side, at));
    book.seen[number][side].received += bytes.len() as u64;
    if !is_right {
        book.breaks(format!("connection {number}, side {side}: wrong bytes behind {at}"));
    }
    is_right
}

/// Sends and receives at once, until both are over or the connection is.
async fn play_part(
    core: &Core,
    stream: &Stream,
    number: usize,
    side: usize,
    part: Part,
    received: u64,
    book: &RefCell<Book>,
) {
    let mut sending = pin!(send(core, stream, number, side, part, book));
    let mut receiving = pin!(receive(core, stream, number, side, part, received, book));
    let (mut has_sent, mut has_received) = (false, false);
    poll_fn(|context| {
        if !has_sent && let Poll::Ready(goes_on) = sending.as_mut().poll(context) {
            has_sent = true;
            if !goes_on {
                return Poll::Ready(());
            }
        }
        if !has_received && let Poll::Ready(goes_on) = receiving.as_mut().poll(context) {
            has_received = true;
            if !goes_on {
                return Poll::Ready(());
            }
        }
        if has_sent && has_received { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Sends a side's bytes and its end; false when the connection is over.
async fn send(
    core: &Core,
    stream: &Stream,
    number: usize,
    side: usize,
    part: Part,
    book: &RefCell<Book>,
) -> bool {
    let mut pauses = 0;
    let mut at = 0;
    while at < part.bytes {
        let piece: Vec<u8> =
            (at..part.bytes.min(at + part.piece_bytes)).map(|at| byte_at(number, side, at)).collect();
        stream.set_send_deadline(core.now() + FORGOTTEN_AFTER);
        if let Err(error) = stream.send_all(&piece).await {
            return forgotten(&error, number, side, book);
        }
        at += piece.len() as u64;
        book.borrow_mut().seen[number][side].sent = at;
        if pauses < part.pauses {
            pauses += 1;
            core.sleep(part.pause).await;
        }
    }
    match part.end {
        PartEnd::Ends => {
            book.borrow_mut().seen[number][side].has_ended = true;
            stream.shutdown_write().is_ok()
        }
        PartEnd::Resets => {
            let _ = stream.reset_on_close();
            false
        }
        PartEnd::FallsSilent => {
            poll_fn(|context| stream.poll_broken(context)).await;
            false
        }
    }
}

/// Receives to the end; false when the connection is over.
async fn receive(
    core: &Core,
    stream: &Stream,
    number: usize,
    side: usize,
    part: Part,
    mut received: u64,
    book: &RefCell<Book>,
) -> bool {
    let mut nap = part.nap;
    loop {
        if let Some((after, pause)) = nap
            && received >= after
        {
            nap = None;
            core.sleep(pause).await;
        }
        stream.set_recv_deadline(core.now() + FORGOTTEN_AFTER);
        match stream.recv().await {
            Ok(Some(chunk)) => {
                received += chunk.len() as u64;
                if !take(&chunk, number, side, book) {
                    return false;
                }
            }
            Ok(None) => {
                book.borrow_mut().seen[number][side].was_ended = true;
                return true;
            }
            Err(error) => return forgotten(&error, number, side, book),
        }
    }
}

/// The connection broke, which is no reason to go on; that it did not, though it should have, is to be looked into.
fn forgotten(error: &std::io::Error, number: usize, side: usize, book: &RefCell<Book>) -> bool {
    if error.kind() == std::io::ErrorKind::TimedOut {
        book.borrow_mut().forgotten.get_or_insert(format!("connection {number}, side {side} was forgotten"));
    }
    false
}

/// The laws that can be told at the end.
fn judge(scenario: &Scenario, book: &RefCell<Book>, generation: &Generation) -> Relayed {
    let mut book = book.borrow_mut();
    let sum = |counter: fn(&ListenerCounters) -> &Counter| -> u64 {
        generation.stats.iter().map(|stats| counter(&stats.listeners[0]).value()).sum()
    };
    let mut relayed = Relayed::default();
    let mut sent = [0, 0];
    for number in 0..book.seen.len() {
        let sides = book.seen[number];
        for (side, seen) in sides.iter().enumerate() {
            let other = sides[1 - side];
            sent[side] += seen.sent;
            // An end says that all is there. A piece that was being sent may have arrived and not be noted as sent.
            if seen.was_ended && !(other.has_ended && seen.received == other.sent) {
                book.breaks(format!(
                    "connection {number}, side {side} takes {seen:?} for whole, of {other:?}"
                ));
            }
        }
        let is_whole = sides.iter().all(|seen| seen.was_ended);
        relayed.whole += u64::from(is_whole);
        relayed.opened += u64::from(is_whole && !scenario.opening.said(number).is_empty());
        relayed.cut += u64::from(!is_whole);
        if scenario.is_clean && !is_whole {
            book.breaks(format!("connection {number} was cut: {sides:?}"));
        }
    }
    let counted = [sum(|listener| &listener.bytes_received), sum(|listener| &listener.bytes_sent)];
    let openings = (0..book.seen.len()).map(|number| scenario.opening.said(number).len() as u64);
    sent[0] += openings.sum::<u64>();
    // What an endpoint is told is no client's.
    if scenario.is_clean && counted != sent {
        book.breaks(format!("{counted:?} bytes were counted, {sent:?} sent"));
    }
    let faults: u64 = generation.stats.iter().flat_map(|stats| &stats.faults).map(Counter::value).sum();
    if scenario.is_clean && faults > 0 {
        book.breaks(format!("{faults} faults were counted and none happened"));
    }
    let open = sum(|listener| &listener.connections_open);
    let active: u64 = generation
        .stats
        .iter()
        .flat_map(|stats| &stats.endpoints)
        .map(|endpoint| endpoint.active.value())
        .sum();
    if (open, active) != (0, 0) {
        book.breaks(format!("{open} connections of clients are open, {active} of endpoints"));
    }
    relayed.bytes = counted.iter().sum();
    relayed.spliced_bytes = generation.stats.iter().map(|stats| stats.runtime.spliced_bytes.value()).sum();
    relayed.broken = book.broken.clone();
    relayed
}
