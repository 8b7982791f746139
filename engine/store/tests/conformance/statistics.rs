//! Figures of processes.

use std::rc::Rc;

use store::StoreError;

use crate::ground::{Ground, process};

pub(crate) async fn figures_go_with_their_process(ground: Rc<Ground>) {
    let store = ground.store().await;
    let one = store.register_process(&process("gateway")).await.expect("joined");
    let other = store.register_process(&process("admin")).await.expect("joined");
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    store.put_stats(&other.id, b"").await.expect("put");
    store.put_stats(&one.id, b"old").await.expect("put");
    store.put_stats(&one.id, &every_byte).await.expect("put");
    let rows = store.stats().await.expect("an answer");
    let said: Vec<_> =
        rows.iter().map(|row| (row.process.as_str(), row.node.as_str(), row.blob.len())).collect();
    assert_eq!(said, [(one.id.as_str(), "gateway", 100_000), (other.id.as_str(), "admin", 0)]);
    assert_eq!(rows[0].blob, every_byte);
    store.deregister(&one.id, one.epoch).await.expect("left");
    assert_eq!(store.stats().await.expect("an answer").len(), 1);
    let late = store.put_stats(&one.id, b"late").await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
}
