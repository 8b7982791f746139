//! Can endpoints come, change and go under load without a client noticing? By the admin listener and by the command line.
//!
//! Never counts what the engine says of itself alone: origins and clients have their own account.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use common::connection::Connection;
use common::engine::{Config, Driver, Engine};
use common::message::Message;
use common::origin::Origin;
use common::{PATIENCE, eventually, on_both_drivers};
use serde_json::{Value, json};

fn named(name: &'static str) -> Origin {
    Origin::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()))
}

/// Asks the admin listener as a program would.
#[track_caller]
fn admin(engine: &Engine, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let response: Message = Connection::open(engine.admin()).ask(&request);
    (response.status(), serde_json::from_slice(&response.body).expect("JSON"))
}

#[track_caller]
fn add(engine: &Engine, origin: &Origin) -> (u16, Value) {
    let body = json!({ "address": origin.address.to_string() });
    admin(engine, "POST", "/upstreams/app/endpoints", Some(&body))
}

fn path(origin: &Origin) -> String {
    format!("/upstreams/app/endpoints/{}", origin.address)
}

/// Names of the endpoints as the admin listener lists them, with their states.
fn states(engine: &Engine) -> Vec<(String, String)> {
    let (status, upstream) = admin(engine, "GET", "/upstreams/app", None);
    assert_eq!(status, 200, "{upstream}");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let endpoints = upstream["endpoints"].as_array().expect("endpoints");
    endpoints.iter().map(|row| (text(&row["address"]), text(&row["state"]))).collect()
}

fn start(driver: Driver, origins: &[&Origin]) -> Engine {
    let endpoints: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    Engine::start_on_cores(driver, 2, Config { endpoints: &endpoints, ..Config::default() })
}

