//! Is a token looked at once, remembered within bounds, and refused from the moment it is revoked?

use std::time::Duration;

use auth::token::issue::{Grant, issue};
use auth::token::key::SigningKey;

use super::*;

const NOW: u64 = 1_800_000_000;
const ID: SecurityId = SecurityId(0);

fn tokens() -> Tokens {
    let text = "[listener.web]\nbind = '127.0.0.1:1'\n[channel.a]\nrespond = {}\ntoken = { check = 'c' }\n\
                [security.c]\ntype = 'token_check'\njwks = 'file:/k'\naudience = 'patients'\nissuer = 'i'\n";
    let loaded = config::load_str("a.toml", text, config::Format::Toml, &|_| None);
    Tokens::new(&loaded.unwrap_or_else(|problems| panic!("{problems}")).snapshot)
}

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::EdDsa).expect("random bytes").0
}

fn token(key: &SigningKey) -> (String, String) {
    let grant = Grant {
        issuer: "i",
        audience: &["patients".into()],
        subject: "eva",
        client: "eva",
        scope: "read",
        lifetime: Duration::from_secs(300),
    };
    let issued = issue(key, &grant, NOW).expect("issued");
    (issued.token, issued.id)
}

struct Core {
    cache: TokenCache,
    tokens: Tokens,
}

impl Core {
    fn with(key: &SigningKey) -> Self {
        let core = Self { cache: TokenCache::default(), tokens: tokens() };
        core.tokens.publish_keys(ID, Arc::new(KeySet::of([&key.public()])));
        core
    }

    fn ask(&self, token: &str, now: u64) -> Result<Rc<Verified>, TokenRejected> {
        recall(&self.cache, self.tokens.find(ID).expect("a check"), ID, token, now)
    }

    fn remembered(&self) -> (usize, usize) {
        (self.cache.believed.borrow().young.len(), self.cache.refused.borrow().young.len())
    }
}

#[test]
fn a_token_is_verified_once_and_forgotten_when_it_is_over() {
    let key = key();
    let (core, (token, _)) = (Core::with(&key), token(&key));
    let first = core.ask(&token, NOW).expect("believed");
    let again = core.ask(&token, NOW + 329).expect("within the skew");
    assert!(Rc::ptr_eq(&first, &again), "remembered");
    assert_eq!(core.ask(&token, NOW + 330).err(), Some(TokenRejected::Over));
    assert_eq!(core.remembered(), (1, 1));
}

#[test]
fn a_revoked_token_is_refused_at_once_and_others_are_not() {
    let key = key();
    let (core, (bad, bad_id), (good, _)) = (Core::with(&key), token(&key), token(&key));
    assert!(core.ask(&bad, NOW).is_ok() && core.ask(&good, NOW).is_ok());
    let revoked = Revocations::new([(bad_id.into(), NOW + 300)], 30, NOW);
    core.tokens.publish_revocations(&Arc::new(revoked));
    assert_eq!(core.ask(&bad, NOW).err(), Some(TokenRejected::Revoked));
    assert!(core.ask(&good, NOW).is_ok());
    assert_eq!(core.tokens.check(ID, &bad, NOW).err(), Some(TokenRejected::Revoked), "control says the same");
}

#[test]
fn other_keys_say_anew_what_is_believed() {
    let (old, new) = (key(), key());
    let (core, (of_old, _), (of_new, _)) = (Core::with(&old), token(&old), token(&new));
    assert!(core.ask(&of_old, NOW).is_ok());
    assert_eq!(core.ask(&of_new, NOW).err(), Some(TokenRejected::KeyUnknown));
    assert!(core.tokens.take_wish_for_keys(ID), "an unknown key is asked for");
    assert!(!core.tokens.take_wish_for_keys(ID), "once");
    assert_eq!(core.ask(&of_new, NOW).err(), Some(TokenRejected::KeyUnknown));
    assert!(!core.tokens.take_wish_for_keys(ID), "what is remembered asks for nothing");
    core.tokens.publish_keys(ID, Arc::new(KeySet::of([&old.public(), &new.public()])));
    assert!(core.ask(&of_old, NOW).is_ok() && core.ask(&of_new, NOW).is_ok());
    core.tokens.publish_keys(ID, Arc::new(KeySet::of([&new.public()])));
    assert_eq!(core.ask(&of_old, NOW).err(), Some(TokenRejected::KeyUnknown), "its key is gone");
}

#[test]
fn nothing_is_believed_before_there_are_keys() {
    let (key, tokens) = (key(), tokens());
    assert_eq!(tokens.check(ID, &token(&key).0, NOW).err(), Some(TokenRejected::KeyUnknown));
    assert_eq!(tokens.check(SecurityId(7), &token(&key).0, NOW).err(), Some(TokenRejected::KeyUnknown));
}

#[test]
fn what_is_remembered_is_bounded_and_made_up_tokens_drive_out_no_good_ones() {
    let key = key();
    let (core, (good, _)) = (Core::with(&key), token(&key));
    let first = core.ask(&good, NOW).expect("believed");
    for number in 0..5 * REFUSED_MAX {
        assert!(core.ask(&format!("made.up.{number}"), NOW).is_err());
    }
    let (young, old) = (core.remembered().1, core.cache.refused.borrow().old.len());
    assert!(young <= REFUSED_MAX && old <= REFUSED_MAX, "{young} {old}");
    assert!(Rc::ptr_eq(&first, &core.ask(&good, NOW).expect("believed")));
    let mut turns = Turns::default();
    for number in 0..10 * BELIEVED_MAX as u64 {
        turns.put((ID, Digest::of(&number.to_ne_bytes())), 1, number, BELIEVED_MAX);
        assert_eq!(
            turns.find(&(ID, Digest::of(&0u64.to_ne_bytes())), 1, BELIEVED_MAX),
            Some(0),
            "asked for each turn"
        );
    }
    assert!(turns.young.len() <= BELIEVED_MAX && turns.old.len() <= BELIEVED_MAX);
}

#[test]
fn whom_a_token_is_about_is_said_and_nothing_the_client_says() {
    let check = |subject: Option<&str>, head: &str, expected: &str| {
        let mut text = head.as_bytes().to_vec();
        announce(subject, &mut text);
        assert_eq!(String::from_utf8(text).expect("text"), expected);
    };
    let forged = "GET / HTTP/1.1\r\nx-authenticated-subject: root\r\nHost: a\r\nX-Authenticated-Subject:\r\n\r\nbody\r\nX-Authenticated-Subject: b\r\n";
    let body = "body\r\nX-Authenticated-Subject: b\r\n";
    check(None, forged, &format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{body}"));
    let said = "GET / HTTP/1.1\r\nX-Authenticated-Subject: eva\r\nHost: a\r\n\r\n";
    check(Some("eva"), forged, &format!("{said}{body}"));
    for odd in ["", " ", "e\r\nva", "\u{fc}", "a\0"] {
        check(Some(odd), "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n");
    }
}
