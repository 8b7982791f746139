//! Do two processes of one store know the same? Sessions, roles, keys and revocations, from one to the other within a round.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use auth::password::{Password, PasswordRules};
use auth::permission::{Permissions, Role};
use auth::session::SessionTerms;
use auth::token::check::{Terms, TokenRejected, check};
use auth::token::issue::{Grant, issue};
use auth::token::jwks::KeySet;
use config::snapshot::security::TokenAlgorithm;
use store::{SealingKey, Store, StoreSettings, UnixMillis};

use super::accounts::UserChange;
use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TERMS: SessionTerms =
    SessionTerms { idle: Duration::from_secs(1800), absolute: Duration::from_secs(43_200) };

/// A database of its own, gone with the test.
struct Ground(PathBuf);

impl Ground {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("corelane-security-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a writable directory");
        SealingKey::generate(&path.join("key")).expect("a key");
        Self(path)
    }

    async fn process(&self) -> Security {
        let url = format!("sqlite:{}", self.0.join("store.db").display()).parse().expect("a URL");
        let key = Some(SealingKey::load(&self.0.join("key")).expect("the key"));
        let settings = StoreSettings { key, ..StoreSettings::new(url) };
        let security = Security::new(true);
        security.connect(Store::open(settings).await.expect("a store"));
        security.catch_up().await.expect("the store answers");
        security
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test);
}

fn password() -> Password {
    Password::new("correct horse battery".to_owned())
}

fn local() -> LocalInbound {
    LocalInbound {
        session_idle: TERMS.idle,
        session_lifetime: TERMS.absolute,
        password_length_min: 12,
        lockout_failures: 10,
        lockout_window: Duration::from_secs(60),
        tokens: None,
    }
}

fn issuer() -> TokenIssuer {
    TokenIssuer {
        issuer: "https://auth.example".into(),
        audience: Box::new(["patients".into()]),
        token_lifetime: Duration::from_secs(300),
        algorithm: TokenAlgorithm::EdDsa,
        rotation: Duration::from_secs(3600),
    }
}

#[test]
fn who_logs_in_at_one_process_is_known_to_the_other_until_he_logs_out_there() {
    run(async {
        let ground = Ground::new();
        let (one, other) = (ground.process().await, ground.process().await);
        let rules = PasswordRules::default();
        one.add_user(rules, Permissions::ALL, "eva", password(), vec![Role::Viewer]).await.expect("added");
        let begun = one.log_in(&local(), "eva", password(), HERE, None).await.expect("let in");
        for process in [&one, &other] {
            let session = process.sessions.find(&process.home, &TERMS, &begun.id).await.expect("an answer");
            assert_eq!(session.expect("known").permissions(), Role::Viewer.permissions());
        }
        other.log_out(&begun.id.digest()).await.expect("logged out");
        one.catch_up().await.expect("the store answers");
        for process in [&one, &other] {
            let session = process.sessions.find(&process.home, &TERMS, &begun.id).await.expect("an answer");
            assert!(session.is_none(), "over everywhere");
        }
    });
}

#[test]
fn who_is_changed_at_one_process_is_logged_out_at_the_other() {
    run(async {
        let ground = Ground::new();
        let (one, other) = (ground.process().await, ground.process().await);
        let rules = PasswordRules::default();
        one.add_user(rules, Permissions::ALL, "eva", password(), vec![Role::Operator]).await.expect("added");
        let begun = one.log_in(&local(), "eva", password(), HERE, None).await.expect("let in");
        let change = UserChange { roles: Some(vec![Role::Viewer]), ..UserChange::default() };
        other.change_user(rules, Permissions::ALL, "eva", change).await.expect("changed");
        one.catch_up().await.expect("the store answers");
        assert!(one.sessions.find(&one.home, &TERMS, &begun.id).await.expect("an answer").is_none());
    });
}

#[test]
fn of_processes_that_find_a_key_due_one_makes_it_and_what_one_signs_the_other_believes_until_it_is_taken_back()
 {
    run(async {
        let ground = Ground::new();
        let (one, other) = (ground.process().await, ground.process().await);
        let terms = issuer();
        let (a, b) = tokio::join!(
            one.signing.rotate_if_due(&one.home, "issuer", &terms),
            other.signing.rotate_if_due(&other.home, "issuer", &terms)
        );
        assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
        assert_eq!(one.home.keys("token_signing").await.expect("keys").len(), 1);
        other.catch_up().await.expect("the store answers");

        let key = one.signing.signer("issuer").expect("a key");
        let grant = Grant {
            issuer: &terms.issuer,
            audience: &terms.audience,
            subject: "reports",
            client: "reports",
            scope: "",
            lifetime: terms.token_lifetime,
        };
        let token = issue(&key, &grant, unix_seconds()).expect("issued");
        let checked = Terms {
            issuer: Some(terms.issuer.clone()),
            audience: terms.audience.clone(),
            algorithms: auth::token::algorithm::Algorithms::ALL,
            skew: Duration::ZERO,
        };
        let believes = |security: &Security| {
            let keys = KeySet::of(&security.signing.jwks("issuer").keys);
            check(&token.token, &keys, &checked, unix_seconds()).map(|_| ())
        };
        assert_eq!(believes(&other), Ok(()));
        assert_eq!(believes(&Security::new(false)), Err(TokenRejected::KeyUnknown));

        other.signing.rotate(&other.home, "issuer", &terms).await.expect("rotated");
        one.catch_up().await.expect("the store answers");
        assert_eq!(one.signing.jwks("issuer").keys.len(), 2);
        assert_eq!(believes(&one), Ok(()), "until it is over");

        other.home.revoke_token(&token.id, UnixMillis(token.expires * 1000)).await.expect("revoked");
        one.catch_up().await.expect("the store answers");
        assert!(one.revoked.lock().expect("no panic").hold(Some(&token.id)));
    });
}

#[test]
fn nobody_is_let_in_before_the_store_was_reached() {
    run(async {
        let security = Security::new(true);
        let refused = security.log_in(&local(), "admin", password(), HERE, None).await;
        assert!(matches!(refused, Err(login::Refused::Store(StoreError::Unavailable { .. }))), "{refused:?}");
        assert!(security.users().await.is_err());
    });
}
