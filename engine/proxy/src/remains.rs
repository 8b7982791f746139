//! What does a tunnel keep of the generation that it began in? Where it counts, and how long it may last.
//!
//! Never the generation itself: a tunnel may outlast a hundred configurations, and is none of their business.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runtime::Core;

use crate::client::Client;
use crate::commons::Commons;
use crate::conversation::Conversation;
use crate::core_main::CoreState;
use crate::stats::CoreCounters;
use crate::tunnel::Terms;

/// What is left of a generation.
pub(crate) struct Remains {
    pub(crate) core: Core,
    pub(crate) commons: Rc<Commons>,
    pub(crate) counters: Arc<CoreCounters>,
    idle_timeout: Duration,
    lifetime: Option<Duration>,
}

impl Remains {
    /// For a tunnel of `client`; without a time of its own between two bytes, the listener's holds.
    pub(crate) fn of(state: &CoreState, client: &Client, idle_timeout: Option<Duration>) -> Self {
        let timeouts = &client.settings(state).timeouts;
        Self {
            core: state.core.clone(),
            commons: Rc::clone(&state.commons),
            counters: Arc::clone(&state.stats.core),
            idle_timeout: idle_timeout.unwrap_or(timeouts.tunnel),
            lifetime: timeouts.lifetime,
        }
    }

    /// What the tunnel may take, and where it counts.
    pub(crate) fn terms<'a>(
        &'a self,
        client: &'a Client,
        conversation: Option<Box<Conversation>>,
    ) -> Terms<'a> {
        let counters = client.counters();
        Terms {
            idle_timeout: self.idle_timeout,
            lifetime: self.lifetime,
            received: &counters.bytes_received,
            sent: &counters.bytes_sent,
            set_aside: &self.commons.set_aside,
            note: client.note.get(),
            conversation,
        }
    }
}
