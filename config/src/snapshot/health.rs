//! How is found out whether an upstream's endpoints are well, and what becomes of those that are not?
//!
//! Nothing here says how one is at the moment: that is the roster's.

use std::time::Duration;

use proto::health::body::BodyPattern;
use proto::health::check::CheckTerms;
use proto::health::ejection::EjectionTerms;
use proto::http1::status::StatusSet;

/// Probes of each endpoint.
#[derive(Clone, Debug)]
pub struct Health {
    /// What one does.
    pub probe: Probe,
    /// When, and how its outcomes count.
    pub terms: CheckTerms,
    /// For the whole of it.
    pub timeout: Duration,
    /// The port that is asked, in place of the endpoint's.
    pub port: Option<u16>,
}

/// What a probe does.
#[derive(Clone, Debug)]
pub enum Probe {
    /// Makes a connection.
    Tcp,
    /// Agrees on TLS. The upstream has a `tls` table.
    Tls,
    /// Asks for something, over TLS where the upstream has a `tls` table.
    Http(HttpProbe),
}

/// What a probe asks for, and what it has to be told.
#[derive(Clone, Debug)]
pub struct HttpProbe {
    /// Request method, as sent.
    pub method: Box<str>,
    /// Request target in origin-form.
    pub target: Box<str>,
    /// Value of `Host`; `None` takes the endpoint's address.
    pub host: Option<Box<str>>,
    /// Statuses of an endpoint that is well.
    pub statuses: StatusSet,
    /// What has to be found in the answer's body.
    pub body: Option<BodyPattern>,
}

/// Leaving endpoints out that fail what they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// When, for how long, and how many.
    pub terms: EjectionTerms,
    /// Statuses of answers that count as failures.
    pub statuses: StatusSet,
}
