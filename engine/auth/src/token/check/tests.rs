//! Which tokens are believed, and why are the others not?

use std::time::Duration;

use super::super::issue::{Grant, issue};
use super::super::key::{PublicKey, SigningKey};
use super::super::{decode, encode};
use super::*;

const NOW: u64 = 1_800_000_000;

fn terms() -> Terms {
    Terms {
        issuer: Some("https://issuer.example".into()),
        audience: Box::new(["patients".into()]),
        algorithms: Algorithms::ALL,
        skew: Duration::from_secs(30),
    }
}

struct Issuer {
    key: SigningKey,
    keys: KeySet,
}

impl Issuer {
    fn new(algorithm: Algorithm) -> Self {
        let (key, _) = SigningKey::generate(algorithm).expect("random bytes");
        let keys = KeySet::of([&key.public()]);
        Self { key, keys }
    }

    fn token(&self) -> String {
        let grant = Grant {
            issuer: "https://issuer.example",
            audience: &["patients".into(), "others".into()],
            subject: "client-1",
            client: "client-1",
            scope: "read write",
            lifetime: Duration::from_secs(300),
        };
        issue(&self.key, &grant, NOW).expect("issued").token
    }

    /// A token of any header and claims, signed as it should be.
    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.key.sign(message.as_bytes()).expect("signed");
        format!("{message}.{}", encode(signature))
    }

    fn check(&self, token: &str) -> Result<Verified, TokenRejected> {
        check(token, &self.keys, &terms(), NOW)
    }
}

const GOOD: &str = r#"{"iss":"https://issuer.example","aud":"patients","sub":"eva","exp":1800000060}"#;

#[test]
fn what_is_issued_is_believed() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let issuer = Issuer::new(algorithm);
        let verified = issuer.check(&issuer.token()).expect("believed");
        assert_eq!(verified.subject.as_deref(), Some("client-1"));
        assert_eq!(verified.scopes().collect::<Vec<_>>(), ["read", "write"]);
        assert_eq!(verified.over_at, NOW + 330);
        assert!(verified.id.is_some());
        assert!(verified.allows(&[]) && verified.allows(&["write".into()]));
        assert!(!verified.allows(&["read".into(), "delete".into()]));
        assert!(!verified.allows(&["rea".into()]) && !verified.allows(&["read write".into()]));
    }
}

