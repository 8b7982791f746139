//! What does a warden make of probes and reports, at which time?

use std::net::SocketAddr;

use config::snapshot::EndpointAddress;

use super::*;
use crate::roster::member::WEIGHT_ONE;
use crate::roster::report::Failure;

const UPSTREAM: UpstreamId = UpstreamId(0);

/// Three endpoints, whose probes end as they are told, at a time that is told.
struct Scene {
    keeper: Keeper,
    warden: Warden,
    now: Duration,
    /// By port less one: why a probe fails, if it does.
    faults: [Option<&'static str>; 3],
    probes: [u32; 3],
    events: Vec<Event>,
}

impl Scene {
    fn new(keys: &str) -> Self {
        let text = format!(
            "[listener.web]\nbind = '127.0.0.1:1'\n[channel.c]\nupstream = 'u'\n[upstream.u]\n\
             endpoints = ['10.0.0.1:1', '10.0.0.1:2', '10.0.0.1:3']\n{keys}"
        );
        let loaded = config::load_str("a.toml", &text, config::Format::Toml, &|_| None);
        let snapshot = Arc::new(loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot);
        let keeper = Keeper::new(&snapshot, |written| match written {
            EndpointAddress::Tcp(address) => (*address).into(),
            other => panic!("{other:?}"),
        });
        let warden = Warden::new(&snapshot);
        let (faults, events) = ([None; 3], Vec::new());
        let mut scene = Self { keeper, warden, now: Duration::ZERO, faults, probes: [0; 3], events };
        scene.turn();
        scene
    }

    /// What control does at one moment.
    fn turn(&mut self) {
        self.warden.turn(&mut self.keeper, self.now, &mut self.events);
        while let Some(order) = self.warden.next_probe(&self.keeper, self.now) {
            let slot = usize::from(order.member.id.0);
            self.probes[slot] += 1;
            let outcome = self.faults[slot].map_or(Ok(()), |fault| Err(fault.to_owned()));
            let probed = Probed { order, outcome, took: Duration::from_millis(1) };
            self.warden.probed(&mut self.keeper, &probed, self.now, 0, &mut self.events);
        }
    }

    /// Lets time pass, and does what becomes due in it when it does.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.warden.next_time().filter(|next| *next <= end) {
            assert!(next > self.now, "what was due at {next:?} has been done");
            self.now = next;
            self.turn();
        }
        self.now = end;
    }

    fn fail(&mut self, slot: usize, times: u32) {
        let member = self.keeper.roster().members(UPSTREAM).all[slot].clone();
        for _ in 0..times {
            self.keeper.roster().note_failure(member.id, member.generation, Failure::Broken);
        }
        self.turn();
    }

    fn states(&self) -> String {
        let state = |member: &Member| match member.state {
            State::Up => 'u',
            State::Down => 'd',
            State::Ejected => 'e',
            State::Draining => 'l',
        };
        self.keeper.roster().members(UPSTREAM).all.iter().map(state).collect()
    }

    fn weight(&self, slot: usize) -> u32 {
        self.keeper.roster().members(UPSTREAM).all[slot].weight
    }

    /// What was told since this was asked last.
    fn told(&mut self) -> Vec<String> {
        let prefix = "upstream.u";
        self.events
            .drain(..)
            .map(|event| event.text.strip_prefix(prefix).expect("whose").to_owned())
            .collect()
    }
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn the_first_probe_decides_at_once_and_those_after_it_by_rise_and_fall() {
    let mut scene = Scene::new("health = { jitter = '0%', rise = 2, fall = 3 }");
    assert_eq!(scene.probes, [1; 3]);
    assert_eq!((scene.states().as_str(), scene.told().len()), ("uuu", 0));
    scene.faults[1] = Some("connection refused");
    scene.pass(millis(2_000));
    assert_eq!(scene.states(), "uuu", "one failed");
    scene.pass(millis(1_000));
    assert_eq!(scene.states(), "udu", "three failed, the last two in a hurry");
    let cause = ": connection refused (3 probes in a row)";
    assert_eq!(scene.told(), [format!(" endpoint 10.0.0.1:2 is down{cause}; 2 of 3 left")]);
    scene.pass(secs(60));
    assert_eq!((scene.states().as_str(), scene.told().len()), ("udu", 0), "told once");
    scene.faults[1] = None;
    scene.pass(millis(1_000));
    assert_eq!(scene.states(), "uuu");
    assert_eq!(scene.told(), [" endpoint 10.0.0.1:2 is up: well (2 probes in a row); 3 of 3 up"]);
    let ward = scene.warden.ward(UPSTREAM, EndpointId(1)).expect("watched");
    assert_eq!((ward.cause(), ward.since()), (Some("well (2 probes in a row)"), scene.now));
    let tally = scene.warden.tally(EndpointId(1));
    assert_eq!((tally.downs, tally.ups, tally.ejections), (1, 1, 0));
    assert_eq!(tally.probes_good + tally.probes_failed, u64::from(scene.probes[1]));
}

