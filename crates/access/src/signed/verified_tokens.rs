//! A bounded cache of right tokens: a client sends its token with each call, and a signature costs as
//! much to check as a short call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::key::TokenKey;
use crate::token::TokenHash;

/// Maximum number of tokens; an entry has some hundred bytes.
const MAX_TOKENS: usize = 4096;

/// What a right token says.
#[derive(Debug)]
pub(crate) struct VerifiedToken {
    /// Its `sub`.
    pub(crate) subject: String,
    /// The moment from which it is refused.
    pub(crate) expires: DateTime<Utc>,
    /// The key that signed it.
    pub(super) key: Arc<TokenKey>,
}

/// Right tokens. Wrong ones are not kept, so only an issuer fills it.
#[derive(Debug, Default)]
pub(super) struct VerifiedTokens(Mutex<TokensByPrefix>);

/// By the first bytes of the hash; the rest is compared in constant time.
type TokensByPrefix = HashMap<[u8; 8], (TokenHash, Arc<VerifiedToken>)>;

impl VerifiedTokens {
    /// The token with this hash, also after its expiry.
    pub(super) fn find(&self, hash: &TokenHash) -> Option<Arc<VerifiedToken>> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, token) = tokens.get(&hash.prefix())?;
        (*known == *hash).then(|| Arc::clone(token))
    }

    /// Keeps a right token. A full cache drops expired tokens, and if none is, all.
    pub(super) fn insert(&self, hash: TokenHash, token: Arc<VerifiedToken>, now: DateTime<Utc>) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, (_, token)| token.expires > now);
        }
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(hash.prefix(), (hash, token));
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::signed::key::PublicKey;

    #[test]
    fn the_cache_is_bounded_and_finds_whole_hashes_only() {
        let (tokens, now) = (VerifiedTokens::default(), Utc::now());
        let key = Arc::new(TokenKey { id: None, key: PublicKey::ed25519(&[0; 32]).unwrap() });
        let hash = |n: usize| TokenHash::of_token(&n.to_le_bytes());
        for n in 0..=2 * MAX_TOKENS {
            // The first ones have expired when the cache is full.
            let lifetime = TimeDelta::seconds(if n < 10 { 0 } else { 60 });
            let (subject, expires) = (String::new(), now + lifetime);
            let token = VerifiedToken { subject, expires, key: Arc::clone(&key) };
            tokens.insert(hash(n), Arc::new(token), now);
            assert!(tokens.find(&hash(n)).is_some());
            assert!(tokens.0.lock().unwrap().len() <= MAX_TOKENS);
            if n == MAX_TOKENS {
                assert!(tokens.find(&hash(9)).is_none() && tokens.find(&hash(10)).is_some());
            }
        }
        let same_prefix = {
            let mut hex = hash(2 * MAX_TOKENS).to_hex();
            let last = if hex.ends_with('0') { "1" } else { "0" };
            hex.replace_range(63.., last);
            TokenHash::parse_hex(&hex).unwrap()
        };
        assert!(tokens.find(&same_prefix).is_none());
    }
}
