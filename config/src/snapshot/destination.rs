//! Where does everything that comes in by one listener go?
//!
//! Never looks at a request: what the configuration alone decides.

use crate::snapshot::{Action, ChannelId, ListenerId, Protocol, Snapshot, UpstreamId};

/// Where a listener's traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To one upstream, all of it.
    All(UpstreamId),
    /// To one upstream, as far as a channel or a server name takes it; the rest is refused here.
    Some(UpstreamId),
    /// To several upstreams, or to one and to an answer of our own.
    Several,
    /// To none.
    Nowhere,
}

impl Snapshot {
    /// Where the traffic of a listener goes.
    #[must_use]
    pub fn destination(&self, id: ListenerId) -> Destination {
        let mut destination = Destination::Nowhere;
        match &self.listeners[usize::from(id.0)].protocol {
            Protocol::Http | Protocol::Https(_) => {
                for (channel, takes_all) in self.channel_table.takers(id.0) {
                    let upstream = match &self.channels[usize::from(ChannelId(channel).0)].action {
                        Action::Forward(upstream) => Some(*upstream),
                        Action::Respond(_) | Action::Redirect(_) => None,
                    };
                    destination = destination.and(upstream, takes_all);
                    if takes_all {
                        break; // what comes after it is never asked
                    }
                }
            }
            Protocol::Tcp(service) => destination = Destination::All(service.upstream),
            Protocol::Tls(routes) => {
                for (_, upstream) in &routes.routes {
                    destination = destination.and(Some(*upstream), false);
                }
                if let Some(upstream) = routes.default {
                    destination = destination.and(Some(upstream), true);
                }
            }
        }
        destination
    }
}

impl Destination {
    /// With one more way: `None` is an answer of our own, `takes_all` leaves nothing to those after it.
    fn and(self, upstream: Option<UpstreamId>, takes_all: bool) -> Self {
        match (self, upstream) {
            (Self::Nowhere, Some(id)) if takes_all => Self::All(id),
            (Self::Nowhere, Some(id)) => Self::Some(id),
            (Self::Some(known), Some(id)) if known == id && takes_all => Self::All(id),
            (Self::Some(known), Some(id)) if known == id => Self::Some(id),
            _ => Self::Several,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, load_str};

    /// `rest` is what stands behind the listener `web`; its traffic can go to `a` and `b`.
    #[track_caller]
    fn check(rest: &str, expected: Destination) {
        let text = format!(
            "[listener.web]\nbind = \"127.0.0.1:0\"\n{rest}\n[upstream.a]\nendpoints = [\"10.0.0.1:80\"]\n\
             [upstream.b]\nendpoints = [\"10.0.0.2:80\"]\n"
        );
        let loaded = load_str("test.toml", &text, Format::Toml, &|_| None).expect("a configuration");
        assert_eq!(loaded.snapshot.destination(ListenerId(0)), expected, "{rest}");
    }

    #[test]
    fn one_upstream_takes_all_some_or_not_alone() {
        let (a, b) = (UpstreamId(0), UpstreamId(1));
        check("[channel.x]\nupstream = \"a\"", Destination::All(a));
        check("[channel.x]\nupstream = \"b\"\nmatch = { path_prefix = \"/x\" }", Destination::Some(b));
        let two = "[channel.x]\nupstream = \"a\"\nmatch = { path_prefix = \"/x\" }\n[channel.y]\nupstream = ";
        check(&format!("{two}\"a\""), Destination::All(a));
        check(&format!("{two}\"b\""), Destination::Several);
        check("[channel.x]\nupstream = \"a\"\n[channel.never]\nupstream = \"b\"", Destination::All(a));
        check("[channel.x]\nrespond = {}", Destination::Several);
        check("[channel.x]\nupstream = \"a\"\nenabled = false", Destination::Nowhere);
    }

    #[test]
    fn bytes_go_where_the_listener_or_the_name_says() {
        let (a, b) = (UpstreamId(0), UpstreamId(1));
        check("protocol = \"tcp\"\nupstream = \"b\"", Destination::All(b));
        check("protocol = \"tls\"\nupstream = \"a\"", Destination::All(a));
        check("protocol = \"tls\"\nsni = { \"a.example\" = \"a\" }", Destination::Some(a));
        let both = "protocol = \"tls\"\nsni = { \"a.example\" = \"a\" }\nupstream = ";
        check(&format!("{both}\"a\""), Destination::All(a));
        check(&format!("{both}\"b\""), Destination::Several);
    }
}
