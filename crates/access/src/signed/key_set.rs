//! The keys file: a JWKS (RFC 7517), read strictly. A key that signs no tokens is left out; a secret,
//! or a key that cannot be chosen, refuses the file.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::key::{PublicKey, TokenKey};
use crate::private_file::{PrivateFileError, read_trusted_file};

/// Maximum size of the file in bytes.
pub const MAX_TOKEN_KEYS_FILE_BYTES: u64 = 64 << 10;
/// Maximum number of keys, those left out included.
const MAX_KEYS: usize = 64;
/// Maximum length of a `kid` in bytes.
const MAX_KEY_ID_BYTES: usize = 200;

/// Why a keys file is refused; holds nothing of the keys.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeysError {
    /// It cannot be read, or others can write it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// No JSON, or not of the form of a JWKS.
    #[error("line {line}, column {column}: is no JWKS: {{\"keys\": [{{\"kty\": …}}, …]}}")]
    Form {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// More keys than allowed.
    #[error("holds more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// No key verifies signed tokens.
    #[error("holds no key for signed tokens: Ed25519 (EdDSA), P-256 (ES256) or RSA (RS256)")]
    NoKeys,
    /// A wrong key.
    #[error("keys[{index}].{member} {reason}")]
    Key {
        /// From 0.
        index: usize,
        /// Member of the key.
        member: &'static str,
        /// The problem.
        reason: String,
    },
}

/// The keys of one version of the file; 1 to 64.
#[derive(Debug)]
pub struct TokenKeys(Vec<Arc<TokenKey>>);

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    /// The private part of any key pair.
    d: Option<IgnoredAny>,
    /// A symmetric key.
    k: Option<IgnoredAny>,
}

/// Text of the keys file at `path`, if it belongs to this user or root and nobody else may write it.
pub fn read_token_keys_file(path: &Path) -> Result<String, TokenKeysError> {
    Ok(read_trusted_file(path, MAX_TOKEN_KEYS_FILE_BYTES)?)
}

impl TokenKeys {
    /// Parses the text of a keys file.
    pub fn parse(text: &str) -> Result<Self, TokenKeysError> {
        let set: JwkSet = serde_json::from_str(text)
            .map_err(|error| TokenKeysError::Form { line: error.line(), column: error.column() })?;
        if set.keys.len() > MAX_KEYS {
            return Err(TokenKeysError::TooManyKeys);
        }
        let mut keys = Vec::new();
        for (index, jwk) in set.keys.into_iter().enumerate() {
            let read =
                read_key(jwk).map_err(|(member, reason)| wrong_key(index, member, reason))?;
            keys.extend(read.map(|key| (index, Arc::new(key))));
        }
        check_key_ids(&keys)?;
        if keys.is_empty() {
            return Err(TokenKeysError::NoKeys);
        }
        Ok(Self(keys.into_iter().map(|(_, key)| key).collect()))
    }

    /// Number of keys.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The key with this id; without an id, the only key.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&Arc<TokenKey>> {
        match (id, self.0.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(_), keys) => keys.iter().find(|key| key.id.as_deref() == id),
        }
    }

    /// Whether a key is one of these.
    pub(super) fn contains(&self, key: &TokenKey) -> bool {
        self.0.iter().any(|known| **known == *key)
    }
}

fn wrong_key(index: usize, member: &'static str, reason: impl Into<String>) -> TokenKeysError {
    TokenKeysError::Key { index, member, reason: reason.into() }
}

/// Ids are unique, and each of several keys has one.
fn check_key_ids(keys: &[(usize, Arc<TokenKey>)]) -> Result<(), TokenKeysError> {
    let mut seen = HashSet::new();
    for (index, key) in keys {
        match &key.id {
            None if keys.len() > 1 => {
                let reason = "is missing: tokens choose one of several keys by it";
                return Err(wrong_key(*index, "kid", reason));
            }
            Some(id) if !seen.insert(id) => {
                return Err(wrong_key(*index, "kid", "is another key's, too"));
            }
            _ => {}
        }
    }
    Ok(())
}

