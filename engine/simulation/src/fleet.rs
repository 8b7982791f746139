//! Does an upstream whose endpoints die, hang, are cut off, come back, come, go and change their weight ever lose a request, send
//! one twice, ask who is not to be asked, or find nobody though somebody is there?
//!
//! Never looks into the engine: what clients and members saw, what control said, and what was counted, says whether the laws
//! hold.

mod book;
mod client;
mod control;
mod member;
mod plan;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proxy::Fellow;
use proxy::generation::Generation;
use proxy::message::CoreMessage;
use proxy::stats::{EndpointCounters, ListenerCounters};
use runtime::Instant;
use runtime::counter::Counter;
use runtime::simulation::{HostConfig, HostId, Limits, LinkFaults, Odds, Simulation, Stopped};

use self::book::{Book, Outcome, Request};
use self::control::Control;
use self::member::{Condition, Member};
use self::plan::{Asked, CLIENTS, Change, Character, ENGINE, Plan, address_of};
use crate::world::{Started, start_engine};

/// Longest time that the calm network and a busy member take to notice what was sent.
const SEGMENT_TIME_MAX: Duration = Duration::from_millis(1);
/// How long the engine lets a client be idle; longer than any client pauses.
const IDLE: Duration = Duration::from_secs(600);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests for each member once everything is well: each must be reached by then.
const PROBES: usize = 16;

/// How one seed ended, and what was met.
#[derive(Clone, Debug, Default)]
pub struct Sailed {
    /// The first law that was broken.
    pub broken: Option<String>,
    /// How often each thing was met.
    pub met: BTreeMap<String, u64>,
    /// A number that differs when anything happened otherwise or at another moment.
    pub trace_hash: u64,
}

impl Sailed {
    fn add(&mut self, what: impl Into<String>, count: u64) {
        if count > 0 {
            *self.met.entry(what.into()).or_default() += count;
        }
    }

    /// Takes another's counts in.
    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.met {
            self.add(what.clone(), *count);
        }
    }
}

impl fmt::Display for Sailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.met.iter().try_for_each(|(what, count)| writeln!(f, "  {what:<36} {count:>12}"))?;
        self.broken.as_ref().map_or(Ok(()), |broken| write!(f, "broken: {broken}"))
    }
}

/// Plays the scenario of a seed; `prints` shows what it is and everything that happens.
///
/// # Panics
/// When the scenario itself is at fault: its configuration or its hosts.
#[must_use]
pub fn play_fleet(seed: u64, prints: bool) -> Sailed {
    let plan = Plan::of(seed);
    if prints {
        println!("{plan:#?}\n{}", plan.config);
    }
    let mut stage = Stage::set(seed, plan, prints);
    if let Err(stopped) = stage.perform() {
        stage.book.borrow_mut().breaks(format!("Restless: {:?}\n{}", stopped.reason, stopped.alive));
    }
    stage.close()
}

/// Everything that a fleet needs to be played.
struct Stage {
    plan: Plan,
    simulation: Simulation,
    book: Rc<RefCell<Book>>,
    fellows: Arc<[Fellow]>,
    generation: Arc<Generation>,
    engine: HostId,
    hosts: Vec<HostId>,
    members: Vec<Rc<Member>>,
    control: Rc<Control>,
    /// Core of the clients.
    clients: usize,
    /// By client: its requests among all; the last range is asked when all is well again.
    ranges: Vec<std::ops::Range<usize>>,
}

