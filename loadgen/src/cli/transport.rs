//! How did the user ask to reach the server: by which socket, trusting whom?
//!
//! Words to values, nothing else.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TransportArgs {
    /// Connect to this Unix socket; the URL gives the Host field and the path, if it has any
    #[arg(long, value_name = "PATH", help_heading = "Connections")]
    pub(crate) unix: Option<PathBuf>,
    /// Trust the certificates in this PEM file, and none that the system trusts
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "TLS, for https and wss URLs",
        conflicts_with = "insecure"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// Take any certificate, whoever's; the summary says so
    #[arg(long, help_heading = "TLS, for https and wss URLs")]
    pub(crate) insecure: bool,
    /// Ask for this name, and check that the certificate is for it, instead of the URL's host
    #[arg(long, value_name = "NAME", help_heading = "TLS, for https and wss URLs")]
    pub(crate) sni: Option<String>,
    /// Begin every connection with a full handshake
    #[arg(long, help_heading = "TLS, for https and wss URLs")]
    pub(crate) no_resumption: bool,
    /// Offer no post-quantum key exchange, as clients of some years ago
    #[arg(long, help_heading = "TLS, for https and wss URLs")]
    pub(crate) no_post_quantum: bool,
    /// Offer this version alone [default: 1.3 and 1.2]
    #[arg(long, value_enum, value_name = "VERSION", help_heading = "TLS, for https and wss URLs")]
    pub(crate) tls: Option<TlsVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsVersion {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
}

impl TransportArgs {
    /// The first option given that only makes sense with TLS.
    pub(crate) fn tls_option(&self) -> Option<&'static str> {
        let given = [
            (self.ca.is_some(), "--ca"),
            (self.insecure, "--insecure"),
            (self.sni.is_some(), "--sni"),
            (self.no_resumption, "--no-resumption"),
            (self.no_post_quantum, "--no-post-quantum"),
            (self.tls.is_some(), "--tls"),
        ];
        given.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }
}
