//! Do processes that are told one store become one cluster? They share a configuration, know each other, come and go.
//!
//! Never by what one process says of another alone: what each answers to requests is looked at.

mod common;

use std::collections::BTreeSet;

use common::cluster::{Cluster, stop_at_rest, wait_for_processes};
use common::engine::{Driver, Engine};
use common::{eventually, on_both_drivers};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A node that answers with a word.
fn config(node: &str, word: &str) -> String {
    format!(
        "[node]\nid = \"{node}\"\npoll = \"100ms\"\n[listener.web]\nbind = \"127.0.0.1:0\"\n\
         [channel.all]\nrespond = {{ body = \"{word}\" }}\n"
    )
}

/// The same with an admin listener, as a file that is pushed has to have one too.
fn pushed(node: &str, word: &str) -> String {
    format!("{}[admin]\nbind = \"127.0.0.1:0\"\n", config(node, word))
}

fn ids(engine: &Engine) -> BTreeSet<String> {
    engine.processes().iter().map(|process| process["id"].as_str().expect("an ID").to_owned()).collect()
}

#[track_caller]
fn engine(arguments: &[&str]) -> (i32, String) {
    let output = Engine::command().args(arguments).output().expect("the engine can be run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an end of its own"), String::from_utf8(said).expect("text"))
}

/// The URL of a process's admin listener.
fn url(engine: &Engine) -> String {
    format!("http://{}", engine.admin())
}

#[test]
fn ten_first_processes_save_one_configuration_and_none_of_them_is_special() {
    let cluster = Cluster::new();
    let mut first: Vec<_> = (0..10)
        .map(|number| cluster.bring(Driver::Epoll, &config("edge", &format!("word {number}")), &[]))
        .collect();
    first.iter().for_each(Engine::wait_until_serving);
    let last = first.pop().expect("ten");
    wait_for_processes(&last, 10);
    let said = last.says();
    assert!(first.iter().all(|engine| engine.says() == said), "all run one configuration");
    assert_eq!(ids(&last).len(), 10);
    let (_, history) = last.ask_admin("GET", "/cluster/config/history", None);
    assert_eq!(history["versions"].as_array().map(Vec::len), Some(1), "{history}");
    let drifting = first.iter().filter(|engine| !engine.membership()["config"]["drift"].is_null()).count();
    assert!(drifting >= 8, "whoever brought something else says so");
    assert_eq!(last.stats()["cluster"], last.membership());
    // Whoever saved it is as good as gone.
    for engine in &mut first {
        engine.signal(Signal::TERM);
        assert!(engine.wait().success());
    }
    wait_for_processes(&last, 1);
    let added = cluster.join(Driver::Epoll, "edge");
    assert_eq!(added.says(), said);
    let number = |engine: &Engine| -> u32 {
        engine.process_id().strip_prefix("edge-").expect("the node's ID").parse().expect("a number")
    };
    assert!(number(&added) > 10, "no number is given away twice");
}

#[test]
fn twenty_processes_of_three_nodes_join_are_listed_and_leave() {
    let cluster = Cluster::new();
    let nodes = ["admin_node", "auth_node", "gateway_node"];
    // Twenty of them have enough to do without asking ten times a second.
    let text = |node: &str| config(node, node).replace("100ms", "500ms");
    let first: Vec<_> = nodes.iter().map(|node| cluster.bring(Driver::Epoll, &text(node), &[])).collect();
    first.iter().for_each(Engine::wait_until_serving);
    let mut others: Vec<_> = (0..17).map(|index| cluster.add(Driver::Epoll, nodes[index % 3], &[])).collect();
    others.iter().for_each(Engine::wait_until_serving);
    wait_for_processes(&first[0], 20);
    assert_eq!(ids(&first[0]), ids(&others[16]), "every process shows the whole cluster");
    for (index, engine) in others.iter().enumerate() {
        assert_eq!(engine.says(), format!("200 {}", nodes[index % 3]));
    }
    let row = &first[0].processes()[0];
    assert_eq!(
        (&row["state"], &row["config_version"], &row["cores"]),
        (&json!("serving"), &json!(1), &json!(1))
    );
    assert!(
        row["addresses"]["listener.web"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:"))
    );
    let (code, said) = engine(&["cluster", "processes", "--admin", &url(&first[1])]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("_node-")).count(), 20, "{said}");
    for engine in &others {
        engine.signal(Signal::TERM);
    }
    for engine in &mut others {
        assert!(engine.wait().success());
    }
    wait_for_processes(&first[2], 3);
}

