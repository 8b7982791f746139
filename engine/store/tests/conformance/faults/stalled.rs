//! PostgreSQL is there and does nothing: every process of it is stopped, as by a debugger, or a disk that hangs.

use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use store::{FirstSave, Store, StoreError, StoreSettings};

use crate::ground::{ANSWER_MAX, Ground, RECOVERY_MAX, config, keeps, until_it_works};
use crate::server::Server;

#[test]
fn whoever_asks_is_told_in_time_and_goes_on_when_it_does() {
    let server = Server::start("");
    keeps(Ground::of(&server), async |ground| {
        let settings =
            StoreSettings { timeout: Duration::from_millis(500), connections_max: 2, ..ground.settings() };
        let store = Store::open(settings.clone()).await.expect("a server that works");
        assert!(store.warnings().is_empty(), "{:?}", store.warnings());
        store.save_first_config("gateway", &config(1)).await.expect("saved");
        server.stop();
        // More often than there are connections: each is given up.
        for _ in 0..5 {
            let began = Instant::now();
            let (read, write) =
                (store.revisions().await, store.publish_config("gateway", 1, &config(2)).await);
            assert!(began.elapsed() < ANSWER_MAX * 2);
            assert!(read.is_err_and(|error| error.is_unavailable()));
            assert!(write.is_err_and(|error| error.is_unavailable()));
        }
        assert!(Store::open(settings).await.map(drop).is_err_and(|error| error.is_unavailable()));
        server.go_on();
        let began = Instant::now();
        until_it_works(async || store.revisions().await).await;
        assert!(began.elapsed() < RECOVERY_MAX, "{:?}", began.elapsed());
        // What nobody got an answer to may have been done, and once at most.
        let proposed = store.proposed_config("gateway").await.expect("an answer");
        assert!(proposed.is_none_or(|version| version.summary.version == 2));
        assert_eq!(
            store.current_config("gateway").await.expect("an answer").map(|one| one.summary.version),
            Some(1)
        );
    });
}

#[test]
fn a_call_that_was_under_way_ends_too() {
    let server = Server::start("fsync = off");
    keeps(Ground::of(&server), async |ground| {
        // The server gives up waiting by itself after that, unless it is stopped before.
        let settings = StoreSettings { timeout: Duration::from_secs(4), ..ground.settings() };
        let store = Store::open(settings).await.expect("a server that works");
        let mut holder = PgConnection::connect(ground.url()).await.expect("a database");
        holder.execute("BEGIN; LOCK TABLE counter IN EXCLUSIVE MODE").await.expect("nobody else has it");
        let write = tokio::spawn({
            let store = store.clone();
            async move { store.save_first_config("gateway", &config(1)).await }
        });
        while server.say(ground.name(), "SELECT COUNT(*) FROM pg_locks WHERE NOT granted") == "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.stop();
        let refused = write.await.expect("no panic");
        assert_eq!(refused, Err(StoreError::Unavailable { cause: "no answer within 4s".to_owned() }));
        server.go_on();
        holder.execute("ROLLBACK").await.expect("it goes on");
        let saved = until_it_works(async || store.save_first_config("gateway", &config(1)).await).await;
        assert_eq!(saved, FirstSave::Saved(1), "what was given up was not done");
    });
}
