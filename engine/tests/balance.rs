//! Does each endpoint get what its scheduler says, over all cores together, and does a client come back to the one it had?
//!
//! Never counts what the engine says of itself alone: the origins have their own account.

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::message::Message;
use common::on_both_drivers;
use common::origin::Origin;
use serde_json::{Value, json};

/// More than one: what is promised holds for all of them together.
const CORES: usize = 2;

/// Trusts whoever connects from here to say whom it speaks for.
const TRUSTING: &str = "proxy_protocol = { from = [\"127.0.0.0/8\"] }\n";

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn answer(name: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())
}

fn named(name: &str) -> Origin {
    Origin::answering(answer(name))
}

fn addresses(origins: &[Origin]) -> Vec<SocketAddr> {
    origins.iter().map(|origin| origin.address).collect()
}

fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(|origin| origin.seen().requests.len()).collect()
}

fn start(driver: Driver, origins: &[Origin], upstream: &str) -> Engine {
    let endpoints = &addresses(origins);
    Engine::start_on_cores(driver, CORES, Config { endpoints, upstream, ..Config::default() })
}

/// With a table for each endpoint, whose further keys are given.
fn start_with(driver: Driver, origins: &[Origin], keys: &[&str], process: &str, upstream: &str) -> Engine {
    let entries: Vec<_> = origins
        .iter()
        .zip(keys)
        .map(|(origin, keys)| format!("{{ address = \"{}\", {keys} }}", origin.address))
        .collect();
    let text = format!(
        "[process]\n{process}\n[listener.web]\nbind = \"127.0.0.1:0\"\n{TRUSTING}\n[channel.all]\nupstream = \"app\"\n\
         [upstream.app]\nendpoints = [{}]\n{upstream}",
        entries.join(", ")
    );
    Engine::start_on_cores(driver, CORES, text)
}

/// Asks the admin listener to change an endpoint.
fn change(engine: &Engine, origin: &Origin, body: &Value) {
    let body = body.to_string();
    let request = format!(
        "PATCH /upstreams/app/endpoints/{} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        origin.address,
        body.len()
    );
    let response = Connection::open(engine.admin()).ask(&request);
    assert_eq!(response.status(), 200, "{response:?}");
}

/// Who answers a client at this address, over a connection of its own.
fn asked_as(address: SocketAddr, client: &str) -> String {
    let mut connection = Connection::open(address);
    assert!(connection.send(format!("PROXY TCP4 {client} 198.51.100.2 12345 443\r\n")));
    connection.get("/").text().to_owned()
}

/// A door that holds requests back until it is opened.
#[derive(Default)]
struct Door {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Door {
    fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.opened.wait_timeout_while(is_open, common::PATIENCE, |is_open| !*is_open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// The figure that is promised: 25 % of 10,000 requests for each of four endpoints, give or take 2.
#[test]
fn round_robin_gives_each_its_quarter_over_all_cores_together() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 10_000;
    on_both_drivers(|driver| {
        let origins = ["a", "b", "c", "d"].map(named);
        let engine = start(driver, &origins, "");
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = engine.connect();
                    for _ in 0..REQUESTS / CLIENTS {
                        assert_eq!(client.get("/").status(), 200);
                    }
                });
            }
        });
        let counts = counts(&origins);
        assert_eq!(counts.iter().sum::<usize>(), REQUESTS);
        let quarter = REQUESTS / 4;
        assert!(counts.iter().all(|count| count.abs_diff(quarter) <= REQUESTS * 2 / 100), "{counts:?}");
    });
}

#[test]
fn weights_are_shares() {
    on_both_drivers(|driver| {
        let origins = ["a", "b", "c"].map(named);
        let keys = ["weight = 5", "weight = 1", "weight = 0"];
        let engine = start_with(driver, &origins, &keys, "", "");
        for number in 0..60 {
            asked_as(engine.web(), &format!("192.0.2.{number}"));
        }
        let counts = counts(&origins);
        // A round of each core may be under way.
        assert!(counts[0].abs_diff(50) <= 6 && counts[0] + counts[1] == 60 && counts[2] == 0, "{counts:?}");
    });
}

