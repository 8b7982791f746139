//! What a node is made of, what is left of it without some of that, and what its processes share.

use std::collections::BTreeSet;
use std::path::Path;

use config::snapshot::cluster::{Mode, ModuleState};
use config::snapshot::{Action, Snapshot};
use config::{Files, Format, Loaded, Problems, dump, load_shared, load_str};

const NODE: &str = r#"
node = { id = "gateway", server_port_offset = 7 }
store.url = "postgres://corelane:geheim@db.example/corelane"
listener.web.bind = "127.0.0.1:8080"
listener.private = { bind = "127.0.0.1:8081", requires = ["upstream.app"] }
listener.origin = { bind = "127.0.0.1:0", internal = true }
listener.db = { bind = "127.0.0.1:5432", protocol = "tcp", upstream = "db" }
channel.z = { upstream = "app", match = { path_prefix = "/app", listener = ["web", "private"] } }
channel.a = { upstream = "inner", match.listener = "web" }
channel.origin = { respond = { body = "${GREETING:-hello}" }, match.listener = "origin" }
upstream.app.endpoints = ["10.0.0.1:80"]
upstream.db.endpoints = ["10.0.0.2:5432"]
upstream.inner.endpoints = ["listener:origin", "10.0.0.3:80"]
"#;

fn load(text: &str) -> Result<Loaded, Problems> {
    load_str("f", text, Format::Toml, &|_| None)
}

fn wrong(text: &str, expected: &[&str]) {
    let problems = load(text).map(|_| ()).expect_err("it is refused");
    assert_eq!(
        problems.iter().map(|problem| problem.to_string().replacen("f:", "", 1)).collect::<Vec<_>>(),
        expected,
        "{text}"
    );
}

fn shared_document(name: &str, text: &str) -> String {
    let files = Files::of(Path::new(name), text);
    config::shared_document(&files).unwrap_or_else(|problems| panic!("{problems}"))
}

fn document() -> String {
    shared_document("f.toml", NODE)
}

fn without(stopped: &[&str]) -> Snapshot {
    let stopped: BTreeSet<_> = stopped.iter().map(|name| (*name).to_owned()).collect();
    let loaded = load_shared("store", &document(), &stopped, &|_| None);
    loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot
}

/// Those that do not run, and why.
fn halted(snapshot: &Snapshot) -> Vec<String> {
    let halted = snapshot.modules.iter().filter_map(|module| match &module.state {
        ModuleState::Started => None,
        ModuleState::Stopped => Some(format!("{} stopped", module.name)),
        ModuleState::Blocked(by) => Some(format!("{} by {by}", module.name)),
    });
    halted.collect()
}

fn listeners(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.listeners.iter().map(|listener| listener.name.as_str()).collect()
}

#[test]
fn a_node_says_who_it_is_and_how_it_is_many() {
    let text = "node = { id = 'n', mode = 'active_passive', lease = '10s', poll = '1s', drain_delay = '5s' }
        admin = {}";
    let terms = load(text).unwrap_or_else(|problems| panic!("{problems}")).snapshot.terms;
    let seconds = [terms.lease, terms.poll, terms.drain_delay].map(|duration| duration.as_secs());
    assert_eq!((terms.mode, seconds), (Mode::ActivePassive, [10, 1, 5]));
    wrong(
        "node = { lease = '1s', poll = '300ms' }\nadmin = {}",
        &[
            "1:31: node.poll: a process asks every 300ms and is taken for gone after 1s (poll is at most a quarter of lease)",
        ],
    );
}

#[test]
fn a_process_without_a_listener_is_there_to_be_asked() {
    let loaded = load("admin.bind = '127.0.0.1:9000'").unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.snapshot.listeners.is_empty() && loaded.snapshot.admin.is_some());
    assert!(load("node.id = 'n'").is_err());
}

#[test]
fn a_store_is_one_of_two_and_its_password_is_told_to_nobody() {
    wrong(
        "store = { url = 'mysql://a:geheim@b/c', connectionpool = { maxtotal = 2, maxidle = 3 } }\nadmin = {}",
        &[
            "1:17: store.url: this is not the URL of a store (\"sqlite:PATH\" or \"postgres://USER@HOST/DATABASE\")",
            "1:84: store.connectionpool.maxidle: there are at most 2 in all (maxtotal)",
        ],
    );
    let loaded = load(NODE).unwrap_or_else(|problems| panic!("{problems}"));
    let dumped = dump(&loaded.schema);
    assert!(dumped.contains("postgres://corelane:***@db.example/corelane"), "{dumped}");
    assert!(!format!("{dumped} {:?}", loaded.snapshot).contains("geheim"));
}

#[test]
fn every_process_has_the_same_modules_and_each_says_what_it_needs() {
    let snapshot = load(NODE).unwrap_or_else(|problems| panic!("{problems}")).snapshot;
    let needs: Vec<_> = snapshot
        .modules
        .iter()
        .map(|module| format!("{} <- {}", module.name, module.requires.join(" ")))
        .collect();
    assert_eq!(
        needs,
        [
            "cluster_manager <- ",
            "admin <- ",
            "listener.web <- ",
            "listener.private <- upstream.app",
            "listener.origin <- ",
            "listener.db <- upstream.db",
            "channel.z <- upstream.app",
            "channel.a <- upstream.inner",
            "channel.origin <- ",
            "upstream.app <- ",
            "upstream.db <- ",
            "upstream.inner <- listener.origin",
        ]
    );
    assert!(halted(&snapshot).is_empty());
}

