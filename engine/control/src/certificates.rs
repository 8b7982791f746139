//! Which certificates, keys and authorities are in use? Those of the files, as they were when last read and found good.
//!
//! Never puts what cannot be used in the place of what can: a listener or an upstream is replaced whole or stays as it is.

mod files;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use config::snapshot::{
    Action, BindAddress, ClientAuthMode, EndpointAddress, Listener, ListenerTls, Protocol, Snapshot,
    TlsVersion, UnknownName, Upstream, UpstreamId, UpstreamTls,
};
use proxy::private::{Private, PrivateUpstream};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use serde::Serialize;
use tls::client::ClientSettings;
use tls::client_auth::{ClientAuth, ClientMode};
use tls::identity::Identity;
use tls::names::{NameTable, ServerNames};
use tls::server::{ServerSettings, VersionMin, server_config};
use tls::tickets::{Scope, TicketKeys, Tickets};
use utoipa::ToSchema;

pub use self::files::Note;
pub(crate) use self::files::date;
use self::files::{ListenerParts, Reading, UpstreamParts};

/// What is spoken inside TLS (RFC 7301 §6).
const HTTP: &[&[u8]] = &[b"http/1.1"];

/// Everything that private connections of this process take from files.
#[derive(Debug)]
pub struct Certificates {
    snapshot: Arc<Snapshot>,
    keys: Arc<TicketKeys>,
    listeners: Box<[Option<Arc<LiveListener>>]>,
    upstreams: Box<[Option<Arc<LiveUpstream>>]>,
    reloads: Arc<Reloads>,
}

/// What became of looks at the files, over all configurations of the process.
#[derive(Debug, Default)]
struct Reloads {
    /// Held while files are read: two reloads at once could put the older reading in place of the newer.
    underway: Mutex<()>,
    reloaded: AtomicU64,
    refused: AtomicU64,
}

/// What became of a look at the files.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reloaded {
    /// Listeners and upstreams that have something new.
    pub reloaded: Vec<String>,
    /// Mistakes; whom they concern keeps what it had.
    pub refused: Vec<String>,
    /// Listeners and upstreams whose files hold what they held.
    pub unchanged: usize,
}

/// One certificate in use.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Held {
    /// `listener` or `upstream`.
    #[serde(skip)]
    pub(crate) owner_kind: &'static str,
    /// Its name in the configuration.
    pub(crate) owner: String,
    /// The first of its DNS names, or its subject.
    pub(crate) name: String,
    /// All of them.
    pub(crate) names: Vec<String>,
    pub(crate) algorithm: String,
    pub(crate) issuer: String,
    pub(crate) fingerprint: String,
    /// Seconds since 1970.
    pub(crate) expires: u64,
    pub(crate) expires_at: String,
}

#[derive(Debug)]
struct LiveListener {
    names: Arc<ServerNames>,
    auth: Option<Arc<ClientAuth>>,
    tickets: Option<Arc<Tickets>>,
    config: Arc<ServerConfig>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct LiveUpstream {
    inner: tls::client::Upstream,
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    state: Mutex<State>,
}

/// What is known of the files behind an owner.
#[derive(Debug)]
struct State {
    /// Of what is in use.
    hash: u64,
    held: Vec<Held>,
    /// What was wrong with the files when last looked at.
    problems: Vec<String>,
}

impl State {
    fn new(reading: &Reading, held: Vec<Held>) -> Mutex<Self> {
        Mutex::new(Self { hash: reading.hash(), held, problems: Vec::new() })
    }
}

/// Certificates that cannot be used, and what else there is to say.
#[derive(Debug, Default)]
pub struct Notes {
    /// Every mistake.
    pub problems: Vec<Note>,
    /// What an operator may want to know.
    pub warnings: Vec<Note>,
}

impl Certificates {
    /// Reads every file that `snapshot` names.
    ///
    /// # Errors
    /// Every mistake in all of them.
    pub fn load(snapshot: &Arc<Snapshot>) -> Result<(Self, Notes), Notes> {
        let keys = TicketKeys::new(SystemTime::now());
        let keys = keys.map_err(|error| Notes::default().with("process", &error))?;
        Self::read(snapshot, &Arc::new(keys), &Arc::default(), None)
    }

    /// Those of another configuration. What keeps its name and its settings keeps what it has, sessions included; the files of
    /// the others are read.
    ///
    /// # Errors
    /// Every mistake in all of those files.
    pub(crate) fn next(&self, snapshot: &Arc<Snapshot>) -> Result<(Self, Notes), Notes> {
        Self::read(snapshot, &self.keys, &self.reloads, Some(self))
    }