/// What is in use is counted over all cores: whichever of them has the request that hangs, none of them adds to it.
#[test]
fn an_endpoint_that_has_work_gets_nothing_while_others_have_none() {
    for balance in ["least_connections", "random_two", "shortest_expected_delay", "never_queue", "least_time"]
    {
        on_both_drivers(|driver| {
            let door = Arc::new(Door::default());
            let held = Arc::clone(&door);
            let slow = Origin::start(move |peer| {
                while peer.request().is_some_and(|_| {
                    held.pass();
                    peer.wire.send(answer("slow"))
                }) {}
            });
            let origins = [slow, named("fast")];
            let engine = start(driver, &origins, &format!("balance = \"{balance}\""));
            // Until one of them hangs, both may be asked.
            let mut waiting = Vec::new();
            while origins[0].seen().requests.is_empty() {
                let client = engine.connect();
                assert!(client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n"));
                waiting.push(client);
                common::eventually("asked", || counts(&origins).iter().sum::<usize>() >= waiting.len());
            }
            let before = counts(&origins);
            for _ in 0..20 {
                assert_eq!(engine.connect().get("/").text(), "fast", "{balance}");
            }
            assert_eq!(counts(&origins), [before[0], before[1] + 20], "{balance}");
            door.open();
            for mut client in waiting {
                assert_eq!(client.response().status(), 200);
            }
        });
    }
}

#[test]
fn who_answers_sooner_is_asked_more() {
    on_both_drivers(|driver| {
        let slow = Origin::start(|peer| {
            while peer.request().is_some_and(|_| {
                // That it takes its time is what it is for.
                thread::sleep(Duration::from_millis(50));
                peer.wire.send(answer("slow"))
            }) {}
        });
        let origins = [slow, named("fast")];
        let engine = start(driver, &origins, "balance = \"least_time\"");
        let mut client = engine.connect();
        for _ in 0..100 {
            assert_eq!(client.get("/").status(), 200);
        }
        let counts = counts(&origins);
        assert!(counts[0] >= 1 && counts[0] <= 20, "{counts:?}");
    });
}

#[test]
fn a_hash_leads_the_same_key_to_the_same_endpoint() {
    on_both_drivers(|driver| {
        for table in ["maglev", "ketama"] {
            let origins = ["a", "b", "c", "d"].map(named);
            let rule =
                format!("balance = \"hash\"\nhash = {{ on = \"header:X-Tenant\", table = \"{table}\" }}");
            let engine = start(driver, &origins, &rule);
            let ask = |tenant: usize| {
                let request = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Tenant: tenant-{tenant}\r\n\r\n");
                engine.connect().ask(&request).text().to_owned()
            };
            let first: Vec<_> = (0..64).map(ask).collect();
            let again: Vec<_> = (0..64).map(ask).collect();
            assert_eq!(first, again, "{table}");
            assert!(counts(&origins).iter().all(|&count| count > 0), "{:?}", counts(&origins));
            // Whose endpoint is there still has it still.
            let out = &origins[0];
            change(&engine, out, &json!({ "state": "drain" }));
            for (tenant, before) in first.iter().enumerate() {
                let after = ask(tenant);
                assert!(if before == "a" { after != "a" } else { after == *before }, "{table}: {tenant}");
            }
        }
    });
}

#[test]
fn a_client_address_has_one_endpoint_whichever_core_serves_it() {
    on_both_drivers(|driver| {
        let origins = ["a", "b", "c", "d"].map(named);
        let keys = ["weight = 1"; 4];
        let engine =
            start_with(driver, &origins, &keys, "", "persistence = { timeout = \"10m\", mask = 24 }");
        let mut all = Vec::new();
        for network in 0..16 {
            let answers: Vec<_> =
                (1..9).map(|host| asked_as(engine.web(), &format!("10.1.{network}.{host}"))).collect();
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
            all.push(answers[0].clone());
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4, "new clients take turns");
    });
}

/// LVS's rule: weight 0 takes no new sessions and goes on with those that it has.
#[test]
fn an_endpoint_of_weight_0_keeps_its_sessions_and_gets_no_new_ones() {
    on_both_drivers(|driver| {
        let origins = ["a", "b"].map(named);
        let engine = start_with(driver, &origins, &["weight = 1"; 2], "", "persistence = {}");
        let client = |number: u32| format!("10.2.0.{number}");
        let before: Vec<_> = (0..8).map(|number| asked_as(engine.web(), &client(number))).collect();
        assert!(before.contains(&"a".to_owned()), "{before:?}");
        change(&engine, &origins[0], &json!({ "weight": 0 }));
        let after: Vec<_> = (0..8).map(|number| asked_as(engine.web(), &client(number))).collect();
        assert_eq!(before, after);
        assert!((100..120).all(|number| asked_as(engine.web(), &client(number)) == "b"));
        // Draining is more: who was there goes elsewhere, and stays there.
        change(&engine, &origins[0], &json!({ "state": "drain" }));
        assert!((0..8).all(|number| asked_as(engine.web(), &client(number)) == "b"));
        change(&engine, &origins[0], &json!({ "state": "up", "weight": 1 }));
        assert!((0..8).all(|number| asked_as(engine.web(), &client(number)) == "b"));
    });
}

#[test]
fn relayed_connections_come_back_by_their_address_too() {
    on_both_drivers(|driver| {
        let greeting = |name: &'static str| {
            Origin::start(move |peer| {
                peer.wire.send(answer(name));
                peer.head();
            })
        };
        let origins = [greeting("a"), greeting("b"), greeting("c")];
        for upstream in ["persistence = {}", "balance = \"source_hash\""] {
            let text = format!(
                "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"app\"\n{TRUSTING}\n\
                 [upstream.app]\nendpoints = {:?}\n{upstream}",
                addresses(&origins).iter().map(SocketAddr::to_string).collect::<Vec<_>>()
            );
            let engine = Engine::start_on_cores(driver, CORES, text);
            let greeted = |client: &str| {
                let mut connection = Connection::open(engine.web());
                assert!(connection.send(format!("PROXY TCP4 {client} 198.51.100.2 12345 443\r\n")));
                connection.response().text().to_owned()
            };
            let mut all = Vec::new();
            for number in 0..12 {
                let client = format!("10.3.0.{number}");
                let first = greeted(&client);
                assert!((0..4).all(|_| greeted(&client) == first), "{upstream}: {client}");
                all.push(first);
            }
            all.sort_unstable();
            all.dedup();
            assert!(all.len() > 1, "{upstream}");
        }
    });
}

