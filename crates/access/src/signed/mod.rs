//! Signed tokens: JWS in compact form (RFC 7515) with the claims of RFC 7519, verified by public keys
//! of a file.
//!
//! - Shape: an immutable [`SignedTokenVerifier`] for each version of the keys file, with a cache of
//!   the right tokens that it verified. New keys come with an empty cache.
//! - Cost: one signature check for the first call of a token, a look-up for the others.
//! - Promise: nothing in a token chooses how it is verified. The algorithm is the key's, keys come from
//!   the file alone, and what is doubtful is refused.

mod claims;
mod compact;
mod key;
mod key_set;
mod problem;
mod verified_tokens;
mod verifier;

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
pub(crate) mod signing;

pub(crate) use claims::check_subject;
pub(crate) use compact::has_compact_form;
pub use key_set::{MAX_TOKEN_KEYS_FILE_BYTES, TokenKeys, TokenKeysError, read_token_keys_file};
pub use problem::SignedTokenProblem;
pub(crate) use verified_tokens::VerifiedToken;
pub use verifier::SignedTokenVerifier;
