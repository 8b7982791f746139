//! Where does a second process on the same host listen? Every port moved by the same amount.
//!
//! Never touches the configuration itself: the offset is this process's own and is not part of the fingerprint.

use std::net::SocketAddr;

use thiserror::Error;

use crate::snapshot::{BindAddress, Listener, Snapshot};

/// A moved port would not be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("port {port} of {owner} plus an offset of {offset} is above 65535")]
pub struct PortOffsetError {
    /// The key that holds the address, such as `listener.web.bind`.
    pub owner: String,
    /// The port as configured.
    pub port: u16,
    /// The offset asked for.
    pub offset: u16,
}

/// Moves the port of every listener and of admin up by `offset`. Port 0 stays: the kernel chooses it anyway. So does a
/// Unix socket, which has none.
///
/// # Errors
/// When a port would be above 65535; nothing is moved then.
pub fn apply_port_offset(snapshot: &mut Snapshot, offset: u16) -> Result<(), PortOffsetError> {
    let move_up = |bind: SocketAddr, owner: &str| match bind.port() {
        0 => Ok(bind),
        port => match port.checked_add(offset) {
            Some(port) => Ok(SocketAddr::new(bind.ip(), port)),
            None => Err(PortOffsetError { owner: owner.to_owned(), port, offset }),
        },
    };
    let moved = |listener: &Listener| match &listener.bind {
        BindAddress::Tcp(bind) => {
            move_up(*bind, &format!("listener.{}.bind", listener.name)).map(BindAddress::Tcp)
        }
        unix @ BindAddress::Unix { .. } => Ok(unix.clone()),
    };
    let listeners: Vec<_> = snapshot.listeners.iter().map(moved).collect::<Result<_, _>>()?;
    if let Some(admin) = &mut snapshot.admin {
        admin.bind = move_up(admin.bind, "admin.bind")?;
    }
    for (listener, bind) in snapshot.listeners.iter_mut().zip(listeners) {
        listener.bind = bind;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, load_str};

    fn snapshot(text: &str) -> Snapshot {
        let loaded = load_str("test.toml", text, Format::Toml, &|_| None);
        loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot
    }

    fn ports(snapshot: &Snapshot) -> Vec<u16> {
        let admin = snapshot.admin.iter().map(|admin| admin.bind);
        let listeners = snapshot.listeners.iter().filter_map(|listener| listener.bind.tcp());
        listeners.chain(admin).map(|bind| bind.port()).collect()
    }

    #[test]
    fn moves_every_port_but_zero() {
        let mut snapshot = snapshot(
            "listener.a.bind = '0.0.0.0:8000'\nlistener.b.bind = '[::1]:0'\nlistener.u.bind = 'unix:/run/u'",
        );
        let fingerprint = snapshot.fingerprint;
        assert_eq!(apply_port_offset(&mut snapshot, 10_000), Ok(()));
        assert_eq!(ports(&snapshot), [18_000, 0, 19_000]);
        assert_eq!(snapshot.fingerprint, fingerprint);
    }

    #[test]
    fn refuses_a_port_above_the_last_and_moves_none() {
        let text = "listener.a.bind = '0.0.0.0:1'\nlistener.b.bind = '0.0.0.0:65535'";
        let mut at_listener = snapshot(text);
        let refused =
            |owner: &str, port| Err(PortOffsetError { owner: owner.to_owned(), port, offset: 57_000 });
        assert_eq!(apply_port_offset(&mut at_listener, 57_000), refused("listener.b.bind", 65_535));
        assert_eq!(ports(&at_listener), [1, 65_535, 9_000]);
        let mut at_admin = snapshot("listener.a.bind = '0.0.0.0:1'");
        assert_eq!(apply_port_offset(&mut at_admin, 57_000), refused("admin.bind", 9_000));
        assert_eq!(ports(&at_admin), [1, 9_000]);
    }
}
