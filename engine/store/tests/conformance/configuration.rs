//! Versions of configuration: saved once, published by who saw the last, active when all have found them good.

use std::rc::Rc;

use store::{Activation, ConfigState, FirstSave, ProcessState, Store, StoreError};

use crate::ground::{Ground, config, process, ten_at_once};

pub(crate) async fn the_first_saves_and_the_others_find_it(ground: Rc<Ground>) {
    let store = ground.store().await;
    assert_eq!(store.current_config("gateway").await, Ok(None));
    assert_eq!(store.save_first_config("gateway", &config(1)).await, Ok(FirstSave::Saved(1)));
    let FirstSave::Exists(there) = store.save_first_config("gateway", &config(2)).await.expect("saved")
    else {
        panic!("it was there already");
    };
    assert_eq!(there.document, config(1).document);
    assert_eq!((there.summary.version, there.summary.state), (1, ConfigState::Active));
    assert_eq!((there.summary.author.as_str(), there.summary.comment.as_str()), ("eva", "number 1"));
    assert!(there.summary.decided_at.is_some());
    assert_eq!(store.current_config("gateway").await, Ok(Some(*there)));
    assert_eq!(store.config_version("gateway", 2).await, Ok(None));
}

pub(crate) async fn of_ten_first_saves_at_once_one_wins(ground: Rc<Ground>) {
    let store = ground.store().await;
    let saves = ten_at_once(|number| {
        let store = store.clone();
        async move { store.save_first_config("gateway", &config(number)).await.expect("saved or there") }
    })
    .await;
    let saved = saves.iter().filter(|save| **save == FirstSave::Saved(1)).count();
    let current = store.current_config("gateway").await.expect("an answer").expect("a version");
    let found = saves.iter().filter(|save| **save == FirstSave::Exists(Box::new(current.clone()))).count();
    assert_eq!((saved, found), (1, 9));
    assert_eq!(store.config_history("gateway", 10).await.expect("an answer").len(), 1);
}

pub(crate) async fn publishing_takes_the_version_that_was_seen(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.save_first_config("gateway", &config(1)).await.expect("saved");
    let before = store.revisions().await.expect("an answer").config;
    assert_eq!(conflict(store.publish_config("gateway", 0, &config(2)).await), Some(1));
    assert_eq!(conflict(store.publish_config("gateway", 2, &config(2)).await), Some(1));
    assert_eq!(store.revisions().await.expect("an answer").config, before, "nothing was done");
    assert_eq!(store.publish_config("gateway", 1, &config(2)).await, Ok(2));
    assert!(store.revisions().await.expect("an answer").config > before);
    // One at a time is checked.
    assert_eq!(conflict(store.publish_config("gateway", 1, &config(3)).await), Some(2));
    let proposed = store.proposed_config("gateway").await.expect("an answer").expect("a version");
    assert_eq!((proposed.summary.version, proposed.summary.state), (2, ConfigState::Proposed));
    assert_eq!(version_of(&store).await, 1);
    assert_eq!(store.activate_config("gateway", 2).await, Ok(Activation::Active));
    assert_eq!(store.activate_config("gateway", 2).await, Ok(Activation::Active), "twice is fine");
    assert_eq!(version_of(&store).await, 2);
    assert_eq!(store.proposed_config("gateway").await, Ok(None));
    assert_eq!(state_of(&store, 1).await, ConfigState::Past);
    assert_eq!(conflict(store.activate_config("gateway", 1).await), Some(2), "what is past stays past");
    assert!(matches!(store.activate_config("gateway", 3).await, Err(StoreError::Missing { .. })));
}

pub(crate) async fn of_two_publishers_at_once_one_gets_a_conflict(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.save_first_config("gateway", &config(0)).await.expect("saved");
    for base in 1..=10 {
        let (one, other) = (config(1), config(2));
        let (one, other) = tokio::join!(
            store.publish_config("gateway", base, &one),
            store.publish_config("gateway", base, &other)
        );
        let (winner, loser) = if one.is_ok() { (one, other) } else { (other, one) };
        assert_eq!(winner, Ok(base + 1));
        assert_eq!(conflict(loser), Some(base + 1));
        assert_eq!(store.activate_config("gateway", base + 1).await, Ok(Activation::Active));
    }
}

