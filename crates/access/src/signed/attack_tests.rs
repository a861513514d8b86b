//! Hazard: a token that its issuer did not make, or made for another place or time, is taken for right.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use hmac_of_tests::hmac_sha256;
use proptest::prelude::*;

use super::signing::{AUDIENCE, RSA_MODULUS, RSA_TOKEN, Signer, claims_until, key_set};
use super::{SignedTokenProblem as P, SignedTokenVerifier, TokenKeys};

const NOW: i64 = 2_000_000_000;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

fn verifier_of(key_set: &str) -> SignedTokenVerifier {
    SignedTokenVerifier::new(TokenKeys::parse(key_set).unwrap(), AUDIENCE.into())
}

fn verify(verifier: &SignedTokenVerifier, token: &str) -> Result<String, P> {
    let verified = verifier.verify(token.as_bytes(), now());
    verified.map(|token| token.subject).map_err(|refused| refused.problem)
}

fn good_claims() -> String {
    claims_until("svc-a", NOW + 60)
}

fn rsa_key_set() -> String {
    format!(r#"{{"keys": [{{"kty": "RSA", "kid": "rsa", "e": "AQAB", "n": "{RSA_MODULUS}"}}]}}"#)
}

#[test]
fn right_tokens_of_each_algorithm_are_taken() {
    let (ed, es) = (Signer::ed25519("ed"), Signer::es256("es"));
    let verifier = verifier_of(&key_set(&[&ed, &es]));
    for signer in [&ed, &es] {
        assert_eq!(verify(&verifier, &signer.sign(&good_claims())), Ok("svc-a".to_owned()));
    }
    assert_eq!(verify(&verifier_of(&rsa_key_set()), RSA_TOKEN), Ok("svc-a".to_owned()));
    let alone = verifier_of(&key_set(&[&ed]));
    let without_kid = ed.sign_with(r#"{"alg": "EdDSA"}"#, &good_claims());
    assert_eq!(verify(&alone, &without_kid), Ok("svc-a".to_owned()));
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
        let header = format!(r#"{{"alg": "EdDSA", "kid": "ed", "typ": "{typ}"}}"#);
        assert!(verify(&verifier, &ed.sign_with(&header, &good_claims())).is_ok(), "{typ}");
    }
    let several = format!(
        r#"{{"sub": "svc-a", "aud": ["x", "{AUDIENCE}"], "exp": {}, "nbf": {NOW}, "iss": [1]}}"#,
        NOW + 60
    );
    assert!(verify(&verifier, &ed.sign(&several)).is_ok());
}

#[test]
fn a_header_that_attacks_is_refused() {
    let (ed, es) = (Signer::ed25519("ed"), Signer::es256("es"));
    let other = Signer::ed25519("ed");
    let verifier = verifier_of(&key_set(&[&ed, &es]));
    let foreign_jwk = other.jwk();
    let embedded = format!(r#"{{"alg": "EdDSA", "kid": "ed", "jwk": {foreign_jwk}}}"#);
    assert_eq!(
        verify(&verifier, &other.sign_with(&embedded, &good_claims())),
        Err(P::WrongSignature)
    );
    let nested = format!(r#"{{"alg": "EdDSA", "kid": "ed", "x": {}0"#, "[".repeat(4000));
    let cases = [
        (r#"{"alg": "none", "kid": "ed"}"#, P::UnsupportedAlgorithm),
        (r#"{"alg": "None", "kid": "ed"}"#, P::UnsupportedAlgorithm),
        (r#"{"alg": "", "kid": "ed"}"#, P::UnsupportedAlgorithm),
        (r#"{"alg": "HS256", "kid": "ed"}"#, P::UnsupportedAlgorithm),
        (r#"{"alg": "eddsa", "kid": "ed"}"#, P::UnsupportedAlgorithm),
        (r#"{"alg": "RS256", "kid": "ed"}"#, P::UnsupportedAlgorithm),
        (r#"{"alg": "ES256", "kid": "ed"}"#, P::UnsupportedAlgorithm),
        (r#"{"alg": "EdDSA", "kid": "es"}"#, P::UnsupportedAlgorithm),
        (r#"{"alg": ["EdDSA"], "kid": "ed"}"#, P::Malformed),
        (r#"{"kid": "ed"}"#, P::Malformed),
        (r#"{"alg": "EdDSA"}"#, P::UnknownKey),
        (r#"{"alg": "EdDSA", "kid": ""}"#, P::UnknownKey),
        (r#"{"alg": "EdDSA", "kid": "ED"}"#, P::UnknownKey),
        (r#"{"alg": "EdDSA", "kid": "../../../../etc/passwd"}"#, P::UnknownKey),
        (r#"{"alg": "EdDSA", "kid": "/dev/null"}"#, P::UnknownKey),
        (r#"{"alg": "EdDSA", "kid": "http://127.0.0.1/keys"}"#, P::UnknownKey),
        (r#"{"alg": "EdDSA", "kid": "ed' OR '1'='1"}"#, P::UnknownKey),
        (r#"{"alg": "EdDSA", "kid": null}"#, P::Malformed),
        (r#"{"alg": "EdDSA", "kid": 0}"#, P::Malformed),
        (r#"{"alg": "EdDSA", "kid": "ed", "crit": ["exp"]}"#, P::Malformed),
        (r#"{"alg": "EdDSA", "kid": "ed", "crit": []}"#, P::Malformed),
        (r#"{"alg": "EdDSA", "kid": "ed", "crit": null}"#, P::Malformed),
        (r#"{"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"}"#, P::Malformed),
        (r#"{"alg": "EdDSA", "kid": "ed", "typ": null}"#, P::Malformed),
        (r#"{"alg": "none", "alg": "EdDSA", "kid": "ed"}"#, P::Malformed),
        (r#"{"alg": "EdDSA", "kid": "es", "kid": "ed"}"#, P::Malformed),
        (r#"{"alg": "EdDSA", "\u0061lg": "EdDSA", "kid": "ed"}"#, P::Malformed),
        (r#"["EdDSA", "ed"]"#, P::Malformed),
        (r#""EdDSA""#, P::Malformed),
        (r#"{"alg": "EdDSA", "kid": "ed"} {}"#, P::Malformed),
        ("", P::Malformed),
        (&nested, P::Malformed),
    ];
    for (header, problem) in cases {
        let token = ed.sign_with(header, &good_claims());
        assert_eq!(verify(&verifier, &token), Err(problem), "{}", &header[..header.len().min(99)]);
    }
}

#[test]
fn members_that_bring_keys_change_nothing() {
    let ed = Signer::ed25519("ed");
    let verifier = verifier_of(&key_set(&[&ed]));
    let header = r#"{"alg": "EdDSA", "kid": "ed", "jku": "http://x/", "x5u": "file:///etc/passwd",
                     "x5c": ["AA=="], "jwk": {"kty": "oct", "k": "AA"}}"#;
    assert!(verify(&verifier, &ed.sign_with(header, &good_claims())).is_ok());
}

#[test]
fn a_public_key_is_no_secret_of_hmac() {
    let ed = Signer::ed25519("ed");
    let verifier = verifier_of(&key_set(&[&ed]));
    for (secret, alg) in [(ed.public_key().to_vec(), "HS256"), (ed.jwk().into_bytes(), "HS256")] {
        let header = format!(r#"{{"alg": "{alg}", "kid": "ed"}}"#);
        let [header, claims] = [header, good_claims()].map(|json| URL_SAFE_NO_PAD.encode(json));
        let signature = hmac_sha256(&secret, format!("{header}.{claims}").as_bytes());
        let token = format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(verify(&verifier, &token), Err(P::UnsupportedAlgorithm));
    }
}

#[test]
fn claims_that_do_not_fit_are_refused() {
    let ed = Signer::ed25519("ed");
    let verifier = verifier_of(&key_set(&[&ed]));
    let with = |aud: &str, exp: &str, more: &str| {
        format!(r#"{{"sub": "svc-a", "aud": {aud}, "exp": {exp}{more}}}"#)
    };
    let later = (NOW + 60).to_string();
    let (ours, nested) =
        (r#""orders""#, format!(r#", "x": {}{}"#, "[".repeat(2000), "]".repeat(2000)));
    for (claims, problem) in [
        (with(r#""other""#, &later, ""), P::WrongAudience),
        (with(r#""Orders""#, &later, ""), P::WrongAudience),
        (with(r#""orders2""#, &later, ""), P::WrongAudience),
        (with(r#"["other", "orders "]"#, &later, ""), P::WrongAudience),
        (with("[]", &later, ""), P::WrongAudience),
        (with(r#"[["orders"]]"#, &later, ""), P::Malformed),
        (with("null", &later, ""), P::Malformed),
        (with(r#"{"orders": true}"#, &later, ""), P::Malformed),
        (with(ours, &(NOW - 5).to_string(), ""), P::Expired),
        (with(ours, "0", ""), P::Expired),
        (with(ours, "-1", ""), P::Malformed),
        (with(ours, "2000000060.5", ""), P::Malformed),
        (with(ours, "2.1e9", ""), P::Malformed),
        (with(ours, "1e400", ""), P::Malformed),
        (with(ours, "9223372036854775807", ""), P::Malformed),
        (with(ours, "18446744073709551615", ""), P::Malformed),
        (with(ours, "99999999999999999999999999", ""), P::Malformed),
        (with(ours, r#""2000000060""#, ""), P::Malformed),
        (with(ours, "null", ""), P::Malformed),
        (with(ours, "true", ""), P::Malformed),
        (with(ours, &later, &format!(r#", "nbf": {}"#, NOW + 6)), P::NotYetValid),
        (with(ours, &later, r#", "nbf": "0""#), P::Malformed),
        (with(ours, &later, r#", "nbf": null"#), P::Malformed),
        (with(ours, &later, r#", "nbf": 1e400"#), P::Malformed),
        (with(ours, &later, r#", "sub": "svc-b""#), P::Malformed),
        (with(ours, &later, r#", "exp": 4102444800"#), P::Malformed),
        (with(ours, &later, r#", "aud": "orders""#), P::Malformed),
        (with(ours, &later, r#", "s\u0075b": "svc-b""#), P::Malformed),
        (format!(r#"{{"sub": "svc-a", "aud": {ours}}}"#), P::Malformed),
        (format!(r#"{{"sub": "svc-a", "exp": {later}}}"#), P::Malformed),
        (format!(r#"{{"aud": {ours}, "exp": {later}}}"#), P::Malformed),
        (format!(r#"{{"sub": 7, "aud": {ours}, "exp": {later}}}"#), P::Malformed),
        (format!(r#"["svc-a", {ours}, {later}]"#), P::Malformed),
        ("[".repeat(4000), P::Malformed),
        ("{}".to_owned(), P::Malformed),
        (String::new(), P::Malformed),
    ] {
        let shown = &claims[..claims.len().min(99)];
        assert_eq!(verify(&verifier, &ed.sign(&claims)), Err(problem), "{shown}");
    }
    for (exp, more) in [
        ((NOW - 4).to_string(), String::new()),
        (later.clone(), format!(r#", "nbf": {}"#, NOW + 5)),
        (later.clone(), nested),
    ] {
        let claims = with(ours, &exp, &more);
        assert!(verify(&verifier, &ed.sign(&claims)).is_ok(), "{exp}: within the leeway");
    }
}

#[test]
fn a_signature_of_another_key_or_text_is_refused() {
    let (ed, es, other) = (Signer::ed25519("k"), Signer::es256("k"), Signer::ed25519("k"));
    for signer in [&ed, &es] {
        let verifier = verifier_of(&key_set(&[signer]));
        let token = signer.sign(&good_claims());
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else { panic!("{token}") };
        let forged = URL_SAFE_NO_PAD.encode(claims_until("svc-b", NOW + 60));
        for (wrong, problem) in [
            (format!("{header}.{forged}.{signature}"), P::WrongSignature),
            (format!("{header}.{claims}."), P::WrongSignature),
            (format!("{header}.{claims}.AAAA"), P::WrongSignature),
            (format!("{header}.{claims}.{}", "A".repeat(86)), P::WrongSignature),
            (format!("{token}="), P::Malformed),
            (format!("{token}\n"), P::Malformed),
            (format!("{token}.{signature}"), P::Malformed),
            (format!("{header}.{signature}"), P::Malformed),
            (format!("{header}..{signature}"), P::WrongSignature),
            ("..".to_owned(), P::Malformed),
        ] {
            assert_eq!(verify(&verifier, &wrong), Err(problem), "{wrong}");
        }
        assert!(verify(&verifier, &token.to_lowercase()).is_err());
        assert!(verify(&verifier, &token.to_uppercase()).is_err());
    }
    let verifier = verifier_of(&key_set(&[&ed]));
    assert_eq!(verify(&verifier, &other.sign(&good_claims())), Err(P::WrongSignature));
    let rsa = verifier_of(&rsa_key_set());
    let changed = RSA_TOKEN.replacen("eyJzdWIi", "eyJzdWJi", 1);
    assert_eq!(verify(&rsa, &changed), Err(P::WrongSignature));
    assert_eq!(verify(&rsa, &format!("{RSA_TOKEN}AA")), Err(P::WrongSignature));
}

/// HMAC by definition, for a forger's signature.
mod hmac_of_tests {
    use sha2::{Digest as _, Sha256};

    pub(super) fn hmac_sha256(secret: &[u8], message: &[u8]) -> Vec<u8> {
        let mut key = [0_u8; 64];
        let secret =
            if secret.len() > 64 { Sha256::digest(secret).to_vec() } else { secret.to_vec() };
        key[..secret.len()].copy_from_slice(&secret);
        let inner = Sha256::new().chain_update(key.map(|byte| byte ^ 0x36)).chain_update(message);
        let outer = Sha256::new().chain_update(key.map(|byte| byte ^ 0x5c));
        outer.chain_update(inner.finalize()).finalize().to_vec()
    }
}

proptest! {
    #[test]
    fn any_text_is_refused(token in "[A-Za-z0-9_=.-]{0,200}") {
        let verifier = verifier_of(&rsa_key_set());
        prop_assert!(verify(&verifier, &token).is_err());
    }

    #[test]
    fn a_changed_character_is_refused(place in 0..RSA_TOKEN.len(), with in "[A-Za-z0-9_.-]") {
        let verifier = verifier_of(&rsa_key_set());
        let mut token = RSA_TOKEN.to_owned();
        token.replace_range(place..=place, &with);
        prop_assert_eq!(verify(&verifier, &token).is_ok(), token == RSA_TOKEN);
    }
}
