//! Keys: sealed for everybody but those who have the sealing key.

use std::rc::Rc;

use store::{NewKey, SealingKey, Store, StoreError, StoreSettings, UnixMillis};
use zeroize::Zeroizing;

use crate::ground::{Ground, directory, ten_at_once};

fn key(id: &str, active_from: u64) -> NewKey {
    NewKey {
        kind: "tls_tickets".to_owned(),
        id: id.to_owned(),
        active_from: UnixMillis(active_from),
        retire_at: None,
        secret: Zeroizing::new(format!("the secret of {id}").into_bytes()),
    }
}

fn sealing_key() -> SealingKey {
    let dir = directory();
    let key = SealingKey::generate(&dir.join("store.key")).expect("a new file");
    std::fs::remove_dir_all(dir).expect("it is ours");
    key
}

async fn open(ground: &Ground, key: &SealingKey) -> Store {
    Store::open(StoreSettings { key: Some(key.clone()), ..ground.settings() }).await.expect("its own key")
}

pub(crate) async fn a_key_is_read_as_it_was_added(ground: Rc<Ground>) {
    let sealing = sealing_key();
    let store = open(&ground, &sealing).await;
    assert_eq!(store.keys("tls_tickets").await, Ok(Vec::new()));
    store.add_key(&key("second", 2_000)).await.expect("added");
    store.add_key(&key("first", 1_000)).await.expect("added");
    store.add_key(&NewKey { kind: "sticky".to_owned(), ..key("first", 1) }).await.expect("another kind");
    let keys = open(&ground, &sealing).await.keys("tls_tickets").await.expect("an answer");
    let said: Vec<_> = keys.iter().map(|key| (key.id.as_str(), key.active_from, key.retire_at)).collect();
    assert_eq!(said, [("first", UnixMillis(1_000), None), ("second", UnixMillis(2_000), None)]);
    assert_eq!(keys[0].secret.as_slice(), b"the secret of first");
    assert!(!format!("{keys:?} {:?}", key("first", 1)).contains("secret"), "nothing prints one");
}

pub(crate) async fn a_key_is_added_once(ground: Rc<Ground>) {
    let store = open(&ground, &sealing_key()).await;
    let added = ten_at_once(|number| {
        let (store, mut key) = (store.clone(), key("2026-11", 1));
        key.secret = Zeroizing::new(vec![u8::try_from(number).expect("ten"); 32]);
        async move { store.add_key(&key).await }
    })
    .await;
    let winner = added.iter().position(Result::is_ok).expect("one of them");
    assert_eq!(added.iter().filter(|result| matches!(result, Err(StoreError::Conflict { .. }))).count(), 9);
    let keys = store.keys("tls_tickets").await.expect("an answer");
    assert_eq!(keys.len(), 1);
    assert_eq!(usize::from(keys[0].secret[0]), winner);
}

pub(crate) async fn keys_retire_and_go(ground: Rc<Ground>) {
    let store = open(&ground, &sealing_key()).await;
    store.add_key(&key("first", 1)).await.expect("added");
    let before = store.revisions().await.expect("an answer").keys;
    store.retire_key("tls_tickets", "first", UnixMillis(5)).await.expect("it is there");
    assert_eq!(store.keys("tls_tickets").await.expect("an answer")[0].retire_at, Some(UnixMillis(5)));
    assert!(matches!(
        store.retire_key("sticky", "first", UnixMillis(5)).await,
        Err(StoreError::Missing { .. })
    ));
    store.remove_key("tls_tickets", "first").await.expect("removed");
    store.remove_key("tls_tickets", "first").await.expect("twice is fine");
    assert_eq!(store.keys("tls_tickets").await, Ok(Vec::new()));
    assert!(store.revisions().await.expect("an answer").keys >= before + 2);
}

pub(crate) async fn without_a_sealing_key_there_are_no_keys(ground: Rc<Ground>) {
    let store = ground.store().await;
    for refused in [store.add_key(&key("first", 1)).await, store.keys("tls_tickets").await.map(drop)] {
        let Err(StoreError::Refused { help, .. }) = refused else {
            panic!("refused is what it should be: {refused:?}")
        };
        assert!(help.contains("store.key_file"), "{help}");
    }
}

pub(crate) async fn another_sealing_key_is_refused(ground: Rc<Ground>) {
    let (right, wrong) = (sealing_key(), sealing_key());
    // Both are open before anything is sealed, so that neither could know.
    let (store, other) = (open(&ground, &right).await, open(&ground, &wrong).await);
    store.add_key(&key("first", 1)).await.expect("added");
    let opened = Store::open(StoreSettings { key: Some(wrong.clone()), ..ground.settings() }).await.map(drop);
    for refused in [opened, other.keys("tls_tickets").await.map(drop), other.add_key(&key("second", 1)).await]
    {
        let Err(StoreError::Refused { cause, help }) = refused else {
            panic!("refused is what it should be: {refused:?}")
        };
        assert!(cause.contains(right.id()) && cause.contains(wrong.id()), "{cause}");
        assert!(help.contains("store.key_file"), "{help}");
    }
    assert_eq!(store.keys("tls_tickets").await.expect("an answer").len(), 1);
}
