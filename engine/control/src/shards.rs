//! Where do the cores keep a number? One shard of every object on each core.
//!
//! Never copies a counter: what is handed out is read in place.

use config::snapshot::{EndpointId, UpstreamId};
use proto::client_hello::HelloRejected;
use proto::http1::chunked::ChunkRejected;
use proto::http1::rejected::{RequestRejected, ResponseRejected};
use proto::proxy_protocol::ProxyRejected;
use proto::retry::Cause;
use proxy::handshake_fault::HandshakeFault;
use proxy::outcome::Fault;
use proxy::stats::{ChannelCounters, CoreStats, EndpointCounters, ListenerCounters, UpstreamCounters};

use crate::catalogue::{RESPONSE_CLASSES, RETRY_CAUSES};
use crate::live::Live;

impl Live {
    /// What each core counts, by index.
    pub(crate) fn cores(&self) -> impl Iterator<Item = &CoreStats> {
        self.generation.stats.iter().map(|core| &**core)
    }

    /// The shards of a listener, by core.
    pub(crate) fn listener(&self, index: usize) -> Vec<&ListenerCounters> {
        self.cores().map(|core| &*core.listeners[index]).collect()
    }

    /// The shards of a channel, by core.
    pub(crate) fn channel(&self, index: usize) -> Vec<&ChannelCounters> {
        self.cores().map(|core| &*core.channels[index]).collect()
    }

    /// The shards of an upstream as a whole, by core.
    pub(crate) fn upstream(&self, id: UpstreamId) -> Vec<&UpstreamCounters> {
        self.cores().map(|core| &*core.upstreams[usize::from(id.0)]).collect()
    }

    /// How many of the requests to an upstream's endpoints went over a connection used before; `None` before the first.
    pub(crate) fn reuse_ratio(&self, id: UpstreamId) -> Option<f64> {
        let slots = || self.snapshot.upstreams[usize::from(id.0)].slots();
        let counters = || slots().flat_map(|slot| self.endpoint(slot));
        let requests: u64 = counters().map(|endpoint| endpoint.requests.value()).sum();
        let reused: u64 = counters().map(|endpoint| endpoint.reused.value()).sum();
        (requests > 0).then(|| reused as f64 / requests as f64)
    }

    /// The shards of an endpoint, by core.
    pub(crate) fn endpoint(&self, id: EndpointId) -> Vec<&EndpointCounters> {
        self.cores().map(|core| &*core.endpoints[usize::from(id.0)]).collect()
    }

    /// The shards of all listeners that are internal, or of all that are not; those that are gone among them.
    pub(crate) fn listeners(&self, internal: bool) -> impl Iterator<Item = &ListenerCounters> {
        let settings = &self.snapshot.listeners;
        let former = self.generation.former_listeners().iter().filter(move |row| row.internal == internal);
        let running = self.cores().flat_map(move |core| {
            let shards = settings.iter().zip(&core.listeners);
            shards.filter(move |(listener, _)| listener.internal == internal).map(|(_, shard)| &**shard)
        });
        running.chain(former.flat_map(|row| row.shards.iter().map(|shard| &**shard)))
    }

    /// The shards of all channels that are internal, or of all that are not; those that are gone among them.
    pub(crate) fn channels(&self, internal: bool) -> impl Iterator<Item = &ChannelCounters> {
        let settings = &self.snapshot.channels;
        let former = self.generation.former_channels().iter().filter(move |row| row.internal == internal);
        let running = self.cores().flat_map(move |core| {
            let shards = settings.iter().zip(&core.channels);
            shards.filter(move |(channel, _)| channel.internal == internal).map(|(_, shard)| &**shard)
        });
        running.chain(former.flat_map(|row| row.shards.iter().map(|shard| &**shard)))
    }

    /// The shards of all listeners there ever were.
    pub(crate) fn all_listeners(&self) -> impl Iterator<Item = &ListenerCounters> {
        self.listeners(false).chain(self.listeners(true))
    }

