//! Who is this among others? What control is told of node and store.
//!
//! Never opens anything.

use std::path::Path;

use crate::report::Report;
use crate::schema::cluster::{Node, Store};
use crate::snapshot::cluster::{NodeTerms, StoreAccess};

/// What stands before the path of a database file.
const SQLITE: &str = "sqlite:";

pub(super) fn compile_node(node: &Node) -> NodeTerms {
    NodeTerms {
        mode: node.mode,
        lease: node.lease.duration(),
        poll: node.poll.duration(),
        drain_delay: node.drain_delay.duration(),
    }
}

pub(super) fn compile_store(store: &Store, report: &Report<'_>) -> StoreAccess {
    // Relative paths begin at the file's directory; where there is no file, where the process was started.
    let at = |path: &str| report.resolve(path).unwrap_or_else(|| path.into());
    let url = match store.url.strip_prefix(SQLITE) {
        Some(path) => format!("{SQLITE}{}", at(path).display()),
        None => store.url.clone(),
    };
    let path = |path: &Option<String>| path.as_deref().map(|path| Box::<Path>::from(at(path)));
    StoreAccess {
        url: url.into(),
        key_file: path(&store.key_file),
        state_dir: path(&store.state_dir),
        timeout: store.timeout.duration(),
        connections_max: store.connectionpool.maxtotal,
        idle_connections_max: store.connectionpool.maxidle,
    }
}
