//! What if the configuration is renewed while everybody does what they do? Control, as far as that goes, at random moments.
//!
//! Never a configuration by which a request would be answered otherwise: the laws are those of every scenario, and one more. Each
//! generation says its number in the answers, and moves all ids: other modules come and go in front of those that are asked.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::snapshot::{ListenerId, Snapshot};
use proxy::generation::{Generation, keeps_socket};
use proxy::message::CoreMessage;
use runtime::simulation::{HostId, World};
use runtime::{Core, Handle};

use crate::dice::Dice;
use crate::ledger::{Event, Ledger};
use crate::world::{Started, address_of};

/// Renewals of one scenario.
const COUNT_MAX: u64 = 40;

/// The field by which a generation says its number.
pub(crate) const FIELD: &str = "x-generation";

/// Everything that renewing takes.
pub(crate) struct Renewals {
    pub(crate) core: Core,
    pub(crate) world: World,
    pub(crate) engine: HostId,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    pub(crate) started: Started,
    pub(crate) seed: u64,
}

/// The configuration as the generation of this number has it; `extras` says what stands in front.
pub(crate) fn text(config: &str, number: u64, [listener, channel, upstream]: [bool; 3]) -> String {
    let mut text = String::new();
    if listener {
        text += "[listener.a0]\nbind = \"10.0.0.1:7999\"\n\n";
    }
    if channel {
        text += "[channel.a0]\npriority = 1\nmatch = { path_prefix = \"/nobody/\" }\nrespond = { status = 204 }\n\n";
    }
    if upstream {
        text += "[upstream.a0]\nendpoints = [\"10.0.2.1:9999\"]\nendpoints_max = 3\n\n\
                 [channel.a1]\nmatch = { path_prefix = \"/nowhere/at/all/\" }\nupstream = \"a0\"\n\n";
    }
    for line in config.lines() {
        text += line;
        text.push('\n');
        if line.starts_with("[channel.") {
            text += &format!("response_headers = {{ set = {{ X-Generation = \"{number}\" }} }}\n");
        }
    }
    text
}

pub(crate) fn snapshot(text: &str) -> Arc<Snapshot> {
    let loaded = config::load_str("scenario", text, config::Format::Toml, &|_| None);
    Arc::new(loaded.unwrap_or_else(|problems| panic!("{problems}\n{text}")).snapshot)
}

impl Renewals {
    /// Renews until it has been often enough; ends with what the scenario began with.
    pub(crate) async fn play(self) {
        let Self { core, world, engine, ledger, started, seed } = self;
        let Started { fellows, mut generation, mut keeper } = started;
        let config = ledger.borrow().scenario.config.clone();
        let mut dice = Dice::new(seed ^ 0x006e_6577);
        let count = dice.between(1, COUNT_MAX);
        let gap_max = dice.pick(&[5, 100, 1_000]);
        // Not before it has been looked at how the engine is at rest.
        core.sleep(Duration::from_millis(60)).await;
        for nth in 0..count {
            core.sleep(dice.millis(0, gap_max)).await;
            let mut extras = [false; 3].map(|_| dice.chance(50));
            if nth + 1 == count {
                extras = [false; 3];
            }
            let next = snapshot(&text(&config, generation.number + 1, extras));
            // Sockets first: where they are refused, nothing is renewed, as with real ones.
            let new = || {
                let old = &generation.snapshot.listeners;
                let is_new = |listener: &&config::snapshot::Listener| {
                    !old.iter().any(|old| keeps_socket(old, listener))
                };
                let listeners = (0..).map(ListenerId).zip(&next.listeners);
                listeners.filter(move |(_, listener)| is_new(listener)).collect::<Vec<_>>()
            };
            let open = |_| -> Option<Vec<(ListenerId, Handle)>> {
                let listen = |(id, listener): (ListenerId, &config::snapshot::Listener)| {
                    let bind = listener.bind.tcp().expect("every scenario has TCP listeners");
                    Some((id, world.listen(engine, bind, listener.backlog).ok()?))
                };
                new().into_iter().map(listen).collect()
            };
            let opened: Option<Vec<_>> = (0..fellows.len()).map(open).collect();
            let Some(opened) = opened else { continue };
            keeper = keeper.next(&next, address_of);
            generation = generation.next(next, Arc::clone(keeper.roster()), Arc::default());
            ledger.borrow_mut().generations.push(Arc::clone(&generation));
            ledger.borrow_mut().note(core.now(), Event::Renews(generation.number));
            for (fellow, opened) in fellows.iter().zip(opened) {
                let mut message = CoreMessage::Renew { generation: Arc::clone(&generation), opened };
                while let Err(refused) = fellow.sender.send(message) {
                    message = refused;
                    core.sleep(Duration::from_millis(1)).await;
                }
                if dice.chance(50) {
                    core.sleep(dice.millis(0, 20)).await;
                }
            }
        }
        ledger.borrow_mut().renews = false;
    }
}

/// The lowest number by which a request may be served that begins now: that of the latest generation that all cores have taken up.
pub(crate) fn number_min(generations: &[Arc<Generation>]) -> u64 {
    let taken_up = generations.iter().filter(|generation| generation.is_taken_up());
    taken_up.map(|generation| generation.number).max().unwrap_or(0)
}
