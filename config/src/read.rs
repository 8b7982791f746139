//! Does each key hold what it may hold? The tree, key by key, to the schema.
//!
//! Never compares one key with another in a different table: that is `check`'s part.

mod access_log;
mod balance;
mod channel;
mod cluster;
mod edits;
mod fields;
mod health;
mod limits;
mod listener;
mod page;
mod process;
mod protocol;
mod register;
mod resolve;
mod retry;
mod rules;
mod security;
mod telemetry;
mod tls;
mod upstream;

use self::fields::Fields;
use crate::document::Document;
use crate::document::include::EDITOR_SCHEMA;
use crate::document::key::Key;
use crate::report::Report;
use crate::schema::Config;
use crate::value::duration::Timespan;

/// Tables of one kind; their ids are 16 bits wide, and nobody writes more by hand.
const TABLES_MAX: usize = 10_000;

/// Items of one list, for the same reason.
const ITEMS_MAX: usize = 10_000;

/// Deadlines on a peer: below a millisecond no timer fires in time, above a day none is meant.
const TIMEOUT_MIN: Timespan = Timespan::from_millis(1);
const TIMEOUT_MAX: Timespan = Timespan::from_secs(24 * 3600);

/// Reads the whole tree, with stand-ins where the report names a problem.
pub(crate) fn read(document: &Document, report: &Report<'_>) -> Config {
    let Some(mut fields) = Fields::open(report, Key::root(), &document.root) else {
        return Config::default();
    };
    let node = fields.table("node", cluster::read_node).unwrap_or_default();
    let process = fields.table("process", process::read_process).unwrap_or_default();
    let buffer_size = process.buffer_size;
    // A process may have nothing to do but to be asked about others.
    if !fields.has("admin") {
        let suggestion = "add [listener.web] with bind = \"127.0.0.1:8080\"";
        fields.require_some("listener", "no listener is defined", suggestion);
    }
    let config = Config {
        node,
        process,
        store: fields.table("store", cluster::read_store),
        listener: fields.tables("listener", |fields| listener::read(fields, buffer_size)),
        channel: fields.tables("channel", channel::read),
        upstream: fields.tables("upstream", |fields| upstream::read(fields, buffer_size)),
        security: fields.tables("security", security::read),
        access_log: fields.tables("access_log", access_log::read),
        admin: fields.table("admin", listener::read_admin).unwrap_or_default(),
        telemetry: fields.table("telemetry", telemetry::read).unwrap_or_default(),
    };
    fields.refuse_include();
    fields.text(EDITOR_SCHEMA);
    fields.finish();
    config
}
