//! Users and clients: two sets of names, changed by who saw them last.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use store::{NewAccount, NewSession, StoreError};

use crate::ground::{Ground, ten_at_once};

fn account(name: &str) -> NewAccount {
    NewAccount {
        name: name.to_owned(),
        secret_hash: "$argon2id$…".to_owned(),
        profile: json!({ "roles": ["viewer"], "full_name": "Évà" }),
    }
}

pub(crate) async fn users_are_changed_by_who_saw_them_last(ground: Rc<Ground>) {
    let store = ground.store().await;
    let added = store.add_user(&account("eva")).await.expect("added");
    assert_eq!((added.profile.clone(), added.secret_hash.as_str()), (account("eva").profile, "$argon2id$…"));
    let again = store.add_user(&account("eva")).await;
    assert!(
        matches!(again, Err(StoreError::Conflict { current, .. }) if current == Some(added.revision)),
        "{again:?}"
    );
    let promoted = NewAccount { profile: json!({ "roles": ["administrator"] }), ..account("eva") };
    let changed = store.update_user(added.revision, &promoted).await.expect("seen last");
    assert!(changed.revision > added.revision && changed.created_at == added.created_at);
    let late = store.update_user(added.revision, &account("eva")).await;
    assert!(
        matches!(late, Err(StoreError::Conflict { current, .. }) if current == Some(changed.revision)),
        "{late:?}"
    );
    assert_eq!(store.user("eva").await, Ok(Some(changed.clone())));
    assert!(matches!(store.update_user(1, &account("adam")).await, Err(StoreError::Missing { .. })));
    assert_eq!(store.user("Eva").await, Ok(None), "names are what they are, letter by letter");
}

pub(crate) async fn users_and_clients_have_names_of_their_own(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.add_user(&account("portal")).await.expect("added");
    assert_eq!(store.client("portal").await, Ok(None));
    let client = store.add_client(&account("portal")).await.expect("added");
    store.add_client(&account("billing")).await.expect("added");
    assert!(store.update_client(client.revision, &account("portal")).await.is_ok());
    let names = |rows: Vec<store::AccountRow>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(names(store.clients().await.expect("an answer")), ["billing", "portal"]);
    assert_eq!(store.remove_client("portal").await, Ok(true));
    assert_eq!(store.remove_client("portal").await, Ok(false));
    assert_eq!(names(store.users().await.expect("an answer")), ["portal"]);
    assert_eq!(names(store.clients().await.expect("an answer")), ["billing"]);
}

pub(crate) async fn of_ten_first_users_one_is_added(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.add_client(&account("a client is no user")).await.expect("added");
    let added =
        ten_at_once(|number| {
            let store = store.clone();
            async move {
                store.add_first_user(&account(&format!("administrator{number}"))).await.expect("an answer")
            }
        })
        .await;
    let winners: Vec<_> = added.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.users().await, Ok(winners));
}

pub(crate) async fn whoever_removes_a_user_ends_his_sessions(ground: Rc<Ground>) {
    let store = ground.store().await;
    store.add_user(&account("eva")).await.expect("added");
    let session = NewSession {
        hash: vec![1; 32],
        user: "eva".to_owned(),
        details: json!({}),
        lifetime: Duration::from_secs(3_600),
    };
    store.add_session(&session).await.expect("added");
    assert_eq!(store.remove_user("eva").await, Ok(true));
    assert_eq!(store.remove_user("eva").await, Ok(false));
    assert_eq!(store.session(&[1; 32]).await, Ok(None));
    assert_eq!(store.sessions_ended_since(0).await.expect("an answer").len(), 1);
}
