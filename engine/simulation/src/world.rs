//! How is one scenario played? An engine, its clients and its origins, on simulated hosts, from the first connection to
//! the engine's own end.
//!
//! Never shows the engine anything but sockets, mail and a configuration: it is the code that serves real traffic.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{EndpointAddress, ListenerId, Snapshot};
use proxy::address::Address;
use proxy::generation::Generation;
use proxy::message::{CoreMessage, MAILBOX_CAPACITY};
use proxy::outcome::Fault;
use proxy::roster::keeper::Keeper;
use proxy::stats::CoreStats;
use proxy::{CoreSetup, Fellow};
use runtime::counter::{Counter, RuntimeCounters};
use runtime::mailbox::mailbox;
use runtime::simulation::{Faults, HostConfig, HostId, Limits, Simulation, Stopped};
use runtime::{Core, Handle, Instant, Remote};

use crate::client;
use crate::ledger::{Event, Ledger};
use crate::oracle::{Broken, Counted, Law, Tally, judge, tally_generations};
use crate::origin;
use crate::plan::{Network, Scenario};
use crate::renewals::{self, Renewals};

/// Turns and moves of the clock after which a scenario is given up; the longest of a long sweep take a tenth.
const STEPS_MAX: u64 = 3_000_000;
/// Virtual time after which a scenario is given up: many times the sum of all deadlines.
const VIRTUAL_TIME_MAX: Duration = Duration::from_secs(7_200);
/// How long an engine that is told to end may take for what is in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How one seed ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first law that was broken.
    pub broken: Option<Broken>,
    /// What was met.
    pub tally: Tally,
    /// A number that differs when anything happened otherwise or at another moment.
    pub trace_hash: u64,
    /// Requests that clients began.
    pub exchanges: u64,
    /// Time that passed on the virtual clock.
    pub virtual_time: Duration,
}

/// Plays the scenario of a seed; `prints` shows it and everything that happens in it.
#[must_use]
pub fn play(seed: u64, prints: bool) -> Outcome {
    play_scenario(Scenario::of(seed), false, prints)
}

/// Plays the scenario of a seed while its configuration is renewed again and again.
#[must_use]
pub fn play_renewed(seed: u64, prints: bool) -> Outcome {
    play_scenario(Scenario::of(seed), true, prints)
}

fn play_scenario(scenario: Scenario, renews: bool, prints: bool) -> Outcome {
    let scenario = Rc::new(scenario);
    if prints {
        println!("{}\n{:#?}", scenario.config, scenario.connections);
    }
    let mut stage = Stage::set(&scenario, renews, prints);
    let counted = stage.perform().unwrap_or_else(|stopped| {
        let detail = format!("{:?}\n{}", stopped.reason, stopped.alive);
        stage.breaks(Law::Restless, detail);
        Counted::default()
    });
    stage.close(&counted)
}

/// Everything that a scenario needs to be played.
struct Stage {
    scenario: Rc<Scenario>,
    ledger: Rc<RefCell<Ledger>>,
    simulation: Simulation,
    fellows: Arc<[Fellow]>,
    generation: Arc<Generation>,
    /// Core of clients and origins.
    peers: usize,
    prints: bool,
}

