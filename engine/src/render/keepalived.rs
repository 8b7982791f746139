//! How is it said in keepalived.conf(5)?
//!
//! Never writes a check of its own invention: keepalived's own are for the operator to choose.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::ipvsadm::netmask;
use super::table::{Service, Table};

/// A block for every service.
pub(super) fn text(table: &Table) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    for note in &table.left_out {
        let _ = writeln!(out, "# {note}");
    }
    for service in &table.services {
        push_service(&mut out, service);
    }
    out
}

fn push_service(out: &mut String, service: &Service) {
    let _ = writeln!(out, "\n# {}", service.title);
    for note in &service.notes {
        let _ = writeln!(out, "# {note}");
    }
    let _ = writeln!(out, "virtual_server {} {{", spaced(service.address));
    let mut line = |text: &str| {
        let _ = writeln!(out, "    {text}");
    };
    line(&format!("lvs_sched {}", service.scheduler.name()));
    if let Some(flag) = service.scheduler.fallback() {
        line(flag);
    }
    line("lvs_method NAT");
    line("protocol TCP");
    if let Some(persistence) = service.persistence {
        line(&format!("persistence_timeout {}", persistence.timeout_s));
        match service.address {
            SocketAddr::V4(_) if persistence.mask != 32 => {
                line(&format!("persistence_granularity {}", netmask(persistence.mask)));
            }
            SocketAddr::V6(_) if persistence.mask6 != 128 => {
                line(&format!("persistence_granularity {}", persistence.mask6));
            }
            _ => {}
        }
    }
    if let Some(backup) = service.backup {
        line(&format!("sorry_server {}", spaced(backup)));
        line("sorry_server_lvs_method NAT");
    }
    for server in &service.servers {
        line(&format!("real_server {} {{", spaced(server.address)));
        line(&format!("    weight {}", server.weight));
        for (key, threshold) in [("uthreshold", server.upper), ("lthreshold", server.lower)] {
            if threshold > 0 {
                line(&format!("    {key} {threshold}"));
            }
        }
        line("}");
    }
    let _ = writeln!(out, "}}");
}

/// keepalived parts address and port by a space, IPv6 without brackets.
fn spaced(address: SocketAddr) -> String {
    format!("{} {}", address.ip(), address.port())
}
