//! How a store is opened, and by whom it is not.

use std::rc::Rc;
use std::time::Duration;

use store::{Store, StoreError, StoreSettings};

use crate::ground::{Ground, config, keeps};
use crate::server::Server;

pub(crate) async fn a_database_of_a_newer_program_is_refused(ground: Rc<Ground>) {
    ground.store().await.close().await;
    ground
        .say(
            "INSERT INTO migration (number, name, checksum, applied_at) VALUES (1000, 'of tomorrow', 'x', 1)",
        )
        .await;
    let numbered = Store::open(ground.settings()).await.map(drop);
    assert!(matches!(numbered, Err(StoreError::Corrupt { .. })), "steps have no gaps: {numbered:?}");
    ground.say("UPDATE migration SET number = (SELECT COUNT(*) FROM migration) WHERE number = 1000").await;
    for read_only in [false, true] {
        let refused = Store::open(StoreSettings { read_only, ..ground.settings() }).await.map(drop);
        let Err(StoreError::Refused { cause, .. }) = refused else { panic!("it is newer: {refused:?}") };
        assert!(cause.contains("of a newer program") && cause.contains("of tomorrow"), "{cause}");
    }
}

pub(crate) async fn a_database_of_another_program_is_refused(ground: Rc<Ground>) {
    ground.store().await.close().await;
    ground.say("UPDATE migration SET checksum = 'x'").await;
    let refused = Store::open(ground.settings()).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
}

pub(crate) async fn reading_only_writes_nothing(ground: Rc<Ground>) {
    let read_only = StoreSettings { read_only: true, ..ground.settings() };
    assert!(Store::open(read_only.clone()).await.is_err(), "nothing is made for a reader");
    let writer = ground.store().await;
    writer.save_first_config("gateway", &config(1)).await.expect("saved");
    let reader = Store::open(read_only).await.expect("it is there now");
    assert!(reader.current_config("gateway").await.expect("an answer").is_some());
    let writes = [
        reader.publish_config("gateway", 1, &config(2)).await.map(drop),
        reader.acquire_lease("job", "reader", None).await.map(drop),
        reader.touch_session(&[1; 32]).await.map(drop),
        reader.sweep().await.map(drop),
    ];
    for write in writes {
        let Err(StoreError::Refused { cause, .. }) = write else { panic!("it is a reader: {write:?}") };
        assert!(cause.contains("reading only"), "{cause}");
    }
    assert_eq!(writer.lease("job").await, Ok(None));
}

pub(crate) async fn what_comes_after_the_end_is_told_so(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.close().await;
    assert!(store.revisions().await.is_err_and(|error| error.is_unavailable()));
    store.close().await;
}

pub(crate) async fn changes_seen_by_a_revision_are_all_there(ground: Rc<Ground>) {
    let (writer, reader) = (ground.store().await, ground.store().await);
    let before = reader.revisions().await.expect("an answer");
    let writes = tokio::spawn(async move {
        for number in 0..20u8 {
            let session = store::NewSession {
                hash: vec![number; 32],
                user: "eva".to_owned(),
                details: serde_json::json!({}),
                lifetime: Duration::from_secs(60),
            };
            writer.add_session(&session).await.expect("added");
            writer.end_session(&[number; 32]).await.expect("ended");
        }
    });
    let mut seen = before.sessions;
    while seen < before.sessions + 20 {
        let revision = reader.revisions().await.expect("an answer").sessions;
        let ended = reader.sessions_ended_since(seen).await.expect("an answer");
        assert!(ended.len() as u64 >= revision - seen, "{} of {} are there", ended.len(), revision - seen);
        seen = ended.last().map_or(seen, |last| last.revision);
    }
    writes.await.expect("no panic");
}

#[test]
fn a_file_and_its_directory_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    keeps(Ground::sqlite_in("deep/er"), async |ground| {
        let store = ground.store().await;
        store.save_first_config("gateway", &config(1)).await.expect("saved");
        let settings = ground.settings();
        let file = settings.url.file().expect("SQLite");
        let mode =
            |path: &std::path::Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(file.parent().expect("a directory")), 0o700);
        for beside in std::fs::read_dir(file.parent().expect("a directory")).expect("a directory") {
            let path = beside.expect("an entry").path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    });
}

#[test]
fn a_file_that_is_no_database_is_told_so() {
    keeps(Ground::sqlite(), async |ground| {
        let settings = ground.settings();
        std::fs::write(settings.url.file().expect("SQLite"), "no database, but some text that is long enough to be read as a header of one, and then to be refused").expect("written");
        let refused = Store::open(settings).await.map(drop);
        assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{refused:?}");
    });
}

#[test]
fn a_server_that_is_not_there_may_come_and_a_database_that_is_not_there_is_the_operators() {
    let server = Server::shared();
    keeps(Ground::postgres(), async |ground| {
        let open = async |url: String| {
            let settings = StoreSettings {
                timeout: Duration::from_millis(500),
                ..StoreSettings::new(url.parse().expect("a URL"))
            };
            Store::open(settings).await.map(drop)
        };
        let nobody = open("postgres://postgres@localhost/cluster?host=/nowhere/at/all".to_owned()).await;
        assert!(matches!(nobody, Err(StoreError::Unavailable { .. })), "{nobody:?}");
        let missing = open(server.url("no_such_database")).await;
        assert!(matches!(missing, Err(StoreError::Refused { .. })), "{missing:?}");
        let stranger = ground.url().replace("postgres://postgres@", "postgres://stranger:s3cret@");
        let Err(StoreError::Refused { cause, .. }) = open(stranger).await else { panic!("nobody knows him") };
        assert!(cause.contains("stranger") && !cause.contains("s3cret"), "{cause}");
    });
}

#[test]
fn a_change_is_hinted_at_to_who_listens() {
    keeps(Ground::postgres(), async |ground| {
        let (here, there) = (ground.store().await, ground.store().await);
        // Each is told once when it has begun to listen.
        there.changed().await;
        here.save_first_config("gateway", &config(1)).await.expect("saved");
        there.changed().await;
        assert_eq!(there.revisions().await.expect("an answer").config, 1);
    });
}

#[test]
fn no_more_connections_are_made_or_kept_than_allowed() {
    let server = Server::shared();
    keeps(Ground::postgres(), async |ground| {
        let settings = StoreSettings { connections_max: 3, idle_connections_max: 1, ..ground.settings() };
        let store = Store::open(settings).await.expect("a store");
        store.changed().await;
        let name = ground.name();
        let count = || -> u32 {
            let sql = format!("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{name}'");
            server.say("postgres", &sql).parse().expect("a number")
        };
        let asked: Vec<_> = (0..30)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.register_process(&crate::ground::process("gateway")).await })
            })
            .collect();
        let mut most = 0;
        for task in asked {
            most = most.max(count());
            task.await.expect("no panic").expect("joined");
        }
        assert!(most <= 4, "{most} connections, of which one listens");
        // Those that are too many are closed by tasks of their own.
        while count() > 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}