impl Stage {
    fn set(scenario: &Rc<Scenario>, renews: bool, prints: bool) -> Self {
        let faults = match scenario.network {
            Network::Calm => Faults::calm(),
            Network::Jittery => Faults::jittery(),
            Network::Rough => Faults::rough(),
            Network::Swarm => Faults::swarm(scenario.seed),
        };
        let limits = Limits { virtual_time_max: VIRTUAL_TIME_MAX, steps_max: STEPS_MAX };
        let mut simulation = Simulation::new(scenario.seed, faults, limits);
        let host = |name: &str, addresses: &[[u8; 4]], descriptors_max| {
            let mut config = HostConfig::new(name);
            config.addresses = addresses.iter().map(|address| IpAddr::from(*address)).collect();
            config.descriptors_max = descriptors_max;
            simulation.world().host(config)
        };
        let engine = host("engine", &[[10, 0, 0, 1]], scenario.descriptors_max);
        let clients = host("clients", &[[10, 0, 1, 1], [10, 0, 1, 2], [10, 0, 1, 3]], 65_536);
        let origins = host("origins", &[[10, 0, 2, 1]], 65_536);
        let text = &scenario.config;
        let first = renews.then(|| renewals::text(text, 1, [false; 3]));
        let snapshot = renewals::snapshot(first.as_ref().unwrap_or(text));
        let ledger = Rc::new(RefCell::new(Ledger::new(scenario, simulation.world().now(), prints)));
        let told = Rc::clone(&ledger);
        let on_failure: Rc<dyn Fn(Instant, String)> =
            Rc::new(move |at, what| told.borrow_mut().breaks(at, Law::Restless, what));
        let started = start_engine(&mut simulation, engine, scenario.cores, &snapshot, &on_failure);
        let (fellows, generation) = (Arc::clone(&started.fellows), Arc::clone(&started.generation));
        start_origins(&mut simulation, origins, &ledger);
        let peers =
            simulation.start(clients, roomy, |_| std::future::pending()).expect("a core for the clients");
        if renews {
            let number =
                simulation.start(engine, roomy, |_| std::future::pending()).expect("a core for control");
            let core = simulation.core(number).clone();
            ledger.borrow_mut().generations.push(Arc::clone(&generation));
            ledger.borrow_mut().renews = true;
            let (world, ledger) = (simulation.world().clone(), Rc::clone(&ledger));
            let renewals =
                Renewals { core: core.clone(), world, engine, ledger, started, seed: scenario.seed };
            core.spawn(renewals.play());
        }
        Self { scenario: Rc::clone(scenario), ledger, simulation, fellows, generation, peers, prints }
    }

    fn note(&self, phase: &'static str) {
        self.ledger.borrow_mut().note(self.simulation.world().now(), Event::Phase(phase));
    }

    fn breaks(&self, law: Law, detail: impl Into<String>) {
        self.ledger.borrow_mut().breaks(self.simulation.world().now(), law, detail);
    }

    /// The storm, the calm after it, and the end; what was counted at rest.
    fn perform(&mut self) -> Result<Counted, Stopped> {
        self.simulation.run_for(Duration::from_millis(50))?;
        let at_rest: Vec<_> = self.cores().map(|core| self.simulation.usage(core)).collect();

        self.note("storm");
        self.admit(0..self.scenario.probes_from)?;

        self.note("calm");
        self.simulation.world().calm();
        self.rest()?;
        self.admit(self.scenario.probes_from..self.scenario.connections.len())?;
        self.rest()?;

        if self.ledger.borrow().renews {
            let ledger = Rc::clone(&self.ledger);
            self.simulation.run_until(move || !ledger.borrow().renews)?;
            self.rest()?;
        }

        self.note("rest");
        let counted = self.counted();
        for (core, before) in self.cores().zip(&at_rest) {
            let usage = self.simulation.usage(core);
            if usage != *before {
                self.breaks(Law::Leak, format!("core {core}: {usage:?}, at first {before:?}"));
            }
        }

        self.note("drain");
        for fellow in self.fellows.iter() {
            if fellow
                .sender
                .send(CoreMessage::Drain { timeout: DRAIN_TIMEOUT, left: Default::default(), last: None })
                .is_err()
            {
                self.breaks(Law::Restless, "a mailbox is full");
            }
        }
        self.simulation.run_for(DRAIN_TIMEOUT + Duration::from_secs(3))?;
        for core in self.cores() {
            if !self.simulation.main_has_ended(core) {
                self.breaks(Law::Restless, format!("core {core} does not end"));
            }
        }
        let panics = self.simulation.task_panics();
        if panics > 0 {
            self.breaks(Law::Panicked, format!("{panics} tasks"));
        }
        Ok(counted)
    }

    fn cores(&self) -> std::ops::Range<usize> {
        0..self.scenario.cores
    }

    /// Lets these connections come and end.
    fn admit(&mut self, numbers: std::ops::Range<usize>) -> Result<(), Stopped> {
        let core = self.simulation.core(self.peers).clone();
        self.ledger.borrow_mut().clients_open = numbers.len();
        for number in numbers {
            core.spawn(client::play(core.clone(), Rc::clone(&self.ledger), number));
        }
        let ledger = Rc::clone(&self.ledger);
        self.simulation.run_until(move || ledger.borrow().clients_open == 0)
    }

    /// Lets every deadline of the engine pass.
    fn rest(&mut self) -> Result<(), Stopped> {
        let times = &self.scenario.times;
        self.simulation.run_for(times.silence_max() + times.upstream_idle + Duration::from_secs(5))
    }

