//! Is this endpoint well? A connection, a handshake, a request, as far as it was asked for.
//!
//! Never without a deadline for the whole of it, and never believes an answer that a core would refuse.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use config::snapshot::ProxyVersion;
use config::snapshot::health::{Health, Probe};
use proto::proxy_protocol::{Version, write, write_local};
use proxy::address::Address;
use proxy::outcome::is_exhaustion;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::answer;

/// How to ask in private.
#[derive(Debug)]
pub(super) struct Private {
    pub(super) config: Arc<ClientConfig>,
    /// Who it must prove to be; an endpoint at a path has no name of its own.
    pub(super) name: Option<ServerName<'static>>,
}

/// What is spoken through, of whatever kind it is.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin> Wire for W {}

/// Why a probe found nothing well.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ill {
    /// What is wrong with the endpoint, in words for the operator.
    Endpoint(String),
    /// Nothing was found out: this process had nothing left to ask with.
    Exhausted(String),
}

impl From<String> for Ill {
    fn from(what: String) -> Self {
        Self::Endpoint(what)
    }
}

/// How far a probe has come, to tell what did not come in time.
#[derive(Clone, Copy)]
enum Stage {
    Connecting,
    Agreeing,
    Asking,
}

impl Stage {
    const fn missing(self) -> &'static str {
        match self {
            Self::Connecting => "no connection",
            Self::Agreeing => "no TLS handshake",
            Self::Asking => "no whole answer",
        }
    }
}

/// Makes a probe of the endpoint at `address`.
///
/// # Errors
/// [`Ill`].
pub(super) async fn probe(
    settings: &Health,
    proxy_protocol: Option<ProxyVersion>,
    private: Option<Private>,
    address: &Address,
) -> Result<(), Ill> {
    let address = asked(address, settings.port);
    let mut stage = Stage::Connecting;
    let asking = ask(settings, proxy_protocol, private, &address, &mut stage);
    match timeout(settings.timeout, asking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("{} within {:?}", stage.missing(), settings.timeout).into()),
    }
}

async fn ask(
    settings: &Health,
    proxy_protocol: Option<ProxyVersion>,
    private: Option<Private>,
    address: &Address,
    stage: &mut Stage,
) -> Result<(), Ill> {
    let mut wire = connect(address).await.map_err(|error| {
        let what = what_of(&error);
        if is_exhaustion(&error) { Ill::Exhausted(what) } else { Ill::Endpoint(what) }
    })?;
    if let Some(version) = proxy_protocol {
        wire.write_all(&announcement(version)).await.map_err(|error| what_of(&error))?;
    }
    let probe = &settings.probe;
    if let Some(Private { config, name }) = private.filter(|_| !matches!(probe, Probe::Tcp)) {
        *stage = Stage::Agreeing;
        let name = name.ok_or_else(|| "no name that it must prove to be (tls.server_name)".to_owned())?;
        let agreed = TlsConnector::from(config).connect(name, wire).await;
        wire = Box::new(agreed.map_err(|error| format!("TLS: {}", what_of(&error)))?);
    }
    *stage = Stage::Asking;
    match probe {
        Probe::Tcp | Probe::Tls => Ok(()),
        Probe::Http(request) => Ok(answer::ask(&mut *wire, request, &address.host()).await?),
    }
}

async fn connect(address: &Address) -> io::Result<Box<dyn Wire>> {
    Ok(match address {
        Address::Tcp(address) => Box::new(TcpStream::connect(*address).await?),
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

/// The endpoint's address, or the port of its host that is asked instead.
fn asked(address: &Address, port: Option<u16>) -> Address {
    match (address, port) {
        (Address::Tcp(endpoint), Some(port)) => SocketAddr::new(endpoint.ip(), port).into(),
        _ => address.clone(),
    }
}

/// A PROXY header that says that the connection is our own.
fn announcement(version: ProxyVersion) -> Vec<u8> {
    let mut header = Vec::new();
    match version {
        ProxyVersion::V1 => write(Version::V1, None, &[], &mut header),
        ProxyVersion::V2 => write_local(&mut header),
    }
    header
}

/// An error by its kind, which says it in two words, or by its own text.
pub(super) fn what_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::Other | io::ErrorKind::InvalidData => error.to_string(),
        kind if error.raw_os_error().is_some() => {
            let kind = kind.to_string();
            // Errors of the system that have no kind say no more by it.
            if kind == "uncategorized error" { error.to_string() } else { kind }
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
