//! What does somebody see who has the database and not the key?

use std::path::Path;

use store::{NewKey, SealingKey, Store, StoreError, StoreSettings, UnixMillis};
use zeroize::Zeroizing;

use crate::ground::{Ground, directory, keeps, ten_at_once};
use crate::server::Server;

const SECRET: &[u8] = b"canary: a secret that nobody may read";

async fn add_secret(ground: &Ground) -> Store {
    let key = SealingKey::generate(&directory().join("store.key")).expect("a new file");
    let store = Store::open(StoreSettings { key: Some(key), ..ground.settings() }).await.expect("a store");
    let key = NewKey {
        kind: "token_signing".to_owned(),
        id: "canary id".to_owned(),
        active_from: UnixMillis(1),
        retire_at: None,
        secret: Zeroizing::new(SECRET.to_vec()),
    };
    store.add_key(&key).await.expect("added");
    store
}

/// Whether any file below a directory has these bytes.
fn is_in_files(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).expect("a directory").flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return is_in_files(&path, bytes);
        }
        // Some come and go while the server runs.
        std::fs::read(&path).is_ok_and(|file| file.windows(bytes.len()).any(|window| window == bytes))
    })
}

#[test]
fn no_secret_is_in_the_files_of_sqlite() {
    keeps(Ground::sqlite(), async |ground| {
        let store = add_secret(&ground).await;
        let settings = ground.settings();
        let dir = settings.url.file().expect("SQLite").parent().expect("a directory");
        assert!(is_in_files(dir, b"canary id"), "the test would find what is there");
        assert!(!is_in_files(dir, SECRET));
        store.close().await;
        assert!(is_in_files(dir, b"canary id") && !is_in_files(dir, SECRET));
    });
}

#[test]
fn no_secret_is_in_the_rows_and_files_of_postgresql() {
    let server = Server::start("");
    keeps(Ground::of(&server), async |ground| {
        add_secret(&ground).await;
        server.say("postgres", "CHECKPOINT");
        assert!(is_in_files(server.data(), b"canary id"), "the test would find what is there");
        assert!(!is_in_files(server.data(), SECRET));
    });
}

#[test]
fn a_key_is_in_a_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt;
    let path = directory().join("store.key");
    let made = SealingKey::generate(&path).expect("a new file");
    assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    assert_eq!(SealingKey::load(&path).expect("a key").id(), made.id());
    assert!(
        matches!(SealingKey::generate(&path), Err(StoreError::Conflict { .. })),
        "it is never written over"
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
    let Err(StoreError::Refused { cause, help }) = SealingKey::load(&path) else {
        panic!("others may read it")
    };
    assert!(cause.contains("0640") && help.contains("chmod 600"), "{cause}; {help}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    for wrong in [0, 31, 33] {
        std::fs::write(&path, vec![1; wrong]).expect("it is ours");
        assert!(matches!(SealingKey::load(&path), Err(StoreError::Refused { .. })), "{wrong} bytes");
    }
    assert!(matches!(SealingKey::load(Path::new("/nowhere/store.key")), Err(StoreError::Refused { .. })));
}

#[test]
fn of_ten_who_make_a_key_at_once_one_does() {
    keeps(Ground::sqlite(), async |_ground| {
        let path = directory().join("store.key");
        let made = ten_at_once(|_| {
            let path = path.clone();
            async move {
                tokio::task::spawn_blocking(move || SealingKey::generate(&path)).await.expect("no panic")
            }
        })
        .await;
        let ids: Vec<_> = made.iter().filter_map(|key| key.as_ref().ok().map(SealingKey::id)).collect();
        assert_eq!(ids, [SealingKey::load(&path).expect("a key").id()]);
    });
}