    fn read(
        snapshot: &Arc<Snapshot>,
        keys: &Arc<TicketKeys>,
        reloads: &Arc<Reloads>,
        former: Option<&Self>,
    ) -> Result<(Self, Notes), Notes> {
        let now = SystemTime::now();
        let mut notes = Notes::default();
        let mut listener = |listener: &Listener| {
            let Protocol::Https(settings) = &listener.protocol else { return None };
            if let Some(kept) = former.and_then(|former| former.kept_listener(&listener.name, settings)) {
                return Some(kept);
            }
            let mut reading = Reading::new(now);
            let parts = reading.listener(&listener.name, settings);
            let live = parts.and_then(|parts| {
                LiveListener::new(&listener.name, settings, parts, keys, &reading)
                    .map_err(|error| notes.push(&format!("listener.{}.tls", listener.name), &error))
                    .ok()
            });
            notes.take(reading);
            live.map(Arc::new)
        };
        let listeners = snapshot.listeners.iter().map(&mut listener).collect();
        let mut upstream = |(id, upstream): (UpstreamId, &Upstream)| {
            let settings = upstream.tls.as_ref()?;
            if let Some(kept) = former.and_then(|former| former.kept_upstream(snapshot, id, settings)) {
                return Some(kept);
            }
            let mut reading = Reading::new(now);
            let parts = reading.upstream(&upstream.name, settings);
            let live = parts.and_then(|parts| {
                LiveUpstream::new(snapshot, id, settings, parts, &reading)
                    .map_err(|error| notes.push(&format!("upstream.{}.tls", upstream.name), &error))
                    .ok()
            });
            notes.take(reading);
            live.map(Arc::new)
        };
        let upstreams = (0..).map(UpstreamId).zip(&snapshot.upstreams).map(&mut upstream).collect();
        if !notes.problems.is_empty() {
            return Err(notes);
        }
        let (snapshot, keys, reloads) = (Arc::clone(snapshot), Arc::clone(keys), Arc::clone(reloads));
        Ok((Self { snapshot, keys, listeners, upstreams, reloads }, notes))
    }

    /// What a listener of this name and these settings has.
    fn kept_listener(&self, name: &str, settings: &ListenerTls) -> Option<Arc<LiveListener>> {
        let mut former = self.snapshot.listeners.iter().zip(&self.listeners);
        let (former, live) = former.find(|(former, _)| former.name == name)?;
        let is_same = matches!(&former.protocol, Protocol::Https(former) if **former == *settings);
        live.clone().filter(|_| is_same)
    }

    /// What an upstream has that is spoken to just as this one of `snapshot`.
    fn kept_upstream(
        &self,
        snapshot: &Snapshot,
        id: UpstreamId,
        settings: &UpstreamTls,
    ) -> Option<Arc<LiveUpstream>> {
        let upstream = &snapshot.upstreams[usize::from(id.0)];
        let former = self.snapshot.upstreams.iter().position(|former| former.name == upstream.name)?;
        let live = self.upstreams[former].clone()?;
        let former_id = UpstreamId(former as u16);
        let is_same = self.snapshot.upstreams[former].tls.as_ref() == Some(settings)
            && protocols(&self.snapshot, former_id) == protocols(snapshot, id)
            && server_name(snapshot, upstream, settings).is_ok_and(|name| name == live.server_name);
        Some(live).filter(|_| is_same)
    }

    /// What the cores need of it; what is reloaded changes inside.
    #[must_use]
    pub fn private(&self) -> Private {
        let listener = |live: &Arc<LiveListener>| Arc::clone(&live.config);
        let upstream = |live: &Arc<LiveUpstream>| PrivateUpstream {
            config: Arc::clone(&live.config),
            server_name: live.server_name.clone(),
        };
        Private {
            listeners: self.listeners.iter().map(|live| live.as_ref().map(listener)).collect(),
            upstreams: self.upstreams.iter().map(|live| live.as_ref().map(upstream)).collect(),
        }
    }

    /// What tickets are sealed with.
    pub(crate) fn ticket_keys(&self) -> Arc<TicketKeys> {
        Arc::clone(&self.keys)
    }

    /// Whether clients are given tickets.
    pub(crate) fn has_tickets(&self) -> bool {
        self.listeners.iter().flatten().any(|listener| listener.tickets.is_some())
    }

    /// Whether there is anything to reload.
    pub(crate) fn is_empty(&self) -> bool {
        self.listeners.iter().all(Option::is_none) && self.upstreams.iter().all(Option::is_none)
    }

