//! Sessions: shared by all processes, ended for all at once, and over by the database's clock.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use store::{NewSession, StoreError};

use crate::ground::Ground;

fn session(number: u8, user: &str) -> NewSession {
    NewSession {
        hash: vec![number; 32],
        user: user.to_owned(),
        details: json!({ "address": "192.0.2.1" }),
        lifetime: Duration::from_secs(3_600),
    }
}

pub(crate) async fn a_session_lives_until_it_is_ended(ground: Rc<Ground>) {
    let (here, there) = (ground.store().await, ground.store().await);
    here.add_session(&session(1, "eva")).await.expect("added");
    assert!(matches!(here.add_session(&session(1, "adam")).await, Err(StoreError::Conflict { .. })));
    let read = there.session(&[1; 32]).await.expect("an answer").expect("shared");
    assert_eq!((read.user.as_str(), &read.details), ("eva", &session(1, "eva").details));
    assert_eq!(read.expires_at.since(read.created_at), Duration::from_secs(3_600));
    assert!(read.read_at >= read.used_at);
    assert_eq!(there.touch_session(&[1; 32]).await, Ok(true));
    let touched = here.session(&[1; 32]).await.expect("an answer").expect("it lives");
    assert!(touched.used_at >= read.used_at && touched.expires_at == read.expires_at);
    let before = here.revisions().await.expect("an answer").sessions;
    assert_eq!(there.end_session(&[1; 32]).await, Ok(true));
    assert_eq!(there.end_session(&[1; 32]).await, Ok(false));
    assert_eq!(here.revisions().await.expect("an answer").sessions, before + 1);
    assert_eq!(here.session(&[1; 32]).await, Ok(None));
    assert_eq!(here.touch_session(&[1; 32]).await, Ok(false));
    assert!(here.add_session(&session(1, "eva")).await.is_err(), "what was ended does not begin again");
}

pub(crate) async fn a_session_is_over_by_itself(ground: Rc<Ground>) {
    let store = ground.store().await;
    let short = NewSession { lifetime: Duration::ZERO, ..session(1, "eva") };
    store.add_session(&short).await.expect("added");
    assert_eq!(store.session(&[1; 32]).await, Ok(None));
    assert_eq!(store.touch_session(&[1; 32]).await, Ok(false));
}

pub(crate) async fn who_was_away_learns_which_sessions_ended(ground: Rc<Ground>) {
    let store = ground.store().await;
    for (number, user) in [(1, "eva"), (2, "eva"), (3, "adam"), (4, "adam")] {
        store.add_session(&session(number, user)).await.expect("added");
    }
    store.end_session(&[3; 32]).await.expect("ended");
    let seen = store.revisions().await.expect("an answer").sessions;
    assert_eq!(store.sessions_ended_since(seen).await, Ok(Vec::new()));
    assert_eq!(store.end_sessions_of("eva").await, Ok(2));
    assert_eq!(store.end_sessions_of("eva").await, Ok(0));
    let ended = store.sessions_ended_since(seen).await.expect("an answer");
    let mut hashes: Vec<_> = ended.iter().map(|session| session.hash[0]).collect();
    hashes.sort_unstable();
    assert_eq!(hashes, [1, 2]);
    assert_eq!(ended[0].revision, store.revisions().await.expect("an answer").sessions);
    assert!(store.session(&[4; 32]).await.expect("an answer").is_some());
}

pub(crate) async fn sweeping_removes_only_what_is_over(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.add_session(&session(1, "eva")).await.expect("added");
    store.add_session(&session(2, "eva")).await.expect("added");
    store.add_session(&NewSession { lifetime: Duration::ZERO, ..session(3, "eva") }).await.expect("added");
    store.end_session(&[2; 32]).await.expect("ended");
    let now = store.now().await.expect("an answer");
    store.revoke_token("over", now).await.expect("revoked");
    store.revoke_token("not over", now.after(Duration::from_secs(3_600))).await.expect("revoked");
    assert_eq!(store.sweep().await, Ok(2));
    assert_eq!(store.sweep().await, Ok(0));
    assert!(store.session(&[1; 32]).await.expect("an answer").is_some());
    assert_eq!(
        store.sessions_ended_since(0).await.expect("an answer").len(),
        1,
        "others may still have to learn it"
    );
    assert_eq!(store.revocations().await.expect("an answer").len(), 1);
}
