//! What is known to one process of a cluster, is it to all? Sessions of users, tokens of clients, tickets of TLS.
//!
//! Never two processes that share anything but the store and the file of its key.

mod common;
#[path = "common/tls.rs"]
#[allow(dead_code, reason = "the clients are those of openssl")]
mod tls;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::browser::{Browser, first_password, send};
use common::cluster::Cluster;
use common::connection::Connection;
use common::engine::{Driver, Engine};
use common::message::Message;
use common::origin::{OK, Origin};
use common::{PATIENCE, eventually, on_both_drivers};
use serde_json::{Value, json};
use tls::{Authority, Files};

/// What is undone somewhere is undone everywhere within a second; a busy machine gets another one.
const UNDONE_WITHIN: Duration = Duration::from_secs(2);

/// Waits until it is so, and says how long that took.
#[track_caller]
fn soon(what: &str, is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    eventually(what, is_so);
    assert!(began.elapsed() < UNDONE_WITHIN, "{what}: after {:?}", began.elapsed());
}

/// What all processes of a cluster are told besides the store.
fn with_key(cluster: &Cluster) -> [String; 2] {
    ["--store-key".to_owned(), cluster.directory().join("store.key").display().to_string()]
}

fn begin(cluster: &Cluster, driver: Driver, config: &str) -> Engine {
    let more = with_key(cluster);
    let engine = cluster.bring(driver, config, &[&more[0], &more[1]]);
    engine.wait_until_serving();
    engine
}

fn join(cluster: &Cluster, driver: Driver, node: &str) -> Engine {
    let more = with_key(cluster);
    let engine = cluster.add(driver, node, &[&more[0], &more[1]]);
    engine.wait_until_serving();
    engine
}

#[test]
fn who_has_logged_in_at_one_process_is_known_to_all_until_he_logs_out_at_any() {
    let cluster = Cluster::new();
    let config = "node.id = 'admin_node'
        [listener.web]
        bind = '127.0.0.1:0'
        [channel.all]
        respond = {}
        [security.local]
        type = 'local_inbound'
        [admin]
        bind = '127.0.0.1:0'
        security = 'local'";
    let a = begin(&cluster, Driver::Epoll, config);
    let password = first_password(&a);
    let b = join(&cluster, Driver::Epoll, "admin_node");
    let at_a = Browser::log_in(&a, "admin", &password);
    let at_b = Browser { engine: &b, cookie: at_a.cookie.clone(), csrf: at_a.csrf.clone() };
    // Who has just begun to serve may have yet to join.
    eventually("the other knows him", || at_b.get("/stats").status() == 200);
    assert_eq!(at_a.get("/stats").status(), 200);
    assert_eq!(at_b.change("POST", "/logout", None).status(), 204);
    assert_eq!(at_b.get("/stats").status(), 401);
    soon("he is logged out at the other too", || at_a.get("/stats").status() == 401);
    // There is one first user, whoever is first.
    assert!(!b.log().contains("There was no user yet."), "{}", b.log());
    assert_eq!(send(&b, "GET", "/stats", "", None).status(), 401);
}

