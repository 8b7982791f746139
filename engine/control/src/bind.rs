//! Which sockets does this process listen on? Those of its first configuration, bound before anything else begins, and those
//! that another one brings.
//!
//! Never half: one address that cannot be had, and none is kept.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{BindAddress, EndpointAddress, Listener, ListenerId, Snapshot};
use proxy::address::Address;
use proxy::generation::keeps_socket;
use proxy::message::CoreMessage;
use runtime::Handle;
use runtime::net::listener::{bind_beside, bind_per_core, can_bind, reserve_beside};
use runtime::net::unix::bind_unix;
use rustix::io::Errno;

use crate::Shared;
use crate::socket_file::{SocketFile, SocketFiles};
use crate::takeover::message::{Described, Owner, Place};
use crate::takeover::sockets::{Given, Held, Taken, share_out};

/// The listening sockets of the process.
#[derive(Debug)]
pub struct Bound {
    /// By core: its own socket of each listener.
    pub per_core: Vec<Vec<(ListenerId, Handle)>>,
    /// By listener: where it is, the port that the kernel chose included.
    pub addresses: Box<[Address]>,
    /// Files of Unix sockets.
    pub socket_files: SocketFiles,
    /// Admin's socket and where it is.
    pub admin: Option<(TcpListener, SocketAddr)>,
    /// What another process accepts by until this one is ready.
    pub held_back: HeldBack,
    /// Another descriptor of each.
    pub held: Held,
}

/// What a process does not begin with that takes another's place: it takes it up when that one says so.
#[derive(Debug, Default)]
pub struct HeldBack {
    /// By core.
    pub(crate) per_core: Vec<Vec<(ListenerId, Handle)>>,
    /// Files that stay the other's if nothing comes of it.
    pub(crate) socket_files: SocketFiles,
    /// Who may write to the socket at a path, from then on.
    pub(crate) modes: Vec<(Box<Path>, u32)>,
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        std::mem::take(&mut self.socket_files).leave_all();
    }
}

impl Shared {
    /// Begins to accept by what was held back.
    pub(crate) fn open(&self, mut held_back: HeldBack) {
        for (path, mode) in std::mem::take(&mut held_back.modes) {
            let is_so = fs::metadata(&path).is_ok_and(|file| file.permissions().mode() & 0o7777 == mode);
            if is_so {
                continue; // it may be another user's, who alone may change it
            }
            if let Err(error) = fs::set_permissions(&path, Permissions::from_mode(mode)) {
                tracing::warn!("the permissions of {} stay as they were: {error}", path.display());
            }
        }
        self.socket_files().append(std::mem::take(&mut held_back.socket_files));
        let snapshot = &self.live().snapshot;
        let per_core = std::mem::take(&mut held_back.per_core);
        for (fellow, sockets) in self.fellows.iter().zip(per_core).filter(|(_, sockets)| !sockets.is_empty())
        {
            for (id, socket) in &sockets {
                socket.set_backlog(snapshot.listeners[usize::from(id.0)].backlog);
            }
            let mut untold = Some(CoreMessage::Open(sockets));
            while let Some(message) = untold.take() {
                untold = fellow.sender.send(message).err();
                if untold.is_some() {
                    // A core whose mailbox is full reads it in the next turn of its loop.
                    std::thread::sleep(MAILBOX_RETRY);
                }
            }
        }
    }
}

/// Pause before a core whose mailbox is full is told again.
const MAILBOX_RETRY: Duration = Duration::from_millis(1);

/// An address that could not be had.
#[derive(Debug)]
pub struct BindError {
    address: Address,
    /// The key or flag that asked for it.
    owner: String,
    error: io::Error,
}

impl std::error::Error for BindError {}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {} ({}): ", self.address, self.owner)?;
        match &self.address {
            Address::Tcp(address) => self.explain_port(address.port(), f),
            Address::Unix(path) => self.explain_path(path, f),
        }
    }
}

