//! What do the answers of a name server make of a name's endpoints?
//!
//! Never empties what was known: a name server that is gone, or knows nothing any more, takes no server out of use.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::resolve::Resolving;

/// Longest pause between two questions that were not answered, unless the shortest is longer.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply<T> {
    /// At least one record, and how long they hold.
    Found { records: Vec<T>, ttl: Duration },
    /// None.
    Lacking(Lack),
}

/// Why there is no record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lack {
    /// The name has none of this type: NOERROR without an answer (RFC 2308 §2.2), or the service is not offered (RFC 2782).
    NoRecords,
    /// There is no such name: NXDOMAIN (RFC 2308 §2.1).
    NoSuchName,
    /// Nobody answered, or only with an error.
    Failed(String),
}

impl Lack {
    /// As statistics show it.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::NoRecords => "no_records",
            Self::NoSuchName => "no_such_name",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecords => f.write_str("the name has no such records"),
            Self::NoSuchName => f.write_str("there is no such name (NXDOMAIN)"),
            Self::Failed(cause) => f.write_str(cause),
        }
    }
}

/// A host's addresses as they were last answered, by family.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Host {
    /// The addresses that hold after these replies; `None` stands for a family that was not asked for. A family whose question
    /// failed keeps what it had while the other's was answered.
    pub(super) fn absorb(&mut self, v4: Option<Reply<IpAddr>>, v6: Option<Reply<IpAddr>>) -> Reply<IpAddr> {
        let mut hold = Duration::MAX;
        let mut lacks = BTreeSet::new();
        let mut is_found = false;
        for reply in [&v4, &v6].into_iter().flatten() {
            match reply {
                Reply::Found { ttl, .. } => {
                    is_found = true;
                    hold = hold.min(*ttl);
                }
                Reply::Lacking(lack) => {
                    lacks.insert(lack.clone());
                }
            }
        }
        if !is_found {
            return Reply::Lacking(lacks.pop_last().unwrap_or(Lack::NoRecords));
        }
        for (known, reply) in [(&mut self.v4, v4), (&mut self.v6, v6)] {
            match reply {
                Some(Reply::Found { records, .. }) => *known = records,
                Some(Reply::Lacking(Lack::Failed(_))) => hold = Duration::ZERO, // asked again soon
                Some(Reply::Lacking(Lack::NoRecords | Lack::NoSuchName)) | None => known.clear(),
            }
        }
        Reply::Found { records: self.addresses(), ttl: hold }
    }

    /// What it was last found at.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.v4.iter().chain(&self.v6).copied().collect()
    }
}

/// A record of a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: Arc<str>,
}

/// A server that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// The host that it is an address of.
    pub(crate) host: Arc<str>,
    /// Of a service: 0 for those to be used first, 1 for the next …
    pub(crate) priority: Option<u8>,
    /// Of a service.
    pub(crate) weight: Option<u32>,
}

/// The servers at every address of a host, in a fixed order, each once.
pub(super) fn servers_of_host(host: &Arc<str>, port: u16, addresses: &[IpAddr]) -> Vec<Server> {
    let addresses: BTreeSet<_> = addresses.iter().copied().collect();
    let server = |ip| Server {
        address: SocketAddr::new(ip, port),
        host: Arc::clone(host),
        priority: None,
        weight: None,
    };
    addresses.into_iter().map(server).collect()
}

/// The servers of a service: every address of every target, those of the same priority by address. Priorities are numbered
/// from 0 in their order. RFC 2782 gives weight 0 a very small share beside others: it becomes 1, the smallest that has one.
pub(super) fn servers_of_service(records: &[Service], hosts: &HashMap<Arc<str>, Vec<IpAddr>>) -> Vec<Server> {
    let ranks: BTreeSet<u16> = records.iter().map(|record| record.priority).collect();
    let ranks: HashMap<u16, u8> =
        ranks.into_iter().zip((0..=u8::MAX).chain(std::iter::repeat(u8::MAX))).collect();
    let mut servers: Vec<Server> = Vec::new();
    for record in records {
        for ip in hosts.get(&record.target).into_iter().flatten() {
            servers.push(Server {
                address: SocketAddr::new(*ip, record.port),
                host: Arc::clone(&record.target),
                priority: ranks.get(&record.priority).copied(),
                weight: Some(u32::from(record.weight.max(1))),
            });
        }
    }
    servers.sort_by_key(|server| (server.priority, server.address));
    let mut seen = BTreeSet::new();
    servers.retain(|server| seen.insert(server.address));
    servers
}

