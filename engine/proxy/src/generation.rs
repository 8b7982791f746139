//! Which configuration do the cores serve by? One compiled whole, with everything that goes with it, and what it owes to the
//! one before.
//!
//! Never changed once it is there: another configuration is another generation, and nothing that keeps its name begins anew.

use std::collections::HashMap;
use std::sync::Arc;

use config::snapshot::{BindAddress, EndpointId, Listener, Snapshot, UpstreamId};
use runtime::counter::RuntimeCounters;

use crate::access::tray::Log;
use crate::admission::Admission;
use crate::private::Private;
use crate::roster::Roster;
use crate::standing::Standing;
use crate::stats::{ChannelCounters, CoreStats, EndpointCounters, ListenerCounters};

/// Generations that may live at a time. An older one lives by requests that take long, and holds its snapshot and each core's memory
/// for it; where so many do, another is to wait until one of them has ended. Tunnels hold none: see `remains.rs`.
pub const GENERATIONS_MAX: u64 = 64;

/// Rows of one kind that are remembered by name once they are gone. What exceeds them is counted as one, without a name.
const FORMER_MAX: usize = 256;

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
    /// Whether the process acts; one for all generations.
    pub standing: Arc<Standing>,
    /// Where each core counts, by its index.
    pub stats: Box<[Arc<CoreStats>]>,
    /// Where exchanges are written down, by [`config::snapshot::access_log::AccessLogId`].
    pub logs: Arc<[Arc<Log>]>,
    former_listeners: Vec<Former<ListenerCounters>>,
    former_channels: Vec<Former<ChannelCounters>>,
}

/// What is no longer configured and stays part of the totals; older generations may count on.
#[derive(Debug)]
pub struct Former<T> {
    /// As it was configured; empty for many together.
    pub name: String,
    /// Whether it is left out of totals.
    pub internal: bool,
    /// Its counters, by core.
    pub shards: Box<[Arc<T>]>,
}

