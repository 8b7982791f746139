//! What must a connection say before it is served? Whose it is, or whom it wants, in bytes that come before any application's.
//!
//! Never holds a buffer while it waits, never waits past the listener's `handshake` timeout, and never lets in what does not say
//! it to the letter.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use config::snapshot::{Framing, Listener, Protocol, ProxyVersion, TcpService, UpstreamId};
use proto::client_hello::{self, ClientHello, HelloRejected, ServerName};
use proto::proxy_protocol::{self, Addresses, Header, ProxyRejected, Version};
use runtime::{Chunk, Instant};

use crate::address::is_nobodys;
use crate::client::{Client, linger};
use crate::core_main::CoreState;
use crate::listener;
use crate::outcome::{Fault, fault_of};
use crate::tcp;

/// What a trusted proxy said of a connection besides its client's address.
#[derive(Debug)]
pub(crate) struct Told {
    /// What the client connected to there.
    destination: Option<SocketAddr>,
    /// As received, for the next server.
    tlvs: Box<[u8]>,
}

/// Whether a connection from this address begins with a PROXY header.
pub(crate) fn begins_with_header(settings: &Listener, peer: SocketAddr) -> bool {
    let from = settings.proxy_protocol.as_ref().map(|proxy_protocol| &proxy_protocol.from);
    from.is_some_and(|networks| networks.iter().any(|network| network.contains(peer.ip())))
}

/// How long a connection may take that begins now until an application's first byte may come.
pub(crate) fn deadline(state: &CoreState, settings: &Listener) -> Instant {
    state.core.turn_time() + settings.timeouts.handshake
}

/// Takes the PROXY header off a connection whose first bytes are there, and lets it go on as its client's.
pub(crate) async fn take_header(state: Rc<CoreState>, mut client: Client, deadline: Instant) {
    let parse = |bytes: &[u8]| {
        let header = proxy_protocol::parse(bytes).map_err(Fault::ProxyHeaderRejected)?;
        Ok(header.map(|header| (header.len, header.addresses, told(&header))))
    };
    let too_long = Fault::ProxyHeaderRejected(ProxyRejected::HeaderTooLong);
    let (len, addresses, told) = match receive(&mut client, parse, too_long).await {
        Ok(Some(header)) => header,
        // Nobody was there: how some look whether a port answers.
        Ok(None) => return,
        Err(fault) => {
            // An end would say that who was asked for had nothing to say.
            let _ = client.stream.reset_on_close();
            return state.stats.count_fault(fault);
        }
    };
    client.unread = client.unread.take().and_then(|chunk| behind(chunk, len));
    client.told = told;
    if let Some(Addresses { source, .. }) = addresses {
        client.peer = source;
    }
    if listener::is_denied(client.settings(&state), client.peer) {
        return client.counters().denied.add(1);
    }
    if client.name_permit() {
        listener::begin(&state, client, Some(deadline));
    }
}

/// What is worth keeping of a header.
fn told(header: &Header<'_>) -> Option<Box<Told>> {
    let destination = header.addresses.map(|addresses| addresses.destination);
    let is_worth_it = destination.is_some() || !header.tlvs.is_empty();
    is_worth_it.then(|| Box::new(Told { destination, tlvs: header.tlvs.into() }))
}

fn behind(mut chunk: Chunk, len: usize) -> Option<Chunk> {
    chunk.consume(len);
    (!chunk.is_empty()).then_some(chunk)
}

/// Finds out whom a TLS client wants, and passes it on undecrypted to whoever serves that name.
pub(crate) async fn route_by_name(state: Rc<CoreState>, mut client: Client) {
    let parse = |bytes: &[u8]| client_hello::parse(bytes).map_err(Fault::HelloRejected);
    let too_large = Fault::HelloRejected(HelloRejected::TooLarge);
    let outcome = match receive(&mut client, parse, too_large).await {
        Ok(Some(hello)) => find(&state, &client, &hello),
        Ok(None) => return,
        Err(fault) => Err(fault),
    };
    match outcome {
        Ok(upstream) => {
            let service = TcpService { upstream, framing: Framing::Raw };
            // A task of its own size: it lasts.
            state.core.spawn(tcp::serve(Rc::clone(&state), client, service));
        }
        Err(fault) => {
            state.stats.count_fault(fault);
            refuse(&state, client, fault).await;
        }
    }
}

/// Who serves the name that a client asks for.
fn find(state: &CoreState, client: &Client, hello: &ClientHello) -> Result<UpstreamId, Fault> {
    let Protocol::Tls(routes) = &client.settings(state).protocol else {
        unreachable!("only listeners that route by name wait for a hello");
    };
    let name = hello.server_name.as_ref().map(ServerName::as_str);
    routes.find(name).ok_or(Fault::ServerNameUnknown)
}

/// Tells a client that speaks TLS why it is not served; another one would not understand.
async fn refuse(state: &CoreState, mut client: Client, fault: Fault) {
    let alert = match fault {
        Fault::ServerNameUnknown => client_hello::UNRECOGNIZED_NAME,
        Fault::HelloRejected(rule) if rule != HelloRejected::NotTls => client_hello::DECODE_ERROR,
        _ => {
            let _ = client.stream.reset_on_close();
            return;
        }
    };
    client.unread = None;
    client.stream.set_send_deadline(deadline(state, client.settings(state)));
    if client.stream.send_all(&alert).await.is_ok() {
        linger(state, client).await;
    }
}

/// Receives until `parse` has found what it looks for. All that was received is left in [`Client::unread`]. `None` if the
/// connection ended before its first byte; `too_long` if no buffer holds what is asked for.
async fn receive<T>(
    client: &mut Client,
    parse: impl Fn(&[u8]) -> Result<Option<T>, Fault>,
    too_long: Fault,
) -> Result<Option<T>, Fault> {
    // Waits in memory of its own size, so that who takes his time holds no buffer.
    let mut begun = Vec::new();
    loop {
        let chunk = match client.unread.take() {
            // What followed a PROXY header, and is counted.
            Some(chunk) => chunk,
            None => {
                let chunk = match client.stream.recv_behind(&begun).await {
                    Ok(Some(chunk)) => chunk,
                    Ok(None) if begun.is_empty() => return Ok(None),
                    Ok(None) => return Err(Fault::ClientGone),
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(too_long),
                    Err(error) if begun.is_empty() && error.kind() != io::ErrorKind::TimedOut => {
                        return Ok(None);
                    }
                    Err(error) => return Err(fault_of(&error, Fault::HandshakeTimeout, Fault::ClientGone)),
                };
                client.counters().bytes_received.add((chunk.len() - begun.len()) as u64);
                chunk
            }
        };
        match parse(&chunk)? {
            Some(found) => {
                client.unread = Some(chunk);
                return Ok(Some(found));
            }
            None => begun = chunk.to_vec(),
        }
    }
}

/// The PROXY header that tells an endpoint who `client` is.
pub(crate) fn header_for(client: &Client, version: ProxyVersion) -> Vec<u8> {
    let told = client.told.as_deref();
    let destination = match told {
        Some(Told { destination: Some(destination), .. }) => Some(*destination),
        _ => client.stream.local_address().ok(),
    };
    let source = Some(client.peer).filter(|peer| !is_nobodys(*peer));
    let addresses = source.zip(destination).map(|(source, destination)| Addresses { source, destination });
    let version = match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    };
    let mut header = Vec::new();
    proxy_protocol::write(version, addresses, told.map_or(&[], |told| &told.tlvs), &mut header);
    header
}
