//! Who gets traffic when endpoints fall ill, and who hears of it? Probes, ejection, slow start and panic, as a client, an origin and an
//! operator see them.
//!
//! Never waits for a time to pass: for what has been found out, told or counted.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use common::engine::{Config, Driver, Engine};
use common::origin::{OK, Origin};
use common::private::{self, Authority};
use common::{eventually, on_both_drivers};
use serde_json::Value;

/// Probes so often that a test need not wait, and believes each.
const QUICK: &str = "interval = '30ms', fast_interval = '20ms', rise = 1, fall = 1";

fn answer(name: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())
}

/// Answers probes, for `/up`, as `is_well` says, and everything else with its name.
fn origin(listener: TcpListener, name: &'static str, is_well: &Arc<AtomicBool>) -> Origin {
    let is_well = Arc::clone(is_well);
    Origin::start_on(listener, move |peer| {
        while let Some(request) = peer.request() {
            let answer = match request.head.target() {
                "/up" if is_well.load(Ordering::SeqCst) => answer("status: fine"),
                "/up" => answer("status: ill"),
                _ => answer(name),
            };
            peer.wire.send(answer);
        }
    })
}

/// Two origins, each with a switch for what it says of itself.
struct Pair {
    origins: [Option<Origin>; 2],
    addresses: [SocketAddr; 2],
    wells: [Arc<AtomicBool>; 2],
}

const NAMES: [&str; 2] = ["a", "b"];

impl Pair {
    fn start() -> Self {
        let wells = [true, true].map(|is_well| Arc::new(AtomicBool::new(is_well)));
        let listeners = [0, 1].map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().expect("bound"));
        let mut at = 0;
        let origins = listeners.map(|listener| {
            at += 1;
            Some(origin(listener, NAMES[at - 1], &wells[at - 1]))
        });
        Self { origins, addresses, wells }
    }

    fn engine(&self, driver: Driver, upstream: &str) -> Engine {
        Engine::start(driver, Config { endpoints: &self.addresses, upstream, ..Config::default() })
    }

    fn kill(&mut self, index: usize) {
        self.origins[index] = None;
        let address = self.addresses[index];
        eventually("nobody listens there", || std::net::TcpStream::connect(address).is_err());
    }

    fn revive(&mut self, index: usize) {
        let listener = TcpListener::bind(self.addresses[index]).expect("its own port");
        self.origins[index] = Some(origin(listener, NAMES[index], &self.wells[index]));
    }

    fn say(&self, index: usize, is_well: bool) {
        self.wells[index].store(is_well, Ordering::SeqCst);
    }
}

/// What is said of an endpoint of the only upstream.
fn endpoint(engine: &Engine, index: usize) -> Value {
    engine.stats()["upstreams"][0]["endpoints"][index].clone()
}

#[track_caller]
fn wait_for_state(engine: &Engine, index: usize, state: &str) {
    eventually(&format!("endpoint {index} is {state}"), || endpoint(engine, index)["state"] == state);
}

/// Which of two answered how many of so many requests, each over a connection of its own.
fn shares(engine: &Engine, requests: usize) -> [usize; 2] {
    let mut shares = [0; 2];
    for _ in 0..requests {
        let answered = engine.connect().get("/");
        let by = NAMES.iter().position(|name| answered.text() == *name);
        shares[by.unwrap_or_else(|| panic!("{answered:?}"))] += 1;
    }
    shares
}

/// Lines of the log about endpoints.
fn told(engine: &Engine) -> Vec<String> {
    let log = engine.log();
    log.lines().filter(|line| line.contains("upstream.app endpoint")).map(str::to_owned).collect()
}

