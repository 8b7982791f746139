//! Leases: one holder, an epoch that only grows, and a take-over by who saw the last mark.

use std::rc::Rc;

use store::StoreError;

use crate::ground::{Ground, ten_at_once};

pub(crate) async fn one_of_ten_gets_a_lease(ground: Rc<Ground>) {
    let store = ground.store().await;
    assert_eq!(store.lease("node/gateway").await, Ok(None));
    let taken = ten_at_once(|number| {
        let store = store.clone();
        async move { store.acquire_lease("node/gateway", &format!("gateway-{number}"), None).await }
    })
    .await;
    let won: Vec<_> = taken.iter().filter_map(|result| result.as_ref().ok()).collect();
    assert_eq!(won.len(), 1, "{taken:?}");
    assert_eq!((won[0].epoch, won[0].beat), (1, 1));
    assert_eq!(store.lease("node/gateway").await.expect("an answer").as_ref(), Some(won[0]));
    let lost = |result: &&Result<_, _>| matches!(result, Err(StoreError::Conflict { current: Some(1), .. }));
    assert_eq!(taken.iter().filter(lost).count(), 9, "{taken:?}");
}

pub(crate) async fn a_lease_is_taken_over_by_who_saw_its_last_mark(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.acquire_lease("job", "one", None).await.expect("free");
    let renewed = store.renew_lease("job", "one", 1).await.expect("held");
    assert_eq!((renewed.epoch, renewed.beat), (1, 2));
    let early = store.acquire_lease("job", "other", Some((1, 1))).await;
    assert!(
        matches!(early, Err(StoreError::Conflict { current: Some(1), .. })),
        "it was renewed since: {early:?}"
    );
    let taken = store.acquire_lease("job", "other", Some((1, 2))).await.expect("seen and not renewed");
    assert_eq!((taken.holder.as_deref(), taken.epoch), (Some("other"), 2));
    assert!(
        store.acquire_lease("another job", "other", Some((1, 1))).await.is_err(),
        "a lease that nobody had has no mark"
    );
}

pub(crate) async fn whoever_lost_a_lease_can_neither_renew_nor_release_it(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.acquire_lease("job", "one", None).await.expect("free");
    store.acquire_lease("job", "other", Some((1, 1))).await.expect("taken over");
    for late in
        [store.renew_lease("job", "one", 1).await.map(drop), store.release_lease("job", "one", 1).await]
    {
        assert!(matches!(late, Err(StoreError::Conflict { current: Some(2), .. })), "{late:?}");
    }
    // Nor with the right epoch under another name, nor the other way round.
    assert!(store.renew_lease("job", "one", 2).await.is_err());
    assert!(store.renew_lease("job", "other", 1).await.is_err());
    assert!(store.renew_lease("job", "other", 2).await.is_ok());
}

pub(crate) async fn an_epoch_never_goes_back(ground: Rc<Ground>) {
    let store = ground.store().await;
    let mut held = store.acquire_lease("job", "one", None).await.expect("free");
    for expected in 2..6 {
        store.release_lease("job", "one", held.epoch).await.expect("held");
        let free = store.lease("job").await.expect("an answer").expect("it leaves its mark");
        assert_eq!((free.holder.as_deref(), free.epoch), (None, held.epoch));
        assert!(free.beat > held.beat, "who saw it held looks again");
        assert!(store.acquire_lease("job", "one", None).await.is_err(), "it was held before");
        held = store.acquire_lease("job", "one", Some((free.epoch, free.beat))).await.expect("free");
        assert_eq!(held.epoch, expected);
    }
}