    /// Reads the files again and takes what is new and good; logs what changed and what was wrong. Reads files and computes,
    /// so it does not belong on a thread that serves.
    pub fn reload(&self) -> Reloaded {
        let _alone = self.reloads.underway.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        let mut outcome = Reloaded::default();
        for (listener, live) in self.snapshot.listeners.iter().zip(&self.listeners) {
            if let (Some(live), Protocol::Https(settings)) = (live, &listener.protocol) {
                let mut reading = Reading::new(now);
                let parts = reading.listener(&listener.name, settings);
                let owner = format!("listener.{}", listener.name);
                let taken = parts.map(|parts| move || live.replace(&listener.name, settings, parts));
                self.settle(&owner, &live.state, &reading, taken, &mut outcome);
            }
        }
        for (upstream, live) in self.snapshot.upstreams.iter().zip(&self.upstreams) {
            if let (Some(live), Some(settings)) = (live, &upstream.tls) {
                let mut reading = Reading::new(now);
                let parts = reading.upstream(&upstream.name, settings);
                let owner = format!("upstream.{}", upstream.name);
                let taken = parts.map(|parts| move || live.replace(&upstream.name, &parts));
                self.settle(&owner, &live.state, &reading, taken, &mut outcome);
            }
        }
        outcome
    }

    /// Takes what was read of an owner's files, if it is good and new, and tells.
    fn settle(
        &self,
        owner: &str,
        state: &Mutex<State>,
        reading: &Reading,
        take: Option<impl FnOnce() -> Result<Vec<Held>, String>>,
        outcome: &mut Reloaded,
    ) {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = reading.hash();
        let taken = match take {
            Some(_) if hash == state.hash => {
                state.problems.clear();
                outcome.unchanged += 1;
                return;
            }
            Some(take) => take().map_err(|error| vec![format!("{owner}.tls: {error}")]),
            None => Err(reading.problems.iter().map(ToString::to_string).collect()),
        };
        match taken {
            Ok(held) => {
                self.reloads.reloaded.fetch_add(1, Ordering::Relaxed);
                for warning in &reading.warnings {
                    tracing::warn!("{warning}");
                }
                for held in &held {
                    tracing::info!("{owner}: new certificate of {}, until {}", held.name, held.expires_at);
                }
                tracing::info!("{owner}: certificates reloaded");
                *state = State { hash, held, problems: Vec::new() };
                outcome.reloaded.push(owner.to_owned());
            }
            Err(problems) => {
                self.reloads.refused.fetch_add(1, Ordering::Relaxed);
                for problem in &problems {
                    tracing::error!("certificates not reloaded, {owner} keeps those it has: {problem}");
                }
                outcome.refused.extend(problems.iter().cloned());
                state.problems = problems;
            }
        }
    }

    /// Every certificate in use.
    pub(crate) fn held(&self) -> Vec<Held> {
        self.states()
            .flat_map(|state| state.lock().unwrap_or_else(PoisonError::into_inner).held.clone())
            .collect()
    }

    /// What was wrong with files when they were last looked at.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.states()
            .flat_map(|state| state.lock().unwrap_or_else(PoisonError::into_inner).problems.clone())
            .collect()
    }

    /// How often an owner's certificates were replaced, and how often they were not because new ones were of no use.
    pub(crate) fn reloads(&self) -> [(&'static str, u64); 2] {
        [
            ("reloaded", self.reloads.reloaded.load(Ordering::Relaxed)),
            ("refused", self.reloads.refused.load(Ordering::Relaxed)),
        ]
    }

    fn states(&self) -> impl Iterator<Item = &Mutex<State>> {
        let listeners = self.listeners.iter().flatten().map(|live| &live.state);
        listeners.chain(self.upstreams.iter().flatten().map(|live| &live.state))
    }
}

impl Notes {
    fn with(mut self, key: &str, error: &impl ToString) -> Self {
        self.push(key, error);
        self
    }

    fn push(&mut self, key: &str, error: &impl ToString) {
        self.problems.push(Note { key: key.to_owned(), path: String::new(), what: error.to_string() });
    }

    fn take(&mut self, reading: Reading) {
        self.problems.extend(reading.problems);
        self.warnings.extend(reading.warnings);
    }
}

impl LiveListener {
    fn new(
        name: &str,
        settings: &ListenerTls,
        parts: ListenerParts,
        keys: &Arc<TicketKeys>,
        reading: &Reading,
    ) -> Result<Self, rustls::Error> {
        let held = held("listener", name, &parts.identities);
        let names = Arc::new(ServerNames::new(table(settings, &parts.identities)));
        let auth = settings.client_auth.as_ref().zip(parts.demands).map(|(auth, demands)| {
            let mode = match auth.mode {
                ClientAuthMode::Require => ClientMode::Require,
                ClientAuthMode::Request => ClientMode::Request,
            };
            Arc::new(ClientAuth::new(mode, demands))
        });
        let may_resume = settings.client_auth.as_ref().is_none_or(|auth| auth.resumption);
        let tickets = (settings.resumption && may_resume)
            .then(|| Arc::new(Tickets::new(Arc::clone(keys), scope(name, auth.as_deref()))));
        let config = server_config(ServerSettings {
            version_min: version_min(settings.version_min),
            alpn: HTTP,
            names: Arc::clone(&names),
            tickets: tickets.clone().map(|tickets| tickets as _),
            clients: auth.clone().map(|auth| auth as _),
        })?;
        Ok(Self { names, auth, tickets, config, state: State::new(reading, held) })
    }

