//! What do the other processes do? Each is this program again, with a part to play.
//!
//! Never more than one part, and never without somebody who says where the database is and waits for the end.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};
use store::{Activation, ConfigVersion, FirstSave, NewConfig, Store, StoreError, StoreSettings};

use crate::ground::{on_one_thread, process};

/// Says to a child what to do.
const PART: &str = "STORE_TEST_PART";

/// Says to a child which database is meant.
const URL: &str = "STORE_TEST_URL";

/// Numbers in a document: some hundred pages of a database, so that half of it could be written.
const FILLER: usize = 20_000;

/// A process that plays a part. What it has to say it says by its standard error, which nothing else writes to.
pub(crate) fn child(part: &str, url: &str) -> Command {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args([
        "--exact",
        "--nocapture",
        "--test-threads=1",
        "faults::children::each_plays_the_part_it_is_given",
    ]);
    command.env(PART, part).env(URL, url).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn each_plays_the_part_it_is_given() {
    match std::env::var(PART).as_deref() {
        Ok("publishes") => on_one_thread(publishes_until_it_is_killed()),
        Ok("joins") => on_one_thread(joins()),
        Ok("holds the lock") => on_one_thread(holds_the_lock_until_its_input_ends()),
        Ok("fills the disk") => on_one_thread(fills_the_disk()),
        Ok(other) => panic!("there is no part \"{other}\""),
        // Nobody's child: the test of the tests. A child's failure has to be seen.
        Err(_) => {
            let output = child("unheard of", "sqlite:x").output().expect("this program");
            assert!(!output.status.success());
            assert!(String::from_utf8_lossy(&output.stderr).contains("there is no part"));
        }
    }
}

fn settings() -> StoreSettings {
    let url = std::env::var(URL).expect("it is started by another test, which says where the database is");
    StoreSettings::new(url.parse().expect("a URL of our own"))
}

/// A configuration whose every part tells its number.
pub(crate) fn large(number: u64) -> NewConfig {
    NewConfig {
        document: json!({ "filler": vec![number; FILLER], "number": number }).to_string(),
        fingerprint: number.to_string(),
        author: "a child".to_owned(),
        comment: number.to_string(),
    }
}

/// That a version is one of those above, from its first byte to its last.
pub(crate) fn assert_whole(version: &ConfigVersion) {
    let document: Value = serde_json::from_str(&version.document).expect("JSON");
    let number = document["number"].as_u64().expect("a number");
    assert_eq!(version.document, large(number).document);
    assert_eq!(
        (version.summary.fingerprint.as_str(), version.summary.version),
        (number.to_string().as_str(), number)
    );
}

/// The process that `killed` kills.
async fn publishes_until_it_is_killed() {
    let store = Store::open(settings()).await.expect("a store");
    let mut version = match store.save_first_config("gateway", &large(1)).await.expect("an answer") {
        FirstSave::Saved(version) => version,
        FirstSave::Exists(there) => there.summary.version,
    };
    // What the last one had begun when it was killed.
    if let Some(proposed) = store.proposed_config("gateway").await.expect("an answer") {
        version = proposed.summary.version;
        assert_eq!(store.activate_config("gateway", version).await, Ok(Activation::Active));
    }
    loop {
        eprintln!("{version}");
        let next = store.publish_config("gateway", version, &large(version + 1)).await;
        assert_eq!(next, Ok(version + 1));
        version += 1;
        assert_eq!(store.activate_config("gateway", version).await, Ok(Activation::Active));
    }
}

/// One of the processes of `crowd`.
async fn joins() {
    let store = Store::open(settings()).await.expect("a store that somebody makes at the same time");
    let saved = store.save_first_config("gateway", &large(1)).await.expect("an answer");
    let joined = store.register_process(&process("gateway")).await.expect("joined");
    eprintln!("{} {}", joined.id, matches!(saved, FirstSave::Saved(1)));
    store.close().await;
}

/// The process that holds the lock of `locked`.
async fn holds_the_lock_until_its_input_ends() {
    let file = settings().url.file().expect("SQLite").display().to_string();
    let mut connection = SqliteConnection::connect(&file).await.expect("a database");
    connection.execute("BEGIN EXCLUSIVE").await.expect("nobody else writes");
    eprintln!("held");
    std::io::stdin().read_to_end(&mut Vec::new()).expect("the end comes");
}

/// The process of `full`, which has a small disk.
async fn fills_the_disk() {
    let store = Store::open(settings()).await.expect("there is room for an empty store");
    let dir = settings().url.file().expect("SQLite").parent().expect("a directory").to_owned();
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 300 * 1024]).expect("there is room");
    assert_eq!(store.save_first_config("gateway", &large(1)).await, Ok(FirstSave::Saved(1)));
    let mut version = 1;
    let refused = loop {
        match store.publish_config("gateway", version, &large(version + 1)).await {
            Ok(next) => version = next,
            Err(error) => break error,
        }
        match store.activate_config("gateway", version).await {
            Ok(_) => assert!(version < 100, "a disk of 1 MiB is full by now"),
            Err(error) => break error,
        }
    };
    let StoreError::Unavailable { cause } = refused else { panic!("it may have room later: {refused:?}") };
    assert!(cause.contains("no room"), "{cause}");
    let check = async || {
        for summary in store.config_history("gateway", 1_000).await.expect("what is there can be read") {
            let there = store.config_version("gateway", summary.version).await.expect("an answer");
            assert_whole(&there.expect("it is in the history"));
        }
    };
    check().await;
    assert!(store.current_config("gateway").await.expect("an answer").is_some());
    std::fs::remove_file(ballast).expect("it is there");
    if let Some(proposed) = store.proposed_config("gateway").await.expect("an answer") {
        assert_eq!(store.activate_config("gateway", proposed.summary.version).await, Ok(Activation::Active));
    }
    let current =
        store.current_config("gateway").await.expect("an answer").expect("a version").summary.version;
    let next = store.publish_config("gateway", current, &large(current + 1)).await;
    assert_eq!(next, Ok(current + 1), "there is room again");
    check().await;
    store.close().await;
    assert_sound(&settings().url.file().expect("SQLite").display().to_string()).await;
}

/// That SQLite itself finds nothing wrong with a file.
pub(crate) async fn assert_sound(file: &str) {
    let mut connection = SqliteConnection::connect(file).await.expect("a database");
    let found: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut connection).await.expect("an answer");
    assert_eq!(found, ["ok"]);
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut connection).await.expect("an answer");
    assert!(broken.is_empty(), "{} references lead nowhere", broken.len());
}