#[test]
fn who_dies_is_left_out_and_who_is_back_gets_its_share_again() {
    on_both_drivers(|driver| {
        let mut pair = Pair::start();
        let engine = pair.engine(driver, &format!("health = {{ protocol = 'tcp', {QUICK} }}"));
        assert_eq!(shares(&engine, 10), [5, 5]);
        pair.kill(0);
        wait_for_state(&engine, 0, "down");
        assert_eq!(shares(&engine, 10), [0, 10]);
        eventually("it is told", || {
            told(&engine).iter().any(|line| {
                line.contains(&format!(
                    "{} is down: connection refused (1 probe); 1 of 2 left",
                    pair.addresses[0]
                ))
            })
        });
        pair.kill(1);
        wait_for_state(&engine, 1, "down");
        let refused = engine.connect().get("/");
        assert_eq!(refused.status(), 503, "{refused:?}");
        assert!(refused.head.value("Retry-After").is_some(), "{refused:?}");
        engine.assert_only_fault("no_endpoint", 1);
        for index in [0, 1] {
            pair.revive(index);
            wait_for_state(&engine, index, "up");
        }
        assert_eq!(shares(&engine, 10), [5, 5]);
        let health = endpoint(&engine, 0)["health"].clone();
        assert_eq!((&health["downs"], &health["ups"]), (&1.into(), &1.into()), "{health}");
        assert_eq!(health["cause"], "well (1 probe)");
    });
}

#[test]
fn a_request_that_fails_has_the_endpoint_probed_at_once() {
    on_both_drivers(|driver| {
        let mut pair = Pair::start();
        let health =
            "health = { protocol = 'tcp', interval = '1h', fast_interval = '20ms', fall = 3, rise = 1 }";
        let engine = pair.engine(driver, health);
        eventually("both were probed", || {
            [0, 1].iter().all(|index| endpoint(&engine, *index)["health"]["last_probe"]["is_good"] == true)
        });
        pair.kill(0);
        // One of them comes to the dead one first, and goes on to the other.
        assert_eq!(shares(&engine, 2), [0, 2]);
        wait_for_state(&engine, 0, "down");
        pair.revive(0);
        wait_for_state(&engine, 0, "up");
    });
}

#[test]
fn a_page_says_who_is_well_by_its_status_and_its_body() {
    on_both_drivers(|driver| {
        let pair = Pair::start();
        let engine =
            pair.engine(driver, &format!("health = {{ path = '/up', body = '^status: fine$', {QUICK} }}"));
        pair.say(1, false);
        wait_for_state(&engine, 1, "down");
        let cause = endpoint(&engine, 1)["health"]["cause"].clone();
        assert_eq!(cause, "status 200, and no \"^status: fine$\" in its body (1 probe)");
        assert_eq!(shares(&engine, 4), [4, 0]);
        pair.say(1, true);
        wait_for_state(&engine, 1, "up");
        assert_eq!(endpoint(&engine, 0)["health"]["downs"], 0);
    });
    let pair = Pair::start();
    let engine = pair
        .engine(Driver::Epoll, &format!("health = {{ path = '/up', status = ['404', '500-599'], {QUICK} }}"));
    wait_for_state(&engine, 0, "down");
    assert_eq!(endpoint(&engine, 0)["health"]["cause"], "status 200 (1 probe)");
}

#[test]
fn endpoints_are_probed_once_for_the_process() {
    let origin = Origin::answering(OK);
    let config = Config {
        endpoints: &[origin.address],
        upstream: &format!("health = {{ path = '/up', {QUICK} }}"),
        ..Config::default()
    };
    let engine = Engine::start_on_cores(Driver::Epoll, 2, config);
    let good = || endpoint(&engine, 0)["health"]["probes"]["good"].as_u64().expect("a count") as usize;
    eventually("some probes", || good() >= 10);
    let before = good();
    let asked = origin.targets().len();
    assert!(before <= asked && asked <= good() + 1, "{before} to {}, but {asked}", good());
}

#[test]
fn who_fails_requests_in_a_row_is_ejected_and_comes_back() {
    on_both_drivers(|driver| {
        let fails = Arc::new(AtomicBool::new(true));
        let failing = Arc::clone(&fails);
        let ill = Origin::start(move |peer| {
            while peer.request().is_some() {
                let is_ill = failing.load(Ordering::SeqCst);
                let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned();
                peer.wire.send(if is_ill { busy } else { answer("a") });
            }
        });
        let well = Origin::answering(answer("b"));
        let config = Config {
            endpoints: &[ill.address, well.address],
            upstream: "ejection = { failures = 3, time = '200ms', time_max = '200ms' }",
            ..Config::default()
        };
        let engine = Engine::start(driver, config);
        let statuses: Vec<u16> = (0..6).map(|_| engine.connect().get("/").status()).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 3, "{statuses:?}");
        eventually("it is ejected", || endpoint(&engine, 0)["health"]["ejections"] == 1);
        let line =
            format!("{} is ejected for 200ms: status 503 (3 failures in a row); 1 of 2 left", ill.address);
        eventually("it is told", || told(&engine).iter().any(|told| told.contains(&line)));
        fails.store(false, Ordering::SeqCst);
        wait_for_state(&engine, 0, "up");
        assert_eq!(shares(&engine, 10), [5, 5]);
        assert_eq!(endpoint(&engine, 1)["health"]["ejections"], 0);
    });
}