impl Stage {
    fn set(seed: u64, plan: Plan, prints: bool) -> Self {
        let limits = Limits { virtual_time_max: Duration::from_secs(7_200), steps_max: 3_000_000 };
        let mut simulation = Simulation::new(seed, plan.faults.clone(), limits);
        let host = |name: &str, address: IpAddr| {
            let mut config = HostConfig::new(name);
            config.addresses = vec![address];
            simulation.world().host(config)
        };
        let engine = host("engine", ENGINE.into());
        let clients = host("clients", CLIENTS.into());
        let hosts: Vec<_> = (0..plan.members).map(|number| host("member", address_of(number).ip())).collect();

        let loaded = config::load_str("fleet", &plan.config, config::Format::Toml, &|_| None);
        let snapshot =
            Arc::new(loaded.unwrap_or_else(|problems| panic!("{problems}\n{}", plan.config)).snapshot);
        let began = Some(simulation.world().now());
        let book = Rc::new(RefCell::new(Book { members: plan.members, prints, began, ..Book::default() }));
        let told = Rc::clone(&book);
        let on_failure: Rc<dyn Fn(Instant, String)> =
            Rc::new(move |_, what| told.borrow_mut().breaks(format!("Restless: {what}")));
        let Started { fellows, generation, keeper } =
            start_engine(&mut simulation, engine, plan.cores, &snapshot, &on_failure);
        let mut idle = |host| {
            let number =
                simulation.start(host, |_| {}, |_| std::future::pending()).expect("a core for a peer");
            (number, simulation.core(number).clone())
        };
        let (clients, _) = idle(clients);
        let members: Vec<_> = (0..)
            .zip(&hosts)
            .map(|(number, host)| Member::new(number, *host, idle(*host).1, &book))
            .collect();
        let control = Control::new(idle(engine).1, &book, keeper, &fellows, &generation, &plan);
        let ranges = enter_requests(&plan, &mut book.borrow_mut());
        Self { plan, simulation, book, fellows, generation, engine, hosts, members, control, clients, ranges }
    }

    /// The storm, the calm after it, and the end.
    fn perform(&mut self) -> Result<(), Stopped> {
        let world = self.simulation.world().clone();
        self.members.iter().for_each(|member| member.set(&world, Condition::Well));
        let core = self.simulation.core(self.clients + 1 + self.plan.members).clone();
        core.spawn(Rc::clone(&self.control).work());
        self.simulation.run_for(Duration::from_millis(50))?;
        let clients = self.ranges.len() - 1;
        self.admit(0..clients);
        let began = world.now();
        for step in self.plan.steps.clone() {
            let passed = world.now().since(began);
            self.simulation.run_for(step.at.saturating_sub(passed))?;
            self.apply(step.member, step.change);
        }
        let book = Rc::clone(&self.book);
        self.simulation.run_until(move || book.borrow().clients_open == 0)?;

        world.calm();
        for member in 0..self.plan.members {
            self.apply(member, Change::Recovers);
        }
        // Somebody is to be asked.
        for change in [Change::IsAdded, Change::DrainsNoMore, Change::Weighs(1)] {
            self.apply(0, change);
        }
        // Every deadline passes, and control sees who is well.
        self.simulation.run_for(Duration::from_secs(70))?;
        self.admit(clients..clients + 1);
        let book = Rc::clone(&self.book);
        self.simulation.run_until(move || book.borrow().clients_open == 0)?;
        self.book.borrow_mut().control_ended = true;
        // A client whose link has stopped for ever is idle to the engine.
        self.simulation.run_for(IDLE + Duration::from_secs(70))?;

        for fellow in self.fellows.iter() {
            if fellow
                .sender
                .send(CoreMessage::Drain { timeout: DRAIN_TIMEOUT, left: Default::default(), last: None })
                .is_err()
            {
                self.book.borrow_mut().breaks("Restless: a mailbox is full");
            }
        }
        self.simulation.run_for(DRAIN_TIMEOUT + Duration::from_secs(3))?;
        let still = (0..self.plan.cores).filter(|core| !self.simulation.main_has_ended(*core)).count();
        if still > 0 || self.simulation.task_panics() > 0 {
            let panics = self.simulation.task_panics();
            self.book.borrow_mut().breaks(format!("Restless: {still} cores do not end, {panics} panics"));
        }
        Ok(())
    }

    /// Lets these clients come.
    fn admit(&mut self, clients: std::ops::Range<usize>) {
        let core = self.simulation.core(self.clients).clone();
        self.book.borrow_mut().clients_open = clients.len();
        for client in clients {
            let starts = self.plan.clients.get(client).map_or(Duration::ZERO, |plan| plan.starts_at);
            let (book, range) = (Rc::clone(&self.book), self.ranges[client].clone());
            core.spawn(client::ask(core.clone(), book, range, core.now() + starts));
        }
    }