/// How a name stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was not answered yet.
    #[default]
    Pending,
    /// The last answer holds.
    Current,
    /// The last question had no answer; what was known before is kept.
    Lacking(Lack),
}

impl Standing {
    /// As statistics show it.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Current => "current",
            Self::Lacking(lack) => lack.word(),
        }
    }

    /// Why there is no answer.
    pub(crate) fn cause(&self) -> Option<String> {
        match self {
            Self::Pending | Self::Current => None,
            Self::Lacking(lack) => Some(lack.to_string()),
        }
    }
}

/// What is known of one name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) standing: Standing,
    /// Questions that were answered, and that were not.
    pub(crate) answers: u64,
    pub(crate) failures: u64,
    /// The last answer that held servers.
    pub(crate) servers: Vec<Server>,
    failures_in_row: u32,
}

/// What follows from a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// The name's standing is another than before: said once.
    pub(super) is_new: bool,
    /// When to ask again.
    pub(super) pause: Duration,
}

impl Record {
    /// Takes what came of a question.
    pub(super) fn absorb(&mut self, reply: Reply<Server>, resolving: &Resolving) -> Next {
        let standing = match &reply {
            Reply::Found { .. } => Standing::Current,
            Reply::Lacking(lack) => Standing::Lacking(lack.clone()),
        };
        // A cause in other words is no new standing, or a log would fill with them.
        let is_new = self.standing.word() != standing.word();
        self.standing = standing;
        if is_new {
            self.failures_in_row = 0;
        }
        let pause = match reply {
            Reply::Found { records, ttl } => {
                self.answers += 1;
                self.servers = records;
                ttl.clamp(resolving.ttl_min, resolving.ttl_max)
            }
            Reply::Lacking(_) => {
                self.failures += 1;
                let factor = 2_u32.saturating_pow(self.failures_in_row);
                self.failures_in_row = self.failures_in_row.saturating_add(1);
                resolving.ttl_min.saturating_mul(factor).min(PAUSE_MAX.max(resolving.ttl_min))
            }
        };
        Next { is_new, pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn found(records: &[&str], seconds: u64) -> Reply<IpAddr> {
        let records = records.iter().map(|text| ip(text)).collect();
        Reply::Found { records, ttl: Duration::from_secs(seconds) }
    }

    fn failed() -> Reply<IpAddr> {
        Reply::Lacking(Lack::Failed("nobody answered".to_owned()))
    }

    fn none() -> Reply<IpAddr> {
        Reply::Lacking(Lack::NoRecords)
    }

    #[test]
    fn all_addresses_of_both_families_count_for_the_shorter_time() {
        let mut host = Host::default();
        let reply = host.absorb(Some(found(&["10.0.0.1", "10.0.0.2"], 60)), Some(found(&["fd00::1"], 20)));
        assert_eq!(reply, found(&["10.0.0.1", "10.0.0.2", "fd00::1"], 20));
    }

    #[test]
    fn a_family_without_records_is_given_up_when_the_other_has_some() {
        let mut host = Host::default();
        host.absorb(Some(found(&["10.0.0.1"], 60)), Some(none()));
        assert_eq!(host.absorb(Some(none()), Some(found(&["fd00::1"], 60))), found(&["fd00::1"], 60));
        assert_eq!(host.absorb(None, Some(found(&["fd00::2"], 60))), found(&["fd00::2"], 60));
    }

    #[test]
    fn a_family_that_failed_keeps_its_addresses_and_is_asked_for_soon() {
        let mut host = Host::default();
        host.absorb(Some(found(&["10.0.0.1"], 60)), Some(found(&["fd00::1"], 60)));
        let reply = host.absorb(Some(found(&["10.0.0.2"], 60)), Some(failed()));
        assert_eq!(reply, found(&["10.0.0.2", "fd00::1"], 0));
    }

    #[test]
    fn without_any_address_the_worst_cause_is_told() {
        let mut host = Host::default();
        let no_name = || Reply::Lacking(Lack::NoSuchName);
        assert_eq!(host.absorb(Some(none()), Some(no_name())), no_name());
        assert_eq!(host.absorb(Some(failed()), Some(no_name())), failed());
        assert_eq!(host.absorb(Some(none()), None), none());
    }

    #[test]
    fn a_host_stands_for_each_address_once() {
        let host: Arc<str> = "app.example".into();
        let servers = servers_of_host(&host, 80, &[ip("10.0.0.2"), ip("10.0.0.1"), ip("10.0.0.2")]);
        let addresses: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1:80", "10.0.0.2:80"]);
    }

    #[test]
    fn priorities_of_a_service_are_numbered_and_weight_zero_is_the_smallest() {
        let record =
            |priority, weight, port, target: &str| Service { priority, weight, port, target: target.into() };
        let records =
            [record(20, 0, 82, "b"), record(10, 5, 81, "a"), record(10, 0, 80, "a"), record(10, 9, 80, "a")];
        let hosts = HashMap::from([("a".into(), vec![ip("10.0.0.1")]), ("b".into(), vec![ip("fd00::1")])]);
        let servers = servers_of_service(&records, &hosts);
        let told: Vec<_> = servers
            .iter()
            .map(|server| (server.address.to_string(), server.priority, server.weight))
            .collect();
        let expected = [
            ("10.0.0.1:80".to_owned(), Some(0), Some(1)),
            ("10.0.0.1:81".to_owned(), Some(0), Some(5)),
            ("[fd00::1]:82".to_owned(), Some(1), Some(1)),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_name_is_asked_for_when_its_answer_is_old_and_less_often_while_nobody_answers() {
        let resolving = Resolving {
            nameservers: Box::default(),
            timeout: Duration::from_secs(1),
            ttl_min: Duration::from_secs(2),
            ttl_max: Duration::from_secs(60),
            ipv4: true,
            ipv6: true,
        };
        let host: Arc<str> = "app.example".into();
        let servers = servers_of_host(&host, 80, &[ip("10.0.0.1")]);
        let found = |seconds| Reply::Found { records: servers.clone(), ttl: Duration::from_secs(seconds) };
        let lacking = |lack: Lack| Reply::Lacking(lack);
        let mut record = Record::default();
        let mut check = |reply: Reply<Server>, is_new: bool, seconds: u64, word: &str| {
            let pause = Duration::from_secs(seconds);
            assert_eq!(record.absorb(reply, &resolving), Next { is_new, pause });
            assert_eq!(record.standing.word(), word);
            assert_eq!(record.servers.len(), usize::from(word != "pending" && record.answers > 0));
        };
        check(lacking(Lack::Failed("refused".to_owned())), true, 2, "failed");
        check(found(30), true, 30, "current");
        check(found(0), false, 2, "current");
        check(found(3600), false, 60, "current");
        check(lacking(Lack::Failed("refused".to_owned())), true, 2, "failed");
        check(lacking(Lack::Failed("no answer".to_owned())), false, 4, "failed");
        check(lacking(Lack::NoSuchName), true, 2, "no_such_name");
        for seconds in [4, 8, 16, 30, 30] {
            check(lacking(Lack::NoSuchName), false, seconds, "no_such_name");
        }
        check(lacking(Lack::NoRecords), true, 2, "no_records");
        check(found(30), true, 30, "current");
        assert_eq!((record.answers, record.failures), (4, 10));
    }
}
