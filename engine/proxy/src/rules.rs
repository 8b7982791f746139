//! What do the rules of its channel say about a request? Who may come in, how often, how many at a time.
//!
//! Never asked for a channel without rules; never a lock, and never more let through than a rule promises, on however many
//! cores.

pub(crate) mod edits;
pub(crate) mod faults;
pub(crate) mod mirror;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use auth::token::check::Verified;
use config::snapshot::rules::{RateKey, RateLimit, Rules};
use config::snapshot::{Action, Channel, ChannelId, Snapshot};
use crossbeam_utils::CachePadded;
use proto::http1::head::RequestHead;
use proto::rate::{Exhausted, KeyedRates, Pace, SharedRate};
use runtime::Instant;
use runtime::counter::Counter;

use crate::address::{client_key, of_client};
use crate::admission::Admission;
use crate::client::Client;
use crate::core_main::CoreState;
use crate::exchange::Route;
use crate::outcome::Fault;
use crate::stats::ChannelCounters;
use crate::tally::{Places, Tally};
use crate::tokens;

/// What all cores share of the rules of all channels.
#[derive(Debug)]
pub(crate) struct Allowances {
    /// By [`ChannelId`]; nothing for channels without rules.
    channels: Box<[Option<Box<Allowance>>]>,
    /// Exchanges in progress by address, where those are bounded.
    addresses: Arc<Tally>,
    /// What keys of rates are hashed with.
    key: RandomState,
}

/// What all cores share of one channel's rules.
#[derive(Debug)]
struct Allowance {
    rates: Box<[Arc<RateState>]>,
    /// Its number among those that count addresses.
    owner: u64,
    /// Exchanges in progress.
    open: Arc<CachePadded<AtomicU32>>,
}

/// How far a rate is used up.
#[derive(Debug)]
enum RateState {
    Shared(CachePadded<SharedRate>),
    Keyed(KeyedRates),
}

impl RateState {
    fn of(limit: &RateLimit) -> Self {
        match limit.by {
            RateKey::Channel => Self::Shared(CachePadded::default()),
            RateKey::Address | RateKey::Header(_) => Self::Keyed(KeyedRates::new(limit.slots)),
        }
    }
}

impl Allowances {
    /// Nothing is used up.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let addresses = Arc::new(Tally::new(counts_addresses(snapshot)));
        let allowance =
            |channel: &Channel| Some(Allowance::new(channel, channel.rules.as_deref()?, &addresses));
        let channels = snapshot.channels.iter().map(allowance).collect();
        Self { channels, addresses, key: RandomState::new() }
    }

    /// What is used up stays so where the channel keeps its name, a rate as long as its terms are the same.
    pub(crate) fn next(&self, before: &Snapshot, snapshot: &Snapshot) -> Self {
        let addresses = self.addresses.next(counts_addresses(snapshot));
        let former = |name: &str| {
            let index = before.channels.iter().position(|former| former.name == name)?;
            Some((before.channels[index].rules.as_deref()?, self.channels[index].as_deref()?))
        };
        let allowance = |channel: &Channel| {
            let rules = channel.rules.as_deref()?;
            let mut allowance = Allowance::new(channel, rules, &addresses);
            if let Some((former_rules, former)) = former(&channel.name) {
                allowance.open = Arc::clone(&former.open);
                for (limit, rate) in rules.rates.iter().zip(&mut allowance.rates) {
                    let same = former_rules.rates.iter().position(|former| former == limit);
                    if let Some(index) = same {
                        *rate = Arc::clone(&former.rates[index]);
                    }
                }
            }
            Some(allowance)
        };
        let channels = snapshot.channels.iter().map(allowance).collect();
        Self { channels, addresses, key: self.key.clone() }
    }

    /// Takes one of the first rate of the first channel.
    #[cfg(test)]
    pub(crate) fn take_first(&self, rules: &Rules) -> Result<(), Exhausted> {
        self.of(ChannelId(0)).rates[0].take(rules.rates[0].pace, 0, Instant::from_nanos(1))
    }

    fn of(&self, channel: ChannelId) -> &Allowance {
        self.channels[usize::from(channel.0)].as_deref().expect("a channel with rules has allowances")
    }
}

impl Allowance {
    fn new(channel: &Channel, rules: &Rules, addresses: &Tally) -> Box<Self> {
        let rates = rules.rates.iter().map(|limit| Arc::new(RateState::of(limit))).collect();
        let owner = addresses.owner("channel", &channel.name);
        Box::new(Self { rates, owner, open: Arc::default() })
    }
}

fn counts_addresses(snapshot: &Snapshot) -> bool {
    let rules = snapshot.channels.iter().filter_map(|channel| channel.rules.as_deref());
    rules.into_iter().any(|rules| rules.concurrency.address_max.is_some())
}

/// What an exchange holds of its channel's allowances; given back when dropped, however it ends.
#[derive(Debug)]
pub(crate) struct Held {
    admission: Arc<Admission>,
    channel: ChannelId,
    counts_channel: bool,
    places: Option<Places>,
    /// What its token says, where the channel demands one.
    pub(crate) verified: Option<Rc<Verified>>,
}

