//! Who may a process say it is, and where may it say that others are found?
//!
//! Never opens the store: whether somebody answers there is for the process to see.

use super::fields::Fields;
use crate::schema::cluster::{ConnectionPool, Mode, Node, Store};
use crate::value::Refusal;
use crate::value::duration::Timespan;
use crate::value::name;

/// Shorter, and a process that the machine has kept from running for a moment is taken for gone.
const LEASE_MIN: Timespan = Timespan::from_secs(1);
const LEASE_MAX: Timespan = Timespan::from_secs(300);

/// More often is a load of its own.
const POLL_MIN: Timespan = Timespan::from_millis(50);
const POLL_MAX: Timespan = Timespan::from_secs(30);

/// A beat may be lost, and another one late, before a lease is over.
const POLLS_PER_LEASE: u32 = 4;

const DRAIN_DELAY_MAX: Timespan = Timespan::from_secs(300);

const TIMEOUT_MIN: Timespan = Timespan::from_millis(100);
const TIMEOUT_MAX: Timespan = Timespan::from_secs(60);

const CONNECTIONS_MAX: u32 = 100;

/// Where a store may be.
const SCHEMES: [&str; 3] = ["sqlite:", "postgres://", "postgresql://"];

pub(super) fn read_node(fields: &mut Fields<'_>) -> Node {
    let default = Node::default();
    let node = Node {
        id: fields.parsed("id", |text| name::check(text).map(|()| text.to_owned())).unwrap_or(default.id),
        mode: fields
            .word("mode", &[("active_active", Mode::ActiveActive), ("active_passive", Mode::ActivePassive)]),
        lease: fields.duration("lease", LEASE_MIN..=LEASE_MAX, default.lease),
        poll: fields.duration("poll", POLL_MIN..=POLL_MAX, default.poll),
        drain_delay: fields.duration(
            "drain_delay",
            Timespan::from_secs(0)..=DRAIN_DELAY_MAX,
            default.drain_delay,
        ),
        server_port_offset: fields.integer("server_port_offset", 0..=u16::MAX, default.server_port_offset),
    };
    if node.poll.duration() * POLLS_PER_LEASE > node.lease.duration() {
        let written = if fields.has("poll") { "poll" } else { "lease" };
        let cause = format!("a process asks every {} and is taken for gone after {}", node.poll, node.lease);
        let suggestion = "poll is at most a quarter of lease".to_owned();
        fields.error(written, cause, Some(suggestion));
    }
    node
}

/// Names of modules; whether there are such is for the whole configuration to say.
pub(super) fn read_requires(fields: &mut Fields<'_>) -> Vec<String> {
    fields.items("requires").iter().filter_map(|item| item.text().map(str::to_owned)).collect()
}

/// A URL that is none of ours.
struct UnknownStore;

impl std::fmt::Display for UnknownStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What was written may hold a password.
        f.write_str("this is not the URL of a store")
    }
}

impl Refusal for UnknownStore {
    fn suggestion(&self) -> Option<String> {
        Some("\"sqlite:PATH\" or \"postgres://USER@HOST/DATABASE\"".to_owned())
    }
}

pub(super) fn read_store(fields: &mut Fields<'_>) -> Store {
    let default = Store::default();
    fields.require("url", "\"sqlite:state/cluster.db\"");
    let is_known =
        |text: &str| SCHEMES.iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    let url = fields.parsed("url", |text| is_known(text).then(|| text.to_owned()).ok_or(UnknownStore));
    Store {
        url: url.unwrap_or_default(),
        key_file: fields.text("key_file").map(str::to_owned),
        state_dir: fields.text("state_dir").map(str::to_owned),
        timeout: fields.duration("timeout", TIMEOUT_MIN..=TIMEOUT_MAX, default.timeout),
        connectionpool: fields.table("connectionpool", read_pool).unwrap_or_default(),
    }
}

fn read_pool(fields: &mut Fields<'_>) -> ConnectionPool {
    let default = ConnectionPool::default();
    let maxtotal = fields.integer("maxtotal", 1..=CONNECTIONS_MAX, default.maxtotal);
    let maxidle = fields.integer("maxidle", 0..=CONNECTIONS_MAX, default.maxidle.min(maxtotal));
    if maxidle > maxtotal {
        fields.error("maxidle", format!("there are at most {maxtotal} in all (maxtotal)"), None);
    }
    ConnectionPool { maxtotal, maxidle }
}
