//! Is everything served while the store is away? Stalled, ended, and before a process has begun.
//!
//! Never counts what was served before the store was gone: requests are sent all the while.

mod common;
#[allow(dead_code, reason = "the store's own tests need more of it")]
#[path = "../store/tests/conformance/server.rs"]
mod server;

/// Where the server keeps its files.
mod ground {
    pub(crate) use crate::common::cluster::directory;
}

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::cluster::{Cluster, wait_for_processes};
use common::engine::{Driver, Engine};
use common::eventually;
use server::Server;

/// What an admin listener promises while the store is away.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Within what a process has made up for an outage once it is over.
const CONVERGENCE_MAX: Duration = Duration::from_secs(5);

fn config(word: &str) -> String {
    format!(
        "[node]\nid = \"edge\"\npoll = \"200ms\"\n[listener.web]\nbind = \"127.0.0.1:0\"\n\
         [channel.all]\nrespond = {{ body = \"{word}\" }}\n"
    )
}

fn push(cluster: &Cluster, word: &str) {
    let file = cluster.file("pushed.toml", &format!("{}[admin]\nbind = \"127.0.0.1:0\"\n", config(word)));
    let output = cluster.command(&["config", "push", &file]);
    assert!(output.status.success(), "{output:?}");
}

/// Runs `change` while requests are sent to all of these without a pause; every one has to be served. How many there were.
fn under_load(engines: &[&Engine], change: impl FnOnce()) -> usize {
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for engine in engines {
            let (is_over, answered) = (&is_over, &answered);
            scope.spawn(move || {
                let mut connection = engine.connect();
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(connection.get("/").status(), 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let changing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(change));
        is_over.store(true, Ordering::Relaxed);
        changing.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    answered.into_inner()
}

/// Waits until an answer that needs the store says that it is away, and that this takes no longer than is promised.
#[track_caller]
fn assert_told(engine: &Engine) {
    eventually("the store is known to be away", || {
        let began = Instant::now();
        let (status, answer) = engine.ask_admin("GET", "/cluster/processes", None);
        assert!(began.elapsed() < ANSWER_MAX, "{:?}", began.elapsed());
        status == 503 && answer["error"].as_str().is_some_and(|error| error.contains("away"))
    });
}

#[test]
fn an_outage_of_the_store_is_noticed_by_nobody_but_who_asks_for_it() {
    let server = Server::start("fsync = off");
    let cluster = Cluster::at(server.create_database());
    let a = cluster.first(Driver::Epoll, &config("one"));
    let b = cluster.join(Driver::Epoll, "edge");
    wait_for_processes(&a, 2);
    for outage in ["stalled", "ended"] {
        let served = under_load(&[&a, &b], || {
            match outage {
                "stalled" => server.stop(),
                _ => server.end("immediate"),
            }
            assert_told(&a);
            assert_told(&b);
            match outage {
                "stalled" => server.go_on(),
                _ => server.begin(),
            }
            let back = Instant::now();
            push(&cluster, outage);
            eventually("both run what is new", || a.says().ends_with(outage) && b.says().ends_with(outage));
            assert!(back.elapsed() < CONVERGENCE_MAX, "{outage}: {:?}", back.elapsed());
        });
        assert!(served > 100, "{served} requests");
    }
    wait_for_processes(&b, 2);
}

#[test]
fn a_process_begins_with_its_copy_while_the_store_is_away() {
    let server = Server::start("fsync = off");
    let cluster = Cluster::at(server.create_database());
    let mut first = cluster.first(Driver::Epoll, &config("one"));
    push(&cluster, "two");
    eventually("it runs version 2", || first.says() == "200 two");
    let has_copy = || {
        let files = std::fs::read_dir(cluster.directory().join("state")).into_iter().flatten().flatten();
        let mut texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        texts.any(|text| text.contains("two"))
    };
    eventually("its copy is there", has_copy);
    first.signal(rustix::process::Signal::TERM);
    assert!(first.wait().success());
    server.end("fast");
    let again = cluster.join(Driver::Epoll, "edge");
    assert_eq!(again.says(), "200 two");
    assert!(again.log().contains("starting from this process's copy of version 2"), "{}", again.log());
    assert_eq!(again.membership()["store"]["state"], "away");
    // Without one there is nothing to begin with.
    let mut other = cluster.add(Driver::Epoll, "other", &[]);
    assert!(!other.wait().success());
    assert!(other.log().contains("there is no copy"), "{}", other.log());
    server.begin();
    let back = Instant::now();
    push(&cluster, "three");
    eventually("it runs what is new", || again.says() == "200 three");
    assert!(back.elapsed() < CONVERGENCE_MAX, "{:?}", back.elapsed());
    assert!(again.process_id().starts_with("edge-"));
}