impl BindError {
    fn explain_port(&self, port: u16, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "address in use; `ss -ltnp 'sport = :{port}'` shows by whom")
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "this host does not have the address; `ip address` shows which it has")
            }
            io::ErrorKind::PermissionDenied if port < 1024 => {
                write!(
                    f,
                    "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE: in a unit of systemd \
                        AmbientCapabilities=CAP_NET_BIND_SERVICE, or a start as root (process.user)"
                )
            }
            _ => write!(f, "{}", self.error),
        }
    }

    fn explain_path(&self, path: &Path, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "{}; `ss -xlp src {}` shows which", self.error, path.display())
            }
            io::ErrorKind::AlreadyExists => {
                write!(f, "{}; remove that or choose another path", self.error)
            }
            io::ErrorKind::NotFound => write!(f, "its directory does not exist; create it first"),
            io::ErrorKind::PermissionDenied => {
                write!(f, "permission denied; the process needs write permission for its directory")
            }
            _ => write!(f, "{}", self.error),
        }
    }
}

/// Binds every listener for all cores, and admin once.
///
/// What was `given` is taken where it is a listener's, instead of binding.
///
/// # Errors
/// The first address that cannot be had.
pub fn bind(snapshot: &Snapshot, cores: usize, given: &mut Given) -> Result<Bound, BindError> {
    let empty = || -> Vec<Vec<_>> { (0..cores).map(|_| Vec::new()).collect() };
    let (mut per_core, mut addresses, mut socket_files) = (empty(), Vec::new(), SocketFiles::default());
    let (mut held_back, mut held) = (HeldBack::default(), Held::default());
    held_back.per_core = empty();
    for (id, listener) in (0..).map(ListenerId).zip(&snapshot.listeners) {
        let failed =
            |address: &Address, error| BindError { address: address.clone(), owner: owner(listener), error };
        let (sockets, address, given_how, waits) = match (given.take(listener), &listener.bind) {
            (Some(taken), bind) => {
                let Taken { address, by_name, is_kept, fds } = taken;
                if let BindAddress::Unix { mode, .. } = bind
                    && let Address::Unix(path) = &address
                {
                    // A supervisor's file is there for the next process, too.
                    if !is_kept {
                        let file = SocketFile::at(path).map_err(|error| failed(&address, error))?;
                        held_back.socket_files.push(listener, file);
                    }
                    held_back.modes.push((Box::from(&**path), *mode));
                }
                let shares = share(fds, &address, cores).map_err(|error| failed(&address, error))?;
                (shares, address, (by_name, is_kept), true)
            }
            // The other process listens at the port, though elsewhere: until it is told, nobody is sent to these.
            (None, BindAddress::Tcp(address)) if given.has_port(address.port()) => {
                let reserved =
                    reserve_beside(*address, cores).map_err(|error| failed(&(*address).into(), error))?;
                (
                    reserved.into_iter().map(|socket| vec![socket]).collect(),
                    (*address).into(),
                    (false, false),
                    true,
                )
            }
            (None, BindAddress::Tcp(address)) => {
                let (sockets, address) = bind_tcp(listener, *address, cores)?;
                (sockets.into_iter().map(|socket| vec![socket]).collect(), address, (false, false), false)
            }
            (None, BindAddress::Unix { path, mode }) => {
                let (sockets, file) = bind_path(listener, path, *mode, cores)?;
                socket_files.push(listener, file);
                let sockets = sockets.into_iter().map(|socket| vec![socket]).collect();
                (sockets, Address::Unix(Arc::from(&**path)), (false, false), false)
            }
        };
        hold(&mut held, listener, &address, given_how, &sockets).map_err(|error| failed(&address, error))?;
        addresses.push(address);
        let cores = if waits { &mut held_back.per_core } else { &mut per_core };
        for (core, sockets) in cores.iter_mut().zip(sockets) {
            core.extend(sockets.into_iter().map(|socket| (id, socket)));
        }
    }
    let admin = snapshot.admin.as_ref().map(|admin| match given.take_admin(admin.bind) {
        Some(taken) => take_admin(admin.bind, taken, &mut held),
        None => bind_admin(admin.bind, &mut held),
    });
    let admin = admin.transpose()?;
    Ok(Bound { per_core, addresses: addresses.into(), socket_files, admin, held_back, held })
}

/// Sockets that were given, so that every core has one and every one a core. Cores beyond the sockets get some beside them, or
/// the same where that cannot be.
fn share(fds: Vec<OwnedFd>, address: &Address, cores: usize) -> io::Result<Vec<Vec<Handle>>> {
    let mut handles: Vec<Handle> = fds.into_iter().map(Handle::from).collect();
    let given = handles.len();
    if let Address::Tcp(address) = address
        && given < cores
    {
        handles.extend(reserve_beside(*address, cores - given).unwrap_or_default());
    }
    for index in handles.len()..cores {
        handles.push(handles[index % given].duplicate()?.into());
    }
    Ok(share_out(handles, cores))
}

