//! Where are the servers that the configuration names, now? Names are asked for again as their answers grow old.
//!
//! Never on a request's way, and never empties an upstream: an answer that does not come leaves the last one in force.

mod answer;
mod asking;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use config::snapshot::resolve::NamedEndpoint;
use config::snapshot::{EndpointId, EndpointTerms, Snapshot, UpstreamId};
use proxy::address::Address;
use proxy::roster::member::{Member, Source, State};
use serde::Serialize;
use tokio::task::JoinSet;
use utoipa::ToSchema;

use self::answer::{Record, Server, Standing};
use self::asking::{Hosts, ask};
use crate::live::Live;
use crate::membership::{Joined, Newcomer};

/// What is known of every name of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Names(Box<[Name]>);

#[derive(Debug)]
struct Name {
    upstream: UpstreamId,
    written: NamedEndpoint,
    record: Mutex<Record>,
    /// When to ask next, once it was asked.
    due: Mutex<Option<Instant>>,
}

/// A name as statistics and the admin listener show it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct NameView {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) cause: Option<String>,
    pub(crate) answers: u64,
    pub(crate) failures: u64,
    pub(crate) addresses: Vec<String>,
}

impl Names {
    /// The names of all upstreams.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let upstreams = (0..).map(UpstreamId).zip(&snapshot.upstreams);
        let names = upstreams.flat_map(|(upstream, settings)| {
            let name = move |written: &NamedEndpoint| Name {
                upstream,
                written: written.clone(),
                record: Mutex::default(),
                due: Mutex::default(),
            };
            settings.names.iter().map(name)
        });
        Self(names.collect())
    }

    /// The names of another configuration: what is known of those that were in `former` already is not asked for anew.
    pub(crate) fn next(&self, former: &Snapshot, snapshot: &Snapshot) -> Self {
        let next = Self::of(snapshot);
        for name in &next.0 {
            let settings = &snapshot.upstreams[usize::from(name.upstream.0)];
            let is_same = |known: &&Name| {
                former.upstreams[usize::from(known.upstream.0)].name == settings.name
                    && known.written.name == name.written.name
                    && known.written.question == name.written.question
            };
            if let Some(known) = self.0.iter().find(is_same) {
                name.record().clone_from(&known.record());
                if former.upstreams[usize::from(known.upstream.0)].resolving == settings.resolving {
                    *name.due() = *known.due();
                }
            }
        }
        next
    }

    /// Whether it is known of all names of this upstream what they stand for.
    fn are_answered(&self, upstream: UpstreamId) -> bool {
        let mut names = self.0.iter().filter(|name| name.upstream == upstream);
        names.all(|name| name.record().answers > 0)
    }

    /// Those of one upstream.
    pub(crate) fn of_upstream(&self, upstream: UpstreamId) -> impl Iterator<Item = NameView> {
        let names = self.0.iter().filter(move |name| name.upstream == upstream);
        names.map(|name| {
            let record = name.record();
            NameView {
                name: name.written.name.clone(),
                state: record.standing.word(),
                cause: record.standing.cause(),
                answers: record.answers,
                failures: record.failures,
                addresses: record.servers.iter().map(|server| server.address.to_string()).collect(),
            }
        })
    }

    /// The name of this upstream that stands for an address.
    pub(crate) fn standing_for(&self, upstream: UpstreamId, address: &Address) -> Option<String> {
        let Address::Tcp(address) = address else { return None };
        let mut names = self.0.iter().filter(|name| name.upstream == upstream);
        let stands = |name: &&Name| name.record().servers.iter().any(|server| server.address == *address);
        names.find(stands).map(|name| name.written.name.clone())
    }
}

impl Name {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self) -> MutexGuard<'_, Option<Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to ask for every name. `asked` is dropped by each once it was asked for the first time.
pub(crate) fn spawn(live: &Arc<Live>, tasks: &mut JoinSet<()>, asked: Option<&mpsc::Sender<()>>) {
    for index in 0..live.names.0.len() {
        tasks.spawn(follow(Arc::clone(live), index, asked.cloned()));
    }
}

/// Asks for a name again and again, for as long as its configuration runs.
async fn follow(live: Arc<Live>, index: usize, mut asked: Option<mpsc::Sender<()>>) {
    let name = &live.names.0[index];
    let settings = &live.snapshot.upstreams[usize::from(name.upstream.0)];
    let mut hosts = Hosts::default();
    let due = *name.due();
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
    loop {
        let reply = ask(&name.written.question, &settings.resolving, &mut hosts).await;
        let before = name.record().servers.clone();
        let next = name.record().absorb(reply, &settings.resolving);
        let (servers, standing) = {
            let record = name.record();
            (record.servers.clone(), record.standing.clone())
        };
        if next.is_new {
            tell(&settings.name, &name.written.name, &standing, &servers);
        }
        // Somebody may have been left out for want of room that there is now.
        if servers != before || !live.are_endpoints(name.upstream, &servers) {
            apply(&live, name, &settings.name, &before, &servers);
        }
        live.see_off_unnamed(name.upstream);
        // Who waits for the first answer waits no longer.
        asked.take();
        let until = Instant::now() + next.pause.max(PAUSE_MIN);
        *name.due() = Some(until);
        while !live.are_endpoints(name.upstream, &servers) && Instant::now() + ROOM_PAUSE < until {
            tokio::time::sleep(ROOM_PAUSE).await;
            apply(&live, name, &settings.name, &servers, &servers);
        }
        tokio::time::sleep_until(until.into()).await;
    }
}