#[test]
fn who_is_down_from_the_beginning_is_found_out_by_one_probe() {
    let mut scene = Scene::new("health = {}");
    assert_eq!(scene.states(), "uuu");
    let mut other = Scene { faults: [Some("status 500"), None, None], ..Scene::new("health = {}") };
    assert_eq!(other.probes, [1; 3]);
    // One that comes later is asked when it does.
    let terms = config::snapshot::EndpointTerms::default();
    let address = SocketAddr::from(([10, 0, 0, 9], 1)).into();
    let added = crate::roster::member::Source::Added;
    other.keeper.remove(UPSTREAM, EndpointId(0)).expect("it is there");
    other.keeper.add(UPSTREAM, "10.0.0.1:1", address, terms, added).expect("room");
    other.turn();
    assert_eq!(other.states(), "duu");
    assert_eq!(other.told(), [" endpoint 10.0.0.1:1 is down: status 500 (1 probe); 2 of 3 left"]);
    assert_eq!(scene.told(), Vec::<String>::new());
}

#[test]
fn a_failure_of_traffic_hurries_the_next_probe() {
    let mut scene =
        Scene::new("health = { interval = '1h', fast_interval = '500ms', jitter = '0%', fall = 3 }");
    scene.pass(secs(60));
    scene.faults[2] = Some("connection refused");
    scene.fail(2, 1);
    assert_eq!(scene.probes, [1, 1, 2], "at once");
    scene.pass(millis(1_000));
    assert_eq!(scene.states(), "uud");
}

#[test]
fn failures_in_a_row_eject_for_longer_each_time() {
    let mut scene = Scene::new("ejection = { failures = 3, time = '10s' }");
    scene.fail(0, 2);
    assert_eq!(scene.states(), "uuu");
    scene.keeper.roster().note_success(EndpointId(0));
    scene.fail(0, 2);
    assert_eq!(scene.states(), "uuu", "not in a row");
    for time in [10, 20, 40] {
        scene.fail(0, 3);
        assert_eq!(scene.states(), "euu");
        scene.pass(secs(time) - millis(1));
        assert_eq!(scene.states(), "euu", "{time}");
        scene.pass(millis(1));
        assert_eq!(scene.states(), "uuu", "{time}");
    }
    let told = scene.told();
    let cause = ": connection broken before an answer (3 failures in a row)";
    assert_eq!(told[0], format!(" endpoint 10.0.0.1:1 is ejected for 10s{cause}; 2 of 3 left"));
    assert_eq!(told[1], " endpoint 10.0.0.1:1 is back after its ejection; 3 of 3 up");
    assert_eq!(scene.warden.tally(EndpointId(0)).ejections, 3);
}

#[test]
fn no_more_than_their_share_is_ejected() {
    let mut scene = Scene::new("ejection = { failures = 1, share_max = '50%' }");
    scene.fail(0, 1);
    scene.fail(1, 1);
    assert_eq!(scene.states(), "euu");
    assert_eq!(scene.warden.tally(EndpointId(1)).ejections_refused, 1);
    scene.pass(secs(10));
    scene.fail(1, 1);
    assert_eq!(scene.states(), "ueu", "there is room again");
}

#[test]
fn who_is_ejected_comes_back_only_when_a_probe_finds_it_well() {
    let mut scene =
        Scene::new("ejection = { failures = 1, time = '10s' }\nhealth = { fall = 100, jitter = '0%' }");
    scene.fail(0, 1);
    assert_eq!(scene.states(), "euu");
    scene.faults[0] = Some("status 500");
    scene.pass(secs(20));
    assert_eq!(scene.states(), "euu", "its time is over");
    scene.faults[0] = None;
    scene.pass(millis(500));
    assert_eq!(scene.states(), "uuu");
}

#[test]
fn who_comes_up_gets_its_weight_step_by_step_and_who_was_there_has_it() {
    let mut scene =
        Scene::new("health = { jitter = '0%', fall = 1, rise = 1 }\nslow_start = { time = '20s' }");
    assert_eq!(scene.weight(0), WEIGHT_ONE);
    scene.faults[0] = Some("connection refused");
    scene.pass(secs(2));
    scene.faults[0] = None;
    scene.pass(millis(500));
    assert_eq!(scene.states(), "uuu");
    assert_eq!(scene.weight(0), 1);
    let mut weights = Vec::new();
    for _ in 0..20 {
        scene.pass(secs(1));
        weights.push(scene.weight(0));
    }
    let expected: Vec<u32> = (1..=20).map(|second| WEIGHT_ONE * second / 20).collect();
    assert_eq!(weights, expected);
    scene.faults[0] = Some("connection refused");
    scene.pass(secs(3));
    assert_eq!((scene.states().as_str(), scene.weight(0)), ("duu", WEIGHT_ONE), "no weight for who is out");
}