/// Runs `change` while four clients ask without a pause. Every answer has to be right; how many there were is what origins saw.
fn under_load(engine: &Engine, change: impl FnOnce(&dyn Fn(usize))) -> usize {
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for client in 0..4 {
            let (is_over, answered) = (&is_over, &answered);
            scope.spawn(move || {
                let mut connection = engine.connect();
                while !is_over.load(Ordering::Relaxed) {
                    let response = match client % 2 {
                        0 => connection.get("/"),
                        // A POST that went out once more, or was lost, is seen in the sums.
                        _ => connection.ask("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody"),
                    };
                    assert_eq!(response.status(), 200, "{response:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Waits until so many more were answered.
        let wait_for = |more: usize| {
            let enough = answered.load(Ordering::Relaxed) + more;
            eventually("clients are answered", || answered.load(Ordering::Relaxed) >= enough);
        };
        let changing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(50);
            change(&wait_for);
            wait_for(50);
        }));
        is_over.store(true, Ordering::Relaxed);
        changing.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    answered.into_inner()
}

fn requests(origins: &[&Origin]) -> usize {
    origins.iter().map(|origin| origin.seen().requests.len()).sum()
}

#[test]
fn endpoints_come_and_go_under_load_and_every_request_is_answered_once() {
    on_both_drivers(|driver| {
        let (a, b, c) = (named("a"), named("b"), named("c"));
        let engine = start(driver, &[&a]);
        let answered = under_load(&engine, |wait_for| {
            for _ in 0..3 {
                assert_eq!(add(&engine, &b).0, 201);
                assert_eq!(add(&engine, &c).0, 201);
                wait_for(50);
                assert_eq!(admin(&engine, "DELETE", &path(&b), None).0, 202);
                let now = format!("{}?now=true", path(&c));
                assert_eq!(admin(&engine, "DELETE", &now, None).0, 200);
                eventually("both are gone", || states(&engine).len() == 1);
                wait_for(50);
            }
        });
        assert_eq!(requests(&[&a, &b, &c]), answered);
        assert!(requests(&[&b]) > 0 && requests(&[&c]) > 0, "they took part");
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
        engine.assert_counter("/totals/requests", answered as u64);
    });
}

#[test]
fn who_drains_gets_nothing_new_and_who_is_up_again_does() {
    on_both_drivers(|driver| {
        let (a, b) = (named("a"), named("b"));
        let engine = start(driver, &[&a, &b]);
        let answered = under_load(&engine, |wait_for| {
            let drained = admin(&engine, "PATCH", &path(&b), Some(&json!({ "state": "drain" })));
            assert_eq!((drained.0, &drained.1["endpoint"]["state"]), (200, &json!("draining")));
            eventually("it has finished", || {
                let (_, upstream) = admin(&engine, "GET", "/upstreams/app", None);
                upstream["endpoints"][1]["active"] == 0
            });
            let before = requests(&[&b]);
            wait_for(50);
            assert_eq!(requests(&[&b]), before, "nothing new");
            assert_eq!(admin(&engine, "PATCH", &path(&b), Some(&json!({ "state": "up" }))).0, 200);
            wait_for(50);
            assert!(requests(&[&b]) > before);
        });
        assert_eq!(requests(&[&a, &b]), answered);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn weight_zero_takes_nothing_new_and_leaves_no_error() {
    on_both_drivers(|driver| {
        let (a, b) = (named("a"), named("b"));
        let engine = start(driver, &[&a, &b]);
        under_load(&engine, |wait_for| {
            let (status, answer) = admin(&engine, "PATCH", &path(&a), Some(&json!({ "weight": 0 })));
            assert_eq!((status, &answer["endpoint"]["weight"]), (200, &json!(0)));
            eventually("what was begun is done", || {
                let (_, upstream) = admin(&engine, "GET", "/upstreams/app", None);
                upstream["endpoints"][0]["active"] == 0
            });
            let before = requests(&[&a]);
            wait_for(50);
            assert_eq!(requests(&[&a]), before);
        });
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

/// Opened once by a test, waited for by an origin's script.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let closed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.1.wait_timeout_while(closed, PATIENCE, |is_open| !*is_open));
    }
}

#[test]
fn a_slow_exchange_finishes_before_its_endpoint_is_gone() {
    on_both_drivers(|driver| {
        let gate = Arc::new(Gate::default());
        let slow = Origin::start({
            let gate = Arc::clone(&gate);
            move |peer| {
                while peer.request().is_some() {
                    peer.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl");
                    gate.wait();
                    peer.wire.send("ow");
                }
            }
        });
        let fast = named("fast");
        let engine = start(driver, &[&slow]);
        thread::scope(|scope| {
            let client = scope.spawn(|| engine.connect().get("/").text().to_owned());
            slow.wait_until(|seen| seen.requests.len() == 1);
            assert_eq!(add(&engine, &fast).0, 201);
            let (status, answer) = admin(&engine, "DELETE", &path(&slow), None);
            assert_eq!((status, &answer["endpoint"]["leaving"]), (202, &json!(true)));
            // Again is the same wish.
            assert_eq!(admin(&engine, "DELETE", &path(&slow), None).0, 202);
            for _ in 0..10 {
                engine.connect().get("/").assert_is(200, "fast");
            }
            assert_eq!(states(&engine)[0].1, "draining");
            gate.open();
            assert_eq!(client.join().expect("a client"), "slow");
        });
        eventually("it is gone", || states(&engine) == [(fast.address.to_string(), "up".to_owned())]);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn what_cannot_be_done_is_refused_with_what_and_where() {
    let (a, b) = (named("a"), named("b"));
    let engine = Engine::start(
        Driver::Epoll,
        Config { endpoints: &[a.address], upstream: "endpoints_max = 2", ..Config::default() },
    );
    let check = |method: &str, path: &str, body: Value, status: u16, at: Option<&str>, error: &str| {
        let answer = admin(&engine, method, path, Some(&body));
        assert_eq!(answer.0, status, "{method} {path} {body}: {}", answer.1);
        assert_eq!(answer.1["at"].as_str(), at, "{}", answer.1);
        let told = answer.1["error"].as_str().expect("an error");
        assert!(told.contains(error), "{told}");
    };
    let endpoints = "/upstreams/app/endpoints";
    let at = |address: &str| json!({ "address": address });
    check("POST", "/upstreams/none/endpoints", at("10.0.0.1:1"), 404, None, "there is no upstream \"none\"");
    check("POST", endpoints, json!({}), 422, Some("address"), "is missing");
    check("POST", endpoints, at("10.0.0.1"), 422, Some("address"), "the port is missing");
    check("POST", endpoints, at("app.example:80"), 422, Some("address"), "only names of the configuration");
    check("POST", endpoints, at("listener:web"), 422, Some("address"), "can only be written");
    check(
        "POST",
        endpoints,
        json!({ "adress": "10.0.0.1:1", "address": "10.0.0.1:1" }),
        422,
        Some("adress"),
        "unknown",
    );
    let heavy = json!({ "address": "10.0.0.1:1", "weight": 65_536 });
    check("POST", endpoints, heavy, 422, Some("weight"), "from 0 to 65535, found 65536");
    let narrow = json!({ "address": "10.0.0.1:1", "max_connections": 5, "min_connections": 6 });
    check(
        "POST",
        endpoints,
        narrow,
        422,
        Some("min_connections"),
        "must be at most max_connections, 5, and is 6",
    );
    let alone = json!({ "address": "10.0.0.1:1", "min_connections": 6 });
    check("POST", endpoints, alone, 422, Some("min_connections"), "means nothing without max_connections");
    let zone = json!({ "address": "10.0.0.1:1", "zone": "a b" });
    check("POST", endpoints, zone, 422, Some("zone"), "A-Z a-z 0-9");
    let other = json!({ "address": a.address.to_string(), "weight": 9 });
    check("POST", endpoints, other, 409, Some("address"), "on other terms");
    check(
        "PATCH",
        &format!("{endpoints}/10.0.0.9:1"),
        json!({}),
        404,
        None,
        "there is no endpoint \"10.0.0.9:1\"",
    );
    check("PATCH", &path(&a), json!({ "state": "gone" }), 422, Some("state"), "unknown state \"gone\"");
    check("PUT", &path(&a), json!({}), 405, None, "means nothing for this path");
    // The same again is no mistake; more than there is room for is one.
    assert_eq!(add(&engine, &a).0, 200);
    assert_eq!(add(&engine, &b).0, 201);
    check("POST", endpoints, at("10.0.0.1:1"), 409, None, "`endpoints_max` allows no more");
    assert_eq!(states(&engine).len(), 2);
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let origin = named("a");
    let engine = Engine::before(Driver::Epoll, origin.address);
    let check = |fields: &str, kind: &str, status: u16| {
        let body = r#"{"address": "10.0.0.1:1"}"#;
        let request = format!(
            "POST /upstreams/app/endpoints HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{fields}\r\n{body}",
            engine.admin(),
            body.len(),
        );
        let response = Connection::open(engine.admin()).ask(&request);
        assert_eq!(response.status(), status, "{fields} {kind}: {response:?}");
    };
    check("Origin: http://evil.example\r\n", "application/json", 403);
    check("Sec-Fetch-Site: cross-site\r\n", "application/json", 403);
    check("Origin: null\r\n", "application/json", 403);
    check("", "text/plain", 415);
    check("", "application/x-www-form-urlencoded", 415);
    assert_eq!(states(&engine).len(), 1);
    check(
        &format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", engine.admin()),
        "application/json",
        201,
    );
    let request = "POST /certificates/reload HTTP/1.1\r\nHost: admin\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(Connection::open(engine.admin()).ask(request).status(), 403);
}

/// What one of the engine's own commands says: exit code, standard output, standard error.
#[track_caller]
fn command(engine: &Engine, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Engine::command().args(arguments).args(["--admin", &engine.admin().to_string()]).output();
    let output = output.expect("the engine can be run");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_line_does_what_the_admin_listener_does() {
    let (a, b) = (named("a"), named("b"));
    let engine = Engine::before(Driver::Epoll, a.address);
    let address = b.address.to_string();
    let check = |arguments: &[&str], expected: &str| {
        let (code, stdout, stderr) = command(&engine, arguments);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        assert!(stdout.contains(expected), "no {expected:?} in {stdout}");
    };
    let forgotten = "a restart forgets it";
    check(&["upstream", "add", "app", &address, "--weight", "3"], forgotten);
    check(&["upstream", "show", "app"], &address);
    check(&["upstream", "weight", "app", &address, "0"], "is up, weight 0");
    check(&["upstream", "drain", "app", &address], "is draining");
    check(&["upstream", "up", "app", &address], "is up");
    check(&["upstream", "list", "--json"], "\"source\": \"added\"");
    check(&["upstream", "remove", "app", &address], "drains, and is removed when it has finished");
    eventually("it is gone", || states(&engine).len() == 1);
    check(&["upstream", "add", "app", &address], "is up, weight 1");
    check(&["upstream", "remove", "app", &address, "--now"], "is removed");
    let (code, _, stderr) = command(&engine, &["upstream", "drain", "app", &address]);
    assert_eq!(code, Some(1));
    assert_eq!(stderr, format!("error: there is no endpoint \"{address}\" (known: {})\n", a.address));
    check(&["upstream", "remove", "app", &a.address.to_string(), "--now"], "is removed");
    check(&["upstream", "list"], "app: round_robin, no endpoint can be used");
    let (code, _, stderr) = command(&engine, &["upstream", "show", "ap"]);
    assert_eq!((code, stderr.as_str()), (Some(1), "error: there is no upstream \"ap\" (known: app)\n"));
}

/// Registers an address, with a token if there is one.
#[track_caller]
fn register(engine: &Engine, body: &Value, token: Option<&str>) -> (u16, Value) {
    let body = body.to_string();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "POST /upstreams/app/register HTTP/1.1\r\nHost: admin\r\nContent-Type: application/json\r\n{token}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = Connection::open(engine.admin()).ask(&request);
    (response.status(), serde_json::from_slice(&response.body).expect("JSON"))
}

#[test]
fn a_server_registers_itself_renews_leaves_and_expires() {
    on_both_drivers(|driver| {
        let (a, b) = (named("a"), named("b"));
        let upstream = "register = { servers = 2 }";
        let engine = Engine::start(driver, Config { upstream, ..Config::default() });
        assert_eq!(engine.connect().get("/").status(), 503, "nobody has registered yet");
        let long = json!({ "address": a.address.to_string(), "ttl": 300, "weight": 2 });
        let (status, answer) = register(&engine, &long, None);
        assert_eq!((status, &answer["lease"]["ttl_s"]), (201, &json!(300)), "{answer}");
        assert_eq!(answer["endpoint"]["source"], "registered");
        engine.connect().get("/").assert_is(200, "a");
        assert_eq!(register(&engine, &long, None).0, 200, "renewed");
        let lease = |ttl: u32| json!({ "address": b.address.to_string(), "ttl": ttl });
        assert_eq!(register(&engine, &lease(300), None).0, 201);
        let (status, answer) = register(&engine, &json!({ "address": "10.0.0.1:1" }), None);
        assert_eq!(status, 409, "{answer}");
        let (status, answer) = register(&engine, &json!({ "address": "10.0.0.1:1", "ttl": 301 }), None);
        assert_eq!((status, &answer["at"]), (422, &json!("ttl")));
        assert_eq!(register(&engine, &lease(1), None).0, 200);
        // b says nothing more.
        eventually("b has expired", || states(&engine).len() == 1);
        let lines =
            || engine.log().lines().filter(|line| line.contains("has not renewed its registration")).count();
        eventually("it is told", || lines() > 0);
        assert_eq!(lines(), 1, "{}", engine.log());
        assert_eq!(admin(&engine, "DELETE", &path(&a), None).0, 409, "it would come back");
        let lease = format!("/upstreams/app/register/{}", a.address);
        assert_eq!(admin(&engine, "DELETE", &lease, None).0, 202);
        eventually("a has left", || states(&engine).is_empty());
        assert_eq!(admin(&engine, "DELETE", &lease, None).0, 404);
        assert_eq!(engine.connect().get("/").status(), 503);
    });
}

#[test]
fn a_registration_under_load_and_its_end_cost_no_request() {
    on_both_drivers(|driver| {
        let (a, b) = (named("a"), named("b"));
        let config = Config { endpoints: &[a.address], upstream: "register = {}", ..Config::default() };
        let engine = Engine::start_on_cores(driver, 2, config);
        let answered = under_load(&engine, |wait_for| {
            let lease = |ttl: u32| json!({ "address": b.address.to_string(), "ttl": ttl });
            assert_eq!(register(&engine, &lease(300), None).0, 201);
            for ttl in [300, 300, 1] {
                wait_for(50);
                assert_eq!(register(&engine, &lease(ttl), None).0, 200);
            }
            eventually("it has expired", || states(&engine).len() == 1);
        });
        assert_eq!(requests(&[&a, &b]), answered);
        assert!(requests(&[&b]) > 0);
        assert!(engine.faults().is_empty(), "{:?}", engine.faults());
    });
}

#[test]
fn who_has_no_token_does_not_register_and_nobody_does_where_it_is_not_allowed() {
    let token =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("token-{}", std::process::id()));
    std::fs::write(&token, "0123456789abcdef\n").expect("a writable directory");
    let upstream = format!("register = {{ token_file = {:?} }}", token.to_str().expect("text"));
    let engine = Engine::start(Driver::Epoll, Config { upstream: &upstream, ..Config::default() });
    std::fs::remove_file(&token).expect("the file just written");
    let body = json!({ "address": "10.0.0.1:1" });
    assert_eq!(register(&engine, &body, None).0, 401);
    assert_eq!(register(&engine, &body, Some("0123456789abcdee")).0, 401);
    assert_eq!(register(&engine, &body, Some("0123456789abcdef")).0, 201);
    assert_eq!(admin(&engine, "DELETE", "/upstreams/app/register/10.0.0.1:1", None).0, 401);
    let other = Engine::before(Driver::Epoll, "10.0.0.1:1".parse().expect("an address"));
    assert_eq!(register(&other, &body, None).0, 403);
}

#[test]
fn lvs_is_told_of_the_endpoints_that_there_are_now() {
    let (a, b) = (named("a"), named("b"));
    let engine = Engine::before(Driver::Epoll, a.address);
    assert_eq!(add(&engine, &b).0, 201);
    assert_eq!(admin(&engine, "PATCH", &path(&a), Some(&json!({ "state": "drain" }))).0, 200);
    let (code, stdout, stderr) = command(&engine, &["render", "ipvsadm"]);
    assert_eq!(code, Some(0), "{stderr}");
    let web = engine.web();
    let lines: Vec<_> = stdout.lines().filter(|line| line.starts_with("ipvsadm")).collect();
    assert_eq!(
        lines,
        [
            format!("ipvsadm -A -t {web} -s rr"),
            format!("ipvsadm -a -t {web} -r {} -m -w 0", a.address),
            format!("ipvsadm -a -t {web} -r {} -m -w 1", b.address),
        ]
    );
}

#[test]
fn a_relayed_connection_outlives_the_removal_of_its_endpoint() {
    on_both_drivers(|driver| {
        let echo = |name: &'static str| {
            Origin::start(move |peer| {
                while let Some(line) = peer.wire.line() {
                    peer.wire.send(format!("{name} {line}\r\n"));
                }
            })
        };
        let (a, b) = (echo("a"), echo("b"));
        let config = format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nupstream = \"app\"\n\
             [upstream.app]\nendpoints = [\"{}\"]\n",
            a.address
        );
        let engine = Engine::start(driver, config);
        let say = |connection: &mut Connection| {
            connection.send("hello\r\n");
            connection.line().expect("an echo")
        };
        let mut kept = engine.connect();
        assert_eq!(say(&mut kept), "a hello");
        assert_eq!(add(&engine, &b).0, 201);
        assert_eq!(admin(&engine, "DELETE", &path(&a), None).0, 202);
        assert_eq!(say(&mut engine.connect()), "b hello");
        assert_eq!(say(&mut kept), "a hello");
        assert_eq!(states(&engine)[0].1, "draining");
        drop(kept);
        eventually("it is gone", || states(&engine).len() == 1);
    });
}
