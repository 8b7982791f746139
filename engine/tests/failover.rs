//! Does a client notice when endpoints die, hang, flap, come back, are cut off, added or removed? Under load, with every request
//! counted where it arrived: no GET fails, no POST arrives twice, and every sum is exact.
//!
//! Never measures speed. `FAILOVER=long` tries it harder, for minutes: 2,000 requests a second, everything twenty times.

mod common;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::fleet::{Account, Host, Load, Member, Run};
use common::{eventually, on_both_drivers};
use rustix::process::Signal;
use serde_json::Value;

/// How hard it is tried.
#[derive(Clone, Copy)]
struct Effort {
    /// Requests a second, of which a quarter is POST.
    rate: u32,
    /// How often everything is done that is done several times.
    times: usize,
    /// Requests that go by between two disturbances.
    pause: u64,
}

/// For every run of the tests.
const SHORT: Effort = Effort { rate: 400, times: 3, pause: 100 };
/// What the figures in docs/failover.md stand for.
const LONG: Effort = Effort { rate: 2_000, times: 20, pause: 2_000 };

fn effort() -> Effort {
    if std::env::var_os("FAILOVER").is_some_and(|value| value == "long") { LONG } else { SHORT }
}

/// Between two looks at an endpoint's health.
const INTERVAL: Duration = Duration::from_millis(500);
/// Health, retries and deadlines as somebody sets them who wants nothing to be noticed.
const UPSTREAM: &str = r#"
timeouts = { connect = "500ms", first_byte = "1s" }
retry = { tries = 3, budget = "100%", on = ["connect", "reset", "timeout"] }
health = { protocol = "http", path = "/", interval = "500ms", fast_interval = "100ms", timeout = "300ms", rise = 1, fall = 1 }
"#;

/// An engine on two cores before its origins, under load.
struct Stage {
    effort: Effort,
    account: Account,
    members: Vec<Member>,
    engine: Engine,
    loads: [Load; 2],
}

impl Stage {
    fn set(driver: Driver, effort: Effort, count: usize) -> Self {
        let account = Account::open();
        let members: Vec<_> = (0..count).map(|_| account.member()).collect();
        Self::before(driver, effort, account, members)
    }

    fn before(driver: Driver, effort: Effort, account: Account, members: Vec<Member>) -> Self {
        let endpoints: Vec<SocketAddr> = members.iter().map(|member| member.address).collect();
        let config = Config { endpoints: &endpoints, upstream: UPSTREAM, ..Config::default() };
        let engine = Engine::start_on_cores(driver, 2, config);
        let loads = [("GET", effort.rate * 3 / 4), ("POST", effort.rate / 4)]
            .map(|(method, rate)| Load::start(&account, engine.web(), method, rate));
        let stage = Self { effort, account, members, engine, loads };
        stage.goes_on();
        stage
    }

    /// Waits until some more requests went by.
    #[track_caller]
    fn goes_on(&self) {
        let requests = || self.engine.counter("/totals/requests");
        let enough = requests() + self.effort.pause;
        eventually("the load goes on", || requests() >= enough);
    }

    /// Waits until the engine takes an endpoint for up, or not; says how long that took.
    #[track_caller]
    fn sees(&self, member: usize, is_up: bool) -> Duration {
        let began = Instant::now();
        let address = self.members[member].address.to_string();
        eventually(if is_up { "an endpoint is up" } else { "an endpoint is down" }, || {
            (state(&self.engine, &address) == "up") == is_up
        });
        began.elapsed()
    }

    /// Changes the endpoints by the admin listener.
    #[track_caller]
    fn manage(&self, method: &str, path: &str, body: &str) {
        let answer = Connection::open(self.engine.admin()).ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert!((200..300).contains(&answer.status()), "{method} {path}: {answer:?}");
    }

    /// Ends the load; what must hold whatever happened. What became of the POSTs.
    #[track_caller]
    fn judge(self) -> Run {
        let Self { engine, loads, members, account, .. } = self;
        let [get, post] = loads.map(Load::finish);
        for run in [&get, &post] {
            let ends =
                ["completed", "failed", "unanswered"].map(|end| run.count(&format!("/requests/{end}")));
            assert_eq!(run.sent(), ends.iter().sum::<u64>(), "{run:?}");
            assert_eq!(run.count("/delivery/uncounted"), 0, "{run:?}");
            assert!(run.sent() > 0, "{run:?}");
        }
        assert_eq!(get.sent(), get.count("/requests/completed"), "GETs failed: {}", get.failures());
        let post_count = |what: &str| post.count(&format!("/delivery/{what}"));
        assert_eq!((post_count("twice"), post_count("more")), (0, 0), "POSTs arrived twice: {post:?}");
        let completed = post.count("/requests/completed");
        assert!(completed <= post_count("once"), "{post:?}");
        assert_eq!(post_count("once") + post_count("never"), post.sent(), "{post:?}");
        // A POST that was on its way to an endpoint that died is told so, by an answer of the engine's.
        assert_eq!(post.count("/requests/failed"), post.errors("wrong_status"), "{}", post.failures());
        engine.assert_counter("/totals/requests", get.sent() + post.sent());
        eprintln!(
            "     {} GET, none failed, {} of them delivered again; {} POST, {} failed, none delivered twice; {} retries",
            get.sent(),
            get.count("/delivery/twice") + get.count("/delivery/more"),
            post.sent(),
            post.count("/requests/failed"),
            engine.counter("/totals/retries"),
        );
        drop((members, account));
        post
    }
}

