//! What does a listener serve, and how are endpoints spoken to? Addresses, upstreams by name, TLS.
//!
//! Never opens a file: paths are made whole here, and read when the process starts.

use std::path::Path;

use super::Names;
use crate::document::key::Key;
use crate::schema::text::Bind;
use crate::schema::tls as written;
use crate::schema::{self, Listener};
use crate::snapshot::{
    BindAddress, CertificateFiles, ClientAuth, ClientAuthMode, Framing, ListenerTls, Protocol,
    ServerNamePattern, SniRoutes, TcpService, TlsVersion, UnknownName, UpstreamId, UpstreamTls, Verify,
};

pub(super) fn compile_bind(listener: &Listener) -> BindAddress {
    match &listener.bind {
        Bind::Tcp(address) => BindAddress::Tcp(*address),
        Bind::Unix(path) => {
            let mode = listener.unix_mode.unwrap_or_default().0;
            BindAddress::Unix { path: Path::new(path).into(), mode }
        }
    }
}

/// `None` means that the report names what is missing.
pub(super) fn compile_protocol(name: &str, listener: &Listener, names: &Names<'_>) -> Option<Protocol> {
    let key = Key::of(["listener", name]);
    let upstream =
        listener.upstream.as_deref().map(|upstream| names.upstream(upstream, &key.child("upstream")));
    match listener.protocol {
        schema::Protocol::Http => Some(Protocol::Http),
        schema::Protocol::Https => {
            let tls = compile_listener_tls(listener.tls.as_ref()?, names)?;
            Some(Protocol::Https(Box::new(tls)))
        }
        schema::Protocol::Tcp => {
            let framing = match listener.framing {
                schema::Framing::Raw => Framing::Raw,
                schema::Framing::Line => Framing::Line,
                schema::Framing::Mllp => Framing::Mllp,
            };
            Some(Protocol::Tcp(TcpService { upstream: upstream??, framing }))
        }
        schema::Protocol::Tls => {
            let routes = compile_routes(listener, &key.child("sni"), names);
            let default = match upstream {
                Some(upstream) => Some(upstream?),
                None => None,
            };
            Some(Protocol::Tls(Box::new(SniRoutes { routes: routes?, default })))
        }
    }
}

fn compile_routes(
    listener: &Listener,
    key: &Key,
    names: &Names<'_>,
) -> Option<Box<[(ServerNamePattern, UpstreamId)]>> {
    let written = listener.sni.iter().flat_map(|sni| sni.iter());
    // Each is looked up before the first failure counts, so that all of them are reported.
    let routes = written.map(|(name, upstream)| {
        let pattern = match name.strip_prefix("*.") {
            Some(name) => ServerNamePattern::Below(name.into()),
            None => ServerNamePattern::Exact(name.into()),
        };
        names.upstream(upstream, &key.child(name)).map(|upstream| (pattern, upstream))
    });
    let routes: Vec<_> = routes.collect();
    let mut routes: Vec<_> = routes.into_iter().collect::<Option<_>>()?;
    routes.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(routes.into())
}

fn compile_listener_tls(tls: &written::ListenerTls, names: &Names<'_>) -> Option<ListenerTls> {
    let certificates = tls.certificates.iter();
    let certificates = certificates.map(|files| compile_files(&files.certificate, &files.key, names));
    Some(ListenerTls {
        certificates: certificates.collect::<Option<_>>()?,
        unknown_name: match tls.unknown_name {
            written::UnknownName::Default => UnknownName::Default,
            written::UnknownName::Refuse => UnknownName::Refuse,
        },
        client_auth: match &tls.client_auth {
            Some(client_auth) => Some(compile_client_auth(client_auth, names)?),
            None => None,
        },
        version_min: compile_version(tls.min_version),
        resumption: tls.resumption,
        handshakes_max: u32::from(tls.handshakes),
    })
}

fn compile_client_auth(client_auth: &written::ClientAuth, names: &Names<'_>) -> Option<ClientAuth> {
    Some(ClientAuth {
        mode: match client_auth.mode {
            written::ClientAuthMode::Require => ClientAuthMode::Require,
            written::ClientAuthMode::Request => ClientAuthMode::Request,
        },
        authorities: names.file(&client_auth.ca)?,
        revocation: client_auth.crl.iter().map(|path| names.file(path)).collect::<Option<_>>()?,
        fingerprints: client_auth.fingerprints.iter().map(|fingerprint| fingerprint.0).collect(),
        resumption: client_auth.resumption,
    })
}

pub(super) fn compile_upstream_tls(tls: &written::UpstreamTls, names: &Names<'_>) -> Option<UpstreamTls> {
    let verify = match (tls.verify, &tls.ca) {
        (written::Verify::None, _) => Verify::Nothing,
        (written::Verify::Platform, Some(ca)) => Verify::Authorities(names.file(ca)?),
        (written::Verify::Platform, None) => Verify::Platform,
    };
    let client = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => Some(compile_files(certificate, key, names)?),
        _ => None,
    };
    Some(UpstreamTls {
        verify,
        server_name: tls.server_name.as_deref().map(Into::into),
        client,
        version_min: compile_version(tls.min_version),
    })
}

fn compile_files(certificate: &str, key: &str, names: &Names<'_>) -> Option<CertificateFiles> {
    Some(CertificateFiles { certificate: names.file(certificate)?, key: names.file(key)? })
}

fn compile_version(version: written::TlsVersion) -> TlsVersion {
    match version {
        written::TlsVersion::Tls12 => TlsVersion::Tls12,
        written::TlsVersion::Tls13 => TlsVersion::Tls13,
    }
}
