//! What can be written down that this version does not do? A list, from which each line goes when it does.
//!
//! Never lets one of them pass in silence: who asked for it would believe it was there.

use anyhow::bail;
use config::snapshot::{BindAddress, Listener, Protocol, Snapshot};

/// Refuses a configuration that asks for something that is not there.
pub(crate) fn refuse(snapshot: &Snapshot) -> anyhow::Result<()> {
    for listener in &snapshot.listeners {
        if let Some(what) = of_listener(listener) {
            bail!("{what} is not available yet (listener.{})", listener.name);
        }
    }
    for upstream in &snapshot.upstreams {
        if upstream.proxy_protocol.is_some() {
            bail!("the PROXY protocol to endpoints is not available yet (upstream.{})", upstream.name);
        }
    }
    // Refused until requests may change their protocol; websocket alone is the default and says nothing.
    for channel in &snapshot.channels {
        if channel.connect {
            bail!("CONNECT is not available yet (channel.{})", channel.name);
        }
    }
    Ok(())
}

fn of_listener(listener: &Listener) -> Option<&'static str> {
    match listener.protocol {
        Protocol::Http | Protocol::Https(_) | Protocol::Tcp(_) => {}
        Protocol::Tls(_) => return Some("protocol \"tls\""),
    }
    if let BindAddress::Unix { .. } = listener.bind {
        return Some("listening on a Unix socket");
    }
    listener.proxy_protocol.is_some().then_some("the PROXY protocol from clients")
}