/// Keeps another descriptor of each socket of a listener; at a path there is one socket, whoever has a descriptor of it.
fn hold(
    held: &mut Held,
    listener: &Listener,
    address: &Address,
    (by_name, is_kept): (bool, bool),
    sockets: &[Vec<Handle>],
) -> io::Result<()> {
    let several = match address {
        Address::Tcp(_) => usize::MAX,
        Address::Unix(_) => 1,
    };
    for socket in sockets.iter().flatten().take(several) {
        let owner = Owner::Listener(listener.name.clone());
        held.push(Described { owner, place: address.into(), by_name, is_kept }, socket.duplicate()?);
    }
    Ok(())
}

/// The sockets that another configuration brings.
#[derive(Debug)]
pub(crate) struct Opened {
    /// By core: those of listeners that are new, or somewhere else.
    pub(crate) per_core: Vec<Vec<(ListenerId, Handle)>>,
    /// By listener of that configuration: where it is. Those that stay are where they are.
    pub(crate) addresses: Box<[Address]>,
    /// Files of new Unix sockets.
    pub(crate) socket_files: SocketFiles,
    /// Another descriptor of each.
    pub(crate) held: Held,
}

/// Where this process listens, before another configuration takes over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'s> {
    pub(crate) snapshot: &'s Snapshot,
    /// By listener.
    pub(crate) addresses: &'s [Address],
    /// Where listeners were that have gone: a core may not have closed the last of them yet.
    pub(crate) former: &'s [Address],
}

impl Standing<'_> {
    /// Where the listener is whose sockets go on.
    fn kept(&self, next: &Listener) -> Option<&Address> {
        let mut running = self.snapshot.listeners.iter().zip(self.addresses);
        running.find(|(running, _)| keeps_socket(running, next)).map(|(_, address)| address)
    }

    /// Whether this process listens at the port, or did: what is bound there can stand beside.
    fn has_port(&self, port: u16) -> bool {
        let is_there = |address: &Address| matches!(address, Address::Tcp(own) if own.port() == port);
        port != 0 && self.addresses.iter().chain(self.former).any(is_there)
    }

    /// Another listener at this path. There is no second socket at one.
    fn at_path(&self, path: &Path) -> Option<&Listener> {
        let is_there =
            |bind: &BindAddress| matches!(bind, BindAddress::Unix { path: own, .. } if **own == *path);
        self.snapshot.listeners.iter().find(|listener| is_there(&listener.bind))
    }
}

/// Binds what `next` has and this process has not, for all cores.
///
/// # Errors
/// Every address that cannot be had.
pub(crate) fn bind_next(
    running: Standing<'_>,
    next: &Snapshot,
    cores: usize,
) -> Result<Opened, Vec<BindError>> {
    let mut per_core: Vec<Vec<_>> = (0..cores).map(|_| Vec::new()).collect();
    let (mut addresses, mut socket_files, mut failed) = (Vec::new(), SocketFiles::default(), Vec::new());
    let mut held = Held::default();
    for (id, listener) in (0..).map(ListenerId).zip(&next.listeners) {
        if let Some(address) = running.kept(listener) {
            addresses.push(address.clone());
            continue;
        }
        let bound = match &listener.bind {
            BindAddress::Tcp(address) if running.has_port(address.port()) => {
                bind_tcp_by(bind_beside, listener, *address, cores)
            }
            BindAddress::Tcp(address) => bind_tcp(listener, *address, cores),
            BindAddress::Unix { path, mode } => path_is_free(running, listener, path).and_then(|()| {
                let (sockets, file) = bind_path(listener, path, *mode, cores)?;
                socket_files.push(listener, file);
                Ok((sockets, Address::Unix(Arc::from(&**path))))
            }),
        };
        let bound = bound.and_then(|(sockets, address)| {
            let sockets: Vec<_> = sockets.into_iter().map(|socket| vec![socket]).collect();
            match hold(&mut held, listener, &address, (false, false), &sockets) {
                Ok(()) => Ok((sockets, address)),
                Err(error) => Err(BindError { address, owner: owner(listener), error }),
            }
        });
        match bound {
            Ok((sockets, address)) => {
                addresses.push(address);
                for (core, socket) in per_core.iter_mut().zip(sockets.into_iter().flatten()) {
                    core.push((id, socket));
                }
            }
            Err(error) => failed.push(error),
        }
    }
    if failed.is_empty() {
        Ok(Opened { per_core, addresses: addresses.into(), socket_files, held })
    } else {
        Err(failed)
    }
}