#[test]
fn a_new_version_goes_live_on_every_process_and_the_slower_author_is_told() {
    on_both_drivers(|driver| {
        let cluster = Cluster::new();
        let a = cluster.first(driver, &config("edge", "one"));
        let b = cluster.join(driver, "edge");
        wait_for_processes(&a, 2);
        let file = cluster.file("two.toml", &pushed("edge", "two"));
        let (code, said) = engine(&["config", "diff", &file, "--admin", &url(&a)]);
        assert!(code == 1 && said.contains("+ channel.all.respond.body = \"two\""), "{said}");
        let (code, said) =
            engine(&["config", "push", &file, "--base", "1", "--comment", "why not", "--admin", &url(&a)]);
        assert_eq!((code, said.as_str()), (0, "version 2 is active\n"));
        eventually("both run version 2", || a.says() == "200 two" && b.says() == "200 two");
        eventually("both say so", || (a.version(), b.version()) == (2, 2));
        // Whoever saw version 1 and edited that has missed something.
        let late = cluster.file("late.toml", &pushed("edge", "late"));
        let (code, said) = engine(&["config", "push", &late, "--base", "1", "--admin", &url(&b)]);
        assert!(code == 1 && said.contains("runs version 2, not 1"), "{said}");
        let body = json!({ "document": pushed_json("late"), "base": 1 });
        assert_eq!(b.ask_admin("POST", "/cluster/config", Some(&body)).0, 409);
        // By the store itself it is the same.
        let output = cluster.command(&["config", "push", &late, "--base", "1", "--node", "edge"]);
        assert!(!output.status.success());
        let (code, said) = engine(&["config", "rollback", "1", "--admin", &url(&b)]);
        assert_eq!((code, said.as_str()), (0, "version 3 is active\n"));
        eventually("both run the first one again", || a.says() == "200 one" && b.says() == "200 one");
        let (_, history) = engine(&["config", "history", "--admin", &url(&a)]);
        let states: Vec<_> = history.lines().skip(2).map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(states, [Some("active"), Some("past"), Some("past")], "{history}");
        assert!(history.contains("why not") && history.contains("back to version 1"), "{history}");
    });
}

fn pushed_json(word: &str) -> String {
    json!({
        "node": { "id": "edge", "poll": "100ms" },
        "listener": { "web": { "bind": "127.0.0.1:0" } },
        "channel": { "all": { "respond": { "body": word } } },
        "admin": { "bind": "127.0.0.1:0" },
    })
    .to_string()
}

#[test]
fn what_one_process_refuses_is_applied_by_none() {
    let cluster = Cluster::new();
    let a = cluster.first(Driver::Epoll, &config("edge", "one"));
    let b = cluster.add(Driver::Epoll, "edge", &["--port-offset", "20000"]);
    b.wait_until_serving();
    wait_for_processes(&a, 2);
    // A port that one of them cannot move up by so much; the kernel gives it to nobody who does not name it.
    let text = pushed("edge", "two").replace("127.0.0.1:0\"\n[channel", "127.0.0.1:64987\"\n[channel");
    let file = cluster.file("two.toml", &text);
    let (code, said) = engine(&["config", "push", &file, "--admin", &url(&a)]);
    let refusing = b.process_id();
    assert!(code == 1 && said.contains(&refusing) && said.contains("65535"), "{said}");
    assert_eq!((a.says().as_str(), b.says().as_str()), ("200 one", "200 one"));
    let (_, history) = a.ask_admin("GET", "/cluster/config/history", None);
    assert_eq!(history["versions"][0]["state"], "rejected", "{history}");
    // A mistake that anybody sees is no version at all.
    let file = cluster.file("three.toml", &pushed("edge", "three").replace("respond", "resbond"));
    let (code, said) = engine(&["config", "push", &file, "--admin", &url(&a)]);
    assert!(code == 1 && said.contains("resbond"), "{said}");
    let file = cluster.file("four.toml", &pushed("other", "four"));
    let (code, said) = engine(&["config", "push", &file, "--admin", &url(&a)]);
    assert!(code == 1 && said.contains("node other"), "{said}");
    // Neither stands in the way of one that is right.
    let file = cluster.file("five.toml", &pushed("edge", "five"));
    let (code, said) = engine(&["config", "push", &file, "--admin", &url(&b)]);
    assert_eq!((code, said.as_str()), (0, "version 3 is active\n"));
    eventually("both run it", || a.says() == "200 five" && b.says() == "200 five");
}