#[test]
fn what_is_needed_must_be_there_and_not_in_a_circle() {
    let node = |web: &str, app: &str| {
        format!(
            "listener.web = {{ bind = '127.0.0.1:1', requires = [{web}] }}\nchannel.c.upstream = 'app'\n\
             upstream.app = {{ endpoints = ['10.0.0.1:80'], requires = [{app}] }}"
        )
    };
    wrong(
        &node("'upstream.ap', 'x'", ""),
        &[
            "1:52: listener.web.requires[0]: there is no module \"upstream.ap\" (did you mean \"upstream.app\"?)",
            "1:67: listener.web.requires[1]: there is no module \"x\" (modules are named like listener.web, upstream.app, security.local)",
        ],
    );
    wrong(
        &node("'upstream.app'", "'listener.web'"),
        &[
            "1:51: listener.web.requires: modules that need each other: listener.web -> upstream.app -> listener.web (leave out one of them)",
        ],
    );
    wrong(
        &node("", "'channel.c'"),
        &[
            "3:58: upstream.app.requires: modules that need each other: channel.c -> upstream.app -> channel.c (leave out one of them)",
        ],
    );
}

#[test]
fn a_listener_that_is_stopped_is_not_there_and_nothing_comes_by_it() {
    let snapshot = without(&["listener.web"]);
    assert_eq!(listeners(&snapshot), ["private", "origin", "db"]);
    let channels: Vec<_> = snapshot.channels.iter().map(|channel| channel.name.as_str()).collect();
    // A channel that took requests from it alone takes none, rather than those of all listeners.
    assert_eq!(channels, ["z", "origin"]);
    assert_eq!(halted(&snapshot), ["listener.web stopped"]);
}

#[test]
fn who_needs_what_is_stopped_does_not_run_either() {
    let snapshot = without(&["upstream.app"]);
    assert_eq!(
        halted(&snapshot),
        ["listener.private by upstream.app", "channel.z by upstream.app", "upstream.app stopped"]
    );
    assert_eq!(listeners(&snapshot), ["web", "origin", "db"]);
    // Its requests fall to nobody else.
    let Action::Respond(answer) = &snapshot.channels[0].action else { panic!("it answers by itself") };
    assert_eq!((answer.status, &*answer.body), (503, &b"upstream.app is stopped.\n"[..]));
    let snapshot = without(&["listener.origin"]);
    assert_eq!(
        halted(&snapshot),
        ["listener.origin stopped", "channel.a by upstream.inner", "upstream.inner by listener.origin"]
    );
}

#[test]
fn without_those_who_check_tokens_nobody_comes_in() {
    let text = "listener.web.bind = '127.0.0.1:1'
        channel.c = { upstream = 'app', token.check = 'clients' }
        upstream.app.endpoints = ['10.0.0.1:80']
        security.clients = { type = 'token_check', jwks = 'module:issuer' }
        security.issuer = { type = 'token_issuer', issuer = 'https://auth.example', audience = 'app' }
        security.local.type = 'local_inbound'
        admin.security = 'local'";
    let document = shared_document("f.toml", text);
    let stopped = BTreeSet::from(["security.issuer".to_owned()]);
    let loaded = load_shared("store", &document, &stopped, &|_| None);
    let snapshot = loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot;
    assert_eq!(
        halted(&snapshot),
        ["channel.c by security.clients", "security.clients by security.issuer", "security.issuer stopped"]
    );
    assert!(matches!(&snapshot.channels[0].action, Action::Respond(answer) if answer.status == 503));
    let admin = snapshot.modules.iter().find(|module| &*module.name == "admin").expect("admin");
    assert_eq!(admin.requires.join(" "), "security.local");
}

#[test]
fn a_relay_without_its_upstream_is_closed() {
    let snapshot = without(&["upstream.db"]);
    assert_eq!(listeners(&snapshot), ["web", "private", "origin"]);
}

#[test]
fn what_is_stopped_does_not_change_who_runs_the_same_configuration() {
    let whole = without(&[]);
    assert_eq!(whole.fingerprint, without(&["listener.web", "upstream.db"]).fingerprint);
    // Nor does what is one process's own.
    assert_eq!(
        whole.fingerprint,
        load(NODE).unwrap_or_else(|problems| panic!("{problems}")).snapshot.fingerprint
    );
}

#[test]
fn what_is_shared_is_as_written_but_for_what_is_one_processs_own() {
    let document = document();
    assert!(!document.contains("geheim") && !document.contains("server_port_offset"), "{document}");
    assert!(document.contains("${GREETING:-hello}"), "{document}");
    let snapshot = without(&[]);
    let channels: Vec<_> = snapshot.channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(channels, ["z", "a", "origin"], "in the order written");
    // JSON in, the same JSON out.
    let again = shared_document("f.json", &document);
    assert_eq!(again, document);
}

#[test]
fn a_document_from_the_store_names_files_by_absolute_paths() {
    let document = r#"{ "listener": { "web": { "bind": "127.0.0.1:1" } },
        "channel": { "c": { "respond": {}, "error_page": { "502": { "file": "page.html" } } } } }"#;
    let problems =
        load_shared("store", document, &BTreeSet::new(), &|_| None).map(|_| ()).expect_err("relative");
    assert!(
        problems.to_string().contains("a relative path can be given in a configuration file only"),
        "{problems}"
    );
}
