//! The database is one that follows another, or was told to be careless.

use std::rc::Rc;

use store::{Store, StoreError, StoreSettings};

use crate::ground::{Ground, keeps};
use crate::server::Server;

#[test]
fn a_standby_is_refused() {
    let primary = Server::start("wal_level = replica\nmax_wal_senders = 4");
    let standby = primary.start_standby();
    keeps(Ground::of(&primary), async |ground| {
        ground.store().await.close().await;
        let settings = StoreSettings::new(standby.url("postgres").parse().expect("a URL"));
        // A reader would find what the others had decided a while ago.
        for read_only in [false, true] {
            let refused = Store::open(StoreSettings { read_only, ..settings.clone() }).await.map(drop);
            let Err(StoreError::Refused { cause, help }) = refused else {
                panic!("it only follows: {refused:?}")
            };
            assert!(cause.contains("standby") && help.contains("primary"), "{cause}; {help}");
        }
    });
}

#[test]
fn whoever_loses_what_it_said_is_warned_about() {
    let server = Server::shared();
    keeps(Ground::postgres(), async |ground: Rc<Ground>| {
        let name = ground.name();
        server.say("postgres", &format!("ALTER DATABASE {name} SET synchronous_commit = off"));
        let store = ground.store().await;
        let warnings = store.warnings();
        assert!(warnings.iter().any(|warning| warning.contains("synchronous_commit = off")), "{warnings:?}");
        // The server of the other tests is told so, for their speed.
        assert!(warnings.iter().any(|warning| warning.contains("fsync = off")), "{warnings:?}");
    });
}