impl<T> Former<T> {
    fn share(&self) -> Self {
        Self { name: self.name.clone(), internal: self.internal, shards: self.shards.clone() }
    }
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
        let stats: Box<[_]> =
            cores.into_iter().map(|core| Arc::new(CoreStats::new(&snapshot, core))).collect();
        Arc::new(Self {
            number: 1,
            logs: Log::all(&snapshot.access_logs.logs, &[], stats.len()),
            admission: Admission::new(&snapshot),
            standing: Arc::default(),
            stats,
            former_listeners: Vec::new(),
            former_channels: Vec::new(),
            snapshot,
            roster,
            private,
        })
    }

    /// What follows this one: counters, connections and what is used up of rates go on for whatever keeps its name.
    #[must_use]
    pub fn next(&self, snapshot: Arc<Snapshot>, roster: Arc<Roster>, private: Arc<Private>) -> Arc<Self> {
        let names = |snapshot: &Snapshot| -> Vec<_> {
            snapshot.listeners.iter().map(|listener| (listener.name.clone(), listener.internal)).collect()
        };
        let mut listeners = Shelf::new(names(&self.snapshot), &self.former_listeners, |index| {
            self.stats.iter().map(|core| Arc::clone(&core.listeners[index])).collect()
        });
        let listeners_by_core = listeners.take_all(&names(&snapshot), self.stats.len());
        let names = |snapshot: &Snapshot| -> Vec<_> {
            snapshot.channels.iter().map(|channel| (channel.name.clone(), channel.internal)).collect()
        };
        let mut channels = Shelf::new(names(&self.snapshot), &self.former_channels, |index| {
            self.stats.iter().map(|core| Arc::clone(&core.channels[index])).collect()
        });
        let channels_by_core = channels.take_all(&names(&snapshot), self.stats.len());
        let upstreams = self.former_upstreams(&snapshot);
        let endpoints = self.former_endpoints(&snapshot, &roster, &upstreams);
        let by_core = listeners_by_core.into_iter().zip(channels_by_core);
        let stats = self.stats.iter().zip(by_core).map(|(core, (listeners, channels))| {
            let upstream = |former: &Option<UpstreamId>| {
                former.map(|id| Arc::clone(&core.upstreams[usize::from(id.0)])).unwrap_or_default()
            };
            let endpoint = |former: &Option<EndpointId>| -> Arc<EndpointCounters> {
                former.map(|id| Arc::clone(&core.endpoints[usize::from(id.0)])).unwrap_or_default()
            };
            Arc::new(CoreStats {
                runtime: Arc::clone(&core.runtime),
                core: Arc::clone(&core.core),
                listeners: listeners.into(),
                channels: channels.into(),
                upstreams: upstreams.iter().map(upstream).collect(),
                endpoints: endpoints.iter().map(endpoint).collect(),
            })
        });
        Arc::new(Self {
            number: self.number + 1,
            admission: Admission::next(&self.admission, &self.snapshot, &snapshot),
            standing: Arc::clone(&self.standing),
            stats: stats.collect(),
            logs: Log::all(&snapshot.access_logs.logs, &self.logs, self.stats.len()),
            former_listeners: listeners.into_former(ListenerCounters::absorb),
            former_channels: channels.into_former(ChannelCounters::absorb),
            snapshot,
            roster,
            private,
        })
    }

    /// Listeners that earlier generations had and this one has not.
    #[must_use]
    pub fn former_listeners(&self) -> &[Former<ListenerCounters>] {
        &self.former_listeners
    }

    /// Channels that earlier generations had and this one has not.
    #[must_use]
    pub fn former_channels(&self) -> &[Former<ChannelCounters>] {
        &self.former_channels
    }

    /// Whether every core serves by it, or by a later one, and lets nobody more in by listeners that it has not.
    #[must_use]
    pub fn is_taken_up(&self) -> bool {
        self.stats.iter().all(|core| core.core.generation.value() >= self.number)
    }

    /// How many generations live, of which this is the latest: on the core that serves by most of them.
    #[must_use]
    pub fn living(&self) -> u64 {
        self.stats.iter().map(|core| core.core.generations.value()).max().unwrap_or(0)
    }

    /// Who each upstream of `snapshot` is in this generation.
    fn former_upstreams(&self, snapshot: &Snapshot) -> Vec<Option<UpstreamId>> {
        let upstreams = snapshot.upstreams.iter();
        upstreams.map(|upstream| find_upstream(&self.snapshot, &upstream.name)).collect()
    }

    /// Whose counters each slot of `snapshot` has in this generation: those of the endpoint of its name, and a vacant one those of
    /// the slot, which nobody else has taken.
    fn former_endpoints(
        &self,
        snapshot: &Snapshot,
        roster: &Roster,
        upstreams: &[Option<UpstreamId>],
    ) -> Vec<Option<EndpointId>> {
        let mut endpoints = vec![None; usize::from(snapshot.slots_count)];
        let mut is_taken = vec![false; usize::from(self.snapshot.slots_count)];
        for ((id, upstream), former_id) in (0..).map(UpstreamId).zip(&snapshot.upstreams).zip(upstreams) {
            let Some(former_id) = *former_id else { continue };
            let former = &self.snapshot.upstreams[usize::from(former_id.0)];
            let (members, former_members) = (roster.members(id), self.roster.members(former_id));
            let by_name: HashMap<&str, EndpointId> =
                former_members.all.iter().map(|former| (&*former.name, former.id)).collect();
            for member in &members.all {
                let Some(&same) = by_name.get(&*member.name) else { continue };
                endpoints[usize::from(member.id.0)] = Some(same);
                is_taken[usize::from(same.0)] = true;
            }
            for (slot, former_slot) in upstream.slots().zip(former.slots()) {
                if members.find(slot).is_none() && !is_taken[usize::from(former_slot.0)] {
                    endpoints[usize::from(slot.0)] = Some(former_slot);
                }
            }
        }
        endpoints
    }
}

/// The upstream of this name.
pub(crate) fn find_upstream(snapshot: &Snapshot, name: &str) -> Option<UpstreamId> {
    let upstreams = (0..).map(UpstreamId).zip(&snapshot.upstreams);
    upstreams.into_iter().find(|(_, upstream)| upstream.name == name).map(|(id, _)| id)
}

/// Whether a listener goes on with the sockets of another: one of the same name at the same place, whatever it speaks.
#[must_use]
pub fn keeps_socket(old: &Listener, new: &Listener) -> bool {
    let is_same_place = match (&old.bind, &new.bind) {
        // Its mode is the file's.
        (BindAddress::Unix { path: old, .. }, BindAddress::Unix { path: new, .. }) => old == new,
        (old, new) => old == new,
    };
    old.name == new.name && is_same_place && old.internal == new.internal
}

/// The counters of one kind of module, by name.
struct Shelf<T>(Vec<Former<T>>);

