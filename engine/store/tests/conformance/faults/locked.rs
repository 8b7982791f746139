//! Another process holds a lock, and does not give it back.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use store::{Activation, StoreError, StoreSettings};

use super::children::child;
use crate::ground::{ANSWER_MAX, Ground, config, keeps, process};

#[test]
fn whoever_writes_is_told_in_time_and_whoever_reads_goes_on() {
    keeps(Ground::sqlite(), async |ground| {
        let settings = StoreSettings { timeout: Duration::from_secs(2), ..ground.settings() };
        let store = store::Store::open(settings.clone()).await.expect("nobody holds it yet");
        store.save_first_config("gateway", &config(1)).await.expect("saved");
        let mut holder = child("holds the lock", ground.url()).spawn().expect("this program");
        let mut said = BufReader::new(holder.stderr.take().expect("a pipe")).lines();
        assert_eq!(said.next().expect("a line").expect("text"), "held");

        let began = Instant::now();
        let refused = store.publish_config("gateway", 1, &config(2)).await;
        assert!(began.elapsed() < ANSWER_MAX);
        let Err(StoreError::Unavailable { cause }) = refused else {
            panic!("later is soon enough: {refused:?}")
        };
        assert!(cause.contains("another process holds"), "{cause}");
        let refused = store.register_process(&process("gateway")).await;
        assert!(refused.is_err_and(|error| error.is_unavailable()));
        let refused = store::Store::open(settings).await.map(drop);
        assert!(refused.is_err_and(|error| error.is_unavailable()), "a process that starts is told too");
        let there = store.current_config("gateway").await.expect("a reader waits for no writer");
        assert_eq!(there.map(|version| version.summary.version), Some(1));
        assert!(store.revisions().await.is_ok());

        drop(holder.stdin.take());
        assert!(holder.wait().expect("its end").success());
        assert_eq!(store.publish_config("gateway", 1, &config(2)).await, Ok(2));
        assert_eq!(store.activate_config("gateway", 2).await, Ok(Activation::Active));
    });
}

#[test]
fn a_lock_of_postgresql_is_waited_for_no_longer_than_a_call_may_take() {
    keeps(Ground::postgres(), async |ground| {
        let settings = StoreSettings { timeout: Duration::from_millis(500), ..ground.settings() };
        let store = store::Store::open(settings).await.expect("nobody holds it yet");
        store.save_first_config("gateway", &config(1)).await.expect("saved");
        let mut holder = PgConnection::connect(ground.url()).await.expect("a database");
        holder.execute("BEGIN; LOCK TABLE counter IN EXCLUSIVE MODE").await.expect("nobody else has it");

        let began = Instant::now();
        let refused = store.publish_config("gateway", 1, &config(2)).await;
        assert!(began.elapsed() < ANSWER_MAX);
        assert!(refused.is_err_and(|error| error.is_unavailable()));
        let there = store.current_config("gateway").await.expect("a reader waits for no writer");
        assert_eq!(there.map(|version| version.summary.version), Some(1));

        holder.execute("ROLLBACK").await.expect("it was begun");
        assert_eq!(
            store.publish_config("gateway", 1, &config(2)).await,
            Ok(2),
            "the server has given up too"
        );
    });
}
