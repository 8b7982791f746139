//! What do tests of control stand on? The embedded default configuration and cores that nobody runs.
//!
//! Never compiled into the program.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use proxy::core_main::Fellow;
use proxy::generation::Generation;
use proxy::message::CoreMessage;
use proxy::roster::keeper::Keeper;
use runtime::mailbox::{Receiver, mailbox};
use runtime::{CoreConfig, DriverKind};

use crate::candidate::{LocalTerms, Origin};
use crate::live::Live;
use crate::log_level::LogControl;
use crate::reload::Own;
use crate::socket_file::SocketFiles;
use crate::{Certificates, CoreInfo, Held, ProcessInfo, Shared, Supervisor, TakeOver};

/// The inside of a core that is not running: its executor's set-up and its mailbox.
pub(crate) struct IdleCore {
    config: CoreConfig,
    mailbox: Receiver<CoreMessage>,
}

impl IdleCore {
    /// Runs until told to drain; every other message goes to `handle`.
    pub(crate) fn run(self, mut handle: impl FnMut(CoreMessage) + 'static) {
        let Self { config, mailbox } = self;
        let run = runtime::run(config, move |core| async move {
            loop {
                match mailbox.recv(&core).await {
                    CoreMessage::Drain { .. } => return,
                    message => handle(message),
                }
            }
        });
        run.expect("epoll");
    }
}

/// What control shares, over this many cores.
pub(crate) fn shared(cores: usize) -> (Arc<Shared>, Vec<IdleCore>) {
    shared_of(config::default_config(), cores)
}

/// The same with this configuration.
pub(crate) fn shared_of(text: &str, cores: usize) -> (Arc<Shared>, Vec<IdleCore>) {
    let loaded = config::load_str("test.toml", text, config::Format::Toml, &|_| None);
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    let (schema, snapshot) = (Arc::new(loaded.schema), Arc::new(loaded.snapshot));
    let (fellows, idle): (Vec<_>, Vec<IdleCore>) = (0..cores)
        .map(|index| {
            let config = CoreConfig::new(index, DriverKind::Epoll).expect("eventfd");
            let (sender, mailbox) = mailbox(&config.remote, 8);
            (Fellow { sender }, IdleCore { config, mailbox })
        })
        .unzip();
    let fellows: Arc<[Fellow]> = fellows.into();
    let address: SocketAddr = ([127, 0, 0, 1], 8080).into();
    let keeper = Keeper::new(&snapshot, |_| address.into());
    let certificates = Arc::new(Certificates::load(&snapshot).expect("no certificates").0);
    let process = Arc::new(ProcessInfo {
        version: "1.2.3",
        started: Instant::now(),
        started_at: SystemTime::now(),
        driver: "epoll".to_owned(),
        uring_error: Some("refused by a \"sandbox\"".to_owned()),
        cores: (0..cores).map(|cpu| CoreInfo { cpu, ..CoreInfo::default() }).collect(),
    });
    let addresses = vec![address.into(); snapshot.listeners.len()].into();
    let counters = idle.iter().map(|core| Arc::clone(&core.config.counters));
    let generation = Generation::first(snapshot, Arc::clone(keeper.roster()), Arc::default(), counters);
    let origin = Origin { source: "a test".to_owned(), version: None };
    let live = Live::first(generation, fellows, addresses, keeper, certificates, (schema, origin));
    let own = Own::new(config::Text::Default, LocalTerms::default());
    let (_, log) = LogControl::new("info".parse().expect("a level"));
    let (supervisor, take_over) = (Supervisor::default(), TakeOver::new(None, Held::default(), None));
    let files = SocketFiles::default();
    (Shared::new(process, live, own, (files, take_over), log, Arc::default(), supervisor), idle)
}

/// Says for cores that nobody runs that they have taken up the generation after this one.
pub(crate) fn take_up(generation: &Generation) {
    generation.stats.iter().for_each(|core| core.core.generation.set(generation.number + 1));
}