    fn counted(&self) -> Counted {
        let latest =
            self.ledger.borrow().generations.last().map_or_else(|| Arc::clone(&self.generation), Arc::clone);
        let stats = || latest.stats.iter().map(|stats| &**stats);
        let sum = |counters: &dyn Fn(&CoreStats) -> Vec<&Counter>| -> u64 {
            stats()
                .flat_map(|stats| counters(stats).into_iter().map(Counter::value).collect::<Vec<_>>())
                .sum()
        };
        let listeners = |counter: fn(&proxy::stats::ListenerCounters) -> &Counter| {
            sum(&|stats| stats.listeners.iter().map(|listener| counter(listener)).collect())
        };
        let channels = |counter: fn(&proxy::stats::ChannelCounters) -> &Counter| {
            sum(&|stats| stats.channels.iter().map(|channel| counter(channel)).collect())
        };
        let endpoints = |counter: fn(&proxy::stats::EndpointCounters) -> &Counter| {
            sum(&|stats| stats.endpoints.iter().map(|endpoint| counter(endpoint)).collect())
        };
        let mut faults: BTreeMap<&'static str, u64> = BTreeMap::new();
        for stats in stats() {
            for (name, counter) in Fault::NAMES.iter().zip(&stats.faults) {
                *faults.entry(name).or_default() += counter.value();
            }
        }
        Counted {
            accepted: listeners(|listener| &listener.accepted),
            requests: listeners(|listener| &listener.requests),
            bytes_received: listeners(|listener| &listener.bytes_received),
            bytes_sent: listeners(|listener| &listener.bytes_sent),
            channel_requests: channels(|channel| &channel.requests),
            responses: std::array::from_fn(|class| {
                sum(&|stats| stats.channels.iter().map(|channel| &channel.responses[class]).collect())
            }),
            endpoint_requests: endpoints(|endpoint| &endpoint.requests),
            connections_opened: endpoints(|endpoint| &endpoint.connections_opened),
            faults,
            gauges: vec![
                ("connections_open", listeners(|listener| &listener.connections_open)),
                ("exchanges_open", listeners(|listener| &listener.exchanges_open)),
                ("endpoint connections active", endpoints(|endpoint| &endpoint.active)),
                ("endpoint connections idle", endpoints(|endpoint| &endpoint.idle)),
                ("older generations", stats().map(|stats| stats.core.generations.value() - 1).sum()),
                ("task_panics", stats().map(|stats| stats.runtime.task_panics.value()).sum()),
            ],
        }
    }

    /// Judges what happened and takes everything down.
    fn close(self, counted: &Counted) -> Outcome {
        let world = self.simulation.world().clone();
        if self.prints {
            println!("the network, as far back as it is known:");
            world.trace(usize::MAX).iter().for_each(|event| println!("{event}"));
        }
        let now = world.now();
        let mut tally = if self.ledger.borrow().broken.is_none() {
            judge(&mut self.ledger.borrow_mut(), counted, now)
        } else {
            Tally::default()
        };
        tally_faults(&world, &mut tally);
        tally_generations(&self.ledger.borrow(), &mut tally);
        tally.add(format!("scenario.{:?}", self.scenario.character).to_lowercase(), 1);
        tally.add(format!("network.{:?}", self.scenario.network).to_lowercase(), 1);
        let trace = (world.trace_hash(), self.ledger.borrow().trace_hash());
        let remains = self.simulation.finish();
        if !remains.is_clean() {
            self.ledger.borrow_mut().breaks(now, Law::Leak, format!("at the end: {remains:?}"));
        }
        let ledger = self.ledger.borrow();
        let begun = ledger.requests.iter().flatten().filter(|request| request.begun_at.is_some()).count();
        Outcome {
            seed: self.scenario.seed,
            broken: ledger.broken.clone(),
            tally,
            trace_hash: trace.0 ^ trace.1.rotate_left(17),
            exchanges: begun as u64,
            virtual_time: now.since(ledger.began_at),
        }
    }
}

/// Peers have more room than any scenario needs: what they hold back is planned.
fn roomy(config: &mut runtime::CoreConfig) {
    config.buffers_per_lane = 64;
    config.buffer_bytes = 16 * 1024;
}

/// An engine that runs. Whoever has the keeper is control.
pub(crate) struct Started {
    pub(crate) fellows: Arc<[Fellow]>,
    pub(crate) generation: Arc<Generation>,
    pub(crate) keeper: Keeper,
}

