//! How does a core get a new connection to an endpoint? Connected, announced, private; or to another one instead.
//!
//! Never tries an endpoint twice for one request, and never passes over one in silence that could not prove who it is.

use std::io;

use config::snapshot::{EndpointId, ProxyVersion, Upstream, UpstreamId};
use proto::retry::Cause;
use runtime::{Instant, Stream};
use rustls::HandshakeKind;
use tls::HandshakeError;

use super::room::{Given, Permit};
use super::{Active, Connection, FAILURE_NANOS, Found, Upstreams};
use crate::address::Address;
use crate::client::Client;
use crate::handshake_fault::HandshakeFault;
use crate::outcome::{Fault, fault_of, is_exhaustion};
use crate::preface;
use crate::roster::member::Member;
use crate::roster::report::Failure;
use crate::schedule::Wish;
use crate::tries::Tries;
use crate::wire::Wire;

/// Why there is no connection.
struct NoConnection {
    fault: Fault,
    next: Next,
}

/// What may help.
enum Next {
    Nothing,
    /// Another endpoint may fare better.
    Another,
    /// To wait until one may have another connection.
    Room,
}

impl NoConnection {
    /// Nobody else is asked.
    fn for_good(fault: Fault) -> Self {
        Self { fault, next: Next::Nothing }
    }

    fn of_endpoint(fault: Fault) -> Self {
        Self { fault, next: Next::Another }
    }
}

impl Upstreams {
    /// Makes a new connection to the endpoint whose turn it is, or if that fails to others.
    pub(crate) async fn open(
        &self,
        id: UpstreamId,
        total: Instant,
        client: &Client,
    ) -> Result<Connection, Fault> {
        // Apart: a task that relays for hours need not hold what only its beginning needs.
        let tries = Box::<Tries>::default();
        tries.set_wish(Wish::of_client(self.settings(id), client.peer));
        let endpoint = self.pick(id, &tries.wish(), |_| true).ok_or(Fault::NoEndpoint)?;
        let connection = Box::pin(self.connect(id, Some(endpoint), total, client, &tries, false)).await?;
        // There is no answer to go by where bytes are relayed.
        self.roster.note_success(connection.endpoint);
        Ok(connection)
    }

    /// Makes a new connection to `first` on behalf of `client`, or if that fails to another that was not tried yet. Without a
    /// first, or where it may have no more, waits for one that may, or for a kept connection if that `may_reuse` one.
    pub(crate) async fn connect(
        &self,
        id: UpstreamId,
        first: Option<EndpointId>,
        total: Instant,
        client: &Client,
        tries: &Tries,
        may_reuse: bool,
    ) -> Result<Connection, Fault> {
        let _pending = match self.settings(id).pending_max {
            Some(max) => Some(self.roster.room(id).pending().enter(max).ok_or(Fault::OverPending)?),
            None => None,
        };
        let mut next = first;
        loop {
            let (endpoint, permit) = match next {
                Some(endpoint) => (endpoint, None),
                None => match Box::pin(self.wait_for_room(id, tries, may_reuse, total, client)).await? {
                    Given::Kept(connection) => {
                        tries.note(connection.endpoint);
                        return Ok(connection);
                    }
                    Given::New(endpoint, permit) => (endpoint, Some(permit)),
                },
            };
            next = match self.connect_once(id, endpoint, permit, total, Some(client), tries).await {
                Ok(connection) => return Ok(connection),
                Err(NoConnection { next: Next::Room, .. }) => None,
                Err(NoConnection { fault, next: Next::Nothing }) => return Err(fault),
                Err(NoConnection { fault, next: Next::Another }) => {
                    Some(self.again(id, Cause::Connect, tries, None).ok_or(fault)?)
                }
            };
        }
    }

    /// A connection to this endpoint and no other, kept or new.
    pub(crate) async fn open_to(
        &self,
        id: UpstreamId,
        endpoint: EndpointId,
        total: Instant,
        client: &Client,
        tries: &Tries,
    ) -> Result<Connection, Fault> {
        if let Some(connection) = self.reuse_of(id, endpoint) {
            tries.note(endpoint);
            return Ok(connection);
        }
        let opened = self.connect_once(id, endpoint, None, total, Some(client), tries).await;
        opened.map_err(|none| none.fault)
    }

    /// A connection for a copy of a request, kept or new, to an upstream that is told of no client.
    pub(crate) async fn open_for_copy(&self, id: UpstreamId, deadline: Instant) -> Option<Connection> {
        match self.reuse(id, &Wish::default()) {
            Found::Kept(connection) => Some(connection),
            Found::New(endpoint) => {
                self.connect_once(id, endpoint, None, deadline, None, &Tries::default()).await.ok()
            }
            Found::Nobody | Found::Full => None,
        }
    }

