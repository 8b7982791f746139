//! How does an upstream find endpoints while the process runs: which names are asked for, and who may register?
//!
//! Never asks for a name: an address that is found out now may be another's tomorrow.

use super::balance::compile_terms;
use crate::schema::Upstream;
use crate::schema::balance::Secret;
use crate::schema::register::Register;
use crate::schema::resolve::{Family, Resolve};
use crate::schema::text::Target;
use crate::snapshot::balance::SecretBytes;
use crate::snapshot::register::Registering;
use crate::snapshot::resolve::{NamedEndpoint, Question, Resolving};

pub(super) fn compile_resolving(resolve: &Resolve) -> Resolving {
    Resolving {
        nameservers: resolve.nameservers.as_slice().into(),
        timeout: resolve.timeout.duration(),
        ttl_min: resolve.ttl_min.duration(),
        ttl_max: resolve.ttl_max.duration(),
        ipv4: resolve.family != Family::Ipv6,
        ipv6: resolve.family != Family::Ipv4,
    }
}

pub(super) fn compile_registering(register: &Register) -> Registering {
    Registering {
        ttl: register.ttl.duration(),
        ttl_max: register.ttl_max.duration(),
        servers_max: register.servers,
        token: register.token.as_ref().map(|Secret(bytes)| SecretBytes(bytes.clone())),
    }
}

pub(super) fn compile_names(upstream: &Upstream) -> Box<[NamedEndpoint]> {
    let named = upstream.endpoints.iter().filter_map(|entry| {
        let question = match &entry.address {
            Target::Name { host, port } => Question::Addresses { host: host.as_str().into(), port: *port },
            Target::Service(service) => Question::Servers { service: service.as_str().into() },
            Target::Tcp(_) | Target::Localhost(_) | Target::Unix(_) | Target::Listener(_) => return None,
        };
        Some(NamedEndpoint { name: entry.address.to_string(), question, terms: compile_terms(entry) })
    });
    named.collect()
}