type WrongMember = (&'static str, &'static str);

/// A key for signed tokens; `None` for a public key of another use or kind.
fn read_key(jwk: Jwk) -> Result<Option<TokenKey>, WrongMember> {
    for (member, part) in [("d", jwk.d), ("k", jwk.k)] {
        if part.is_some() {
            return Err((member, "is the secret part of a key: only public keys belong here"));
        }
    }
    let is_for_signatures = jwk.usage.is_none_or(|usage| usage == "sig")
        && jwk.key_ops.is_none_or(|uses| uses.iter().any(|name| name == "verify"));
    if !is_for_signatures {
        return Ok(None);
    }
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref(), jwk.alg.as_deref()) {
        ("OKP", Some("Ed25519"), None | Some("EdDSA")) => {
            PublicKey::ed25519(&decode("x", jwk.x)?).map_err(|reason| ("x", reason))?
        }
        ("EC", Some("P-256"), None | Some("ES256")) => {
            let (x, y) = (decode("x", jwk.x)?, decode("y", jwk.y)?);
            PublicKey::p256(&x, &y).map_err(|reason| ("x", reason))?
        }
        ("RSA", None, None | Some("RS256")) => {
            let (modulus, exponent) = (decode("n", jwk.n)?, decode("e", jwk.e)?);
            PublicKey::rsa(modulus, exponent).map_err(|reason| ("n", reason))?
        }
        _ => return Ok(None),
    };
    let has_good_id = jwk.kid.as_ref().is_none_or(|id| (1..=MAX_KEY_ID_BYTES).contains(&id.len()));
    if !has_good_id {
        return Err(("kid", "must have 1 to 200 bytes"));
    }
    Ok(Some(TokenKey { id: jwk.kid, key }))
}