    async fn connect_once(
        &self,
        id: UpstreamId,
        endpoint: EndpointId,
        permit: Option<Permit>,
        total: Instant,
        client: Option<&Client>,
        tries: &Tries,
    ) -> Result<Connection, NoConnection> {
        let settings = self.settings(id);
        // Kept as a list, because one of its entries is larger and would be in the task.
        let members = self.members(id);
        // It may have gone since it was chosen.
        let member = members.find(endpoint).ok_or(NoConnection::of_endpoint(Fault::NoEndpoint))?;
        let permit = match permit {
            None if member.connections_max.is_some() => {
                let full = NoConnection { fault: Fault::QueueFull, next: Next::Room };
                Some(self.take_permit(id, endpoint).ok_or(full)?)
            }
            permit => permit,
        };
        tries.note(endpoint);
        let deadline = (self.core.turn_time() + settings.timeouts.connect).min(total);
        let counters = &self.stats.endpoints[usize::from(endpoint.0)];
        // Counted from now on: who chooses the next one sees that this one is about to have one more.
        let active = Active::new(&self.stats, endpoint);
        let stream = match self.connect_to(&member.address, deadline).await {
            Ok(stream) => stream,
            // Not the endpoint's failure, and no other endpoint would fare better.
            Err(error) if is_exhaustion(&error) => {
                return Err(NoConnection::for_good(Fault::ResourcesExhausted));
            }
            Err(error) => {
                counters.connect_failures.add(1);
                self.roster.note_failure(endpoint, member.generation, Failure::Connect(error.kind()));
                self.note_nanos(id, endpoint, FAILURE_NANOS);
                return Err(NoConnection::of_endpoint(fault_of(
                    &error,
                    Fault::ConnectTimeout,
                    Fault::ConnectFailed,
                )));
            }
        };
        if let Some(permit) = permit {
            stream.hold_until_closed(permit);
        }
        let stream = if settings.proxy_protocol.is_none() && settings.tls.is_none() {
            Wire::Plain(stream)
        } else {
            let greeted = Box::pin(self.greet(id, member, stream, client, deadline)).await;
            greeted.inspect_err(|_| {
                counters.connect_failures.add(1);
                self.roster.note_failure(endpoint, member.generation, Failure::Handshake);
                self.note_nanos(id, endpoint, FAILURE_NANOS);
            })?
        };
        counters.connections_opened.add(1);
        let generation = member.generation;
        Ok(Connection { stream, upstream: id, endpoint, generation, is_reused: false, active })
    }

    async fn connect_to(&self, address: &Address, deadline: Instant) -> io::Result<Stream> {
        match address {
            Address::Tcp(address) => self.core.connect(*address, deadline).await,
            // Apart, so that the task of every client need not hold it: most have no such endpoint.
            Address::Unix(path) => Box::pin(self.core.connect_unix(path, deadline)).await,
        }
    }

    /// Says and hears what comes before a request: a PROXY header, a TLS handshake.
    async fn greet(
        &self,
        id: UpstreamId,
        member: &Member,
        stream: Stream,
        client: Option<&Client>,
        deadline: Instant,
    ) -> Result<Wire, NoConnection> {
        let settings: &Upstream = self.settings(id);
        if let (Some(version), Some(client)) = (settings.proxy_protocol, client) {
            announce(&stream, client, version, deadline).await.map_err(|error| {
                NoConnection::of_endpoint(fault_of(&error, Fault::ConnectTimeout, Fault::ConnectFailed))
            })?;
        }
        let (config, name) = match self.private.endpoint(id, member.server_name.as_ref()) {
            None => return Ok(Wire::Plain(stream)),
            // Control lets no such endpoint in.
            Some((_, None)) => return Err(NoConnection::for_good(Fault::UpstreamTlsFailed)),
            Some((config, Some(name))) => (config, name),
        };
        let stream = tls::connect(stream, config, name, deadline).await.map_err(|error| {
            let fault = HandshakeFault::of(&error);
            self.stats.upstream_handshake_faults[fault.index()].add(1);
            of_handshake(&error)
        })?;
        let counters = &self.stats.endpoints[usize::from(member.id.0)];
        let is_resumed = stream.handshake_kind() == Some(HandshakeKind::Resumed);
        let counter = if is_resumed { &counters.resumptions } else { &counters.handshakes };
        counter.add(1);
        Ok(Wire::Private(stream))
    }
}

/// Tells an endpoint whose connection it gets, before anything else, TLS included.
async fn announce(
    stream: &Stream,
    client: &Client,
    version: ProxyVersion,
    deadline: Instant,
) -> io::Result<()> {
    stream.set_send_deadline(deadline);
    stream.send_all(&preface::header_for(client, version)).await
}

/// An endpoint that goes away in its handshake is one that is not there. One that cannot prove who it is may be somebody
/// else: that is no failure to pass over in silence.
fn of_handshake(error: &HandshakeError) -> NoConnection {
    match error {
        HandshakeError::TimedOut => NoConnection::of_endpoint(Fault::ConnectTimeout),
        HandshakeError::Ended | HandshakeError::Io(_) => NoConnection::of_endpoint(Fault::UpstreamTlsFailed),
        HandshakeError::NotTls(_)
        | HandshakeError::NameUnknown
        | HandshakeError::VersionTooOld
        | HandshakeError::Refused(_) => NoConnection::for_good(Fault::UpstreamTlsFailed),
    }
}