/// The pair that a client sends back, and the attributes that came with it.
fn cookie(response: &Message) -> Option<(String, String)> {
    let line = response.head.value("Set-Cookie")?;
    let (pair, attributes) = line.split_once("; ").expect("attributes");
    Some((pair.to_owned(), attributes.to_owned()))
}

fn get_with(engine: &Engine, cookies: &str) -> Message {
    engine.connect().ask(&format!("GET / HTTP/1.1\r\nHost: test\r\nCookie: {cookies}\r\n\r\n"))
}

#[test]
fn a_cookie_leads_back_to_its_endpoint_even_after_a_restart() {
    on_both_drivers(|driver| {
        let origins = ["a", "b", "c"].map(named);
        let sticky = format!("sticky = {{ secret = \"{SECRET}\", lifetime = \"1h\" }}");
        let engine = start(driver, &origins, &sticky);
        let first = engine.connect().get("/");
        let (pair, attributes) = cookie(&first).expect("a cookie for a new client");
        assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
        assert!(!pair.contains(&origins[0].address.port().to_string()), "{pair}");
        let comes_back = |engine: &Engine| {
            for _ in 0..8 {
                let again = get_with(engine, &format!("theme=dark; {pair}; lang=en"));
                assert_eq!((again.text(), cookie(&again)), (first.text(), None));
            }
        };
        comes_back(&engine);
        drop(engine);
        let engine = start(driver, &origins, &sticky);
        comes_back(&engine);
        drop(engine);
        // With another secret, as long as the one before is named.
        let both = format!(
            "sticky = {{ secret = \"another sentence of a secret\", previous_secret = \"{SECRET}\", lifetime = \"1h\" }}"
        );
        comes_back(&start(driver, &origins, &both));
        let seen: Vec<_> = origins.iter().flat_map(|origin| origin.seen().requests).collect();
        let cookies = |(_, request): &(usize, Message)| request.head.value("Cookie").map(str::to_owned);
        assert!(seen.iter().filter_map(cookies).all(|cookies| cookies == "theme=dark; lang=en"));
    });
}

