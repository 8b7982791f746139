//! Which sockets has systemd opened for this process, or kept from the one before? By sd_listen_fds(3), asked once.
//!
//! Never one that does not listen.

use std::env;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use proxy::address::Address;
use runtime::net::inherited;
use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{SocketAddrAny, SocketAddrUnix, SocketType, getsockname};

use super::message::{Described, Owner, Place};
use super::sockets::Given;

/// Begins the names under which systemd keeps sockets for the next process: those are taken by address, as another process's.
const KEPT: &str = "kept.";

/// Name of the admin listener's socket.
const ADMIN: &str = "admin";

/// More than any unit has.
const SOCKETS_MAX: u16 = 4096;

/// The name under which systemd keeps a socket.
pub(crate) fn kept_name(owner: &Owner) -> String {
    match owner {
        Owner::Admin => format!("{KEPT}{ADMIN}"),
        // Listeners are not called so: their names have no dot before them.
        Owner::Listener(name) => format!("{KEPT}listener.{name}"),
    }
}

/// Whose a socket of this name is, and whether the name alone says so.
fn owner(name: &str) -> (Owner, bool) {
    let (name, by_name) = match name.strip_prefix(KEPT) {
        Some(name) => (name, false),
        None => (name, true),
    };
    match name.strip_prefix("listener.") {
        None if name == ADMIN => (Owner::Admin, by_name),
        None => (Owner::Listener(name.to_owned()), by_name),
        Some(name) => (Owner::Listener(name.to_owned()), by_name),
    }
}

/// The names of what was handed down to process `pid`, as its environment says. Without names each is `unknown`, as with systemd.
fn names(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Vec<String> {
    let meant: Option<u32> = variable("LISTEN_PID").and_then(|pid| pid.parse().ok());
    let count: Option<u16> = variable("LISTEN_FDS").and_then(|count| count.parse().ok());
    let (true, Some(count)) = (meant == Some(pid), count) else { return Vec::new() };
    let written = variable("LISTEN_FDNAMES").filter(|names| !names.is_empty());
    let written = written.iter().flat_map(|names| names.split(':')).map(str::to_owned);
    let names = written.chain(std::iter::repeat("unknown".to_owned()));
    names.take(usize::from(count.min(SOCKETS_MAX))).collect()
}

/// The sockets that systemd gives to this process. To be asked once, before anything is opened.
#[must_use]
pub fn given() -> Given {
    let names = names(|name| env::var(name).ok(), std::process::id());
    let count = u16::try_from(names.len()).unwrap_or(SOCKETS_MAX);
    let mut sockets = Vec::new();
    for (index, fd) in inherited::take(count) {
        let name = &names[index];
        match place(&fd) {
            Ok(place) => {
                let (owner, by_name) = owner(name);
                // What it keeps for a process that has ended it gives up when it is told to.
                sockets.push((Described { owner, place, by_name, is_kept: by_name }, fd));
            }
            Err(error) => {
                tracing::warn!(
                    "descriptor {name:?} from systemd is no socket that listens ({error}): closed"
                );
            }
        }
    }
    Given::by_supervisor(sockets)
}

/// Where a socket listens.
fn place(fd: &OwnedFd) -> Result<Place, Errno> {
    if !socket_acceptconn(fd)? || socket_type(fd)? != SocketType::STREAM {
        return Err(Errno::INVAL);
    }
    let address: SocketAddrAny = getsockname(fd)?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Ok(Place::from(&Address::Tcp(address)));
    }
    let address = SocketAddrUnix::try_from(address)?;
    let path = address.path().ok_or(Errno::AFNOSUPPORT)?;
    let path = path.to_str().map_err(|_| Errno::AFNOSUPPORT)?.to_owned();
    Ok(Place::Unix(Path::new(&path).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_this_process_is_taken() {
        let check = |pid: &str, count: &str, written: Option<&str>, expected: &[&str]| {
            let variable = |name: &str| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some(count.to_owned()),
                _ => written.map(str::to_owned),
            };
            assert_eq!(names(variable, 7), expected, "{pid} {count} {written:?}");
        };
        check("7", "2", Some("web:admin"), &["web", "admin"]);
        check("7", "2", Some("web"), &["web", "unknown"]);
        check("7", "1", None, &["unknown"]);
        check("8", "2", Some("web:admin"), &[]);
        check("7", "x", Some("web"), &[]);
        assert_eq!(names(|_| None, 7), Vec::<String>::new());
        check("7", "65535", None, &["unknown"; SOCKETS_MAX as usize]);
    }

    #[test]
    fn a_name_says_whose_a_socket_is() {
        let check = |name: &str, expected: &str, by_name: bool| {
            let (owner, is_by_name) = owner(name);
            assert_eq!((owner.to_string().as_str(), is_by_name), (expected, by_name));
        };
        check("web", "listener.web", true);
        check("listener.web", "listener.web", true);
        check("admin", "admin", true);
        check("kept.listener.admin", "listener.admin", false);
        for owned in [Owner::Admin, Owner::Listener("web".to_owned())] {
            assert_eq!(owner(&kept_name(&owned)), (owned, false));
        }
    }
}