#[test]
fn a_token_holds_within_its_times() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let claims = |times: &str| format!(r#"{{"iss":"https://issuer.example","aud":"patients",{times}}}"#);
    let check = |times: &str, expected: Result<(), TokenRejected>| {
        let token = issuer.sign(r#"{"alg":"EdDSA"}"#, &claims(times));
        assert_eq!(issuer.check(&token).map(|_| ()), expected, "{times}");
    };
    check(r#""exp":1799999971"#, Ok(()));
    check(r#""exp":1799999970"#, Err(TokenRejected::Over));
    check(r#""exp":1799999971.9"#, Ok(()));
    check(r#""exp":0"#, Err(TokenRejected::Over));
    check(r#""exp":18446744073709551615"#, Ok(()));
    check(r#""exp":1e300"#, Err(TokenRejected::Claims));
    check(r#""exp":-1"#, Err(TokenRejected::Claims));
    check(r#""exp":"1800000060""#, Err(TokenRejected::Claims));
    check(r#""exp":null"#, Err(TokenRejected::Endless));
    check(r#""sub":"eva""#, Err(TokenRejected::Endless));
    check(r#""exp":1800000060,"nbf":1800000030"#, Ok(()));
    check(r#""exp":1800000060,"nbf":1800000031"#, Err(TokenRejected::Early));
    check(r#""exp":1800000060,"exp":1900000000"#, Err(TokenRejected::Claims));
}

#[test]
fn a_token_is_of_the_issuer_and_for_the_audience() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let check = |claims: &str, expected: Result<(), TokenRejected>| {
        let token = issuer.sign(r#"{"alg":"EdDSA"}"#, &format!(r#"{{"exp":1800000060,{claims}}}"#));
        assert_eq!(issuer.check(&token).map(|_| ()), expected, "{claims}");
    };
    check(r#""iss":"https://issuer.example","aud":"patients""#, Ok(()));
    check(r#""iss":"https://issuer.example","aud":["x","patients"]"#, Ok(()));
    check(r#""iss":"https://issuer.example","aud":["x"]"#, Err(TokenRejected::Audience));
    check(r#""iss":"https://issuer.example","aud":[]"#, Err(TokenRejected::Audience));
    check(r#""iss":"https://issuer.example","aud":"patient""#, Err(TokenRejected::Audience));
    check(r#""iss":"https://issuer.example""#, Err(TokenRejected::Audience));
    check(r#""iss":"https://issuer.example","aud":7"#, Err(TokenRejected::Claims));
    check(r#""iss":"https://issuer.example/","aud":"patients""#, Err(TokenRejected::Issuer));
    check(r#""aud":"patients""#, Err(TokenRejected::Issuer));
    let anybody = Terms { issuer: None, audience: Box::default(), ..terms() };
    let token = issuer.sign(r#"{"alg":"EdDSA"}"#, r#"{"exp":1800000060}"#);
    assert!(super::check(&token, &issuer.keys, &anybody, NOW).is_ok());
}

#[test]
fn an_algorithm_is_the_keys_and_never_the_tokens() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(GOOD));
    assert_eq!(issuer.check(&unsigned).err(), Some(TokenRejected::Algorithm));
    for name in ["none", "None", "HS256", "HS512", "ES512", "PS256", "eddsa", ""] {
        let token = issuer.sign(&format!(r#"{{"alg":"{name}"}}"#), GOOD);
        assert_eq!(issuer.check(&token).err(), Some(TokenRejected::Algorithm), "{name}");
    }
    // A key of one algorithm, named by a token of another.
    for name in ["ES256", "RS256"] {
        let header = format!(r#"{{"alg":"{name}","kid":"{}"}}"#, issuer.key.id());
        assert_eq!(issuer.check(&issuer.sign(&header, GOOD)).err(), Some(TokenRejected::KeyOther), "{name}");
    }
    // The same key, where only another algorithm is accepted.
    let only = Terms { algorithms: Algorithms::of(&[Algorithm::Es256]), ..terms() };
    let refused = check(&issuer.token(), &issuer.keys, &only, NOW);
    assert_eq!(refused.err(), Some(TokenRejected::Algorithm));
}

/// The public key, taken as the secret of an HMAC, must not sign: RFC 8725 §2.1.
#[test]
fn a_public_key_is_no_shared_secret() {
    use aws_lc_rs::hmac;
    let issuer = Issuer::new(Algorithm::Es256);
    let public = serde_json::to_vec(&issuer.key.public()).expect("JSON");
    let header = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, issuer.key.id());
    let message = format!("{}.{}", encode(header), encode(GOOD));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), message.as_bytes());
    let token = format!("{message}.{}", encode(tag));
    assert_eq!(issuer.check(&token).err(), Some(TokenRejected::Algorithm));
}

#[test]
fn keys_are_named_and_known() {
    let (issuer, other) = (Issuer::new(Algorithm::EdDsa), Issuer::new(Algorithm::EdDsa));
    assert_eq!(issuer.check(&other.token()).err(), Some(TokenRejected::KeyUnknown));
    // Another's signature under our key's name.
    let header = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, issuer.key.id());
    assert_eq!(issuer.check(&other.sign(&header, GOOD)).err(), Some(TokenRejected::Signature));
    let both = KeySet::of([&issuer.key.public(), &other.key.public()]);
    let unnamed = issuer.sign(r#"{"alg":"EdDSA"}"#, GOOD);
    assert_eq!(check(&unnamed, &both, &terms(), NOW).err(), Some(TokenRejected::KeyUnnamed));
    assert!(check(&other.token(), &both, &terms(), NOW).is_ok());
    let long = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, "k".repeat(KEY_ID_BYTES_MAX + 1));
    assert_eq!(issuer.check(&issuer.sign(&long, GOOD)).err(), Some(TokenRejected::KeyUnknown));
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let check = |header: &str, expected: Option<TokenRejected>| {
        assert_eq!(issuer.check(&issuer.sign(header, GOOD)).err(), expected, "{header}");
    };
    check(r#"{"alg":"EdDSA","typ":"at+jwt"}"#, None);
    check(r#"{"alg":"EdDSA","typ":"JWT"}"#, None);
    check(r#"{"alg":"EdDSA","typ":"application/at+JWT"}"#, None);
    check(r#"{"alg":"Ed25519"}"#, None);
    check(r#"{"alg":"EdDSA","typ":"secevent+jwt"}"#, Some(TokenRejected::Kind));
    check(r#"{"alg":"EdDSA","typ":""}"#, Some(TokenRejected::Kind));
    check(r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#, Some(TokenRejected::Critical));
    // A key that the token brings along is not looked at: RFC 8725 §3.10.
    check(r#"{"alg":"EdDSA","jwk":{"kty":"oct","k":"c2VjcmV0"},"jku":"http://evil.example"}"#, None);
    check(r#"{"typ":"JWT"}"#, Some(TokenRejected::Header));
    check(r#"{"alg":"EdDSA","alg":"none"}"#, Some(TokenRejected::Header));
    check("[]", Some(TokenRejected::Header));
    check("", Some(TokenRejected::Header));
}

#[test]
fn every_changed_byte_is_noticed() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let issuer = Issuer::new(algorithm);
        let token = issuer.token();
        for index in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(issuer.check(&changed).is_err(), "byte {index} of {token}");
        }
        for end in 0..token.len() {
            assert!(issuer.check(&token[..end]).is_err(), "{end} bytes of {token}");
        }
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let token = issuer.token();
    let check = |text: &str, expected| assert_eq!(issuer.check(text).err(), Some(expected), "{text:.80}");
    check("", TokenRejected::Form);
    check(".", TokenRejected::Form);
    check("..", TokenRejected::Header);
    check("a.b", TokenRejected::Form);
    check(&format!("{token}."), TokenRejected::Form);
    check(&format!("{token}="), TokenRejected::Form);
    check(&format!(" {token}"), TokenRejected::Form);
    check(&token.replacen('.', "..", 1), TokenRejected::Form);
    check(&"a".repeat(TOKEN_BYTES_MAX + 1), TokenRejected::Long);
    check(&issuer.sign(r#"{"alg":"EdDSA"}"#, "no JSON"), TokenRejected::Claims);
    check(&issuer.sign(r#"{"alg":"EdDSA"}"#, "[]"), TokenRejected::Claims);
    let deep = "[".repeat(2_000);
    check(&issuer.sign(&format!(r#"{{"alg":"EdDSA","crit":{deep}}}"#), GOOD), TokenRejected::Header);
}

/// RFC 8037 appendix A.4: what is signed is no JWT, so its parts are verified alone.
#[test]
fn signature_of_the_ed25519_example() {
    let key: PublicKey = serde_json::from_str(
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    )
    .expect("a key");
    let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature = decode(signature).expect("base64url");
    let keys = KeySet::of([&key]);
    let Found::Key(key) = keys.find(None, Algorithm::EdDsa) else { panic!("the only key") };
    assert!(key.verifies(message.as_bytes(), &signature));
    assert!(!key.verifies(b"something else", &signature));
}

/// RFC 7515 appendix A.3: claims of RFC 7519 §3.1, signed with P-256.
#[test]
fn token_of_the_p256_example() {
    let jwks = br#"{"keys":[{"kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    check_example(jwks, token);
}

/// RFC 7515 appendix A.2: the same claims, signed with RSA.
#[test]
fn token_of_the_rsa_example() {
    let jwks = br#"{"keys":[{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}"#;
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    check_example(jwks, token);
}

fn check_example(jwks: &[u8], token: &str) {
    let keys = KeySet::read(jwks).expect("a set of one key");
    let joe = Terms { issuer: Some("joe".into()), audience: Box::default(), ..terms() };
    assert_eq!(check(token, &keys, &joe, 1_300_819_379).map(|verified| verified.over_at), Ok(1_300_819_410));
    assert_eq!(check(token, &keys, &joe, NOW).err(), Some(TokenRejected::Over));
    assert_eq!(check(token, &keys, &terms(), 1_300_819_379).err(), Some(TokenRejected::Issuer));
}
