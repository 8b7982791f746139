//! The registry: ids that nobody had before, beats, wishes, and who is taken for gone by whom.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::json;
use store::{Beat, ProcessState, StoreError, Wish};

use crate::ground::{Ground, process, ten_at_once};

fn serving() -> Beat {
    Beat {
        state: ProcessState::Serving,
        config_version: Some(1),
        config_refused: None,
        load: json!({ "connections": 7 }),
    }
}

pub(crate) async fn ten_at_once_get_ten_ids_and_no_number_twice(ground: Rc<Ground>) {
    let store = ground.store().await;
    let join = |number: u32| {
        let (store, node) = (store.clone(), if number.is_multiple_of(2) { "even" } else { "odd.1-2" });
        async move { store.register_process(&process(node)).await.expect("joined") }
    };
    let rows = ten_at_once(join).await;
    let numbers: BTreeSet<_> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=10).collect());
    assert!(rows.iter().all(|row| row.id == format!("{}-{}", row.joined.node, row.number)), "{rows:?}");
    for row in &rows {
        store.deregister(&row.id, row.epoch).await.expect("left");
    }
    assert_eq!(store.processes().await, Ok(Vec::new()));
    let later = store.register_process(&process("even")).await.expect("joined");
    assert_eq!((later.number, later.id.as_str()), (11, "even-11"));
    assert!(rows.iter().all(|row| row.epoch < later.epoch), "who joins later has the higher epoch");
}

pub(crate) async fn a_beat_tells_what_is_wished_and_what_changed(ground: Rc<Ground>) {
    let store = ground.store().await;
    let joined = store.register_process(&process("gateway")).await.expect("joined");
    let answer = store.beat(&joined.id, joined.epoch, &serving()).await.expect("heard");
    assert_eq!(answer.wants, None);
    assert_eq!(answer.revisions, store.revisions().await.expect("an answer"));
    store.wish(&joined.id, Wish::Drain).await.expect("noted");
    store.set_module_state("gateway", "listener.web", true, "eva").await.expect("noted");
    let next = store.beat(&joined.id, joined.epoch, &serving()).await.expect("heard");
    assert_eq!(next.wants, Some(Wish::Drain));
    assert!(
        next.revisions.modules > answer.revisions.modules
            && next.revisions.processes > answer.revisions.processes
    );
    assert!(matches!(store.wish("gateway-99", Wish::Drain).await, Err(StoreError::Missing { .. })));
}

pub(crate) async fn beats_alone_change_no_revision(ground: Rc<Ground>) {
    let store = ground.store().await;
    let joined = store.register_process(&process("gateway")).await.expect("joined");
    let first = store.beat(&joined.id, joined.epoch, &serving()).await.expect("heard").revisions;
    let busier = Beat { load: json!({ "connections": 8 }), ..serving() };
    let second = store.beat(&joined.id, joined.epoch, &busier).await.expect("heard").revisions;
    assert_eq!(second, first);
    let refusing = Beat { config_refused: Some("port 80 is taken".to_owned()), ..serving() };
    let third = store.beat(&joined.id, joined.epoch, &refusing).await.expect("heard").revisions;
    assert_eq!(third.processes, first.processes + 1);
    let row = store.process(&joined.id).await.expect("an answer").expect("it is there");
    assert_eq!((row.beat, row.state, row.config_version), (joined.beat + 3, ProcessState::Serving, Some(1)));
    assert_eq!((row.config_refused.as_deref(), row.load), (Some("port 80 is taken"), serving().load));
}

pub(crate) async fn who_was_taken_for_gone_can_not_beat(ground: Rc<Ground>) {
    let store = ground.store().await;
    let joined = store.register_process(&process("gateway")).await.expect("joined");
    assert_eq!(store.expire_process(&joined.id, joined.epoch, joined.beat).await, Ok(true));
    let late = store.beat(&joined.id, joined.epoch, &serving()).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    assert_eq!(store.processes().await, Ok(Vec::new()), "it did not come back by that");
    let again = store.register_process(&process("gateway")).await.expect("joined");
    assert!(again.id != joined.id && again.epoch > joined.epoch);
}

pub(crate) async fn only_who_has_seen_the_last_beat_takes_a_process_for_gone(ground: Rc<Ground>) {
    let store = ground.store().await;
    let joined = store.register_process(&process("gateway")).await.expect("joined");
    store.beat(&joined.id, joined.epoch, &serving()).await.expect("heard");
    assert_eq!(store.expire_process(&joined.id, joined.epoch, joined.beat).await, Ok(false));
    assert_eq!(store.expire_process(&joined.id, joined.epoch + 1, joined.beat + 1).await, Ok(false));
    assert_eq!(store.processes().await.expect("an answer").len(), 1);
    let taken =
        ten_at_once(|_| {
            let (store, joined) = (store.clone(), joined.clone());
            async move {
                store.expire_process(&joined.id, joined.epoch, joined.beat + 1).await.expect("an answer")
            }
        })
        .await;
    assert_eq!(taken.iter().filter(|was_me| **was_me).count(), 1, "one of ten observers does it");
}

pub(crate) async fn leaving_twice_is_fine(ground: Rc<Ground>) {
    let store = ground.store().await;
    let joined = store.register_process(&process("gateway")).await.expect("joined");
    assert_eq!(
        store.deregister(&joined.id, joined.epoch + 1).await,
        Ok(()),
        "another's epoch removes nothing"
    );
    assert_eq!(store.processes().await.expect("an answer").len(), 1);
    let before = store.revisions().await.expect("an answer").processes;
    assert_eq!(store.deregister(&joined.id, joined.epoch).await, Ok(()));
    assert_eq!(store.deregister(&joined.id, joined.epoch).await, Ok(()));
    assert_eq!(store.processes().await, Ok(Vec::new()));
    assert_eq!(store.revisions().await.expect("an answer").processes, before + 1);
}

pub(crate) async fn what_a_process_says_is_what_others_read(ground: Rc<Ground>) {
    let store = ground.store().await;
    let joined = store.register_process(&process("gateway")).await.expect("joined");
    assert_eq!(joined.joined, process("gateway"));
    assert_eq!((joined.state, joined.wants, joined.config_version), (ProcessState::Starting, None, None));
    assert_eq!(ground.store().await.processes().await, Ok(vec![joined]));
}
