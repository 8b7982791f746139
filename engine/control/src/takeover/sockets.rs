//! Which of the sockets that this process was given is a listener's, and which has it to give?
//!
//! Never a socket that is somewhere else than its listener is to be, unless it was given under its name.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use config::snapshot::{BindAddress, Listener, Snapshot};
use proxy::address::Address;
use proxy::message::Left;

use super::message::{Described, Owner, Place};
use super::systemd::kept_name;
use crate::Supervisor;

/// Descriptors of every socket that the process listens on, for a process that takes its place. The cores have their own: as long
/// as these are open, none of the sockets is closed.
#[derive(Debug, Default)]
pub struct Held(Vec<HeldSocket>);

#[derive(Debug)]
struct HeldSocket {
    described: Described,
    fd: OwnedFd,
    /// Whether the supervisor was given it, for the case that this process ends without having wanted to.
    is_stored: bool,
}

impl Held {
    pub(crate) fn push(&mut self, described: Described, fd: OwnedFd) {
        self.0.push(HeldSocket { described, fd, is_stored: false });
    }

    /// Takes those of listeners that have come.
    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// Lets those of listeners go that are not in `snapshot`, or are somewhere else there.
    pub(crate) fn keep(&mut self, snapshot: &Snapshot) {
        self.0.retain(|held| match &held.described.owner {
            Owner::Admin => true,
            Owner::Listener(name) => {
                let mut listeners = snapshot.listeners.iter();
                let listener = listeners.find(|listener| listener.name == *name);
                listener.is_some_and(|listener| belongs(&held.described, listener))
            }
        });
    }

    /// All of them once more: what is handed over is not missing if it comes to nothing.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn duplicate(&self) -> std::io::Result<Vec<(Described, OwnedFd)>> {
        self.0.iter().map(|held| Ok((held.described.clone(), held.fd.try_clone()?))).collect()
    }

    /// Those of an owner, for a supervisor that keeps them beyond the end of the process.
    fn of(&self, owner: &Owner) -> Vec<BorrowedFd<'_>> {
        let is_its = |held: &&HeldSocket| held.described.owner == *owner;
        self.0.iter().filter(is_its).map(|held| held.fd.as_fd()).collect()
    }

    /// Whose they are, each once.
    pub(crate) fn owners(&self) -> Vec<Owner> {
        each_once(self.0.iter().map(|held| &held.described))
    }

    /// Gives the supervisor those that it does not have yet, and has it give up those of owners that were `before` and are not
    /// any more.
    pub(crate) fn store(&mut self, supervisor: &Supervisor, before: &[Owner]) {
        if !supervisor.keeps_sockets() {
            return;
        }
        let now = self.owners();
        for gone in before.iter().filter(|owner| !now.contains(owner)) {
            supervisor.remove_fds(&kept_name(gone));
        }
        for owner in now {
            let of_it = |held: &&mut HeldSocket| held.described.owner == owner;
            if self.0.iter_mut().filter(of_it).all(|held| held.described.is_kept || held.is_stored) {
                continue;
            }
            // What is under the name may have been somewhere else.
            supervisor.remove_fds(&kept_name(&owner));
            let is_stored = supervisor.store_fds(&kept_name(&owner), &self.of(&owner));
            self.0.iter_mut().filter(of_it).for_each(|held| held.is_stored = is_stored);
        }
    }

    /// Has the supervisor give up what it was given: this process ends as it was told to, and closes what it has opened.
    pub(crate) fn withdraw(&self, supervisor: &Supervisor) {
        let stored = self.0.iter().filter(|held| held.is_stored);
        for owner in each_once(stored.map(|held| &held.described)) {
            supervisor.remove_fds(&kept_name(&owner));
        }
    }

    /// Names of listeners whose sockets a supervisor keeps: whoever is in their queues waits for the next process.
    pub(crate) fn kept(&self) -> Left {
        let kept = self.0.iter().map(|held| &held.described).filter(|described| described.is_kept);
        let names = each_once(kept).into_iter().filter_map(|owner| match owner {
            Owner::Listener(name) => Some(name.into_boxed_str()),
            Owner::Admin => None,
        });
        names.collect()
    }
}

/// The sockets that the process was given before it has bound any.
#[derive(Debug, Default)]
pub struct Given {
    sockets: Vec<GivenSocket>,
    /// Ports of those that have found their listeners.
    taken_ports: Vec<u16>,
    /// Whether another process accepts by them until this one is ready.
    is_shared: bool,
}

#[derive(Debug)]
struct GivenSocket {
    described: Described,
    fd: OwnedFd,
}