    /// Faults of all kinds by name.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Fault::NAMES
            .into_iter()
            .enumerate()
            .map(|(index, name)| (name, self.cores().map(|core| core.faults[index].value()).sum()))
    }

    /// Faults of one kind.
    pub(crate) fn fault(&self, name: &str) -> u64 {
        self.faults().filter(|(fault, _)| *fault == name).map(|(_, count)| count).sum()
    }

    /// Failed handshakes with clients by cause.
    pub(crate) fn handshake_faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.handshakes_by_cause(|core, cause| core.handshake_faults[cause].value())
    }

    /// Failed handshakes with endpoints by cause.
    pub(crate) fn upstream_handshake_faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.handshakes_by_cause(|core, cause| core.upstream_handshake_faults[cause].value())
    }

    fn handshakes_by_cause(
        &self,
        read: fn(&CoreStats, usize) -> u64,
    ) -> impl Iterator<Item = (&'static str, u64)> {
        HandshakeFault::NAMES
            .into_iter()
            .enumerate()
            .map(move |(cause, name)| (name, self.cores().map(|core| read(core, cause)).sum()))
    }

    /// Refused requests by the rule that their head or body broke.
    pub(crate) fn requests_rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let heads = RequestRejected::all().map(|rule| {
            (rule.name(), self.cores().map(|core| core.requests_rejected[rule.index()].value()).sum())
        });
        heads.chain(self.bodies_rejected(|core, rule| core.request_bodies_rejected[rule].value()))
    }

    /// Refused responses by the rule that their head or body broke.
    pub(crate) fn responses_rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let heads = ResponseRejected::all().map(|rule| {
            (rule.name(), self.cores().map(|core| core.responses_rejected[rule.index()].value()).sum())
        });
        heads.chain(self.bodies_rejected(|core, rule| core.response_bodies_rejected[rule].value()))
    }

    /// Refused connections by the rule that their PROXY header or hello broke.
    pub(crate) fn connections_rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let headers = ProxyRejected::ALL.iter().enumerate().map(|(index, rule)| {
            (rule.name(), self.cores().map(|core| core.proxy_headers_rejected[index].value()).sum())
        });
        let hellos = HelloRejected::ALL.iter().enumerate().map(|(index, rule)| {
            (rule.name(), self.cores().map(|core| core.hellos_rejected[index].value()).sum())
        });
        headers.chain(hellos)
    }

    fn bodies_rejected(
        &self,
        count: fn(&CoreStats, usize) -> u64,
    ) -> impl Iterator<Item = (&'static str, u64)> {
        let rules = ChunkRejected::ALL.iter().enumerate();
        rules.map(move |(index, rule)| (rule.name(), self.cores().map(|core| count(core, index)).sum()))
    }

    /// The configuration's fingerprint as it is shown.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{:016x}", self.snapshot.fingerprint)
    }
}

/// Repetitions by cause, over these shards.
pub(crate) fn retries(shards: &[&UpstreamCounters]) -> impl Iterator<Item = (&'static str, u64)> {
    let count = |cause: Cause| shards.iter().map(|upstream| upstream.retries[cause.index()].value()).sum();
    RETRY_CAUSES.into_iter().map(move |cause| (cause.name(), count(cause)))
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

#[cfg(test)]
mod tests {
    use crate::testing;

    /// A series is told by its rule alone: one name for two would be one series twice.
    #[test]
    fn no_two_rules_of_a_side_bear_the_same_name() {
        let (shared, _cores) = testing::shared(1);
        let live = shared.live();
        for rules in [
            live.requests_rejected().collect::<Vec<_>>(),
            live.responses_rejected().collect(),
            live.connections_rejected().collect(),
        ] {
            let mut names: Vec<_> = rules.iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), rules.len());
        }
    }

    #[test]
    fn bodies_count_beside_heads() {
        let (shared, _cores) = testing::shared(2);
        let live = shared.live();
        let [first, second] = [0, 1].map(|core| &live.generation.stats[core].request_bodies_rejected[0]);
        first.add(1);
        second.add(2);
        let counted = live.requests_rejected().filter(|(_, count)| *count > 0);
        assert_eq!(counted.collect::<Vec<_>>(), [("chunk_size_invalid", 3)]);
        assert_eq!(live.responses_rejected().map(|(_, count)| count).sum::<u64>(), 0);
    }
}
