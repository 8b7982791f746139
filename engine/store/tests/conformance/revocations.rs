//! Tokens that were revoked.

use std::rc::Rc;
use std::time::Duration;

use crate::ground::Ground;

pub(crate) async fn a_token_is_revoked_once(ground: Rc<Ground>) {
    let store = ground.store().await;
    let later = store.now().await.expect("an answer").after(Duration::from_secs(60));
    store.revoke_token("one", later).await.expect("revoked");
    let seen = store.revisions().await.expect("an answer").revocations;
    store.revoke_token("other", later).await.expect("revoked");
    store.revoke_token("one", later.after(Duration::from_secs(60))).await.expect("twice is fine");
    let all = store.revocations().await.expect("an answer");
    let said: Vec<_> = all.iter().map(|one| (one.token.as_str(), one.expires_at)).collect();
    assert_eq!(said, [("one", later), ("other", later)]);
    let since = store.revocations_since(seen).await.expect("an answer");
    assert_eq!(since.iter().map(|one| one.token.as_str()).collect::<Vec<_>>(), ["other"]);
}
