//! The audit log.

use std::rc::Rc;

use serde_json::json;
use store::{AuditEntry, AuditFilter};

use crate::ground::Ground;

fn entry(actor: &str, action: &str, node: Option<&str>) -> AuditEntry {
    AuditEntry {
        actor: actor.to_owned(),
        action: action.to_owned(),
        subject: "listener.web".to_owned(),
        node: node.map(str::to_owned),
        process: None,
        address: Some("192.0.2.1".to_owned()),
        outcome: "done".to_owned(),
        details: json!({ "version": 2 }),
    }
}

pub(crate) async fn entries_are_found_by_what_they_say(ground: Rc<Ground>) {
    let store = ground.store().await;
    let first = entry("eva", "module.stop", Some("gateway"));
    store.add_audit(&first).await.expect("added");
    store.add_audit(&entry("adam", "module.stop", Some("gateway"))).await.expect("added");
    store.add_audit(&entry("eva", "login", None)).await.expect("added");
    let ids = async |filter: AuditFilter| -> Vec<u64> {
        store.audit(&filter, 100, None).await.expect("an answer").iter().map(|row| row.id).collect()
    };
    assert_eq!(ids(AuditFilter::default()).await, [3, 2, 1]);
    assert_eq!(ids(AuditFilter { actor: Some("eva".into()), ..AuditFilter::default() }).await, [3, 1]);
    assert_eq!(
        ids(AuditFilter { action: Some("module.stop".into()), ..AuditFilter::default() }).await,
        [2, 1]
    );
    assert_eq!(ids(AuditFilter { node: Some("gateway".into()), ..AuditFilter::default() }).await, [2, 1]);
    assert_eq!(ids(AuditFilter { subject: Some("admin".into()), ..AuditFilter::default() }).await, [0u64; 0]);
    let both =
        AuditFilter { actor: Some("eva".into()), node: Some("gateway".into()), ..AuditFilter::default() };
    let rows = store.audit(&both, 100, None).await.expect("an answer");
    assert_eq!(rows.into_iter().map(|row| row.entry).collect::<Vec<_>>(), [first]);
}

pub(crate) async fn pages_have_no_gap_and_no_entry_twice(ground: Rc<Ground>) {
    let store = ground.store().await;
    for _ in 0..7 {
        store.add_audit(&entry("eva", "login", None)).await.expect("added");
    }
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = store.audit(&AuditFilter::default(), 3, before).await.expect("an answer");
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|row| row.id));
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
}

pub(crate) async fn the_oldest_are_trimmed(ground: Rc<Ground>) {
    let store = ground.store().await;
    assert_eq!(store.trim_audit(3).await, Ok(0));
    for _ in 0..5 {
        store.add_audit(&entry("eva", "login", None)).await.expect("added");
    }
    assert_eq!(store.trim_audit(3).await, Ok(2));
    assert_eq!(store.trim_audit(3).await, Ok(0));
    assert_eq!(store.add_audit(&entry("eva", "login", None)).await, Ok(6), "ids go on");
    let rows = store.audit(&AuditFilter::default(), 100, None).await.expect("an answer");
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [6, 5, 4, 3]);
}