#[track_caller]
fn ask_admin(engine: &Engine, path: &str, kind: &str, body: &str) -> Message {
    Connection::open(engine.admin()).ask(&format!(
        "POST {path} HTTP/1.1\r\nHost: admin\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[track_caller]
fn form(engine: &Engine, path: &str, form: &str) -> Message {
    ask_admin(engine, path, "application/x-www-form-urlencoded", form)
}

#[test]
fn a_token_of_one_node_is_believed_by_another_until_it_is_revoked_and_after_its_key_has_retired() {
    on_both_drivers(|driver| {
        let cluster = Cluster::new();
        let origin = Origin::answering(OK);
        let auth = begin(
            &cluster,
            driver,
            "node.id = 'auth_node'
            [security.issuer]
            type = 'token_issuer'
            issuer = 'https://auth.example'
            audience = 'patients'
            [listener.web]
            bind = '127.0.0.1:0'
            [channel.all]
            respond = {}
            [admin]
            bind = '127.0.0.1:0'",
        );
        let gateway = begin(
            &cluster,
            driver,
            &format!(
                "node.id = 'gateway_node'
                [listener.web]
                bind = '127.0.0.1:0'
                [channel.all]
                upstream = 'app'
                token = {{ check = 'clients', scopes = ['read'] }}
                [upstream.app]
                endpoints = ['{}']
                [security.clients]
                type = 'token_check'
                jwks = 'module:issuer'
                issuer = 'https://auth.example'
                audience = 'patients'
                [admin]
                bind = '127.0.0.1:0'",
                origin.address
            ),
        );
        let new = json!({ "name": "lab", "scopes": ["read"] }).to_string();
        let mut client = ask_admin(&auth, "/clients", "application/json", &new);
        eventually("who may ask for tokens is known", || {
            if client.status() == 503 {
                client = ask_admin(&auth, "/clients", "application/json", &new);
            }
            client.status() == 201
        });
        let client: Value = serde_json::from_slice(&client.body).expect("JSON");
        let client =
            format!("client_id=lab&client_secret={}", client["secret"].as_str().expect("shown once"));
        let issue = || {
            let ask = || form(&auth, "/token", &format!("grant_type=client_credentials&{client}"));
            eventually("there is a key", || ask().status() == 200);
            let given: Value = serde_json::from_slice(&ask().body).expect("JSON");
            given["access_token"].as_str().expect("a token").to_owned()
        };
        let status = |token: &str| {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
            gateway.connect().ask(&request).status()
        };
        let (first, other) = (issue(), issue());
        eventually("the gateway believes it", || status(&first) == 200);
        assert_eq!(status(&other), 200);
        let revoked = form(&auth, "/token/revoke", &format!("token={first}&{client}"));
        assert_eq!(revoked.status(), 200, "{revoked:?}");
        soon("it is revoked at the gateway", || status(&first) == 401);
        assert_eq!(status(&other), 200, "that one is not");
        let rotated = ask_admin(&auth, "/keys/rotate", "application/json", "{}");
        assert!([200, 201, 204].contains(&rotated.status()), "{rotated:?}");
        let newer = issue();
        let key_of = |token: &str| token.split('.').next().expect("a head").to_owned();
        // It is shown to those who check for as long as it takes them to see it, before it signs.
        let began = Instant::now();
        while key_of(&issue()) == key_of(&other) {
            assert!(began.elapsed() < 3 * PATIENCE, "the next key signs nothing");
            // Ten seconds have to pass: asked without a pause, the issuer would sign thousands.
            std::thread::sleep(Duration::from_millis(100));
        }
        eventually("what it signs is believed", || status(&newer) == 200 && status(&issue()) == 200);
        assert_eq!(status(&other), 200, "what the one before has signed is good until it is over");
    });
}

/// What `openssl s_client` says of a connection, by the session in a file or to put one there.
#[track_caller]
fn s_client(address: &str, version: &str, session: [&str; 2]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", address, "-servername", "localhost", "-ign_eof", version])
        .args(session)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is there");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it reads");
    // With its answer it has read the ticket.
    let said = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

#[test]
fn a_session_begun_with_one_process_is_resumed_by_another() {
    on_both_drivers(|driver| {
        let cluster = Cluster::new();
        let (authority, files) = (Authority::new(), Files::new());
        let pair = files.write_pair("web", &authority.issue(&["localhost"]));
        let config = format!(
            "node.id = 'gateway_node'
            [listener.web]
            bind = '127.0.0.1:0'
            protocol = 'https'
            tls = {{ certificates = [{pair}] }}
            [channel.all]
            respond = {{ body = 'here' }}
            [admin]
            bind = '127.0.0.1:0'"
        );
        let a = begin(&cluster, driver, &config);
        let b = join(&cluster, driver, "gateway_node");
        let session = cluster.directory().join("session.pem").display().to_string();
        let (at_a, at_b) = (a.web().to_string(), b.web().to_string());
        for version in ["-tls1_2", "-tls1_3"] {
            eventually("the other resumes it", || {
                let said = s_client(&at_a, version, ["-sess_out", &session]);
                assert!(said.contains("New, ") && said.contains("here"), "{said}");
                s_client(&at_b, version, ["-sess_in", &session]).contains("Reused, ")
            });
        }
    });
}
