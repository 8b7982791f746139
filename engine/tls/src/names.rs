//! Which certificate does a client get? By the name it asks for, and by what it can verify.
//!
//! Never waits for a reload: a table is swapped whole, and who began with the old one ends with it.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use crate::identity::Identity;

/// What a client gets that asks for a name which no certificate is for, or for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownName {
    /// The first certificate.
    First,
    /// The alert unrecognized_name (RFC 6066 §3).
    Refused,
}

/// Certificates of one name: different in what they sign with, the cheapest first.
type Choices = Box<[Arc<CertifiedKey>]>;

/// Certificates by name.
#[derive(Debug)]
pub struct NameTable {
    exact: HashMap<Box<str>, Choices>,
    /// By what follows the first label and its dot.
    wildcard: HashMap<Box<str>, Choices>,
    /// For names that are in neither.
    unknown: Option<Choices>,
}

impl NameTable {
    /// A table of `identities`. Of several that are for one name and sign alike the first is used.
    #[must_use]
    pub fn new(identities: &[Identity], unknown: UnknownName) -> Self {
        let mut exact: HashMap<Box<str>, Vec<&Identity>> = HashMap::new();
        let mut wildcard: HashMap<Box<str>, Vec<&Identity>> = HashMap::new();
        for identity in identities {
            for name in &identity.certificate().dns_names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.into()).or_default().push(identity),
                    None => exact.entry(name.clone()).or_default().push(identity),
                }
            }
        }
        let first = identities.first().filter(|_| unknown == UnknownName::First).map(|first| {
            let name = first.certificate().dns_names.first();
            let alike = |other: &&Identity| {
                name.is_some_and(|name| other.certificate().dns_names.contains(name))
                    && other.algorithm() != first.algorithm()
            };
            choices(std::iter::once(first).chain(identities.iter().filter(alike)))
        });
        let sorted = |names: HashMap<Box<str>, Vec<&Identity>>| {
            names.into_iter().map(|(name, identities)| (name, choices(identities))).collect()
        };
        Self { exact: sorted(exact), wildcard: sorted(wildcard), unknown: first }
    }

    /// The certificate for a client that asks for `name` and can verify `schemes`.
    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let known = name.and_then(|name| {
            // A wildcard stands for one label, and only for the first (RFC 9525 §6.3).
            let by_parent = || name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
            self.exact.get(name).or_else(by_parent)
        });
        let choices = known.or(self.unknown.as_ref())?;
        let verifiable = choices.iter().find(|choice| choice.key.choose_scheme(schemes).is_some());
        // With one that the client cannot verify, rustls ends the handshake and says why.
        verifiable.or_else(|| choices.first())
    }
}

fn choices<'i>(identities: impl IntoIterator<Item = &'i Identity>) -> Choices {
    let mut identities: Vec<_> = identities.into_iter().collect();
    identities.sort_by_key(|identity| cost(identity.algorithm()));
    identities.dedup_by_key(|identity| identity.algorithm());
    identities.into_iter().map(|identity| identity.certified().clone()).collect()
}

/// The order in which certificates of one name are offered: what takes the server least to sign with goes first.
fn cost(algorithm: SignatureAlgorithm) -> u8 {
    match algorithm {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 => 1,
        _ => 2,
    }
}

/// The table in use; rustls asks it at every full handshake.
#[derive(Debug)]
pub struct ServerNames {
    table: ArcSwap<NameTable>,
}

impl ServerNames {
    /// Begins with `table`.
    #[must_use]
    pub fn new(table: NameTable) -> Self {
        Self { table: ArcSwap::from_pointee(table) }
    }

    /// Handshakes that begin from now on find their certificate in `table`.
    pub fn replace(&self, table: NameTable) {
        self.table.store(Arc::new(table));
    }
}

impl ResolvesServerCert for ServerNames {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls hands names over in lower case.
        self.table.load().find(hello.server_name(), hello.signature_schemes()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Algorithm, identity};

    const EVERY: &[SignatureScheme] =
        &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];

    /// Which of `identities`, by index, is found under `name`.
    fn found(
        identities: &[Identity],
        unknown: UnknownName,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<usize> {
        let table = NameTable::new(identities, unknown);
        let found = table.find(name, schemes)?;
        identities.iter().position(|identity| Arc::ptr_eq(identity.certified(), found))
    }

    #[test]
    fn a_name_is_found_as_written_before_by_its_wildcard() {
        let identities = [
            identity(&["first.example"], Algorithm::Ecdsa),
            identity(&["*.b.example", "b.example"], Algorithm::Ecdsa),
            identity(&["x.b.example"], Algorithm::Ecdsa),
        ];
        let check = |name: Option<&str>, default: Option<usize>, strict: Option<usize>| {
            assert_eq!(found(&identities, UnknownName::First, name, EVERY), default, "{name:?}");
            assert_eq!(found(&identities, UnknownName::Refused, name, EVERY), strict, "{name:?}");
        };
        check(Some("first.example"), Some(0), Some(0));
        check(Some("b.example"), Some(1), Some(1));
        check(Some("a.b.example"), Some(1), Some(1));
        check(Some("x.b.example"), Some(2), Some(2));
        check(Some("y.a.b.example"), Some(0), None);
        check(Some("example"), Some(0), None);
        check(Some("other.example"), Some(0), None);
        check(None, Some(0), None);
    }

    #[test]
    fn a_client_gets_a_certificate_that_it_can_verify_and_the_cheapest_of_those() {
        let identities = [
            identity(&["both.example"], Algorithm::Rsa),
            identity(&["both.example", "ecdsa.example"], Algorithm::Ecdsa),
        ];
        let check = |name: Option<&str>, schemes: &[SignatureScheme], expected: usize| {
            assert_eq!(found(&identities, UnknownName::First, name, schemes), Some(expected), "{name:?}");
        };
        let rsa = [SignatureScheme::RSA_PSS_SHA256];
        check(Some("both.example"), EVERY, 1);
        check(Some("both.example"), &rsa, 0);
        check(None, EVERY, 1);
        check(None, &rsa, 0);
        // None that it can verify: another name's would not help.
        check(Some("ecdsa.example"), &rsa, 1);
    }

    #[test]
    fn of_two_that_sign_alike_the_first_is_used() {
        let identities =
            [identity(&["twice.example"], Algorithm::Ecdsa), identity(&["twice.example"], Algorithm::Ecdsa)];
        assert_eq!(found(&identities, UnknownName::Refused, Some("twice.example"), EVERY), Some(0));
    }

    #[test]
    fn a_table_is_replaced_whole() {
        let names = ServerNames::new(NameTable::new(
            &[identity(&["a.example"], Algorithm::Ecdsa)],
            UnknownName::Refused,
        ));
        let begun = names.table.load_full();
        names.replace(NameTable::new(&[identity(&["b.example"], Algorithm::Ecdsa)], UnknownName::Refused));
        assert!(names.table.load().find(Some("a.example"), EVERY).is_none());
        assert!(names.table.load().find(Some("b.example"), EVERY).is_some());
        assert!(begun.find(Some("a.example"), EVERY).is_some(), "who began with it ends with it");
    }
}
