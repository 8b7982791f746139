//! How did private connections begin? Versions, full or resumed, and how long a handshake took.
//!
//! Never counts a handshake that failed: that is a failure of its own kind.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use proto::histogram::{MergedHistogram, merged_histogram};
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};
use serde::Serialize;
use tls::TlsStream;

use crate::output::distribution::Distribution;
use crate::output::report::ratio;
use crate::units::{show_count, show_nanoseconds};

/// The handshakes of one thread.
pub(crate) struct Handshakes {
    /// From the moment the connection was there to the end of its handshake.
    time: MergedHistogram,
    full: u64,
    resumed: u64,
    agreed: Vec<(Agreed, u64)>,
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Agreed {
    version: Option<ProtocolVersion>,
    cipher_suite: Option<rustls::CipherSuite>,
    key_exchange: Option<NamedGroup>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { time: merged_histogram(), full: 0, resumed: 0, agreed: Vec::new() }
    }
}

impl Handshakes {
    /// Counts one that took `time`.
    pub(crate) fn record(&mut self, stream: &TlsStream, time: Duration) {
        self.time.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        match stream.handshake_kind() {
            Some(HandshakeKind::Resumed) => self.resumed += 1,
            _ => self.full += 1,
        }
        let agreed = Agreed {
            version: stream.version(),
            cipher_suite: stream.cipher_suite().map(|suite| suite.suite()),
            key_exchange: stream.key_exchange(),
        };
        self.count(agreed, 1);
    }

    fn count(&mut self, agreed: Agreed, times: u64) {
        // There are as many entries as the server has ways to answer one offer: hardly more than two.
        match self.agreed.iter_mut().find(|(known, _)| *known == agreed) {
            Some((_, count)) => *count += times,
            None => self.agreed.push((agreed, times)),
        }
    }

    /// Adds those of another thread.
    pub(crate) fn add(&mut self, other: &Self) {
        self.time.add(&other.time).expect("histograms of one shape");
        self.full += other.full;
        self.resumed += other.resumed;
        other.agreed.iter().for_each(|(agreed, count)| self.count(*agreed, *count));
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(ProtocolVersion::TLSv1_2) => formatter.write_str("TLS 1.2")?,
            Some(ProtocolVersion::TLSv1_3) => formatter.write_str("TLS 1.3")?,
            other => write!(formatter, "{other:?}")?,
        }
        if let Some(suite) = self.cipher_suite.and_then(|suite| suite.as_str()) {
            // TLS13_AES_128_GCM_SHA256 says the version once more.
            write!(formatter, ", {}", suite.trim_start_matches("TLS13_").trim_start_matches("TLS_"))?;
        }
        match self.key_exchange {
            Some(group) => write!(formatter, ", {group:?}"),
            None => Ok(()),
        }
    }
}

/// What a report says of them.
#[derive(Debug, Serialize)]
pub(crate) struct TlsSummary {
    /// Version, cipher suite and key exchange, and how many connections agreed on them.
    pub(crate) agreed: BTreeMap<String, u64>,
    /// Who vouches for the server.
    pub(crate) verified_by: String,
    /// Full handshakes.
    pub(crate) full: u64,
    /// Handshakes that resumed an earlier session.
    pub(crate) resumed: u64,
    /// `resumed` over both.
    pub(crate) resumption_rate: f64,
    /// From the moment the connection was there to the end of its handshake.
    pub(crate) handshake_ns: Distribution,
}

impl TlsSummary {
    pub(crate) fn new(verified_by: &str, handshakes: &Handshakes) -> Self {
        let Handshakes { time, full, resumed, agreed } = handshakes;
        Self {
            agreed: agreed.iter().map(|(agreed, count)| (agreed.to_string(), *count)).collect(),
            verified_by: verified_by.to_owned(),
            full: *full,
            resumed: *resumed,
            resumption_rate: ratio(*resumed as f64, (full + resumed) as f64),
            handshake_ns: Distribution::of(time),
        }
    }

    /// The figures with their names, for people.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows: Vec<(&str, String)> = self
            .agreed
            .iter()
            .map(|(agreed, count)| ("tls", format!("{agreed}: {} connections", show_count(*count))))
            .collect();
        if rows.is_empty() {
            rows.push(("tls", "no handshake succeeded".to_owned()));
        }
        rows.push(("verified", format!("by {}", self.verified_by)));
        let shown = |value: u64| show_nanoseconds(value as f64);
        let Distribution { p50, p99, max, .. } = self.handshake_ns;
        if self.full + self.resumed > 0 {
            rows.push((
                "handshakes",
                format!(
                    "{} full, {} resumed ({:.1} %); p50 {}, p99 {}, max {}",
                    show_count(self.full),
                    show_count(self.resumed),
                    self.resumption_rate * 100.0,
                    shown(p50),
                    shown(p99),
                    shown(max)
                ),
            ));
        }
        rows
    }
}

impl fmt::Display for TlsSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows().into_iter().try_for_each(|(name, value)| writeln!(formatter, "{name:<10} {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(agreed: Agreed, full: u64, resumed: u64, nanoseconds: u64) -> Handshakes {
        let mut handshakes = Handshakes { full, resumed, ..Handshakes::default() };
        handshakes.count(agreed, full + resumed);
        handshakes.time.saturating_record(nanoseconds);
        handshakes
    }

    const NEW: Agreed = Agreed {
        version: Some(ProtocolVersion::TLSv1_3),
        cipher_suite: Some(rustls::CipherSuite::TLS13_AES_256_GCM_SHA384),
        key_exchange: Some(NamedGroup::X25519),
    };
    const OLD: Agreed = Agreed {
        version: Some(ProtocolVersion::TLSv1_2),
        cipher_suite: Some(rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        key_exchange: None,
    };

    #[test]
    fn threads_add_up_and_the_rate_is_over_all() {
        let mut all = thread(NEW, 1, 2, 1_000_000);
        all.add(&thread(NEW, 1, 3, 3_000_000));
        all.add(&thread(OLD, 1, 0, 9_000_000));
        let summary = TlsSummary::new("the system's roots", &all);
        assert_eq!((summary.full, summary.resumed), (3, 5));
        assert_eq!(summary.resumption_rate, 0.625);
        assert_eq!(summary.agreed["TLS 1.3, AES_256_GCM_SHA384, X25519"], 7);
        assert_eq!(summary.agreed["TLS 1.2, ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"], 1);
        assert!(summary.handshake_ns.max.abs_diff(9_000_000) < 9_000);
        let text = summary.to_string();
        for part in ["3 full, 5 resumed (62.5 %)", "max 9.00 ms", "verified   by the system's roots"] {
            assert!(text.contains(part), "{part} is missing from\n{text}");
        }
    }

    #[test]
    fn a_run_without_a_handshake_says_so() {
        let text = TlsSummary::new("--ca f", &Handshakes::default()).to_string();
        assert!(text.contains("no handshake succeeded") && !text.contains("p50"), "{text}");
    }
}
