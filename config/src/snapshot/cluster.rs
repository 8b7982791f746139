//! Who is this process among others, what is it made of, and where is what they share?
//!
//! Never read by a core: control alone asks.

use std::fmt;
use std::path::Path;
use std::time::Duration;

pub use crate::schema::cluster::Mode;

/// What is written of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTerms {
    /// Which of its processes serve.
    pub mode: Mode,
    /// How long the word of a process counts that is not heard of any more.
    pub lease: Duration,
    /// How often the store is asked; at most a quarter of [`Self::lease`].
    pub poll: Duration,
    /// From the first 503 of `/endpoint-health` to the closing of the listeners.
    pub drain_delay: Duration,
}

/// How the store is reached. One process's own, and no part of the fingerprint.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreAccess {
    /// `sqlite:PATH`, the path as this process opens it, or `postgres://…`; may hold a password.
    pub url: Box<str>,
    /// File of the key that secrets in the store are encrypted with.
    pub key_file: Option<Box<Path>>,
    /// Directory of the copy of the last configuration that ran.
    pub state_dir: Option<Box<Path>>,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// Connections at most.
    pub connections_max: u32,
    /// Connections kept that nobody uses.
    pub idle_connections_max: u32,
}

/// Without the URL, which may hold a password.
impl fmt::Debug for StoreAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.url.split(':').next().unwrap_or_default();
        f.debug_struct("StoreAccess").field("url", &format_args!("{scheme}:…")).finish_non_exhaustive()
    }
}

/// What a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModuleKind {
    /// The admin listener and what is asked there: `admin`.
    Admin,
    /// What joins a process to its cluster: `cluster_manager`, where there is a store.
    ClusterManager,
    /// `listener.NAME`.
    Listener,
    /// `channel.NAME`.
    Channel,
    /// `upstream.NAME`.
    Upstream,
    /// `security.NAME`.
    Security,
}

impl ModuleKind {
    /// Its name in configurations, statistics and the admin API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::ClusterManager => "cluster_manager",
            Self::Listener => "listener",
            Self::Channel => "channel",
            Self::Upstream => "upstream",
            Self::Security => "security",
        }
    }
}

/// Whether a module runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleState {
    /// It does.
    Started,
    /// It was stopped, or is written with `enabled = false`.
    Stopped,
    /// It needs the named module, which does not run.
    Blocked(Box<str>),
}

/// One functional unit. Every process of a node has the same ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// What it is.
    pub kind: ModuleKind,
    /// `KIND.NAME`, or the kind alone where there is one only.
    pub name: Box<str>,
    /// Modules that it needs, by name; those that follow from its keys first.
    pub requires: Box<[Box<str>]>,
    /// Whether it runs.
    pub state: ModuleState,
}