/// Gives the files of sockets that go on the permissions that are written of them now. Says what could not be done.
pub(crate) fn change_modes(running: Standing<'_>, next: &Snapshot) -> Vec<String> {
    let mut failed = Vec::new();
    for listener in next.listeners.iter().filter(|listener| running.kept(listener).is_some()) {
        let BindAddress::Unix { path, mode } = &listener.bind else { continue };
        let is_written = |other: &Listener| other.name == listener.name && other.bind == listener.bind;
        if running.snapshot.listeners.iter().any(is_written) {
            continue;
        }
        if let Err(error) = fs::set_permissions(path, Permissions::from_mode(*mode)) {
            failed.push(format!("{}: unix_mode stays as it was: {error}", owner(listener)));
        }
    }
    failed
}

/// What [`bind_next`] would refuse, as far as that can be seen without listening anywhere.
pub(crate) fn check_next(running: Standing<'_>, next: &Snapshot) -> Vec<BindError> {
    let is_new = |listener: &&Listener| running.kept(listener).is_none();
    let can_be = |listener: &Listener| match &listener.bind {
        BindAddress::Tcp(address) if running.has_port(address.port()) => Ok(()),
        BindAddress::Tcp(address) => can_bind(*address).map_err(|error| BindError {
            address: (*address).into(),
            owner: owner(listener),
            error,
        }),
        BindAddress::Unix { path, .. } => path_is_free(running, listener, path),
    };
    next.listeners.iter().filter(is_new).filter_map(|listener| can_be(listener).err()).collect()
}

/// Whether no other listener of this process is at a path. Of other processes the kernel knows.
fn path_is_free(running: Standing<'_>, listener: &Listener, path: &Path) -> Result<(), BindError> {
    let Some(other) = running.at_path(path) else { return Ok(()) };
    let text = format!(
        "listener.{} of this process listens there, and a socket at a path keeps its name",
        other.name
    );
    let error = io::Error::new(io::ErrorKind::AlreadyExists, text);
    Err(BindError { address: Address::Unix(path.into()), owner: owner(listener), error })
}

/// A socket of its own for each core.
fn bind_tcp(
    listener: &Listener,
    address: SocketAddr,
    cores: usize,
) -> Result<(Vec<Handle>, Address), BindError> {
    bind_tcp_by(bind_per_core, listener, address, cores)
}

fn bind_tcp_by(
    bind: fn(SocketAddr, u32, usize) -> io::Result<Vec<TcpListener>>,
    listener: &Listener,
    address: SocketAddr,
    cores: usize,
) -> Result<(Vec<Handle>, Address), BindError> {
    let failed = |error| BindError { address: address.into(), owner: owner(listener), error };
    let sockets = bind(address, listener.backlog, cores).map_err(failed)?;
    let bound = sockets[0].local_addr().map_err(failed)?;
    Ok((sockets.into_iter().map(Handle::from).collect(), bound.into()))
}

/// One socket for all cores.
fn bind_path(
    listener: &Listener,
    path: &Path,
    mode: u32,
    cores: usize,
) -> Result<(Vec<Handle>, SocketFile), BindError> {
    let failed = |error| BindError { address: Address::Unix(path.into()), owner: owner(listener), error };
    let sockets = bind_unix(path, Some(mode), listener.backlog, cores).map_err(failed)?;
    let file = SocketFile::at(path).map_err(failed)?;
    Ok((sockets.into_iter().map(Handle::from).collect(), file))
}

/// The key that asks for a listener's address.
fn owner(listener: &Listener) -> String {
    format!("listener.{}.bind", listener.name)
}

fn bind_admin(address: SocketAddr, held: &mut Held) -> Result<(TcpListener, SocketAddr), BindError> {
    let socket = TcpListener::bind(address).map_err(|error| admin_failed(address, error))?;
    hold_admin(address, socket, (false, false), held)
}

