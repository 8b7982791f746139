//! What becomes of a fleet of endpoints, and what is asked of it meanwhile? One seed, laid out before anything runs.
//!
//! Never changed while it is played.

use std::net::SocketAddr;
use std::time::Duration;

use runtime::simulation::{Faults, Odds};

use crate::dice::Dice;

pub(super) const ENGINE: [u8; 4] = [10, 0, 0, 1];
pub(super) const CLIENTS: [u8; 4] = [10, 0, 1, 1];
/// Time that passes between the disturbances of a scenario in which one member at a time fails.
const GAP: Duration = Duration::from_secs(60);

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Character {
    /// Nothing: members come, go and change their weight as somebody wishes, and no client may notice.
    Managed,
    /// Members fail one after the other, each well again before the next: no GET may fail.
    OneAtATime,
    /// Members fail as they please, and the network too.
    Stormy,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Balance {
    /// As it is written.
    pub(super) name: &'static str,
    /// What else is.
    pub(super) more: &'static str,
    /// Whether one client that asks for different things, one after the other, reaches all endpoints.
    pub(super) reaches_all: bool,
}

/// Every scheduler.
pub(super) const BALANCES: [Balance; 10] = [
    Balance { name: "round_robin", more: "", reaches_all: true },
    Balance { name: "least_connections", more: "", reaches_all: false },
    Balance { name: "random_two", more: "", reaches_all: false },
    Balance { name: "source_hash", more: "", reaches_all: false },
    Balance { name: "hash", more: "hash = { on = \"uri\", table = \"maglev\" }\n", reaches_all: true },
    Balance { name: "hash", more: "hash = { on = \"uri\", table = \"ketama\" }\n", reaches_all: true },
    Balance { name: "hash", more: "hash = { on = \"header:x-id\" }\n", reaches_all: true },
    Balance { name: "shortest_expected_delay", more: "", reaches_all: false },
    Balance { name: "never_queue", more: "", reaches_all: false },
    Balance { name: "least_time", more: "", reaches_all: false },
];

/// What happens to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Its process is gone: connections are reset, new ones refused.
    Dies,
    /// It takes connections and does nothing.
    Hangs,
    /// Nothing gets through to it or from it, and nobody is told.
    IsCutOff,
    /// Whatever it was, it is over.
    Recovers,
    /// Somebody takes it off the list.
    IsRemoved,
    /// Somebody puts it on the list.
    IsAdded,
    Drains,
    DrainsNoMore,
    Weighs(u16),
}

/// What is bounded, over all cores.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FleetLimits {
    /// Connections of each member.
    pub(super) connections_max: Option<u32>,
    pub(super) connections_min: Option<u32>,
    /// Exchanges of the upstream.
    pub(super) in_flight: Option<u32>,
    /// Requests that may wait, and for how long; enough of both for everybody, or tight.
    pub(super) queue: Option<(u32, Duration)>,
}

impl FleetLimits {
    fn of(dice: &mut Dice) -> Self {
        if dice.chance(50) {
            return Self::default();
        }
        let connections_max = dice.pick(&[1, 1, 2, 3]);
        let connections_min = (connections_max > 1 && dice.chance(30)).then_some(connections_max);
        let is_tight = dice.chance(40);
        Self {
            connections_max: Some(connections_max),
            connections_min,
            in_flight: (is_tight && dice.chance(50)).then(|| dice.between(1, 3) as u32),
            queue: Some(if is_tight {
                (dice.between(0, 2) as u32, dice.millis(1, 200))
            } else {
                (100, Duration::from_secs(60))
            }),
        }
    }

    /// Whether a request may be turned away although somebody is there.
    pub(super) fn turn_away(&self) -> bool {
        self.in_flight.is_some() || self.queue.is_some_and(|(size, _)| size < 100)
    }
}

/// A change, of which member, when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) member: usize,
    pub(super) change: Change,
}

/// One client: its requests, one after the other over one connection as long as that lasts.
#[derive(Clone, Debug)]
pub(super) struct ClientPlan {
    pub(super) starts_at: Duration,
    pub(super) requests: Vec<Asked>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) is_post: bool,
    /// Before it is sent.
    pub(super) pause: Duration,
    /// Before a member answers it.
    pub(super) service: Duration,
}

/// Everything that happens from one seed, apart from what the network does.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) character: Character,
    pub(super) cores: usize,
    pub(super) faults: Faults,
    pub(super) balance: Balance,
    /// Hosts; the first `written` of them are in the configuration.
    pub(super) members: usize,
    pub(super) written: usize,
    pub(super) tries: u8,
    pub(super) limits: FleetLimits,
    /// Nothing is delayed on the network.
    pub(super) is_calm: bool,
    /// How long a connection to a member, and the first byte of its answer, are waited for.
    pub(super) patience: [Duration; 2],
    pub(super) steps: Vec<Step>,
    pub(super) clients: Vec<ClientPlan>,
    pub(super) config: String,
}