/// Starts the engine's cores as its process does: one listening socket each, a mailbox each.
pub(crate) fn start_engine(
    simulation: &mut Simulation,
    host: HostId,
    cores: usize,
    snapshot: &Arc<Snapshot>,
    on_failure: &Rc<dyn Fn(Instant, String)>,
) -> Started {
    let mut parts = Vec::new();
    for _ in 0..cores {
        let remote = Remote::new().expect("a descriptor for the core's wake-ups");
        let counters = Arc::new(RuntimeCounters::default());
        let (sender, receiver) = mailbox(&remote, MAILBOX_CAPACITY);
        parts.push((remote, counters, receiver, Fellow { sender }));
    }
    let fellows: Arc<[Fellow]> = parts.iter().map(|(_, _, _, fellow)| fellow.clone()).collect();
    let keeper = Keeper::new(snapshot, address_of);
    let counters = parts.iter().map(|(_, counters, _, _)| Arc::clone(counters));
    let roster = Arc::clone(keeper.roster());
    let generation = Generation::first(Arc::clone(snapshot), roster, Arc::default(), counters);
    for (remote, counters, mailbox, _) in parts {
        let listen = |listener: &config::snapshot::Listener| {
            let bind = listener.bind.tcp().expect("every scenario has TCP listeners");
            simulation.world().listen(host, bind, listener.backlog).expect("a free port")
        };
        let listeners: Vec<(ListenerId, Handle)> =
            (0..).map(ListenerId).zip(snapshot.listeners.iter().map(listen)).collect();
        let process = &snapshot.process;
        let config = Rc::new(RefCell::new(None));
        let given = Rc::clone(&config);
        let on_failure = Rc::clone(on_failure);
        let configure = |core: &mut runtime::CoreConfig| {
            core.buffers_per_lane = process.buffers_per_core / 2;
            core.buffer_bytes = process.buffer_bytes;
            core.remote = remote;
            core.counters = counters;
            *given.borrow_mut() = Some(core.clone());
        };
        let (generation, fellows) = (Arc::clone(&generation), Arc::clone(&fellows));
        let main = move |core: Core| async move {
            let config = config.borrow_mut().take().expect("configured before it starts");
            let setup = CoreSetup { config, generation, listeners, mailbox, fellows };
            if let Err(error) = proxy::serve_on(core.clone(), setup).await {
                on_failure(core.now(), format!("the core did not start: {error}"));
            }
        };
        simulation.start(host, configure, main).expect("a core of the engine");
    }
    Started { fellows, generation, keeper }
}

pub(crate) fn address_of(endpoint: &EndpointAddress) -> Address {
    match endpoint {
        EndpointAddress::Tcp(address) => (*address).into(),
        EndpointAddress::Unix(_) | EndpointAddress::Listener(_) => unreachable!("no scenario has one"),
    }
}

fn start_origins(simulation: &mut Simulation, host: HostId, ledger: &Rc<RefCell<Ledger>>) {
    let number = simulation.start(host, roomy, |_| std::future::pending()).expect("a core for the origins");
    let core = simulation.core(number).clone();
    let scenario = Rc::clone(&ledger.borrow().scenario);
    for (endpoint, address) in scenario.upstreams.iter().flat_map(|upstream| &upstream.endpoints).enumerate()
    {
        let handle = simulation.world().listen(host, *address, 128).expect("a free port");
        let listener = core.adopt_listener(handle).expect("a listener");
        core.spawn(origin::listen(core.clone(), Rc::clone(ledger), listener, endpoint));
    }
}

fn tally_faults(world: &runtime::simulation::World, tally: &mut Tally) {
    let counts = world.fault_counts();
    for (name, count) in [
        ("network.splits", counts.splits),
        ("network.delays", counts.delays),
        ("network.stalls", counts.stalls),
        ("network.stalls_for_ever", counts.stalls_for_ever),
        ("network.resets", counts.resets),
        ("network.partial_sends", counts.partial_sends),
        ("network.blocked_sends", counts.blocked_sends),
        ("network.partial_receives", counts.partial_receives),
        ("network.refusals", counts.refusals),
        ("network.black_holes", counts.black_holes),
        ("network.slow_connects", counts.slow_connects),
        ("host.descriptors_refused", counts.descriptors_refused),
        ("host.accepts_aborted", counts.accepts_aborted),
        ("host.spurious_events", counts.spurious_events),
        ("host.late_events", counts.late_events),
        ("host.slow_turns", counts.slow_turns),
        ("host.clock_jumps", counts.clock_jumps),
    ] {
        tally.add(name, count);
    }
}