/// Admin's, of those that were given. There is one; more of them would be somebody's mistake.
fn take_admin(
    address: SocketAddr,
    taken: Taken,
    held: &mut Held,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let Taken { by_name, is_kept, fds, .. } = taken;
    let socket = fds.into_iter().next().ok_or_else(|| admin_failed(address, Errno::BADF.into()))?;
    hold_admin(address, socket.into(), (by_name, is_kept), held)
}

fn hold_admin(
    address: SocketAddr,
    socket: TcpListener,
    (by_name, is_kept): (bool, bool),
    held: &mut Held,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |error| admin_failed(address, error);
    let bound = socket.local_addr().map_err(failed)?;
    let another = socket.try_clone().map_err(failed)?;
    held.push(Described { owner: Owner::Admin, place: Place::Tcp(bound), by_name, is_kept }, another.into());
    Ok((socket, bound))
}

fn admin_failed(address: SocketAddr, error: io::Error) -> BindError {
    BindError { address: address.into(), owner: "admin.bind".to_owned(), error }
}

/// Where an endpoint is, now that the process's own listeners have their ports.
#[must_use]
pub fn address_of(endpoint: &EndpointAddress, listeners: &[Address]) -> Address {
    match endpoint {
        EndpointAddress::Tcp(address) => Address::Tcp(*address),
        EndpointAddress::Unix(path) => Address::Unix(Arc::from(&**path)),
        EndpointAddress::Listener(id) => match &listeners[usize::from(id.0)] {
            Address::Tcp(bound) => Address::Tcp(reachable(*bound)),
            path @ Address::Unix(_) => path.clone(),
        },
    }
}

/// The address under which this host reaches its own listener: loopback for one that listens everywhere.
#[must_use]
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_over_loopback() {
        let check = |bound: &str, expected: &str| {
            assert_eq!(reachable(bound.parse().expect(bound)), expected.parse().expect(expected));
        };
        check("0.0.0.0:80", "127.0.0.1:80");
        check("[::]:80", "[::1]:80");
        check("10.1.2.3:80", "10.1.2.3:80");
    }

    #[test]
    fn each_cause_comes_with_what_to_do() {
        let check = |address: &str, kind: io::ErrorKind, expected: &str| {
            let address = address.parse::<SocketAddr>().expect(address).into();
            let error = BindError { address, owner: "listener.web.bind".to_owned(), error: kind.into() };
            assert_eq!(error.to_string(), expected);
        };
        check(
            "127.0.0.1:8080",
            io::ErrorKind::AddrInUse,
            "cannot listen on 127.0.0.1:8080 (listener.web.bind): address in use; \
             `ss -ltnp 'sport = :8080'` shows by whom",
        );
        check(
            "192.0.2.1:8080",
            io::ErrorKind::AddrNotAvailable,
            "cannot listen on 192.0.2.1:8080 (listener.web.bind): this host does not have the address; \
             `ip address` shows which it has",
        );
        check(
            "[::]:80",
            io::ErrorKind::PermissionDenied,
            "cannot listen on [::]:80 (listener.web.bind): permission denied; \
             ports below 1024 need CAP_NET_BIND_SERVICE: in a unit of systemd AmbientCapabilities=CAP_NET_BIND_SERVICE, or a \
             start as root (process.user)",
        );
    }

    #[test]
    fn each_cause_of_a_path_comes_with_what_to_do() {
        let check = |kind: io::ErrorKind, expected: &str| {
            let address = Address::Unix(Path::new("/run/x.sock").into());
            let error = io::Error::new(kind, "the cause");
            let error = BindError { address, owner: "listener.web.bind".to_owned(), error };
            let expected = format!("cannot listen on unix:/run/x.sock (listener.web.bind): {expected}");
            assert_eq!(error.to_string(), expected);
        };
        check(io::ErrorKind::AddrInUse, "the cause; `ss -xlp src /run/x.sock` shows which");
        check(io::ErrorKind::AlreadyExists, "the cause; remove that or choose another path");
        check(io::ErrorKind::NotFound, "its directory does not exist; create it first");
        check(
            io::ErrorKind::PermissionDenied,
            "permission denied; the process needs write permission for its directory",
        );
        check(io::ErrorKind::InvalidInput, "the cause");
    }
}