/// The sockets of one listener.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Where they are.
    pub(crate) address: Address,
    /// Whether they are its own because of their name.
    pub(crate) by_name: bool,
    /// Whether a supervisor has them too.
    pub(crate) is_kept: bool,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Given {
    /// What another process has handed over, which accepts by them until this one is ready.
    pub(crate) fn by_predecessor(sockets: Vec<(Described, OwnedFd)>) -> Self {
        let sockets = sockets.into_iter().map(|(described, fd)| GivenSocket { described, fd }).collect();
        Self { sockets, taken_ports: Vec::new(), is_shared: true }
    }

    /// What a supervisor has opened or kept.
    pub(crate) fn by_supervisor(sockets: Vec<(Described, OwnedFd)>) -> Self {
        Self { is_shared: false, ..Self::by_predecessor(sockets) }
    }

    /// Says of what nobody has wanted that it is closed. Another process has its own.
    pub(crate) fn tell_of_unwanted(&self) {
        for GivenSocket { described, .. } in self.sockets.iter().filter(|_| !self.is_shared) {
            let (owner, address) = (&described.owner, described.place.address());
            tracing::warn!(
                "systemd gives a socket at {address} ({owner}), where nothing is to listen: closed"
            );
        }
    }

    /// Those of a listener, all at one place.
    pub(crate) fn take(&mut self, listener: &Listener) -> Option<Taken> {
        // Another port is as good, and who is with the other process is not to come here.
        if listener.internal && matches!(&listener.bind, BindAddress::Tcp(address) if address.port() == 0) {
            return None;
        }
        self.take_if(&Owner::Listener(listener.name.clone()), |described| belongs(described, listener))
    }

    /// Admin's.
    pub(crate) fn take_admin(&mut self, bind: SocketAddr) -> Option<Taken> {
        self.take_if(&Owner::Admin, |described| {
            let is_its = described.owner == Owner::Admin;
            let is_tcp = matches!(described.place, Place::Tcp(_));
            is_tcp && is_its && described.by_name || is_at(&described.place, bind, is_its)
        })
    }

    fn take_if(&mut self, whose: &Owner, is_wanted: impl Fn(&Described) -> bool) -> Option<Taken> {
        let first = self.sockets.iter().find(|socket| is_wanted(&socket.described))?;
        let Described { owner, place, by_name, is_kept } = first.described.clone();
        if let Place::Tcp(address) = &place {
            self.taken_ports.push(address.port());
        }
        let of_it =
            |socket: &mut GivenSocket| is_wanted(&socket.described) && socket.described.place == place;
        let fds = self.sockets.extract_if(.., of_it).map(|socket| socket.fd).collect();
        Some(Taken { address: place.address(), by_name: by_name && owner == *whose, is_kept, fds })
    }

    /// Whether one of them is at this port: what is bound there can stand beside.
    pub(crate) fn has_port(&self, port: u16) -> bool {
        let is_there = |socket: &GivenSocket| matches!(socket.described.place, Place::Tcp(address) if address.port() == port);
        port != 0 && (self.taken_ports.contains(&port) || self.sockets.iter().any(is_there))
    }

    /// Whose nobody has wanted, each once.
    pub(crate) fn owners(&self) -> Vec<Owner> {
        each_once(self.sockets.iter().map(|socket| &socket.described))
    }
}

fn each_once<'d>(described: impl Iterator<Item = &'d Described>) -> Vec<Owner> {
    let mut owners: Vec<Owner> = Vec::new();
    for Described { owner, .. } in described {
        if !owners.contains(owner) {
            owners.push(owner.clone());
        }
    }
    owners
}

/// Whether a socket is a listener's: it is where that is to be, at whatever port where any will do, or it was given by its name.
fn belongs(described: &Described, listener: &Listener) -> bool {
    let is_its = matches!(&described.owner, Owner::Listener(name) if *name == listener.name);
    match (&described.place, &listener.bind) {
        (Place::Tcp(_), BindAddress::Tcp(_)) | (Place::Unix(_), BindAddress::Unix { .. })
            if described.by_name && is_its =>
        {
            true
        }
        (place, BindAddress::Tcp(bind)) => is_at(place, *bind, is_its),
        (Place::Unix(there), BindAddress::Unix { path, .. }) => there == path,
        (Place::Tcp(_), BindAddress::Unix { .. }) => false,
    }
}

fn is_at(place: &Place, bind: SocketAddr, any_port: bool) -> bool {
    match place {
        Place::Tcp(there) => *there == bind || any_port && bind.port() == 0 && there.ip() == bind.ip(),
        Place::Unix(_) => false,
    }
}

