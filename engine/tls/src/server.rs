//! What does a listener offer and demand? A rustls configuration whose certificates, tickets and trust can change inside.
//!
//! Never allows what this house does not want: early data, half-open answers, sessions that one core alone remembers.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig, SupportedProtocolVersion};

use crate::names::ServerNames;

/// The oldest version that is spoken. Older ones than TLS 1.2 cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMin {
    /// TLS 1.2 and 1.3.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

impl VersionMin {
    pub(crate) fn versions(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls12 => vec![&TLS13, &TLS12],
            Self::Tls13 => vec![&TLS13],
        }
    }
}

/// What a server is made of.
#[derive(Debug)]
pub struct ServerSettings {
    /// The oldest version that is spoken.
    pub version_min: VersionMin,
    /// What is spoken inside, the preferred first (RFC 7301).
    pub alpn: &'static [&'static [u8]],
    /// Its certificates.
    pub names: Arc<ServerNames>,
    /// What seals sessions, so that clients can resume them; `None`: every handshake is a full one.
    pub tickets: Option<Arc<dyn ProducesTickets>>,
    /// Who decides about clients' certificates; `None`: nobody is asked for one.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// A configuration for every connection of a listener, on all cores.
///
/// # Errors
/// rustls', which these settings give no reason for.
pub fn server_config(settings: ServerSettings) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&settings.version_min.versions())?;
    let builder = match settings.clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(settings.names);
    config.alpn_protocols = settings.alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // No suite that rustls has is weak: the client knows best which one its processor is good at.
    config.ignore_client_order = false;
    // Early data can be sent twice by whoever records it (RFC 8446 §8).
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    // What a core remembers no other core knows, and it takes a lock: tickets hold all there is.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match settings.tickets {
        Some(tickets) => config.ticketer = tickets,
        None => config.send_tls13_tickets = 0,
    }
    Ok(Arc::new(config))
}