/// What the engine thinks of the endpoint at `address`.
#[track_caller]
fn state(engine: &Engine, address: &str) -> String {
    let stats = engine.stats();
    let endpoints = stats.pointer("/upstreams/0/endpoints").and_then(Value::as_array).expect("endpoints");
    let endpoint = endpoints.iter().find(|endpoint| endpoint["address"] == address);
    let endpoint = endpoint.unwrap_or_else(|| panic!("no endpoint {address}: {stats:#}"));
    endpoint["state"].as_str().unwrap_or_else(|| panic!("no state: {endpoint:#}")).to_owned()
}

#[test]
fn one_of_three_is_killed_and_nobody_notices() {
    let effort = effort();
    on_both_drivers(|driver| {
        let mut stage = Stage::set(driver, effort, 3);
        for _ in 0..effort.times {
            stage.members[1].end(Signal::KILL);
            let took = stage.sees(1, false);
            eprintln!("     seen after {took:?}");
            assert!(took <= INTERVAL + SLACK, "only after {took:?}");
            stage.goes_on();
            stage.members[1].start_again();
            stage.sees(1, true);
            stage.goes_on();
        }
        stage.judge();
    });
}

/// What a busy machine adds to a deadline.
const SLACK: Duration = Duration::from_secs(1);

#[test]
fn a_rolling_restart_is_not_noticed() {
    let effort = effort();
    on_both_drivers(|driver| {
        let mut stage = Stage::set(driver, effort, 3);
        for nth in 0..effort.times {
            let member = nth % stage.members.len();
            stage.members[member].end(Signal::TERM);
            stage.sees(member, false);
            stage.members[member].start_again();
            stage.sees(member, true);
            stage.goes_on();
        }
        stage.judge();
    });
}

#[test]
fn an_endpoint_that_hangs_is_not_noticed() {
    let effort = effort();
    on_both_drivers(|driver| {
        let stage = Stage::set(driver, effort, 3);
        for _ in 0..effort.times.div_ceil(2) {
            // It accepts and never answers.
            stage.members[2].signal(Signal::STOP);
            stage.sees(2, false);
            stage.goes_on();
            stage.members[2].signal(Signal::CONT);
            stage.sees(2, true);
            stage.goes_on();
        }
        stage.judge();
    });
}

#[test]
fn an_endpoint_that_is_cut_off_is_not_noticed() {
    let effort = effort();
    let host = match Host::make() {
        Ok(host) => host,
        // Past the capture of a passing test's output: whoever reads the result must know.
        Err(why) => return drop(writeln!(io::stderr(), "no host can be cut off here, not tested: {why}")),
    };
    on_both_drivers(|driver| {
        let account = Account::open();
        let members = vec![account.member(), account.member(), account.member_on(&host)];
        let stage = Stage::before(driver, effort, account, members);
        for _ in 0..effort.times.div_ceil(2) {
            host.connect(false);
            stage.sees(2, false);
            stage.goes_on();
            host.connect(true);
            stage.sees(2, true);
            stage.goes_on();
        }
        stage.judge();
    });
}

#[test]
fn endpoints_that_come_drain_and_go_are_not_noticed() {
    let effort = effort();
    on_both_drivers(|driver| {
        let stage = Stage::set(driver, effort, 3);
        let spare = stage.account.member();
        let of = |address: SocketAddr| format!("/upstreams/app/endpoints/{address}");
        for nth in 0..effort.times {
            let body = format!(r#"{{"address": "{}", "weight": 2}}"#, spare.address);
            stage.manage("POST", "/upstreams/app/endpoints", &body);
            stage.goes_on();
            let member = stage.members[nth % stage.members.len()].address;
            stage.manage("PATCH", &of(member), r#"{"state": "drain"}"#);
            stage.goes_on();
            stage.manage("PATCH", &of(member), r#"{"state": "up"}"#);
            stage.manage("PATCH", &of(member), r#"{"weight": 0}"#);
            stage.goes_on();
            stage.manage("PATCH", &of(member), r#"{"weight": 1}"#);
            stage.manage("DELETE", &of(spare.address), "");
            let is_gone = || !stage.engine.stats().to_string().contains(&spare.address.to_string());
            eventually("who was removed is gone", is_gone);
        }
        // Nothing has failed: who sends a POST must not notice either.
        let post = stage.judge();
        assert_eq!(post.sent(), post.count("/requests/completed"), "{}", post.failures());
    });
}

#[test]
fn an_endpoint_that_flaps_is_not_noticed() {
    let effort = effort();
    on_both_drivers(|driver| {
        let mut stage = Stage::set(driver, effort, 3);
        for _ in 0..effort.times {
            // Faster than anybody could keep up with.
            stage.members[0].end(Signal::KILL);
            stage.members[0].start_again();
        }
        stage.goes_on();
        stage.judge();
    });
}