#[test]
fn a_cookie_that_is_not_ours_is_ignored_counted_and_replaced() {
    on_both_drivers(|driver| {
        let origins = ["a", "b"].map(named);
        let engine = start(driver, &origins, &format!("sticky = {{ secret = \"{SECRET}\" }}"));
        for forged in ["corelane=", "corelane=AAAAAAAAAAAAAAAAAAAAAA", "corelane=127.0.0.1:80"] {
            let response = get_with(&engine, forged);
            assert_eq!(response.status(), 200);
            assert!(cookie(&response).is_some(), "{forged}");
        }
        engine.assert_counter("/upstreams/0/cookies_unknown", 3);
        engine.assert_counter("/upstreams/0/cookies_set", 3);
        // One that is ours beside one that is not.
        let (pair, _) = cookie(&engine.connect().get("/")).expect("a cookie");
        assert_eq!(cookie(&get_with(&engine, &format!("corelane=x; {pair}"))), None);
    });
}

#[test]
fn a_client_whose_endpoint_is_gone_gets_another_and_a_cookie_for_that() {
    on_both_drivers(|driver| {
        let origins = ["a", "b"].map(named);
        let engine = start(driver, &origins, &format!("sticky = {{ secret = \"{SECRET}\", pass = true }}"));
        let first = engine.connect().get("/");
        let (pair, _) = cookie(&first).expect("a cookie");
        let (home, other) = if first.text() == "a" { (&origins[0], "b") } else { (&origins[1], "a") };
        // Weight 0 goes on with its sessions.
        change(&engine, home, &json!({ "weight": 0 }));
        assert_eq!(get_with(&engine, &pair).text(), first.text());
        change(&engine, home, &json!({ "state": "drain" }));
        let moved = get_with(&engine, &pair);
        assert_eq!(moved.text(), other);
        let (pair, _) = cookie(&moved).expect("another cookie");
        let again = get_with(&engine, &pair);
        assert_eq!((again.text(), cookie(&again)), (other, None));
    });
}

#[test]
fn endpoints_of_the_same_zone_come_first() {
    on_both_drivers(|driver| {
        let origins = ["near", "far", "near"].map(named);
        let keys = ["zone = \"a\"", "zone = \"b\"", "zone = \"a\""];
        let engine = start_with(driver, &origins, &keys, "zone = \"a\"", "");
        assert!((0..10).all(|number| asked_as(engine.web(), &format!("10.4.0.{number}")) == "near"));
        assert!(origins[0].seen().requests.len() >= 3 && origins[2].seen().requests.len() >= 3);
        for origin in [&origins[0], &origins[2]] {
            change(&engine, origin, &json!({ "state": "drain" }));
        }
        assert_eq!(asked_as(engine.web(), "10.4.0.1"), "far");
    });
}

#[test]
fn a_backup_is_asked_when_no_other_is_left() {
    on_both_drivers(|driver| {
        let origins = ["first", "backup"].map(named);
        let engine = start_with(driver, &origins, &["weight = 1", "backup = true"], "", "");
        assert!((0..6).all(|number| asked_as(engine.web(), &format!("10.5.0.{number}")) == "first"));
        change(&engine, &origins[0], &json!({ "state": "drain" }));
        assert_eq!(asked_as(engine.web(), "10.5.0.1"), "backup");
        change(&engine, &origins[0], &json!({ "state": "up" }));
        assert_eq!(asked_as(engine.web(), "10.5.0.1"), "first");
    });
}
