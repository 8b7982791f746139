//! Figures of processes.

use std::rc::Rc;

use crate::ground::{Ground, process};

pub(crate) async fn figures_stay_when_their_process_goes(ground: Rc<Ground>) {
    let store = ground.store().await;
    let one = store.register_process(&process("gateway")).await.expect("joined");
    let other = store.register_process(&process("admin")).await.expect("joined");
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert!(!store.put_stats(&one.id, b"early").await.expect("an answer"), "there is nothing to replace");
    store.put_first_stats(&other.id, "admin", b"").await.expect("put");
    store.put_first_stats(&one.id, "gateway", b"old").await.expect("put");
    assert!(store.put_stats(&one.id, &every_byte).await.expect("put"));
    store.deregister(&one.id, one.epoch).await.expect("left");
    let rows = store.stats().await.expect("an answer");
    let said: Vec<_> = rows
        .iter()
        .map(|row| (row.process.as_str(), row.node.as_str(), row.blob.len(), row.revision))
        .collect();
    assert_eq!(said, [(other.id.as_str(), "admin", 0, 1), (one.id.as_str(), "gateway", 100_000, 2)]);
    assert_eq!(rows[1].blob, every_byte);
}

pub(crate) async fn figures_are_added_to_the_sum_once(ground: Rc<Ground>) {
    let store = ground.store().await;
    for (id, figures) in [("a-1", b"1"), ("a-2", b"2"), ("a-3", b"3")] {
        store.put_first_stats(id, "a", figures).await.expect("put");
    }
    let seen = store.stats().await.expect("an answer");
    assert!(store.fold_stats(&seen[..1], None, b"sum 1").await.expect("an answer"));
    assert!(!store.fold_stats(&seen[..1], None, b"sum 1").await.expect("an answer"), "somebody was first");
    assert!(!store.put_stats("a-1", b"10").await.expect("an answer"), "it is part of the sum");
    let sum = store.stats().await.expect("an answer").remove(0);
    assert!(sum.is_sum() && sum.blob == b"sum 1");

    // One of two has changed since: nothing is done.
    assert!(store.put_stats("a-3", b"30").await.expect("put"));
    assert!(!store.fold_stats(&seen[1..], Some(&sum), b"sum 1 2 3").await.expect("an answer"));
    let rows = store.stats().await.expect("an answer");
    assert_eq!(rows.iter().map(|row| &row.blob[..]).collect::<Vec<_>>(), [&b"sum 1"[..], b"2", b"30"]);
    assert!(store.fold_stats(&rows[1..], Some(&sum), b"sum 1 2 30").await.expect("an answer"));
    let rows = store.stats().await.expect("an answer");
    assert_eq!((rows.len(), &rows[0].blob[..], rows[0].revision), (1, &b"sum 1 2 30"[..], 2));
    assert!(!store.fold_stats(&[], Some(&sum), b"").await.expect("an answer"), "the sum has changed");
}
