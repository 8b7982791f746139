//! What may be said to a core from outside? The contents of its mailbox.
//!
//! Never anything that a request waits for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{ListenerId, UpstreamId};
use runtime::Handle;

use crate::admission::Permit;
use crate::generation::Generation;
use crate::stats::{CollectedQueue, HistogramSet};

/// A message to a core.
#[derive(Debug)]
pub enum CoreMessage {
    /// Serve a connection that another core has accepted.
    Adopt {
        /// The socket, non-blocking.
        fd: Handle,
        /// The client's address.
        peer: SocketAddr,
        /// Whose listener it is.
        generation: Arc<Generation>,
        /// The listener it came in through.
        listener: ListenerId,
        /// Its right to be there, where that is bounded.
        permit: Option<Permit>,
    },
    /// Record into `empty` from now on and put the set used so far into `reply`.
    CollectHistograms {
        /// Number of the generation whose set is meant; those of others come along.
        generation: u64,
        /// An empty set, shaped after that generation's snapshot.
        empty: Box<HistogramSet>,
        /// Takes the full one.
        reply: CollectedQueue,
    },
    /// The endpoints of an upstream have changed: connections to those that have gone need not be kept.
    Look {
        /// Number of the generation whose upstream it is.
        generation: u64,
        /// Whose.
        upstream: UpstreamId,
    },
    /// An endpoint may have another connection, or somebody waits until one may: see `upstream/room.rs`.
    Room {
        /// Number of the generation whose upstream it is.
        generation: u64,
        /// Whose.
        upstream: UpstreamId,
    },
    /// Serve by another generation from now on: what has begun ends in the one that it began in.
    Renew {
        /// Which.
        generation: Arc<Generation>,
        /// This core's sockets of the listeners that are new; it has those of the others.
        opened: Vec<(ListenerId, Handle)>,
    },
    /// Nothing to do but a turn of the loop, by which the core shows that it lives.
    Turn,
    /// Accept by these sockets too, of listeners of the generation that is served.
    Open(Vec<(ListenerId, Handle)>),
    /// Accept nothing more, finish what is in progress, then end; at the latest after `timeout`.
    Drain {
        /// How long exchanges in progress may go on.
        timeout: Duration,
        /// Whose sockets others accept by, who serve those that wait in their queues.
        left: Left,
        /// Who is told at the very end what was recorded until then.
        last: Option<LastWord>,
    },
}

/// Names of listeners whose sockets another process has taken over.
pub type Left = Arc<[Box<str>]>;

/// What a core does with its histograms when it ends: as [`CoreMessage::CollectHistograms`] does.
#[derive(Debug)]
pub struct LastWord {
    /// Number of the generation whose set is meant; those of others come along.
    pub generation: u64,
    /// An empty set, shaped after that generation's snapshot.
    pub empty: Box<HistogramSet>,
    /// Takes the full one.
    pub reply: CollectedQueue,
}

/// Messages a core's mailbox holds; connections beyond it stay with the core that accepted them.
pub const MAILBOX_CAPACITY: usize = 1024;
