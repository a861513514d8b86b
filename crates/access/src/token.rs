//! Tokens: 256 random bits made by the program, so that a plain SHA-256 of them is enough.

use std::fmt;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Prefix of new tokens, by which scanners for leaked secrets can find them.
const TOKEN_PREFIX: &str = "op_";
/// Random bytes of a new token.
const TOKEN_BYTES: usize = 32;

/// SHA-256 of a token. Hashes are compared in a time that does not depend on where they differ.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of_token(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Parses 64 hexadecimal digits.
    pub fn parse_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some(Self(hash))
    }

    /// Lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// The first bytes, by which a policy groups its hashes.
    pub(crate) fn prefix(&self) -> [u8; 8] {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&self.0[..8]);
        prefix
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Shows the first digits only: enough to tell hashes apart in a log.
impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.to_hex()[..8])
    }
}

/// A new token, shown once, and its hash, which is kept.
pub struct NewToken {
    /// The token: do not log it.
    pub token: String,
    /// Its SHA-256.
    pub hash: TokenHash,
}

impl NewToken {
    /// Makes a token from the random numbers of the operating system.
    pub fn generate() -> Self {
        let random: [u8; TOKEN_BYTES] = rand::random();
        let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let hash = TokenHash::of_token(token.as_bytes());
        Self { token, hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_plain_sha_256() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = TokenHash::of_token(b"abc");
        assert_eq!(hash.to_hex(), known);
        let parsed = TokenHash::parse_hex(&known.to_uppercase()).unwrap();
        assert_eq!(parsed, hash);
        assert_ne!(parsed, TokenHash::of_token(b"abd"));
        for wrong in [
            "",
            "ba78",
            &known[1..],
            &format!("{known}0"),
            &known.replace('b', "g"),
            &"é".repeat(32),
        ] {
            assert!(TokenHash::parse_hex(wrong).is_none(), "{wrong}");
        }
        assert_eq!(format!("{hash:?}"), "ba7816bf…");
    }

    #[test]
    fn new_tokens_are_long_and_differ() {
        let (one, other) = (NewToken::generate(), NewToken::generate());
        assert_eq!(one.token.len(), "op_".len() + 43);
        assert!(one.token.starts_with("op_") && one.token != other.token);
        assert_eq!(one.hash, TokenHash::of_token(one.token.as_bytes()));
    }
}