/// Where a member is.
pub(super) fn address_of(member: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 2, member as u8 + 1], 9000))
}

pub(super) fn listener() -> SocketAddr {
    SocketAddr::from((ENGINE, 8000))
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x666c_6565);
        let character =
            dice.pick(&[Character::Managed, Character::OneAtATime, Character::Stormy, Character::Stormy]);
        let mut faults = match (character, dice.between(0, 2)) {
            (Character::Stormy, 0) => Faults::rough(),
            (Character::Stormy, 1) => Faults::swarm(seed),
            (_, 2) => Faults::jittery(),
            _ => Faults::calm(),
        };
        // A full table of descriptors is a 503 too, and is played elsewhere.
        faults.host.exhausted = Odds::NEVER;
        let written = dice.between(2, 4) as usize;
        let members = written + dice.between(0, 2) as usize;
        let is_calm = faults == Faults::calm();
        let tries = if character == Character::OneAtATime { 3 } else { dice.between(1, 3) as u8 };
        let mut plan = Self {
            character,
            cores: dice.pick(&[1, 2, 2, 3]),
            patience: [(); 2].map(|()| patience(is_calm, &mut dice)),
            faults,
            balance: dice.pick(&BALANCES),
            members,
            written,
            tries,
            limits: FleetLimits::of(&mut dice),
            is_calm,
            steps: Vec::new(),
            clients: Vec::new(),
            config: String::new(),
        };
        plan.steps = match character {
            Character::Managed => managed(&plan, &mut dice),
            Character::OneAtATime => one_at_a_time(&plan, &mut dice),
            Character::Stormy => stormy(&plan, &mut dice),
        };
        let end = plan.end().as_millis() as u64;
        plan.clients = (0..dice.between(1, 6)).map(|_| client(end, &mut dice)).collect();
        plan.config = config(&plan, is_calm, &mut dice);
        plan
    }

    /// When the last change has happened.
    pub(super) fn end(&self) -> Duration {
        self.steps.last().map_or(GAP, |step| step.at)
    }
}

fn patience(is_calm: bool, dice: &mut Dice) -> Duration {
    if is_calm { dice.millis(500, 2_000) } else { dice.millis(5_000, 8_000) }
}

fn client(end: u64, dice: &mut Dice) -> ClientPlan {
    let count = dice.between(3, 40);
    let pause_max = end / count + 1;
    let service_max = dice.pick(&[1, 50, 400]);
    let asked = |dice: &mut Dice| Asked {
        is_post: dice.chance(35),
        pause: dice.millis(0, pause_max),
        service: if dice.chance(50) { Duration::ZERO } else { dice.millis(0, service_max) },
    };
    ClientPlan { starts_at: dice.millis(0, end / 2), requests: (0..count).map(|_| asked(dice)).collect() }
}

/// Somebody manages the list, and leaves somebody on it who may be used.
fn managed(plan: &Plan, dice: &mut Dice) -> Vec<Step> {
    let mut at = Duration::from_secs(1);
    let mut is_listed: Vec<bool> = (0..plan.members).map(|member| member < plan.written).collect();
    let mut is_usable = is_listed.clone();
    let mut steps = Vec::new();
    for _ in 0..dice.between(3, 15) {
        at += dice.millis(1, 4_000);
        // The first is always there.
        let member = 1 + dice.index(plan.members - 1);
        let change = match (is_listed[member], is_usable[member]) {
            (false, _) => Change::IsAdded,
            (true, true) => {
                dice.pick(&[Change::IsRemoved, Change::Drains, Change::Weighs(0), Change::Weighs(3)])
            }
            (true, false) => Change::IsRemoved,
        };
        match change {
            Change::IsAdded => (is_listed[member], is_usable[member]) = (true, true),
            Change::IsRemoved => (is_listed[member], is_usable[member]) = (false, false),
            Change::Drains | Change::Weighs(0) => is_usable[member] = false,
            _ => {}
        }
        steps.push(Step { at, member, change });
        if matches!(change, Change::Drains | Change::Weighs(0)) && dice.chance(60) {
            at += dice.millis(1, 4_000);
            let back = if change == Change::Drains { Change::DrainsNoMore } else { Change::Weighs(1) };
            is_usable[member] = true;
            steps.push(Step { at, member, change: back });
        }
    }
    steps
}

