//! Which configuration do the cores serve by? One compiled whole, with everything that goes with it, and what it owes to the
//! one before.
//!
//! Never changed once it is there: another configuration is another generation, and nothing that keeps its name begins anew.

use std::sync::Arc;

use config::snapshot::Snapshot;
use runtime::counter::RuntimeCounters;

use crate::admission::Admission;
use crate::private::Private;
use crate::roster::Roster;
use crate::stats::CoreStats;

/// A configuration as all cores share it.
#[derive(Debug)]
pub struct Generation {
    /// Counts the configurations of this process, from 1.
    pub number: u64,
    /// What is written.
    pub snapshot: Arc<Snapshot>,
    /// Who the endpoints are.
    pub roster: Arc<Roster>,
    /// Certificates, and whom to trust.
    pub private: Arc<Private>,
    /// The connections of the process.
    pub admission: Arc<Admission>,
    /// Where each core counts, by its index.
    pub stats: Box<[Arc<CoreStats>]>,
}

impl Generation {
    /// What a process begins with; `cores` are the executors' own counters, by index.
    #[must_use]
    pub fn first(
        snapshot: Arc<Snapshot>,
        roster: Arc<Roster>,
        private: Arc<Private>,
        cores: impl IntoIterator<Item = Arc<RuntimeCounters>>,
    ) -> Arc<Self> {
        let stats = cores.into_iter().map(|core| Arc::new(CoreStats::new(&snapshot, core))).collect();
        Arc::new(Self { number: 1, admission: Admission::new(&snapshot), stats, snapshot, roster, private })
    }
}