    fn apply(&self, member: usize, change: Change) {
        let world = self.simulation.world();
        let host = self.hosts[member];
        self.book.borrow().note(|| format!("member {member} {change:?}"));
        match change {
            Change::Dies => self.members[member].set(world, Condition::Dead),
            Change::Hangs => self.members[member].set(world, Condition::Hanging),
            Change::IsCutOff => {
                let lost = LinkFaults {
                    stalled_for_ever: Odds::ALWAYS,
                    black_hole: Odds::ALWAYS,
                    ..LinkFaults::calm()
                };
                world.set_link(self.engine, host, lost);
            }
            Change::Recovers => {
                let link = match self.plan.character {
                    Character::Stormy => LinkFaults::jittery(),
                    _ => self.plan.faults.link.clone(),
                };
                world.set_link(self.engine, host, link);
                self.members[member].set(world, Condition::Well);
            }
            change => self.control.manage(member, change),
        }
    }

    fn close(self) -> Sailed {
        let mut sailed = Sailed::default();
        self.judge(&mut sailed);
        sailed.trace_hash = self.simulation.world().trace_hash();
        sailed.add(format!("scenario.{:?}", self.plan.character).to_lowercase(), 1);
        for (what, count) in &self.book.borrow().met {
            sailed.add(*what, *count);
        }
        sailed.add(format!("balance.{}", self.plan.balance.name), 1);
        let Self { simulation, book, members, control, .. } = self;
        drop((members, control));
        let remains = simulation.finish();
        if !remains.is_clean() {
            book.borrow_mut().breaks(format!("Leak: {remains}"));
        }
        sailed.broken = book.borrow_mut().broken.take();
        sailed
    }

    /// The laws that can be told at the end.
    fn judge(&self, sailed: &mut Sailed) {
        let requests = self.book.borrow().requests.clone();
        for (id, request) in requests.iter().enumerate() {
            self.judge_request(id, request, sailed);
        }
        let last = self.ranges.last().cloned().unwrap_or_default();
        self.judge_probes(&requests[last]);
        self.judge_counters();
        self.judge_limits(sailed);
    }

    fn judge_request(&self, id: usize, request: &Request, sailed: &mut Sailed) {
        let Some((begun, ended)) = request.begun.zip(request.ended) else { return };
        let deliveries = request.deliveries.len();
        let method = if request.asked.is_post { "post" } else { "get" };
        sailed.add(format!("delivered.{method}_{deliveries}_times"), 1);
        sailed.add(
            match request.outcome {
                Outcome::Own(status) => format!("outcome.own_{status}"),
                other => format!("outcome.{other:?}").to_lowercase(),
            },
            1,
        );
        let mut broken = Vec::new();
        // One more than it may be tried: a kept connection that turns out to be dead is no try.
        if deliveries > usize::from(self.plan.tries) + 1 {
            broken.push(format!("RepeatedTooOften: {id} {deliveries} times, {} allowed", self.plan.tries));
        }
        if request.outcome == Outcome::Answered && request.answered_by.is_empty() {
            broken.push(format!("AnswerInvented: to {id}"));
        }
        let has_network_faults = self.plan.character == Character::Stormy && !request.is_probe;
        if request.outcome == Outcome::Forgotten && !has_network_faults {
            broken.push(format!("DeadlineMissed: {id} was forgotten"));
        }
        // An answer has nothing in common with a connection that broke: somebody must have failed.
        let is_unharmed = match self.plan.character {
            _ if request.is_probe => true,
            Character::Managed => true,
            Character::OneAtATime => !request.asked.is_post,
            Character::Stormy => false,
        };
        let may_be_turned_away = self.plan.limits.turn_away() && !request.is_probe;
        let is_turned_away = request.outcome == Outcome::Own(503) && may_be_turned_away;
        sailed.add("found.full", u64::from(is_turned_away));
        if is_unharmed && request.outcome != Outcome::Answered && !is_turned_away {
            broken.push(format!("FailureNoticed: {method} {id} got {:?}", request.outcome));
        }
        let is_nobody = self.book.borrow().during(begun, ended).any(|list| list.candidates.is_empty());
        if request.outcome == Outcome::Own(503) && !is_nobody && !may_be_turned_away {
            broken.push(format!("Unreachable: {id} got 503 though somebody was there"));
        }
        sailed.add("found.nobody", u64::from(request.outcome == Outcome::Own(503) && is_nobody));
        broken.into_iter().for_each(|what| self.book.borrow_mut().breaks(what));
    }