    fn replace(&self, name: &str, settings: &ListenerTls, parts: ListenerParts) -> Result<Vec<Held>, String> {
        self.names.replace(table(settings, &parts.identities));
        if let (Some(auth), Some(demands)) = (&self.auth, parts.demands) {
            auth.replace(demands);
        }
        if let Some(tickets) = &self.tickets {
            tickets.set_scope(scope(name, self.auth.as_deref()));
        }
        Ok(held("listener", name, &parts.identities))
    }
}

impl LiveUpstream {
    fn new(
        snapshot: &Snapshot,
        id: UpstreamId,
        settings: &UpstreamTls,
        parts: UpstreamParts,
        reading: &Reading,
    ) -> Result<Self, String> {
        let upstream = &snapshot.upstreams[usize::from(id.0)];
        let held = held("upstream", &upstream.name, parts.identity.as_slice());
        let server_name = server_name(snapshot, upstream, settings)?;
        let inner = tls::client::Upstream::new(ClientSettings {
            trust: parts.trust,
            identity: parts.identity,
            version_min: version_min(settings.version_min),
            alpn: protocols(snapshot, id),
        })
        .map_err(|error| error.to_string())?;
        let config = inner.config().map_err(|error| error.to_string())?;
        Ok(Self { inner, config, server_name, state: State::new(reading, held) })
    }

    fn replace(&self, name: &str, parts: &UpstreamParts) -> Result<Vec<Held>, String> {
        let replaced = self.inner.replace(&parts.trust, parts.identity.as_ref());
        replaced.map_err(|error| error.to_string())?;
        Ok(held("upstream", name, parts.identity.as_slice()))
    }
}

/// What is spoken to the endpoints of an upstream. Bytes of a TCP listener may be of any protocol.
fn protocols(snapshot: &Snapshot, id: UpstreamId) -> &'static [&'static [u8]] {
    let is_http = |channel: &config::snapshot::Channel| matches!(channel.action, Action::Forward(forwarded) if forwarded == id);
    if snapshot.channels.iter().any(is_http) { HTTP } else { &[] }
}

fn table(settings: &ListenerTls, identities: &[Identity]) -> NameTable {
    let unknown = match settings.unknown_name {
        UnknownName::Default => tls::names::UnknownName::First,
        UnknownName::Refuse => tls::names::UnknownName::Refused,
    };
    NameTable::new(identities, unknown)
}

fn scope(listener: &str, auth: Option<&ClientAuth>) -> Scope {
    Scope::new(listener, auth.map(ClientAuth::digest).as_ref())
}

fn version_min(version: TlsVersion) -> VersionMin {
    match version {
        TlsVersion::Tls12 => VersionMin::Tls12,
        TlsVersion::Tls13 => VersionMin::Tls13,
    }
}

/// Who the endpoints must prove to be, where that is not each one's own address.
fn server_name(
    snapshot: &Snapshot,
    upstream: &Upstream,
    settings: &UpstreamTls,
) -> Result<Option<ServerName<'static>>, String> {
    if let Some(name) = &settings.server_name {
        let server_name = ServerName::try_from(name.to_string());
        return server_name.map(Some).map_err(|_| {
            format!("server_name: '{name}' is no name or address that a certificate can be for")
        });
    }
    let is_path = |endpoint: &&config::snapshot::Endpoint| match &endpoint.address {
        EndpointAddress::Tcp(_) => false,
        EndpointAddress::Unix(_) => true,
        EndpointAddress::Listener(id) => {
            matches!(snapshot.listeners[usize::from(id.0)].bind, BindAddress::Unix { .. })
        }
    };
    upstream.endpoints.iter().find(is_path).map_or(Ok(None), |endpoint| {
        Err(format!(
            "server_name: is missing: {} is a Unix socket, whose address no certificate can be for",
            endpoint.name
        ))
    })
}

fn held(owner_kind: &'static str, owner: &str, identities: &[Identity]) -> Vec<Held> {
    let held = |identity: &Identity| {
        let certificate = identity.certificate();
        let names: Vec<String> = certificate.dns_names.iter().map(ToString::to_string).collect();
        let expires = certificate.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Held {
            owner_kind,
            owner: owner.to_owned(),
            name: names.first().cloned().unwrap_or_else(|| certificate.subject.to_string()),
            names,
            algorithm: format!("{:?}", identity.algorithm()),
            issuer: certificate.issuer.to_string(),
            fingerprint: certificate.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect(),
            expires: expires.as_secs(),
            expires_at: date(certificate.not_after),
        }
    };
    identities.iter().map(held).collect()
}
