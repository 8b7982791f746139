//! Which virtual services does LVS get, and what of ours can it not do?
//!
//! Never guesses: what has no counterpart is left out and noted.

use std::net::{IpAddr, SocketAddr};

use super::Note;
use super::input::{Goal, Group, Hash, Input, Listening, Persistence, Server, Spoken};

/// Largest weight that LVS takes (`IP_VS_DEST_ATTR_WEIGHT`, checked by ipvsadm).
const WEIGHT_MAX: u32 = 65_535;

/// Everything for LVS.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) services: Vec<Service>,
    /// What has no service.
    pub(super) left_out: Vec<Note>,
}

/// One virtual service: an address, and the servers behind it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) title: String,
    pub(super) address: SocketAddr,
    pub(super) scheduler: Scheduler,
    pub(super) persistence: Option<Persistence>,
    pub(super) servers: Vec<Real>,
    /// Used when none of `servers` is there: keepalived alone can do that, with one.
    pub(super) backup: Option<SocketAddr>,
    /// What LVS does otherwise.
    pub(super) notes: Vec<Note>,
}

/// One real server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Real {
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) upper: u32,
    pub(super) lower: u32,
}

/// LVS's schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheduler {
    RoundRobin,
    WeightedRoundRobin,
    LeastConnections,
    WeightedLeastConnections,
    SourceHash,
    DestinationHash,
    Maglev,
    ShortestExpectedDelay,
    NeverQueue,
}

impl Scheduler {
    /// As ipvsadm and keepalived spell it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnections => "lc",
            Self::WeightedLeastConnections => "wlc",
            Self::SourceHash => "sh",
            Self::DestinationHash => "dh",
            Self::Maglev => "mh",
            Self::ShortestExpectedDelay => "sed",
            Self::NeverQueue => "nq",
        }
    }

    /// The flag by which clients of a server with weight 0 go to another.
    pub(super) const fn fallback(self) -> Option<&'static str> {
        match self {
            Self::SourceHash => Some("sh-fallback"),
            Self::Maglev => Some("mh-fallback"),
            _ => None,
        }
    }
}

impl Table {
    /// What LVS gets; `own` takes the place of an address that stands for all of this host's.
    pub(super) fn of(input: &Input, own: Option<IpAddr>) -> Self {
        let mut table = Self::default();
        for listening in &input.listeners {
            match service(listening, &input.groups, own) {
                Ok(service) => table.services.push(service),
                Err(what) => {
                    table.left_out.push(Note { of: format!("listener {}", listening.name), what });
                }
            }
        }
        table
    }

    /// What LVS cannot do, or does otherwise.
    pub(super) fn notes(&self) -> impl Iterator<Item = &Note> {
        self.left_out.iter().chain(self.services.iter().flat_map(|service| &service.notes))
    }
}

/// The service that does what a listener does, or why there is none.
fn service(listening: &Listening, groups: &[Group], own: Option<IpAddr>) -> Result<Service, String> {
    let left_out = |what: &str| Err(what.to_owned());
    if listening.is_internal {
        return left_out("is for this process alone");
    }
    let (group, takes_all) = match listening.goal {
        Goal::All(group) => (&groups[group], true),
        Goal::Some(group) => (&groups[group], false),
        Goal::Several => {
            return left_out("where a request goes depends on what it says, which LVS does not read");
        }
        Goal::Nowhere => return left_out("leads to no upstream"),
    };
    if listening.protocol == Spoken::Https {
        return left_out(
            "TLS ends here; LVS passes it on, and the endpoints would have to have the certificates",
        );
    }
    if group.is_tls {
        return left_out("its endpoints want TLS, which LVS does not speak");
    }
    let address = service_address(listening.address, own)?;
    let mut notes = Notes { of: format!("listener {}", listening.name), notes: Vec::new() };
    if !takes_all {
        notes.add("what no channel or server name takes is refused here; LVS passes it on".to_owned());
    }
    if listening.protocol == Spoken::Http {
        notes
            .add("connections are balanced instead of requests, and no field is added or checked".to_owned());
    }
    notes.of = format!("upstream {}", group.name);
    if group.sends_proxy_header {
        notes.add("LVS sends no PROXY header; the endpoints see the client's own address instead".to_owned());
    }
    let (mains, backups): (Vec<_>, Vec<_>) = group.servers.iter().partition(|server| {
        let first = group.servers.iter().map(|server| server.priority).min();
        Some(server.priority) == first
    });
    let servers: Vec<Real> = mains.iter().filter_map(|server| real(server, address, &mut notes)).collect();
    if servers.is_empty() {
        return Err(format!("upstream {} has no endpoint that LVS can reach", group.name));
    }
    let backups: Vec<Real> = backups.iter().filter_map(|server| real(server, address, &mut notes)).collect();
    let backup = backups.first().map(|server| server.address);
    if backups.len() > 1 {
        notes.add("keepalived takes one server for when all others are down, ipvsadm none".to_owned());
    } else if backup.is_some() {
        notes.add("ipvsadm has no endpoints that wait until the others are down".to_owned());
    }
    // Weight 0 takes nothing, by any of LVS's schedulers.
    let mut weights = servers.iter().map(|server| server.weight).filter(|weight| *weight > 0);
    let first = weights.next();
    let is_weighted = weights.any(|weight| Some(weight) != first);
    let scheduler = scheduler(group, is_weighted, &mut notes);
    Ok(Service {
        title: format!("listener {}, upstream {}", listening.name, group.name),
        address,
        scheduler,
        persistence: group.persistence,
        servers,
        backup,
        notes: notes.notes,
    })
}

