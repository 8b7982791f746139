//! PostgreSQL crashes, is away, and comes back.

use std::time::{Duration, Instant};

use store::{Store, StoreSettings};

use crate::ground::{ANSWER_MAX, Ground, RECOVERY_MAX, config, keeps, until_it_works};
use crate::server::Server;

#[test]
fn connections_are_made_anew_and_nothing_is_lost() {
    let server = Server::start("");
    keeps(Ground::of(&server), async |ground| {
        let settings =
            StoreSettings { timeout: Duration::from_secs(1), idle_connections_max: 4, ..ground.settings() };
        let store = Store::open(settings).await.expect("a server that works");
        store.save_first_config("gateway", &config(1)).await.expect("saved");
        store.publish_config("gateway", 1, &config(2)).await.expect("published");
        store.changed().await;
        // As by kill -9: nothing is written that was not there before.
        server.end("immediate");
        let began = Instant::now();
        assert!(store.revisions().await.is_err_and(|error| error.is_unavailable()));
        assert!(began.elapsed() < ANSWER_MAX);
        server.begin();
        let began = Instant::now();
        until_it_works(async || store.activate_config("gateway", 2).await).await;
        assert!(began.elapsed() < RECOVERY_MAX, "{:?}", began.elapsed());
        let current = store.current_config("gateway").await.expect("an answer").expect("a version");
        assert_eq!(current.summary.version, 2);
        // Who listens for hints is told to look, and hears again.
        store.changed().await;
        store.close().await;
    });
}