#[test]
fn a_module_is_stopped_and_started_on_every_process() {
    let cluster = Cluster::new();
    let text = format!(
        "{}[listener.more]\nbind = \"127.0.0.1:0\"\n[channel.needing]\nmatch = {{ path = \"^/needing$\" }}\n\
         requires = [\"channel.all\"]\nrespond = {{ body = \"needing\" }}\n",
        config("edge", "one")
    );
    let a = cluster.first(Driver::Epoll, &text);
    let b = cluster.join(Driver::Epoll, "edge");
    wait_for_processes(&a, 2);
    let more = b.listener("more");
    let change = |engine: &Engine, word: &str, name: &str| engine_cluster(engine, &["modules", word, name]);
    let (code, said) = change(&a, "stop", "channel.all");
    assert!(code == 1 && said.contains("channel.needing needs channel.all and runs"), "{said}");
    assert_eq!(change(&a, "stop", "listener.more"), (0, "listener.more is stopped\n".to_owned()));
    eventually("the other process has closed it", || std::net::TcpStream::connect(more).is_err());
    let joined = cluster.join(Driver::Epoll, "edge");
    assert!(!joined.log().contains("listener more"), "who joins finds it stopped");
    assert_eq!(change(&b, "stop", "channel.needing").0, 0);
    assert_eq!(change(&b, "stop", "channel.all").0, 0);
    eventually("nobody takes requests", || a.says().starts_with("404") && b.says().starts_with("404"));
    let (code, said) = change(&a, "start", "channel.needing");
    assert!(code == 1 && said.contains("which does not run"), "{said}");
    assert_eq!(change(&a, "start", "channel.all").0, 0);
    eventually("it runs again", || a.says() == "200 one" && b.says() == "200 one");
    let (code, said) = change(&a, "stop", "channel.nobody");
    assert!(code == 1 && said.contains("there is no module"), "{said}");
}

fn engine_cluster(process: &Engine, arguments: &[&str]) -> (i32, String) {
    let url = url(process);
    engine(&[&["cluster"], arguments, &["--admin", &url]].concat())
}

#[test]
fn a_process_that_is_wished_to_drain_says_so_first_and_is_gone_then() {
    on_both_drivers(|driver| {
        let cluster = Cluster::new();
        let text = config("edge", "one").replace("[listener", "drain_delay = \"1s\"\n[listener");
        let a = cluster.first(driver, &text);
        let mut b = cluster.join(driver, "edge");
        wait_for_processes(&a, 2);
        assert_eq!(b.readiness(), "200 ok");
        let (code, said) = engine_cluster(&a, &["drain", &b.process_id()]);
        assert_eq!(code, 0, "{said}");
        let mut kept = b.connect();
        eventually("balancers are told", || kept.get("/endpoint-health").status() == 503);
        // Whoever comes still is served, and so is who was there.
        assert_eq!(b.says(), "200 one");
        assert_eq!(kept.get("/").status(), 200);
        assert!(b.wait().success());
        wait_for_processes(&a, 1);
        let (code, said) = engine_cluster(&a, &["drain", "edge-99"]);
        assert!(code == 1 && said.contains("there is no process edge-99"), "{said}");
    });
}

#[test]
fn who_is_gone_without_a_word_is_taken_for_gone_and_comes_back_as_another() {
    let cluster = Cluster::new();
    let text = config("edge", "one").replace("poll", "lease = \"1s\"\npoll");
    let a = cluster.first(Driver::Epoll, &text);
    let mut killed = cluster.join(Driver::Epoll, "edge");
    let stopped = cluster.join(Driver::Epoll, "edge");
    wait_for_processes(&a, 3);
    killed.signal(Signal::KILL);
    killed.wait();
    wait_for_processes(&a, 2);
    let mut before = stopped.process_id();
    while !stop_at_rest(&stopped, &a) {
        before = stopped.process_id();
    }
    wait_for_processes(&a, 1);
    stopped.signal(Signal::CONT);
    assert_eq!(stopped.says(), "200 one", "it serves whatever others take it for");
    wait_for_processes(&a, 2);
    let after = stopped.process_id();
    assert_ne!(before, after);
    assert!(stopped.log().contains(&format!("process {before} was taken for gone")), "{}", stopped.log());
}