#[test]
fn no_more_than_a_share_is_ejected() {
    let busy = || Origin::answering("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let origins = [busy(), busy()];
    let config = Config {
        endpoints: &origins.each_ref().map(|origin| origin.address),
        upstream: "ejection = { failures = 1, time = '1h', share_max = '50%' }",
        ..Config::default()
    };
    let engine = Engine::start(Driver::Epoll, config);
    engine.connect().get("/");
    eventually("one is ejected", || {
        [0, 1].iter().filter(|index| endpoint(&engine, **index)["state"] == "ejected").count() == 1
    });
    for _ in 0..10 {
        // The endpoint's own answer: one of them is always asked.
        assert_eq!(engine.connect().get("/").head.value("Retry-After"), None);
    }
    eventually("the other is not", || {
        [0, 1].iter().any(|index| endpoint(&engine, *index)["health"]["ejections_refused"].as_u64() > Some(0))
    });
    let ejected = [0, 1].iter().filter(|index| endpoint(&engine, **index)["state"] == "ejected").count();
    assert_eq!(ejected, 1);
}

#[test]
fn who_comes_up_gets_little_at_first_and_all_in_the_end() {
    on_both_drivers(|driver| {
        for (time, is_slow) in [("1h", true), ("100ms", false)] {
            let pair = Pair::start();
            let health = format!("health = {{ path = '/up', body = 'fine', {QUICK} }}");
            let engine = pair.engine(driver, &format!("{health}\nslow_start = {{ time = '{time}' }}"));
            assert_eq!(shares(&engine, 10), [5, 5], "who was there from the beginning is warm");
            pair.say(1, false);
            wait_for_state(&engine, 1, "down");
            pair.say(1, true);
            wait_for_state(&engine, 1, "up");
            if is_slow {
                let [_, few] = shares(&engine, 60);
                assert!(few <= 1, "{few} of 60 where 1/256 is its due");
                assert!(endpoint(&engine, 1)["weight"].as_f64() < Some(0.01));
            } else {
                eventually("it has its full weight", || endpoint(&engine, 1)["weight"] == 1.0);
                assert_eq!(shares(&engine, 10), [5, 5]);
            }
        }
    });
}

#[test]
fn in_a_panic_all_get_traffic() {
    on_both_drivers(|driver| {
        let pair = Pair::start();
        let health = format!("health = {{ path = '/up', body = 'fine', {QUICK} }}");
        let engine = pair.engine(driver, &format!("{health}\npanic_threshold = '60%'"));
        pair.say(0, false);
        wait_for_state(&engine, 0, "down");
        assert_eq!(engine.stats()["upstreams"][0]["is_panic"], true);
        assert_eq!(shares(&engine, 10), [5, 5]);
        eventually("it is told", || engine.log().contains("so few endpoints are up that all get traffic"));
        pair.say(0, true);
        eventually("it is over", || engine.stats()["upstreams"][0]["is_panic"] == false);
    });
}

#[test]
fn one_that_flaps_does_not_fill_the_log() {
    let count = Arc::new(AtomicU32::new(0));
    let turns = Arc::clone(&count);
    let flapping = Origin::start(move |peer| {
        while peer.request().is_some() {
            let is_well = turns.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            peer.wire.send(if is_well { OK } else { "HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n" });
        }
    });
    let config = Config {
        endpoints: &[flapping.address],
        upstream: "health = { interval = '10ms', fast_interval = '10ms', rise = 1, fall = 1 }",
        ..Config::default()
    };
    let engine = Engine::start(Driver::Epoll, config);
    eventually("it flaps", || endpoint(&engine, 0)["health"]["downs"].as_u64() >= Some(20));
    let told = told(&engine);
    assert!(!told.is_empty() && told.len() <= 3, "{told:#?}");
}

#[test]
fn private_endpoints_are_asked_in_private_and_must_prove_who_they_are() {
    let authority = Authority::new();
    let config = Authority::origins(&authority.server(&["backend.example"]), None);
    let origin = Origin::start(move |peer| {
        if peer.agree(private::accept(&config)) {
            while peer.request().is_some_and(|_| peer.wire.send(OK)) {}
        }
    });
    for (name, state) in [("backend.example", "up"), ("other.example", "down")] {
        for protocol in ["http", "tls"] {
            let tls = format!("tls = {{ ca = {:?}, server_name = '{name}' }}", authority.file());
            let config = Config {
                endpoints: &[origin.address],
                upstream: &format!("{tls}\nhealth = {{ protocol = '{protocol}', timeout = '5s', {QUICK} }}"),
                ..Config::default()
            };
            let engine = Engine::start(Driver::Epoll, config);
            eventually("it was probed", || !endpoint(&engine, 0)["health"]["last_probe"].is_null());
            let found = endpoint(&engine, 0);
            assert_eq!(found["state"], state, "{protocol} {name}: {found:#}");
            if state == "down" {
                let cause = found["health"]["cause"].as_str().expect("why");
                assert!(cause.starts_with("TLS: invalid peer certificate"), "{cause}");
            }
        }
    }
}

#[test]
fn connections_that_are_relayed_go_past_who_does_not_take_them() {
    on_both_drivers(|driver| {
        let dead = Origin::nowhere();
        let lines =
            Origin::start(|peer| while peer.wire.line().is_some_and(|line| peer.wire.send(line + "\r\n")) {});
        let config = format!(
            "[listener.web]\nbind = '127.0.0.1:0'\nprotocol = 'tcp'\nupstream = 'app'\n\
             [upstream.app]\nendpoints = ['{dead}', '{}']\nejection = {{ failures = 1, time = '1h' }}",
            lines.address
        );
        let engine = Engine::start(driver, config);
        let pass = || {
            for _ in 0..4 {
                let mut client = engine.connect();
                client.send("hello\r\n");
                assert_eq!(client.line().as_deref(), Some("hello"));
            }
        };
        pass();
        eventually("it is ejected", || {
            endpoint(&engine, 0)["health"]["cause"] == "connection refused (1 failure)"
        });
        let found = endpoint(&engine, 0);
        assert_eq!(found["state"], "ejected");
        pass();
        let failures = &endpoint(&engine, 0)["connect_failures"];
        assert_eq!(failures, &found["connect_failures"], "nobody went there any more");
    });
}

#[test]
fn the_operator_sees_who_is_down_and_why() {
    let mut pair = Pair::start();
    let engine = pair.engine(Driver::Epoll, &format!("health = {{ protocol = 'tcp', {QUICK} }}"));
    pair.kill(1);
    wait_for_state(&engine, 1, "down");
    let listed = common::connection::Connection::open(engine.admin())
        .ask("GET /upstreams HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    assert!(listed.text().contains("connection refused (1 probe)"), "{listed:?}");
    let status = Engine::command().args(["status", "--admin", &engine.admin().to_string()]).output();
    let text = String::from_utf8(status.expect("it runs").stdout).expect("text");
    let line = |address: SocketAddr| {
        let address = address.to_string();
        text.lines().find(|line| line.contains(&address)).unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    assert!(line(pair.addresses[0]).contains(" up "), "{text}");
    assert!(line(pair.addresses[1]).contains(" down "), "{text}");
    assert!(line(pair.addresses[1]).ends_with("connection refused (1 probe)"), "{text}");
    let metrics = common::connection::Connection::open(engine.admin())
        .ask("GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    let [up, down] = pair.addresses.map(|address| format!("{{upstream=\"app\",endpoint=\"{address}\"}}"));
    for line in [format!("corelane_endpoint_up{up} 1"), format!("corelane_endpoint_up{down} 0")] {
        assert!(metrics.text().contains(&line), "{line}");
    }
    let changes = format!(
        "corelane_endpoint_state_changes_total{{upstream=\"app\",endpoint=\"{}\",to=\"down\"}} 1",
        pair.addresses[1]
    );
    assert!(metrics.text().contains(&changes), "{changes}");
}
