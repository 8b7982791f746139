//! What is this process's own of a configuration that its node shares? Its place: ports moved up, where admin is, where the store is.
//!
//! Never anything that a client of the node could tell processes apart by, and never written into the store.

use std::collections::BTreeSet;

use config::snapshot::Snapshot;
use config::snapshot::cluster::StoreAccess;
use config::{Loaded, Problems};
use serde_json::Value;

use crate::candidate::{Candidate, LocalTerms, Origin};

/// What a process puts into every version of its node's configuration.
#[derive(Clone, Debug)]
pub struct Local {
    /// The node's ID.
    pub node: String,
    /// Where the store is.
    pub access: StoreAccess,
    /// Where it listens.
    pub terms: LocalTerms,
}

impl Local {
    /// Reads a version as it is in the store.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load(&self, version: u64, document: &str, stopped: &BTreeSet<String>) -> Result<Loaded, Problems> {
        let name = match version {
            // Not saved yet.
            0 => "the document".to_owned(),
            version => format!("version {version} of node {}", self.node),
        };
        config::load_shared(&name, document, stopped, &|variable| std::env::var(variable).ok())
    }

    /// Makes a version this process's own.
    ///
    /// # Errors
    /// When it cannot be: it says that it is of another node, or a port would be too large.
    pub fn settle(&self, version: u64, document: &str, mut loaded: Loaded) -> Result<Candidate, String> {
        if let Some(other) = node_of(document).filter(|id| *id != self.node) {
            return Err(format!(
                "node.id: it is the configuration of node {other}, not of {}; leave node.id out, or start with --node {other}",
                self.node
            ));
        }
        self.name(&mut loaded.snapshot);
        let source = format!("version {version} of node {} in the store", self.node);
        Candidate::new(loaded, &self.terms, Origin { source, version: Some(version) })
    }

    fn name(&self, snapshot: &mut Snapshot) {
        snapshot.node.clone_from(&self.node);
        snapshot.store = Some(self.access.clone());
    }
}

/// The ID of the node that a document says it is of.
#[must_use]
pub fn node_of(document: &str) -> Option<String> {
    let document: Value = serde_json::from_str(document).ok()?;
    Some(document["node"]["id"].as_str()?.to_owned())
}