impl<T: Default> Shelf<T> {
    /// Those that are configured behind those that are not any more.
    fn new(
        names: Vec<(String, bool)>,
        former: &[Former<T>],
        shards: impl Fn(usize) -> Box<[Arc<T>]>,
    ) -> Self {
        let rows = names.into_iter().enumerate();
        let rows = rows.map(|(index, (name, internal))| Former { name, internal, shards: shards(index) });
        Self(former.iter().map(Former::share).chain(rows).collect())
    }

    /// Takes the counters of these names, or new ones; by core.
    fn take_all(&mut self, names: &[(String, bool)], cores: usize) -> Vec<Vec<Arc<T>>> {
        let mut by_core: Vec<Vec<_>> = (0..cores).map(|_| Vec::new()).collect();
        for (name, internal) in names {
            let is_it = |row: &Former<T>| row.name == *name && row.internal == *internal;
            let row = self.0.iter().position(is_it).map(|index| self.0.remove(index));
            for (index, core) in by_core.iter_mut().enumerate() {
                core.push(row.as_ref().map_or_else(Arc::default, |row| Arc::clone(&row.shards[index])));
            }
        }
        by_core
    }

    /// What nobody has taken. Where that is too much, what no generation counts any more is added up.
    fn into_former(self, absorb: fn(&T, &T)) -> Vec<Former<T>> {
        let Self(mut rows) = self;
        let mut index = 0;
        while rows.len() > FORMER_MAX && index < rows.len() {
            // Two generations at most hold a row that nobody counts in: the one before, and this one.
            let is_counted_in = rows[index].shards.iter().any(|shard| Arc::strong_count(shard) > 2);
            if rows[index].name.is_empty() || is_counted_in {
                index += 1;
                continue;
            }
            let row = rows.remove(index);
            let is_sum = |sum: &Former<T>| sum.name.is_empty() && sum.internal == row.internal;
            match rows.iter().find(|sum| is_sum(sum)) {
                Some(sum) => {
                    sum.shards.iter().zip(&row.shards).for_each(|(sum, shard)| absorb(sum, shard));
                }
                None => {
                    let shards: Box<[Arc<T>]> = row.shards.iter().map(|_| Arc::default()).collect();
                    shards.iter().zip(&row.shards).for_each(|(sum, shard)| absorb(sum, shard));
                    rows.insert(0, Former { name: String::new(), internal: row.internal, shards });
                }
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use config::snapshot::ListenerId;
    use proto::rate::Exhausted;

    use super::*;
    use crate::address::Address;
    use crate::roster::keeper::Keeper;
    use crate::roster::member::{Source, State};

    const UPSTREAM: UpstreamId = UpstreamId(0);

    fn snapshot(text: &str) -> Arc<Snapshot> {
        let loaded = config::load_str("a.toml", text, config::Format::Toml, &|_| None);
        Arc::new(loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot)
    }

    fn address(port: u16) -> Address {
        SocketAddr::from(([10, 0, 0, 1], port)).into()
    }

    fn address_of(written: &config::snapshot::EndpointAddress) -> Address {
        match written {
            config::snapshot::EndpointAddress::Tcp(address) => (*address).into(),
            other => panic!("{other:?}"),
        }
    }

    /// What a process goes through that is told these configurations in turn.
    struct Process {
        keeper: Keeper,
        generation: Arc<Generation>,
    }

    impl Process {
        fn begin(text: &str) -> Self {
            let snapshot = snapshot(text);
            let keeper = Keeper::new(&snapshot, address_of);
            let roster = Arc::clone(keeper.roster());
            let cores = [Arc::default(), Arc::default()];
            let generation = Generation::first(snapshot, roster, Arc::default(), cores);
            Self { keeper, generation }
        }

        fn go_on(&mut self, text: &str) {
            let snapshot = snapshot(text);
            self.keeper = self.keeper.next(&snapshot, address_of);
            let roster = Arc::clone(self.keeper.roster());
            self.generation = self.generation.next(snapshot, roster, Arc::default());
        }

        fn listener(&self, name: &str) -> ListenerId {
            let listeners = &self.generation.snapshot.listeners;
            let index = listeners.iter().position(|listener| listener.name == name).expect(name);
            ListenerId(index as u16)
        }

        /// How many connections a listener has accepted on the first core.
        fn accepted(&self, name: &str) -> &ListenerCounters {
            &self.generation.stats[0].listeners[usize::from(self.listener(name).0)]
        }

        fn names(&self) -> Vec<(String, State)> {
            let members = self.keeper.roster().members(UPSTREAM);
            members.all.iter().map(|member| (member.name.to_string(), member.state)).collect()
        }
    }

    fn web(listeners: &[&str]) -> String {
        let listener = |(port, name): (u16, &&str)| format!("[listener.{name}]\nbind = '127.0.0.1:{port}'\n");
        let listeners: String = (1..).zip(listeners).map(listener).collect();
        format!("{listeners}[channel.c]\nrespond = {{ status = 204 }}\n")
    }

    #[test]
    fn what_keeps_its_name_goes_on_counting_and_what_is_gone_is_remembered() {
        let mut process = Process::begin(&web(&["a", "b"]));
        process.accepted("a").accepted.add(3);
        process.accepted("b").accepted.add(5);
        let former = Arc::clone(&process.generation);
        process.go_on(&web(&["b", "c"]));
        assert_eq!(process.generation.number, 2);
        assert_eq!(process.accepted("b").accepted.value(), 5);
        assert_eq!(process.accepted("c").accepted.value(), 0);
        // What an older generation counts is seen by the latest.
        former.stats[0].listeners[0].accepted.add(4);
        let gone = |process: &Process| -> Vec<(String, u64)> {
            let rows = process.generation.former_listeners().iter();
            rows.map(|row| (row.name.clone(), row.shards[0].accepted.value())).collect()
        };
        assert_eq!(gone(&process), [("a".to_owned(), 7)]);
        process.go_on(&web(&["a"]));
        assert_eq!(process.accepted("a").accepted.value(), 7, "it is back");
        assert_eq!(gone(&process), [("b".to_owned(), 5), ("c".to_owned(), 0)]);
    }

    #[test]
    fn however_many_have_gone_the_sum_of_what_they_counted_stays() {
        let mut process = Process::begin(&web(&["first"]));
        let count = FORMER_MAX as u64 + 20;
        for number in 0..count {
            let name = format!("l{number}");
            process.go_on(&web(&[&name]));
            process.accepted(&name).accepted.add(2);
        }
        process.go_on(&web(&["last"]));
        let rows = process.generation.former_listeners();
        assert!(rows.len() <= FORMER_MAX + 2, "{}", rows.len());
        let sum: u64 = rows.iter().map(|row| row.shards[0].accepted.value()).sum();
        assert_eq!(sum, 2 * count);
    }

    #[test]
    fn a_connection_counts_for_the_bounds_of_every_generation() {
        let text = |max: u32| {
            format!(
                "[listener.web]\nbind = '127.0.0.1:1'\nlimits = {{ connections = {max}, connections_per_address = {max} }}"
            )
        };
        let mut process = Process::begin(&text(2));
        let admit = |process: &Process| {
            process.generation.admission.admit(ListenerId(0), [10, 0, 0, 1].into()).ok().flatten()
        };
        let kept = admit(&process).expect("one of two");
        let tunnel = admit(&process).expect("two of two");
        assert!(admit(&process).is_none());
        process.go_on(&text(3));
        let kept = process.generation.admission.carry(Some(kept), ListenerId(0), Some([10, 0, 0, 1].into()));
        let third = admit(&process).expect("there is room for one more");
        assert!(admit(&process).is_none());
        drop((kept, third, tunnel));
        let all: Vec<_> = std::iter::from_fn(|| admit(&process)).collect();
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn whoever_was_let_in_unbounded_is_counted_from_then_on() {
        let mut process = Process::begin(&web(&["a"]));
        assert!(matches!(process.generation.admission.admit(ListenerId(0), [10, 0, 0, 1].into()), Ok(None)));
        process.go_on("[listener.a]\nbind = '127.0.0.1:1'\nlimits.connections = 1");
        let carried = process.generation.admission.carry(None, ListenerId(0), Some([10, 0, 0, 1].into()));
        assert!(carried.is_some());
        assert!(process.generation.admission.admit(ListenerId(0), [10, 0, 0, 2].into()).is_err());
        drop(carried);
        assert!(process.generation.admission.admit(ListenerId(0), [10, 0, 0, 2].into()).is_ok());
    }

    fn upstream(endpoints: &str, keys: &str) -> String {
        format!(
            "[listener.web]\nbind = '127.0.0.1:1'\n[channel.c]\nupstream = 'u'\n\
             [upstream.u]\nendpoints = [{endpoints}]\nendpoints_max = 4\n{keys}"
        )
    }

    #[test]
    fn endpoints_that_stay_are_as_they_were() {
        let mut process = Process::begin(&upstream("'10.0.0.1:1', '10.0.0.1:2'", ""));
        let terms = process.keeper.terms(UPSTREAM, EndpointId(0)).expect("written").clone();
        let joined =
            process.keeper.add(UPSTREAM, "joined", address(9), terms, Source::Registered).expect("room");
        let second = process.keeper.find(UPSTREAM, "10.0.0.1:2").expect("written");
        process.keeper.set_health(UPSTREAM, second, false).expect("there");
        let before = process.keeper.roster().members(UPSTREAM);
        process.generation.stats[1].endpoints[usize::from(second.0)].requests.add(6);
        process.go_on(&upstream("'10.0.0.1:3', '10.0.0.1:2'", ""));
        let states = [("10.0.0.1:2", State::Down), ("joined", State::Up), ("10.0.0.1:3", State::Up)];
        let states = states.map(|(name, state)| (name.to_owned(), state));
        assert_eq!(process.names(), states);
        let after = process.keeper.roster().members(UPSTREAM);
        for id in [second, joined] {
            let generation =
                |members: &crate::roster::member::Members| members.find(id).map(|member| member.generation);
            assert_eq!(generation(&before), generation(&after), "connections to it are kept");
        }
        assert_eq!(process.generation.stats[1].endpoints[usize::from(second.0)].requests.value(), 6);
    }

    #[test]
    fn what_was_changed_by_hand_stays_unless_what_is_written_of_it_changes() {
        let mut process = Process::begin(&upstream("'10.0.0.1:1', '10.0.0.1:2'", ""));
        let id = |process: &Process, name| process.keeper.find(UPSTREAM, name);
        let first = id(&process, "10.0.0.1:1").expect("written");
        process.keeper.remove(UPSTREAM, first).expect("there");
        let second = id(&process, "10.0.0.1:2").expect("written");
        process.keeper.set_weight(UPSTREAM, second, 7).expect("there");
        let weight = |process: &Process| {
            let second = id(process, "10.0.0.1:2").expect("there");
            process.keeper.terms(UPSTREAM, second).map(|terms| terms.weight)
        };
        process.go_on(&upstream("'10.0.0.1:1', '10.0.0.1:2'", "idle_timeout = '3s'"));
        assert_eq!((id(&process, "10.0.0.1:1"), weight(&process)), (None, Some(7)));
        let changed = "{ address = '10.0.0.1:1', weight = 2 }, { address = '10.0.0.1:2', weight = 3 }";
        process.go_on(&upstream(changed, ""));
        assert_eq!((id(&process, "10.0.0.1:1").is_some(), weight(&process)), (true, Some(3)));
    }

    #[test]
    fn an_upstream_with_fewer_slots_keeps_whom_it_has_room_for() {
        let mut process = Process::begin(&upstream("'10.0.0.1:1', '10.0.0.1:2', '10.0.0.1:3'", ""));
        let fewer = upstream("'10.0.0.1:3'", "").replace("endpoints_max = 4", "endpoints_max = 1");
        process.go_on(&fewer);
        assert_eq!(process.names(), [("10.0.0.1:3".to_owned(), State::Up)]);
        let terms = process.keeper.terms(UPSTREAM, EndpointId(0)).expect("written").clone();
        process.keeper.remove(UPSTREAM, EndpointId(0)).expect("there");
        process.keeper.add(UPSTREAM, "joined", address(9), terms, Source::Added).expect("room");
        process.go_on(&fewer.replace("'10.0.0.1:3'", "'10.0.0.1:4'"));
        assert_eq!(process.names(), [("10.0.0.1:4".to_owned(), State::Up)], "what is written has a place");
    }

    #[test]
    fn what_is_used_up_of_a_rate_stays_so_as_long_as_its_terms_are_the_same() {
        let text = |name: &str, rate: &str| {
            format!(
                "[listener.web]\nbind = '127.0.0.1:1'\n[channel.{name}]\nrespond = {{ status = 204 }}\n\
                 rate = [{{ {rate} }}]"
            )
        };
        let mut process = Process::begin(&text("c", "rate = '2/h', burst = 2"));
        let take = |process: &Process| -> Result<(), Exhausted> {
            let rules = process.generation.snapshot.channels[0].rules.as_deref().expect("a rate");
            process.generation.admission.allowances.take_first(rules)
        };
        assert!(take(&process).is_ok() && take(&process).is_ok() && take(&process).is_err());
        process.go_on(&text("c", "rate = '2/h', burst = 2"));
        assert!(take(&process).is_err());
        process.go_on(&text("c", "rate = '3/h', burst = 3"));
        assert!(take(&process).is_ok());
        process.go_on(&text("d", "rate = '3/h', burst = 3"));
        assert!((0..3).all(|_| take(&process).is_ok()));
    }
}
