//! How is a name server asked? One question, with a deadline.
//!
//! Never remembers an answer: how long it holds is told with it, and kept by who asked.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::resolve::{Question, Resolving};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};

use super::answer::{Host, Lack, Reply, Server, Service, servers_of_host, servers_of_service};

/// How often each name server is asked once more: a packet may be lost.
const REPETITIONS: usize = 1;

/// Targets of one service that are asked for; beyond any that is meant.
const TARGETS_MAX: usize = 256;

/// The last answers for the hosts of one name.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<Arc<str>, Host>);

/// Asks for a name once.
pub(super) async fn ask(question: &Question, resolving: &Resolving, hosts: &mut Hosts) -> Reply<Server> {
    let resolver = match resolver(resolving).await {
        Ok(resolver) => resolver,
        Err(cause) => return Reply::Lacking(Lack::Failed(cause)),
    };
    match question {
        Question::Addresses { host, port } => {
            let host: Arc<str> = (&**host).into();
            match addresses(&resolver, resolving, &host, hosts).await {
                Reply::Found { records, ttl } => {
                    Reply::Found { records: servers_of_host(&host, *port, &records), ttl }
                }
                Reply::Lacking(lack) => Reply::Lacking(lack),
            }
        }
        Question::Servers { service } => servers(&resolver, resolving, service, hosts).await,
    }
}

/// Every address of a host.
async fn addresses(
    resolver: &TokioResolver,
    resolving: &Resolving,
    host: &Arc<str>,
    hosts: &mut Hosts,
) -> Reply<IpAddr> {
    let ask = async |is_wanted: bool, kind: RecordType| {
        if !is_wanted {
            return None;
        }
        Some(lookup(resolver, host, kind, |data| data.ip_addr()).await)
    };
    let (v4, v6) = tokio::join!(ask(resolving.ipv4, RecordType::A), ask(resolving.ipv6, RecordType::AAAA));
    hosts.0.entry(Arc::clone(host)).or_default().absorb(v4, v6)
}

/// Every server of a service. A target that cannot be found now is where it was last.
async fn servers(
    resolver: &TokioResolver,
    resolving: &Resolving,
    service: &str,
    hosts: &mut Hosts,
) -> Reply<Server> {
    let service_of = |data: &RData| match data {
        // RFC 2782: a target of "." says that the service is not offered.
        RData::SRV(server) if !server.target.is_root() && server.port != 0 => Some(Service {
            priority: server.priority,
            weight: server.weight,
            port: server.port,
            target: server.target.to_ascii().to_ascii_lowercase().into(),
        }),
        _ => None,
    };
    let (records, mut hold) = match lookup(resolver, service, RecordType::SRV, service_of).await {
        Reply::Found { records, ttl } => (records, ttl),
        Reply::Lacking(lack) => return Reply::Lacking(lack),
    };
    let targets: HashSet<Arc<str>> =
        records.iter().take(TARGETS_MAX).map(|record| Arc::clone(&record.target)).collect();
    // Who is no target any more is forgotten.
    hosts.0.retain(|host, _| targets.contains(host));
    let mut found = HashMap::new();
    let mut lacks = Vec::new();
    for target in targets {
        match addresses(resolver, resolving, &target, hosts).await {
            Reply::Found { records, ttl } => {
                hold = hold.min(ttl);
                found.insert(target, records);
            }
            Reply::Lacking(lack) => {
                hold = Duration::ZERO;
                let known = hosts.0.get(&target).map(Host::addresses).filter(|known| !known.is_empty());
                lacks.push(lack);
                found.extend(known.map(|known| (target, known)));
            }
        }
    }
    let servers = servers_of_service(&records, &found);
    if servers.is_empty() {
        return Reply::Lacking(lacks.into_iter().max().unwrap_or(Lack::NoRecords));
    }
    Reply::Found { records: servers, ttl: hold }
}

/// The records of one type that mean something here.
async fn lookup<T>(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
    read: impl Fn(&RData) -> Option<T>,
) -> Reply<T> {
    let answer = match resolver.lookup(name, kind).await {
        Ok(answer) => answer,
        Err(error) => return Reply::Lacking(lack_of(&error)),
    };
    let records: Vec<T> = answer.answers().iter().filter_map(|record| read(&record.data)).collect();
    if records.is_empty() {
        return Reply::Lacking(Lack::NoRecords);
    }
    // Aliases on the way hold no longer than they say, either.
    let ttl = answer.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    Reply::Found { records, ttl: Duration::from_secs(u64::from(ttl)) }
}

fn lack_of(error: &NetError) -> Lack {
    match error {
        _ if error.is_nx_domain() => Lack::NoSuchName,
        _ if error.is_no_records_found() => Lack::NoRecords,
        NetError::Timeout => Lack::Failed("no name server answered in time".to_owned()),
        NetError::Dns(DnsError::ResponseCode(code)) => {
            Lack::Failed(format!("the name server answered: {code}"))
        }
        error => Lack::Failed(error.to_string()),
    }
}

/// Made for each question: the files that it may take from the system can change at any time.
async fn resolver(resolving: &Resolving) -> Result<TokioResolver, String> {
    let resolving = resolving.clone();
    // By a thread of its own: a file may be slow to come.
    let made = tokio::task::spawn_blocking(move || build(&resolving)).await;
    made.unwrap_or_else(|error| Err(error.to_string()))
}

fn build(resolving: &Resolving) -> Result<TokioResolver, String> {
    let mut builder = if resolving.nameservers.is_empty() {
        TokioResolver::builder_tokio().map_err(|error| format!("cannot read /etc/resolv.conf: {error}"))?
    } else {
        let servers = resolving.nameservers.iter().map(|address| {
            let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = address.port());
            NameServerConfig::new(address.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder
    };
    let options = builder.options_mut();
    options.timeout = resolving.timeout;
    options.attempts = REPETITIONS;
    options.cache_size = 0;
    builder.build().map_err(|error| error.to_string())
}