impl Held {
    fn nothing(admission: &Arc<Admission>, channel: ChannelId) -> Self {
        let admission = Arc::clone(admission);
        Self { admission, channel, counts_channel: false, places: None, verified: None }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let allowances = &self.admission.allowances;
        if self.counts_channel {
            allowances.of(self.channel).open.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(places) = self.places {
            allowances.addresses.leave(places);
        }
    }
}

/// Whether the rules let a request in whose head is `head`, and what it holds of them meanwhile.
pub(crate) fn enforce(
    state: &CoreState,
    client: &Client,
    route: &Route<'_>,
    rules: &Rules,
    head: &[u8],
    request: &RequestHead,
) -> Result<Option<Box<Held>>, Fault> {
    if rules.access.as_ref().is_some_and(|access| !access.allows(of_client(client.peer))) {
        route.counters.denied.add(1);
        return Err(Fault::AddressDenied);
    }
    let allowances = &state.admission.allowances;
    let rates = Rates { allowances, client, route, rules, head, request };
    // Looked at first, so that one limit is not used up by what another refuses; where two cores come at once it may be.
    if rules.rates.len() > 1 || !rules.concurrency.is_unbounded() {
        rates.all(|state, pace, hash, now| state.look(pace, hash, now))?;
    }
    let mut held = None;
    if !rules.concurrency.is_unbounded() {
        held = Some(Box::new(hold(&state.admission, client, route, rules)?));
    }
    rates.all(|state, pace, hash, now| state.take(pace, hash, now))?;
    // Behind the rates, which bound how often somebody can have a signature verified.
    if let Some(rule) = &rules.token {
        let verified = tokens::demand(state, route, &state.admission.tokens, rule, head, request)?;
        let nothing = || Box::new(Held::nothing(&state.admission, route.id));
        held.get_or_insert_with(nothing).verified = Some(verified);
    }
    if !matches!(route.channel.action, Action::Forward(_)) {
        edits::note_for_answer(state, client, route, rules, head, request, &[]);
    }
    Ok(held)
}

/// Counts an exchange as one in progress.
fn hold(
    admission: &Arc<Admission>,
    client: &Client,
    route: &Route<'_>,
    rules: &Rules,
) -> Result<Held, Fault> {
    let mut held = Held {
        admission: Arc::clone(admission),
        channel: route.id,
        counts_channel: rules.concurrency.channel_max.is_some(),
        places: None,
        verified: None,
    };
    if let Some(max) = rules.concurrency.channel_max {
        let before = admission.allowances.of(route.id).open.fetch_add(1, Ordering::Relaxed);
        if before >= max {
            route.counters.over_concurrency.add(1);
            return Err(Fault::OverConcurrency);
        }
    }
    if let Some(max) = rules.concurrency.address_max {
        let owner = admission.allowances.of(route.id).owner;
        let entered = admission.allowances.addresses.enter(owner, client.peer.ip(), max);
        held.places = Some(entered.ok_or_else(|| {
            route.counters.over_concurrency_per_address.add(1);
            Fault::OverConcurrencyPerAddress
        })?);
    }
    Ok(held)
}

/// The rates of a channel, and the request that asks for a place in them.
struct Rates<'a> {
    allowances: &'a Allowances,
    client: &'a Client,
    route: &'a Route<'a>,
    rules: &'a Rules,
    head: &'a [u8],
    request: &'a RequestHead,
}

impl Rates<'_> {
    /// Asks each of them; counts the first that refuses.
    fn all(
        &self,
        ask: impl Fn(&RateState, Pace, u64, Instant) -> Result<(), Exhausted>,
    ) -> Result<(), Fault> {
        let allowance = self.allowances.of(self.route.id);
        for (limit, state) in self.rules.rates.iter().zip(&allowance.rates) {
            let asked = ask(state, limit.pace, self.hash(&limit.by), self.route.began);
            if let Err(exhausted) = asked {
                counter(self.route.counters, &limit.by).add(1);
                let retry_after_seconds = u16::try_from(exhausted.seconds()).unwrap_or(u16::MAX);
                return Err(Fault::OverRate { retry_after_seconds });
            }
        }
        Ok(())
    }

    /// What stands for whose request it is. All that lack the field are one.
    fn hash(&self, by: &RateKey) -> u64 {
        match by {
            RateKey::Channel => 0,
            RateKey::Address => self.allowances.key.hash_one(client_key(self.client.peer.ip())),
            RateKey::Header(name) => {
                let mut hasher = self.allowances.key.build_hasher();
                for field in &self.request.fields {
                    if field.name.of(self.head).eq_ignore_ascii_case(name.as_bytes()) {
                        hasher.write(field.value.of(self.head));
                        hasher.write(b",");
                    }
                }
                hasher.finish()
            }
        }
    }
}

fn counter<'a>(counters: &'a ChannelCounters, by: &RateKey) -> &'a Counter {
    match by {
        RateKey::Channel => &counters.over_rate,
        RateKey::Address => &counters.over_rate_per_address,
        RateKey::Header(_) => &counters.over_rate_per_header,
    }
}

impl RateState {
    fn look(&self, pace: Pace, hash: u64, now: Instant) -> Result<(), Exhausted> {
        match self {
            Self::Shared(rate) => rate.look(pace, now.as_nanos()),
            Self::Keyed(rates) => rates.look(hash, pace, now.as_nanos()),
        }
    }

    fn take(&self, pace: Pace, hash: u64, now: Instant) -> Result<(), Exhausted> {
        match self {
            Self::Shared(rate) => rate.take(pace, now.as_nanos()),
            Self::Keyed(rates) => rates.take(hash, pace, now.as_nanos()),
        }
    }
}