fn decode(member: &'static str, text: Option<String>) -> Result<Vec<u8>, WrongMember> {
    let text = text.ok_or((member, "is missing"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| (member, "must be base64url without padding"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signed::signing::{RSA_MODULUS, Signer, key_set};

    fn error_of(text: &str) -> String {
        TokenKeys::parse(text).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn keys_of_other_uses_are_left_out() {
        let ed = Signer::ed25519("ed").jwk();
        let rsa = format!(r#""kty": "RSA", "n": "{RSA_MODULUS}", "e": "AQAB""#);
        for other in [
            format!(r#"{{{rsa}, "use": "enc", "alg": "RSA-OAEP"}}"#),
            format!(r#"{{{rsa}, "alg": "PS256"}}"#),
            format!(r#"{{{rsa}, "key_ops": ["wrapKey"]}}"#),
            r#"{"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}"#.to_owned(),
            r#"{"kty": "OKP", "crv": "X25519", "x": "AA"}"#.to_owned(),
            r#"{"kty": "new"}"#.to_owned(),
        ] {
            let keys = TokenKeys::parse(&format!(r#"{{"keys": [{other}, {ed}]}}"#)).unwrap();
            assert_eq!(keys.count(), 1, "{other}");
            assert!(keys.find(None).is_some() && keys.find(Some("ed")).is_some());
            assert!(error_of(&format!(r#"{{"keys": [{other}]}}"#)).contains("holds no key"));
        }
        let both =
            format!(r#"{{"keys": [{ed}, {{{rsa}, "kid": "rsa", "alg": "RS256"}}], "x": 1}}"#);
        let keys = TokenKeys::parse(&both).unwrap();
        assert!(keys.find(None).is_none() && keys.find(Some("rsa")).is_some());
    }

    #[test]
    fn a_wrong_file_is_refused() {
        let (ed, es) = (Signer::ed25519("ed").jwk(), Signer::es256("es").jwk());
        let with = |from: &str, to: &str| format!(r#"{{"keys": [{}]}}"#, ed.replace(from, to));
        let rsa =
            |n: &str, e: &str| format!(r#"{{"keys": [{{"kty": "RSA", "n": "{n}", "e": "{e}"}}]}}"#);
        let x = ed.split('"').nth(11).unwrap();
        let cases = [
            (String::new(), "line 1, column 0: is no JWKS"),
            ("-----BEGIN PUBLIC KEY-----".to_owned(), "is no JWKS"),
            ("{}".to_owned(), "is no JWKS"),
            (r#"{"keys": {}}"#.to_owned(), "is no JWKS"),
            (r#"{"keys": [7]}"#.to_owned(), "is no JWKS"),
            (r#"{"keys": [], "keys": []}"#.to_owned(), "is no JWKS"),
            (with(r#""kid""#, r#""kty""#), "is no JWKS"),
            ("[".repeat(9999), "is no JWKS"),
            (r#"{"keys": []}"#.to_owned(), "holds no key for signed tokens"),
            (format!(r#"{{"keys": [{}]}}"#, vec![ed.as_str(); 65].join(",")), "more than 64 keys"),
            (with(r#""kid""#, r#""d": "AA", "kid""#), "keys[0].d is the secret part"),
            (r#"{"keys": [{"kty": "oct", "k": "AA"}]}"#.to_owned(), "keys[0].k is the secret"),
            (with(x, ""), "keys[0].x must have 32 bytes"),
            (with(x, &x[3..]), "keys[0].x must have 32 bytes"),
            (with(x, &format!("!{}", &x[1..])), "keys[0].x must be base64url"),
            (with(x, &format!("{x}=")), "keys[0].x must be base64url"),
            (with(r#""x""#, r#""y""#), "keys[0].x is missing"),
            (with(r#""ed""#, r#""""#), "keys[0].kid must have 1 to 200 bytes"),
            (format!(r#"{{"keys": [{ed}, {ed}]}}"#), "keys[1].kid is another key's, too"),
            (
                format!(r#"{{"keys": [{ed}, {}]}}"#, es.replace(r#""kid""#, r#""id""#)),
                "keys[1].kid is missing",
            ),
            (
                format!(r#"{{"keys": [{}]}}"#, es.replace(r#""y": ""#, r#""y": "AA", "z": ""#)),
                "keys[0].x and `y` must have 32 bytes each",
            ),
            (rsa("AQAB", "AQAB"), "keys[0].n must have 2048 to 4096 bits"),
            (rsa(&format!("AAAA{RSA_MODULUS}"), "AQAB"), "no zero byte in front"),
            (rsa(RSA_MODULUS, "Ag"), "`e` that is no odd number"),
            (rsa(RSA_MODULUS, "AQ"), "`e` that is no odd number"),
            (rsa(RSA_MODULUS, ""), "`e` that is no odd number"),
            (rsa(RSA_MODULUS, "AQABAQAB"), "`e` that is no odd number"),
        ];
        for (text, part) in cases {
            let error = error_of(&text);
            assert!(error.contains(part), "{}\n{error}", &text[..text.len().min(200)]);
            assert!(!error.contains(x), "{error}");
        }
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let signer = Signer::es256("es");
        let (x, y) = signer.public_key().split_at(32);
        assert!(PublicKey::p256(x, y).is_ok());
        let mut off = y.to_vec();
        off[31] ^= 1;
        assert!(PublicKey::p256(x, &off).is_err());
        assert!(PublicKey::p256(&[0; 32], &[0; 32]).is_err());
    }

    #[test]
    fn a_full_file_is_read() {
        let names: Vec<&'static str> =
            (0..MAX_KEYS).map(|n| &*Box::leak(format!("key-{n}").into_boxed_str())).collect();
        let signers: Vec<Signer> = names.iter().map(|name| Signer::ed25519(name)).collect();
        let keys = TokenKeys::parse(&key_set(&signers.iter().collect::<Vec<_>>())).unwrap();
        assert_eq!(keys.count(), MAX_KEYS);
        assert_eq!(keys.find(Some("key-63")).unwrap().id.as_deref(), Some("key-63"));
    }
}
