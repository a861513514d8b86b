//! Verification of signed tokens by one version of the keys file.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::claims::Claims;
use super::compact::CompactJws;
use super::key_set::TokenKeys;
use super::problem::SignedTokenProblem;
use super::verified_tokens::{VerifiedToken, VerifiedTokens};
use crate::token::TokenHash;

/// A refused token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RefusedToken {
    pub(crate) problem: SignedTokenProblem,
    /// Its `sub`, if its signature is right.
    pub(crate) subject: Option<String>,
}

impl From<SignedTokenProblem> for RefusedToken {
    fn from(problem: SignedTokenProblem) -> Self {
        Self { problem, subject: None }
    }
}

/// Verifies signed tokens for one audience by the keys of one version of the file.
#[derive(Debug)]
pub struct SignedTokenVerifier {
    keys: TokenKeys,
    /// What `aud` must contain.
    audience: Arc<str>,
    verified: VerifiedTokens,
}

impl SignedTokenVerifier {
    /// A verifier of tokens for this audience.
    pub fn new(keys: TokenKeys, audience: Arc<str>) -> Self {
        Self { keys, audience, verified: VerifiedTokens::default() }
    }

    /// A token that was verified before; it may have expired since.
    pub(crate) fn find_verified(&self, hash: &TokenHash) -> Option<Arc<VerifiedToken>> {
        self.verified.find(hash)
    }

    /// Verifies a token: form, key, algorithm, signature, and only then its claims.
    pub(crate) fn verify(
        &self,
        token: &[u8],
        now: DateTime<Utc>,
    ) -> Result<VerifiedToken, RefusedToken> {
        let jws = CompactJws::parse(token)?;
        let key = self.keys.find(jws.header.kid.as_deref());
        let key = key.ok_or(SignedTokenProblem::UnknownKey)?;
        if jws.header.alg != key.key.algorithm() {
            return Err(SignedTokenProblem::UnsupportedAlgorithm.into());
        }
        if !key.key.verifies(jws.signed, &jws.signature) {
            return Err(SignedTokenProblem::WrongSignature.into());
        }
        let claims: Claims = jws.parse_claims()?;
        match claims.check(&self.audience, now) {
            Ok(expires) => Ok(VerifiedToken { subject: claims.sub, expires, key: Arc::clone(key) }),
            Err(problem) => Err(RefusedToken { problem, subject: Some(claims.sub) }),
        }
    }

    /// Keeps a token that is right, so that its signature need not be checked again.
    pub(crate) fn keep_verified(
        &self,
        hash: TokenHash,
        token: &Arc<VerifiedToken>,
        now: DateTime<Utc>,
    ) {
        self.verified.insert(hash, Arc::clone(token), now);
    }

    /// Whether the key that signed a token is still one of the file's.
    pub(crate) fn has_key_of(&self, token: &VerifiedToken) -> bool {
        self.keys.contains(&token.key)
    }
}