/// Each fails alone, and is seen to be well before the next one fails.
fn one_at_a_time(plan: &Plan, dice: &mut Dice) -> Vec<Step> {
    let mut at = Duration::from_secs(2);
    let mut steps = Vec::new();
    for _ in 0..dice.between(1, 6) {
        let member = dice.index(plan.written);
        let change = dice.pick(&[Change::Dies, Change::Dies, Change::Hangs, Change::IsCutOff]);
        steps.push(Step { at, member, change });
        at += dice.millis(1, 15_000);
        steps.push(Step { at, member, change: Change::Recovers });
        at += GAP;
    }
    steps
}

fn stormy(plan: &Plan, dice: &mut Dice) -> Vec<Step> {
    let mut at = Duration::ZERO;
    let mut steps = Vec::new();
    for _ in 0..dice.between(3, 25) {
        at += dice.millis(0, 5_000);
        let member = dice.index(plan.members);
        let change = dice.pick(&[
            Change::Dies,
            Change::Dies,
            Change::Hangs,
            Change::IsCutOff,
            Change::Recovers,
            Change::Recovers,
            Change::Recovers,
            Change::IsRemoved,
            Change::IsAdded,
            Change::IsAdded,
            Change::Drains,
            Change::DrainsNoMore,
            Change::Weighs(0),
            Change::Weighs(1),
            Change::Weighs(5),
        ]);
        steps.push(Step { at, member, change });
    }
    steps
}

/// The configuration as an operator would write it.
fn config(plan: &Plan, is_calm: bool, dice: &mut Dice) -> String {
    let endpoints: Vec<String> =
        (0..plan.written).map(|member| endpoint(address_of(member), &plan.limits)).collect();
    let [connect, first_byte] = plan.patience;
    let on = r#"["connect", "reset", "timeout"]"#;
    format!(
        "[process]\nbuffers_per_core = 64\nbuffer_size = \"4KiB\"\n\n[admin]\nenabled = false\n\n\
         [listener.web]\nbind = \"{}\"\ntimeouts = {{ idle = \"10m\" }}\n\n[channel.all]\nupstream = \"fleet\"\n\n\
         [upstream.fleet]\nbalance = \"{}\"\nendpoints = [{}]\nendpoints_max = 8\nidle_connections = {}\n\
         idle_timeout = \"{}ms\"\ntimeouts = {{ connect = \"{}ms\", first_byte = \"{}ms\" }}\n\
         retry = {{ tries = {}, budget = \"100%\", on = {on} }}\n",
        listener(),
        plan.balance.name,
        endpoints.join(", "),
        dice.pick(&[0, 1, 64]),
        dice.between(500, 30_000),
        connect.as_millis(),
        first_byte.as_millis(),
        plan.tries,
    ) + plan.balance.more
        + &limits(&plan.limits)
        + &health(is_calm, dice)
}

fn endpoint(address: SocketAddr, limits: &FleetLimits) -> String {
    let key =
        |key: &str, value: Option<u32>| value.map_or(String::new(), |value| format!(", {key} = {value}"));
    format!(
        "{{ address = \"{address}\"{}{} }}",
        key("max_connections", limits.connections_max),
        key("min_connections", limits.connections_min)
    )
}

fn limits(limits: &FleetLimits) -> String {
    let mut text = String::new();
    if let Some((size, timeout)) = limits.queue {
        text += &format!("queue = {{ size = {size}, timeout = \"{}ms\" }}\n", timeout.as_millis());
    }
    if let Some(count) = limits.in_flight {
        text += &format!("limits = {{ in_flight = {count} }}\n");
    }
    text
}

/// What control does about members that fail.
fn health(is_calm: bool, dice: &mut Dice) -> String {
    let mut text = String::new();
    if dice.chance(80) {
        let interval = dice.between(500, 3_000);
        text += &format!(
            "health = {{ interval = \"{interval}ms\", fast_interval = \"{}ms\", timeout = \"{}ms\", rise = {}, fall = {} }}\n",
            dice.between(100, interval),
            patience(is_calm, dice).as_millis(),
            dice.between(1, 3),
            dice.between(1, 3),
        );
    }
    if dice.chance(60) {
        text += &format!(
            "ejection = {{ failures = {}, time = \"{}ms\", time_max = \"20s\", share_max = \"{}%\" }}\n",
            dice.between(1, 5),
            dice.between(500, 5_000),
            dice.pick(&[30, 50, 100]),
        );
    }
    if dice.chance(30) {
        let curve = dice.pick(&["linear", "exponential"]);
        let time = dice.between(100, 10_000);
        text += &format!("slow_start = {{ time = \"{time}ms\", curve = \"{curve}\" }}\n");
    }
    if dice.chance(30) {
        text += &format!("panic_threshold = \"{}%\"\n", dice.pick(&[10, 50, 100]));
    }
    text
}
