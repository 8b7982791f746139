//! What does a core need for private connections? A rustls configuration for each listener and upstream that has them.
//!
//! Never made here, never changed here: certificates are reloaded within these configurations.

use std::sync::Arc;

use config::snapshot::{ListenerId, UpstreamId};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

/// The private side of listeners and upstreams. The default has none.
#[derive(Debug, Default)]
pub struct Private {
    /// By [`ListenerId`]; `None` where clients come in the clear. A shorter list has none behind its end.
    pub listeners: Box<[Option<Arc<ServerConfig>>]>,
    /// By [`UpstreamId`], likewise.
    pub upstreams: Box<[Option<PrivateUpstream>]>,
}

/// How the endpoints of an upstream are spoken to in private.
#[derive(Debug)]
pub struct PrivateUpstream {
    /// Whom to trust, and what to show.
    pub config: Arc<ClientConfig>,
    /// Who the endpoints must prove to be; `None` for each one's own name.
    pub server_name: Option<ServerName<'static>>,
}

impl Private {
    /// What a listener's clients are met with, if they come in private.
    pub(crate) fn listener(&self, id: ListenerId) -> Option<&Arc<ServerConfig>> {
        self.listeners.get(usize::from(id.0))?.as_ref()
    }

    /// How to speak to an endpoint of an upstream, if in private; `own_name` is the endpoint's.
    pub(crate) fn endpoint(
        &self,
        id: UpstreamId,
        own_name: Option<&ServerName<'static>>,
    ) -> Option<(&Arc<ClientConfig>, Option<ServerName<'static>>)> {
        let private = self.upstreams.get(usize::from(id.0))?.as_ref()?;
        Some((&private.config, private.server_name.as_ref().or(own_name).cloned()))
    }
}