/// Notes of one listener or upstream.
struct Notes {
    of: String,
    notes: Vec<Note>,
}

impl Notes {
    fn add(&mut self, what: String) {
        self.notes.push(Note { of: self.of.clone(), what });
    }
}

/// LVS looks a packet up by the address that it came to: one that stands for all is never found.
fn service_address(address: Option<SocketAddr>, own: Option<IpAddr>) -> Result<SocketAddr, String> {
    let Some(address) = address else {
        return Err("listens at a path; LVS knows TCP ports".to_owned());
    };
    if address.port() == 0 {
        return Err("its port is chosen by the kernel when the process starts".to_owned());
    }
    match own {
        Some(own) if address.ip().is_unspecified() => Ok(SocketAddr::new(own, address.port())),
        None if address.ip().is_unspecified() => Err(format!(
            "{} is every address of this host, LVS wants one: say which by --address",
            address.ip()
        )),
        _ => Ok(address),
    }
}

/// The server that an endpoint is, if LVS can reach it.
fn real(server: &Server, service: SocketAddr, notes: &mut Notes) -> Option<Real> {
    let Some(address) = server.address else {
        notes.add(format!("{} has no address of its own, which LVS needs", server.name));
        return None;
    };
    if address.is_ipv4() != service.is_ipv4() {
        notes.add(format!(
            "{} is of another family than {service}, which masquerading cannot bridge",
            server.name
        ));
        return None;
    }
    if server.weight > WEIGHT_MAX {
        notes.add(format!("{}: the weight {} is beyond LVS's {WEIGHT_MAX}", server.name, server.weight));
    }
    Some(Real {
        address,
        weight: server.weight.min(WEIGHT_MAX),
        upper: server.connections_max.unwrap_or(0),
        lower: server.connections_min.unwrap_or(0),
    })
}

/// LVS's scheduler, or the nearest to ours with a note.
fn scheduler(group: &Group, is_weighted: bool, notes: &mut Notes) -> Scheduler {
    let hash = group.hash.as_ref().map(|Hash { on, table }| (on.as_str(), table.as_str()));
    match (group.balance.as_str(), hash) {
        ("round_robin", _) if is_weighted => Scheduler::WeightedRoundRobin,
        ("round_robin", _) => Scheduler::RoundRobin,
        ("least_connections", _) if is_weighted => Scheduler::WeightedLeastConnections,
        ("least_connections", _) => Scheduler::LeastConnections,
        ("source_hash", _) => Scheduler::SourceHash,
        ("hash", Some(("source", "maglev"))) => Scheduler::Maglev,
        ("hash", Some(("source", _))) => Scheduler::SourceHash,
        ("hash", Some(("destination", _))) => {
            notes.add("LVS hashes the address that was asked for, not the host".to_owned());
            Scheduler::DestinationHash
        }
        ("shortest_expected_delay", _) => Scheduler::ShortestExpectedDelay,
        ("never_queue", _) => Scheduler::NeverQueue,
        (balance, hash) => {
            let on = hash.map_or_else(String::new, |(on, _)| format!(" on {on}"));
            notes.add(format!("LVS has no {balance}{on}; wlc is the nearest"));
            Scheduler::WeightedLeastConnections
        }
    }
}

#[cfg(test)]
mod tests;
