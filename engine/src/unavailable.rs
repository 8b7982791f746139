//! What can be written down that this version does not do? A list, from which each line goes when it does.
//!
//! Never lets one of them pass in silence: who asked for it would believe it was there.

use anyhow::bail;
use config::snapshot::{BindAddress, Listener, Snapshot};

/// Refuses a configuration that asks for something that is not there.
pub(crate) fn refuse(snapshot: &Snapshot) -> anyhow::Result<()> {
    for listener in &snapshot.listeners {
        if let Some(what) = of_listener(listener) {
            bail!("{what} is not available yet (listener.{})", listener.name);
        }
    }
    Ok(())
}

fn of_listener(listener: &Listener) -> Option<&'static str> {
    if let BindAddress::Unix { .. } = listener.bind {
        return Some("listening on a Unix socket");
    }
    None
}
