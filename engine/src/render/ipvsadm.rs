//! How is it said to ipvsadm(8)?
//!
//! Never needs a shell: plain commands, one to a line, and comments.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use super::table::{Real, Service, Table};

/// The commands that add every service with its servers.
pub(super) fn text(table: &Table) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    for note in &table.left_out {
        let _ = writeln!(out, "# {note}");
    }
    for service in &table.services {
        let _ = writeln!(out, "\n# {}", service.title);
        for note in &service.notes {
            let _ = writeln!(out, "# {note}");
        }
        let _ = writeln!(out, "{}", added(service));
        for server in &service.servers {
            let _ = writeln!(out, "{}", added_to(service.address, server));
        }
    }
    out
}

fn added(service: &Service) -> String {
    let mut line = format!("ipvsadm -A -t {} -s {}", service.address, service.scheduler.name());
    if let Some(flag) = service.scheduler.fallback() {
        let _ = write!(line, " -b {flag}");
    }
    if let Some(persistence) = service.persistence {
        let _ = write!(line, " -p {}", persistence.timeout_s);
        match service.address {
            SocketAddr::V4(_) if persistence.mask != 32 => {
                let _ = write!(line, " -M {}", netmask(persistence.mask));
            }
            SocketAddr::V6(_) if persistence.mask6 != 128 => {
                let _ = write!(line, " -M {}", persistence.mask6);
            }
            _ => {}
        }
    }
    line
}

fn added_to(service: SocketAddr, server: &Real) -> String {
    let mut line = format!("ipvsadm -a -t {service} -r {} -m -w {}", server.address, server.weight);
    for (flag, threshold) in [("-x", server.upper), ("-y", server.lower)] {
        if threshold > 0 {
            let _ = write!(line, " {flag} {threshold}");
        }
    }
    line
}

/// A prefix length as a netmask.
pub(super) fn netmask(prefix_len: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0))
}