/// Whatever an answer says, a name is not asked for in a loop without rest.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Between two looks whether there is room for those who were left out: an endpoint that leaves does not free its slot at once.
const ROOM_PAUSE: Duration = Duration::from_millis(200);

/// One line whenever a name's standing changes.
fn tell(upstream: &str, name: &str, standing: &Standing, servers: &[Server]) {
    let kept = match servers.len() {
        0 => "it stands for no endpoint".to_owned(),
        1 => "its 1 endpoint stays".to_owned(),
        count => format!("its {count} endpoints stay"),
    };
    match standing {
        Standing::Pending => {}
        Standing::Current => {
            let addresses: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
            tracing::info!("upstream {upstream}: {name} is {}", addresses.join(", "));
        }
        Standing::Lacking(lack) => tracing::warn!("upstream {upstream}: {name}: {lack}; {kept}"),
    }
}

/// Makes endpoints of the servers that an answer has brought, and sees off those that it no longer has.
fn apply(live: &Live, name: &Name, upstream: &str, before: &[Server], servers: &[Server]) {
    // First those who come, so that there is no moment without an endpoint.
    for server in servers {
        let terms = name.terms_of(server);
        let newcomer = Newcomer {
            address: Address::Tcp(server.address),
            host: Some(Arc::clone(&server.host)),
            terms: terms.clone(),
            source: Source::Resolved,
        };
        let is_new = !before.contains(server);
        match live.join(name.upstream, newcomer) {
            Ok(Joined::Added(_)) => {
                tracing::info!("upstream {upstream}: {} stands for {}", name.written.name, server.address);
            }
            Ok(Joined::Differs(id)) if is_new && live.is_resolved(name.upstream, id) => {
                let _ =
                    live.change_roster(name.upstream, |keeper| keeper.set_terms(name.upstream, id, terms));
            }
            // What somebody has set by hand, and what is written, stays as it is.
            Ok(Joined::Differs(_) | Joined::Stays(_)) => {}
            Err(_) if !is_new => {} // said before
            Err(error) => {
                tracing::warn!(
                    "upstream {upstream}: {} at {} is left out: {error}",
                    name.written.name,
                    server.address
                );
            }
        }
    }
    let stays: HashSet<_> = servers.iter().map(|server| server.address).collect();
    for gone in before.iter().filter(|server| !stays.contains(&server.address)) {
        let address = Address::Tcp(gone.address);
        // Another name, or the file itself, may stand for it as well.
        if live.names.standing_for(name.upstream, &address).is_some() {
            continue;
        }
        let members = live.roster.members(name.upstream);
        let member = members.all.iter().find(|member| member.address == address);
        if let Some(member) = member.filter(|member| member.source == Source::Resolved) {
            tracing::info!(
                "upstream {upstream}: {} stands no longer for {}",
                name.written.name,
                gone.address
            );
            // It was there a line ago, and nobody else writes.
            let _ = live.leave(name.upstream, member.id);
        }
    }
}

impl Name {
    /// What share a server gets: the name's, unless a service says otherwise.
    fn terms_of(&self, server: &Server) -> EndpointTerms {
        let mut terms = self.written.terms.clone();
        if let Some(weight) = server.weight {
            terms.weight = u16::try_from(weight).unwrap_or(u16::MAX);
        }
        if let Some(priority) = server.priority {
            terms.priority = terms.priority.saturating_add(priority);
        }
        terms
    }
}

impl Live {
    fn are_endpoints(&self, upstream: UpstreamId, servers: &[Server]) -> bool {
        let members = self.roster.members(upstream);
        let is_there = |address| members.all.iter().any(|member| member.address == address);
        servers.iter().all(|server| is_there(Address::Tcp(server.address)))
    }

    /// Sees off those for which a name stood that an earlier configuration had, once it is known what those of this one stand for.
    pub(crate) fn see_off_unnamed(&self, upstream: UpstreamId) {
        if !self.names.are_answered(upstream) {
            return;
        }
        let members = self.roster.members(upstream);
        let is_unnamed = |member: &&Member| {
            member.source == Source::Resolved
                && member.state != State::Draining
                && self.names.standing_for(upstream, &member.address).is_none()
        };
        for member in members.all.iter().filter(is_unnamed) {
            let name = &self.snapshot.upstreams[usize::from(upstream.0)].name;
            tracing::info!("upstream {name}: no name stands for {} any more", member.name);
            // It was there a line ago, and nobody else writes.
            let _ = self.leave(upstream, member.id);
        }
    }

    fn is_resolved(&self, upstream: UpstreamId, id: EndpointId) -> bool {
        self.roster.members(upstream).find(id).is_some_and(|member| member.source == Source::Resolved)
    }
}