#[test]
fn who_changes_all_the_time_is_told_of_now_and_then_and_how_it_is_in_the_end() {
    let mut scene = Scene::new("health = { jitter = '0%', interval = '100ms', fall = 1, rise = 1 }");
    for round in 0..100 {
        scene.faults[0] = (round % 2 == 0).then_some("connection refused");
        scene.pass(millis(100));
    }
    let changes = scene.warden.tally(EndpointId(0)).downs + scene.warden.tally(EndpointId(0)).ups;
    assert!(changes >= 99, "{changes}");
    let told = scene.told();
    assert!(told.len() <= 2, "{told:?}");
    scene.pass(secs(20));
    let told = scene.told();
    let last = told.last().expect("how it is in the end");
    assert!(
        last.starts_with(" endpoint 10.0.0.1:1 is up: well (1 probe); ") && last.contains("not told"),
        "{last}"
    );
    scene.pass(secs(100));
    assert_eq!(scene.told(), Vec::<String>::new());
}

#[test]
fn a_panic_is_told_when_it_begins_and_when_it_ends() {
    let mut scene = Scene::new("health = { jitter = '0%', fall = 1, rise = 1 }\npanic_threshold = '50%'");
    scene.faults = [Some("status 500"), Some("status 500"), None];
    scene.pass(secs(2));
    assert!(scene.keeper.roster().members(UPSTREAM).is_panic);
    let told = scene.told();
    assert_eq!(told[2], ": so few endpoints are up that all get traffic (panic_threshold); 1 of 3 left");
    scene.pass(secs(20));
    scene.faults = [None; 3];
    scene.pass(secs(2));
    assert!(!scene.keeper.roster().members(UPSTREAM).is_panic);
    let told = scene.told();
    assert!(
        told.iter().any(|text| text.starts_with(": enough endpoints are up: only those get traffic")),
        "{told:?}"
    );
}

#[test]
fn nobody_is_watched_without_a_reason() {
    let mut scene = Scene::new("");
    scene.fail(0, 100);
    assert_eq!((scene.states().as_str(), scene.probes), ("uuu", [0; 3]));
    assert_eq!(scene.warden.next_time(), None);
    assert!(scene.warden.ward(UPSTREAM, EndpointId(0)).is_none());
}

#[test]
fn a_probe_that_could_not_be_made_says_nothing_of_the_endpoint() {
    let mut scene = Scene::new("health = { jitter = '0%', fall = 1 }");
    scene.now = secs(2);
    let order = scene.warden.next_probe(&scene.keeper, scene.now).expect("due");
    scene.warden.not_probed(&order, scene.now, 0);
    assert_eq!(scene.states(), "uuu");
    scene.turn();
    assert_eq!(scene.probes, [1, 2, 2], "it waits for its turn");
    scene.pass(secs(2));
    assert_eq!(scene.probes[0], 2);
}

impl Scene {
    /// Another configuration takes over, with these keys of the same upstream.
    fn go_on(&mut self, keys: &str) {
        let Scene { warden, keeper, .. } = Self::new(keys);
        let snapshot = warden.snapshot;
        drop(keeper);
        let address_of = |written: &EndpointAddress| match written {
            EndpointAddress::Tcp(address) => (*address).into(),
            other => panic!("{other:?}"),
        };
        self.keeper = self.keeper.next(&snapshot, address_of);
        self.warden = self.warden.next(&snapshot, &mut self.keeper, self.now);
        self.turn();
    }
}

#[test]
fn another_configuration_knows_what_was_known() {
    let keys = "health = { jitter = '0%', rise = 2, fall = 3 }\nejection = { failures = 3, time = '10s' }";
    let mut scene = Scene::new(keys);
    scene.faults[1] = Some("connection refused");
    scene.pass(secs(10));
    scene.fail(2, 3);
    assert_eq!(scene.states(), "ude");
    let (probes, told) = (scene.probes, scene.told().len());
    assert_eq!(told, 2);
    let tally = *scene.warden.tally(EndpointId(1));
    scene.go_on(&format!("{keys}\nbalance = 'least_connections'"));
    assert_eq!((scene.states().as_str(), scene.told()), ("ude", Vec::new()), "nothing is found out anew");
    assert_eq!(scene.probes, probes, "and nobody asked before its time");
    assert_eq!(*scene.warden.tally(EndpointId(1)), tally);
    let ward = scene.warden.ward(UPSTREAM, EndpointId(1)).expect("watched");
    assert_eq!(ward.cause(), Some("connection refused (3 probes in a row)"));
    scene.faults[1] = None;
    scene.pass(secs(20));
    assert_eq!(scene.states(), "uuu", "what was begun is brought to its end");
}

#[test]
fn nobody_is_left_out_for_what_is_not_looked_for_any_more() {
    let mut scene = Scene::new(
        "health = { jitter = '0%' }\nejection = { failures = 3, time = '1h' }\nslow_start = { time = '1h' }",
    );
    scene.faults[1] = Some("connection refused");
    scene.pass(secs(10));
    scene.fail(2, 3);
    scene.keeper.drain(UPSTREAM, EndpointId(1), true).expect("it is there");
    assert_eq!(scene.states(), "ule");
    scene.go_on("");
    assert_eq!(scene.states(), "ulu");
    scene.keeper.drain(UPSTREAM, EndpointId(1), false).expect("it is there");
    assert_eq!(scene.states(), "uuu", "nor for what a drain had hidden");
    assert_eq!(scene.weight(2), WEIGHT_ONE);
    assert!(scene.warden.next_time().is_none());
}