    /// No more than was promised, as members see it. Where one hangs it does not see what is closed.
    fn judge_limits(&self, sailed: &mut Sailed) {
        if self.plan.character != Character::Managed || !self.plan.is_calm {
            return;
        }
        let mut book = self.book.borrow_mut();
        if let Some(max) = self.plan.limits.connections_max {
            let most = book.connections_max(SEGMENT_TIME_MAX);
            sailed.add("limit.connections_met", u64::from(most == max));
            if most > max {
                book.breaks(format!("LimitIgnored: {most} connections to a member, {max} allowed"));
            }
        }
        if let Some(max) = self.plan.limits.in_flight {
            let most = book.in_progress_max;
            sailed.add("limit.in_flight_met", u64::from(most == max));
            if most > max {
                book.breaks(format!("LimitIgnored: {most} requests at a time, {max} allowed"));
            }
        }
    }

    /// Once all is well, every candidate is reached.
    fn judge_probes(&self, probes: &[Request]) {
        let mut book = self.book.borrow_mut();
        let candidates = book.lists.last().map(|list| list.candidates.clone()).unwrap_or_default();
        let is_reached = |member: &usize| {
            probes.iter().any(|probe| probe.deliveries.iter().any(|(reached, _)| reached == member))
        };
        let missed: Vec<_> = candidates.iter().filter(|member| !is_reached(member)).collect();
        if self.plan.balance.reaches_all && !missed.is_empty() {
            let what = format!("Unreachable: members {missed:?} of {candidates:?} are up and got nothing");
            book.breaks(what);
        }
    }

    fn judge_counters(&self) {
        let endpoints = |counter: fn(&EndpointCounters) -> &Counter| -> u64 {
            let all = self.generation.stats.iter().flat_map(|stats| &stats.endpoints);
            all.map(|endpoint| counter(endpoint).value()).sum()
        };
        let listeners = |counter: fn(&ListenerCounters) -> &Counter| -> u64 {
            self.generation.stats.iter().map(|stats| counter(&stats.listeners[0]).value()).sum()
        };
        let gauges = [
            ("connections to endpoints in use", endpoints(|endpoint| &endpoint.active)),
            ("connections to endpoints kept", endpoints(|endpoint| &endpoint.idle)),
            ("connections of clients", listeners(|listener| &listener.connections_open)),
            ("exchanges", listeners(|listener| &listener.exchanges_open)),
        ];
        for (name, value) in gauges {
            if value != 0 {
                self.book.borrow_mut().breaks(format!("Leak: {value} {name} at the end"));
            }
        }
    }
}

/// Numbers all requests; says which are whose.
fn enter_requests(plan: &Plan, book: &mut Book) -> Vec<std::ops::Range<usize>> {
    let probe = Asked { is_post: false, pause: Duration::from_millis(1), service: Duration::ZERO };
    let probes = vec![probe; PROBES * plan.members];
    let clients = plan.clients.iter().map(|client| (&client.requests, false)).chain([(&probes, true)]);
    let mut ranges = Vec::new();
    for (requests, is_probe) in clients {
        let first = book.requests.len();
        book.requests.extend(requests.iter().map(|asked| Request {
            asked: *asked,
            is_probe,
            begun: None,
            ended: None,
            deliveries: Vec::new(),
            answered_by: Vec::new(),
            outcome: Outcome::Open,
        }));
        ranges.push(first..book.requests.len());
    }
    ranges
}
