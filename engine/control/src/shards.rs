//! Where do the cores keep a number? One shard of every object on each core.
//!
//! Never copies a counter: what is handed out is read in place.

use proto::http1::rejected::{RequestRejected, ResponseRejected};
use proxy::outcome::Fault;
use proxy::stats::{ChannelCounters, CoreStats, EndpointCounters, ListenerCounters};

use crate::Shared;
use crate::catalogue::RESPONSE_CLASSES;

impl Shared {
    /// What each core counts, by index.
    pub(crate) fn cores(&self) -> impl Iterator<Item = &CoreStats> {
        self.fellows.iter().map(|fellow| &*fellow.stats)
    }

    /// The shards of a listener, by core.
    pub(crate) fn listener(&self, index: usize) -> Vec<&ListenerCounters> {
        self.cores().map(|core| &core.listeners[index]).collect()
    }

    /// The shards of a channel, by core.
    pub(crate) fn channel(&self, index: usize) -> Vec<&ChannelCounters> {
        self.cores().map(|core| &core.channels[index]).collect()
    }

    /// The shards of an endpoint, by core.
    pub(crate) fn endpoint(&self, index: usize) -> Vec<&EndpointCounters> {
        self.cores().map(|core| &core.endpoints[index]).collect()
    }

    /// The shards of all listeners that are internal, or of all that are not.
    pub(crate) fn listeners(&self, internal: bool) -> impl Iterator<Item = &ListenerCounters> {
        let settings = &self.snapshot.listeners;
        self.cores().flat_map(move |core| {
            let shards = settings.iter().zip(&core.listeners);
            shards.filter(move |(listener, _)| listener.internal == internal).map(|(_, shard)| shard)
        })
    }

    /// The shards of all channels that are internal, or of all that are not.
    pub(crate) fn channels(&self, internal: bool) -> impl Iterator<Item = &ChannelCounters> {
        let settings = &self.snapshot.channels;
        self.cores().flat_map(move |core| {
            let shards = settings.iter().zip(&core.channels);
            shards.filter(move |(channel, _)| channel.internal == internal).map(|(_, shard)| shard)
        })
    }

    /// Faults of all kinds by name.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Fault::NAMES
            .into_iter()
            .enumerate()
            .map(|(index, name)| (name, self.cores().map(|core| core.faults[index].value()).sum()))
    }

    /// Refused request heads by rule.
    pub(crate) fn requests_rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RequestRejected::all().map(|rule| {
            (rule.name(), self.cores().map(|core| core.requests_rejected[rule.index()].value()).sum())
        })
    }

    /// Refused response heads by rule.
    pub(crate) fn responses_rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ResponseRejected::all().map(|rule| {
            (rule.name(), self.cores().map(|core| core.responses_rejected[rule.index()].value()).sum())
        })
    }

    /// The configuration's fingerprint as it is shown.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{:016x}", self.snapshot.fingerprint)
    }
}

/// Answers by class of status, over these shards.
pub(crate) fn responses<'s, Shards: Iterator<Item = &'s ChannelCounters>>(
    shards: impl Fn() -> Shards,
) -> impl Iterator<Item = (&'static str, u64)> {
    RESPONSE_CLASSES
        .into_iter()
        .enumerate()
        .map(move |(index, class)| (class, shards().map(|channel| channel.responses[index].value()).sum()))
}