pub(crate) async fn a_version_waits_for_every_process_that_is_not_leaving(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.save_first_config("gateway", &config(1)).await.expect("saved");
    let (mut ids, mut epochs) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let row = store.register_process(&process("gateway")).await.expect("joined");
        ids.push(row.id);
        epochs.push(row.epoch);
    }
    store.register_process(&process("another_node")).await.expect("joined");
    store.publish_config("gateway", 1, &config(2)).await.expect("published");
    let waiting = |ids: &[String]| Ok(Activation::Waiting { processes: ids.to_vec() });
    assert_eq!(store.activate_config("gateway", 2).await, waiting(&ids));
    store.report_config_check(&ids[0], "gateway", 2, Ok(())).await.expect("noted");
    assert_eq!(store.activate_config("gateway", 2).await, waiting(&ids[1..]));
    store.report_config_check(&ids[1], "gateway", 2, Err("port 80 is taken")).await.expect("noted");
    assert_eq!(store.activate_config("gateway", 2).await, waiting(&ids[1..]), "a bad word is no good one");
    let checks = store.config_checks("gateway", 2).await.expect("an answer");
    let results: Vec<_> = checks.iter().map(|check| (check.process.as_str(), check.result.clone())).collect();
    let bad = Err("port 80 is taken".to_owned());
    assert_eq!(results, [(ids[0].as_str(), Ok(())), (ids[1].as_str(), bad)]);
    store.report_config_check(&ids[1], "gateway", 2, Ok(())).await.expect("noted");
    let leaving = store::Beat {
        state: ProcessState::Draining,
        config_version: Some(1),
        config_refused: None,
        load: serde_json::json!({}),
    };
    store.beat(&ids[2], epochs[2], &leaving).await.expect("heard");
    assert_eq!(store.activate_config("gateway", 2).await, Ok(Activation::Active));
    let stranger = store.report_config_check("gateway-99", "gateway", 2, Ok(())).await;
    assert!(matches!(stranger, Err(StoreError::Conflict { .. })), "{stranger:?}");
}

pub(crate) async fn a_rejected_version_is_never_active(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.save_first_config("gateway", &config(1)).await.expect("saved");
    store.publish_config("gateway", 1, &config(2)).await.expect("published");
    assert_eq!(store.reject_config("gateway", 2, "no such file").await, Ok(()));
    assert_eq!(store.reject_config("gateway", 2, "another cause").await, Ok(()));
    assert_eq!(conflict(store.activate_config("gateway", 2).await), Some(1));
    assert_eq!(conflict(store.reject_config("gateway", 1, "too late").await), Some(1));
    let rejected =
        store.config_version("gateway", 2).await.expect("an answer").expect("it stays there").summary;
    assert_eq!((rejected.state, rejected.cause.as_deref()), (ConfigState::Rejected, Some("no such file")));
    assert_eq!(version_of(&store).await, 1);
    assert_eq!(store.publish_config("gateway", 1, &config(3)).await, Ok(3), "its number is not used again");
}

pub(crate) async fn history_has_the_newest_first(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.save_first_config("gateway", &config(1)).await.expect("saved");
    for base in 1..5 {
        store.publish_config("gateway", base, &config(0)).await.expect("published");
        store.activate_config("gateway", base + 1).await.expect("active");
    }
    let versions =
        |history: Vec<store::ConfigSummary>| -> Vec<u64> { history.iter().map(|one| one.version).collect() };
    let history = store.config_history("gateway", 100).await.expect("an answer");
    let past =
        [ConfigState::Active, ConfigState::Past, ConfigState::Past, ConfigState::Past, ConfigState::Past];
    assert_eq!(history.iter().map(|one| one.state).collect::<Vec<_>>(), past);
    assert!(history.windows(2).all(|pair| pair[0].created_at >= pair[1].created_at));
    assert_eq!(versions(history), [5, 4, 3, 2, 1]);
    assert_eq!(versions(store.config_history("gateway", 2).await.expect("an answer")), [5, 4]);
}

pub(crate) async fn nodes_have_versions_of_their_own(ground: Rc<Ground>) {
    let store = ground.store().await;
    assert_eq!(store.nodes().await, Ok(Vec::new()));
    store.save_first_config("gateway", &config(1)).await.expect("saved");
    store.publish_config("gateway", 1, &config(2)).await.expect("published");
    assert_eq!(store.publish_config("admin", 0, &config(3)).await, Ok(1), "a node that never had one");
    store.register_process(&process("auth")).await.expect("joined");
    let nodes: Vec<_> = store
        .nodes()
        .await
        .expect("an answer")
        .into_iter()
        .map(|node| (node.id, node.config_version, node.proposed_version, node.processes))
        .collect();
    let expected = [
        ("admin".to_owned(), None, Some(1), 0),
        ("auth".to_owned(), None, None, 1),
        ("gateway".to_owned(), Some(1), Some(2), 0),
    ];
    assert_eq!(nodes, expected);
}

fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Option<u64> {
    match result {
        Err(StoreError::Conflict { current, .. }) => current,
        other => panic!("a conflict was expected: {other:?}"),
    }
}

async fn version_of(store: &Store) -> u64 {
    store.current_config("gateway").await.expect("an answer").expect("a version").summary.version
}

async fn state_of(store: &Store, version: u64) -> ConfigState {
    store.config_version("gateway", version).await.expect("an answer").expect("a version").summary.state
}