/// Gives each core its own, all of them to somebody: a queue that nobody accepts from would keep its clients for ever.
pub(crate) fn share_out<T>(sockets: Vec<T>, cores: usize) -> Vec<Vec<T>> {
    let mut shares: Vec<Vec<T>> = (0..cores).map(|_| Vec::new()).collect();
    for (index, socket) in sockets.into_iter().enumerate() {
        shares[index % cores].push(socket);
    }
    shares
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn snapshot(listeners: &str) -> Snapshot {
        let text = format!("{listeners}\n[channel.all]\nrespond = {{}}\n");
        let loaded = config::load_str("a.toml", &text, config::Format::Toml, &|_| None);
        loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot
    }

    fn given(sockets: &[(&str, &str, bool)]) -> Given {
        let sockets = sockets.iter().map(|(name, place, by_name)| {
            let place = match place.strip_prefix("unix:") {
                Some(path) => Place::Unix(std::path::Path::new(path).into()),
                None => Place::Tcp(place.parse().expect("an address")),
            };
            let owner = if *name == "admin" { Owner::Admin } else { Owner::Listener((*name).to_owned()) };
            let fd = TcpListener::bind("127.0.0.1:0").expect("a descriptor").into();
            (Described { owner, place, by_name: *by_name, is_kept: false }, fd)
        });
        Given::by_predecessor(sockets.collect())
    }

    /// Where the sockets are that `listener` gets of those that are given, and how many.
    fn check(listener: &str, sockets: &[(&str, &str, bool)], expected: Option<(&str, usize)>) {
        let snapshot = snapshot(&format!("[listener.web]\n{listener}"));
        let taken = given(sockets).take(&snapshot.listeners[0]);
        let found = taken.map(|taken| (taken.address.to_string(), taken.fds.len()));
        let expected = expected.map(|(address, count)| (address.to_owned(), count));
        assert_eq!(found, expected, "{listener} of {sockets:?}");
    }

    #[test]
    fn a_listener_gets_what_is_where_it_is_to_be() {
        let bind = "bind = \"10.0.0.1:80\"";
        check(bind, &[("web", "10.0.0.1:80", false); 3], Some(("10.0.0.1:80", 3)));
        check(bind, &[("other", "10.0.0.1:80", false)], Some(("10.0.0.1:80", 1)));
        check(bind, &[("web", "10.0.0.1:81", false), ("web", "0.0.0.0:80", false)], None);
        check(bind, &[("web", "unix:/run/a", false), ("web", "unix:/run/a", true)], None);
        check("bind = \"unix:/run/a\"", &[("x", "unix:/run/a", false)], Some(("unix:/run/a", 1)));
        check("bind = \"unix:/run/a\"", &[("web", "unix:/run/b", false)], None);
    }

    #[test]
    fn where_any_port_will_do_the_one_of_its_name_is_kept() {
        let bind = "bind = \"127.0.0.1:0\"";
        check(bind, &[("web", "127.0.0.1:4711", false); 2], Some(("127.0.0.1:4711", 2)));
        check(bind, &[("other", "127.0.0.1:4711", false)], None);
        check(bind, &[("web", "10.0.0.1:4711", false)], None);
        check(&format!("{bind}\ninternal = true"), &[("web", "127.0.0.1:4711", false)], None);
    }

    #[test]
    fn what_is_given_by_name_is_its_owners_wherever_it_is() {
        let bind = "bind = \"127.0.0.1:80\"";
        check(bind, &[("web", "[::]:8080", true)], Some(("[::]:8080", 1)));
        check(bind, &[("other", "127.0.0.1:81", true)], None);
        check(bind, &[("a.socket", "127.0.0.1:80", true)], Some(("127.0.0.1:80", 1)));
    }

    #[test]
    fn admin_gets_its_own_alone() {
        let bind = "127.0.0.1:9000".parse().expect("an address");
        let mut sockets = given(&[("web", "127.0.0.1:9001", false), ("admin", "127.0.0.1:9000", false)]);
        assert!(sockets.take_admin(bind).is_some_and(|taken| taken.fds.len() == 1));
        assert!(sockets.take_admin(bind).is_none());
        assert_eq!(sockets.owners(), [Owner::Listener("web".to_owned())]);
        assert!(sockets.has_port(9000) && !sockets.has_port(80) && !sockets.has_port(0));
    }

    #[test]
    fn what_is_held_goes_with_its_listener() {
        let first = snapshot("[listener.a]\nbind = \"10.0.0.1:80\"\n[listener.b]\nbind = \"10.0.0.1:81\"");
        let mut held = Held::default();
        for listener in &first.listeners {
            let BindAddress::Tcp(address) = listener.bind else { unreachable!("both are") };
            let owner = Owner::Listener(listener.name.clone());
            let described = Described { owner, place: Place::Tcp(address), by_name: false, is_kept: false };
            held.push(described, TcpListener::bind("127.0.0.1:0").expect("a descriptor").into());
        }
        held.keep(&snapshot("[listener.a]\nbind = \"10.0.0.1:80\"\n[listener.b]\nbind = \"10.0.0.1:82\""));
        assert_eq!(held.owners(), [Owner::Listener("a".to_owned())]);
        assert!(held.kept().is_empty());
    }

    #[test]
    fn no_socket_is_left_without_a_core() {
        assert_eq!(share_out(vec![1, 2, 3, 4, 5], 2), [vec![1, 3, 5], vec![2, 4]]);
        assert_eq!(share_out(vec![1], 2), [vec![1], vec![]]);
    }
}