#[test]
fn ports_are_moved_up_for_one_process_and_nothing_of_it_is_saved() {
    let cluster = Cluster::new();
    let offset = 10_000_u16;
    // Below those that the kernel gives to who names none, so that no other test comes between.
    let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = std::process::id() % 1_000;
    let candidates = (0..1_000).map(|number| 12_000 + 10 * ((start + number) % 1_000) as u16);
    let mut free =
        candidates.filter(|first| (*first..first + 3).all(|port| is_free(port) && is_free(port + offset)));
    let first = free.next().expect("six ports");
    let ports = [first, first + 1, first + 2];
    let text = format!(
        "[node]\nid = \"edge\"\n[listener.web]\nbind = \"127.0.0.1:{}\"\n[listener.relay]\nbind = \"127.0.0.1:{}\"\n\
         protocol = \"tcp\"\nupstream = \"web\"\n[upstream.web]\nendpoints = [\"127.0.0.1:{}\"]\n\
         [channel.all]\nrespond = {{ body = \"one\" }}\n[admin]\nbind = \"127.0.0.1:{}\"\n",
        ports[0], ports[1], ports[0], ports[2]
    );
    let file = cluster.file("edge.toml", &text);
    let output = cluster.command(&["config", "push", &file]);
    assert!(output.status.success(), "{output:?}");
    let a = cluster.join(Driver::Epoll, "edge");
    let b = cluster.add(Driver::Epoll, "edge", &["--port-offset", &offset.to_string()]);
    b.wait_until_serving();
    let of = |engine: &Engine| [engine.web().port(), engine.listener("relay").port(), engine.admin().port()];
    assert_eq!(of(&a), [ports[0], ports[1], ports[2]]);
    assert_eq!(of(&b), of(&a).map(|port| port + offset));
    assert_eq!((a.says().as_str(), b.says().as_str()), ("200 one", "200 one"));
    let (_, saved) = b.ask_admin("GET", "/cluster/config", None);
    let document: Value = serde_json::from_str(saved["document"].as_str().expect("text")).expect("JSON");
    assert_eq!(document["listener"]["web"]["bind"], format!("127.0.0.1:{}", ports[0]));
    assert!(document["node"]["server_port_offset"].is_null() && document["store"].is_null());
    let mut beyond = cluster.add(Driver::Epoll, "edge", &["--port-offset", "65000"]);
    assert!(!beyond.wait().success());
    assert!(beyond.log().contains("65535"), "{}", beyond.log());
}

#[test]
fn who_cannot_join_says_why() {
    let cluster = Cluster::new();
    let store = format!("sqlite:{}", cluster.directory().join("cluster.db").display());
    let refused = |arguments: &[&str], expected: &str, code: i32| {
        let (ended, said) = engine(arguments);
        assert!(ended == code && said.contains(expected), "{arguments:?}: {ended}: {said}");
    };
    refused(&["--node", "edge", "--store", &store], "has no configuration in the store", 1);
    refused(&["--store", &store], "--node ID", 1);
    refused(&["--node", "edge"], "--store URL", 1);
    refused(&["--node", "edge", "--store", "mysql://db/c"], "sqlite:PATH", 1);
    refused(&["--node", &"n".repeat(31), "--store", &store], "at most 30 characters", 2);
    refused(&["--node", "an edge", "--store", &store], "an_edge", 2);
    refused(&["--node", "é", "--store", &store], "A-Z a-z 0-9 _ - .", 2);
    refused(&["--process-id", "edge-1"], "assigned automatically", 2);
    let file = cluster.file("edge.toml", &pushed("edge", "one"));
    refused(&["--node", "other", "--config", &file, "--store", &store], "configuration of node edge", 1);
    let long = "n".repeat(30);
    let file = cluster.file("long.toml", &pushed(&long, "one"));
    let output = cluster.command(&["config", "push", &file]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(cluster.join(Driver::Epoll, &long).says(), "200 one");
}
