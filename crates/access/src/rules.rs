//! What decides who may call: the policy of the clients file and the keys of signed tokens.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::denied::DenialReason;
use crate::identified::{CredentialsRefusal, Identified, refusal};
use crate::policy::{AccessPolicy, TokenLookup};
use crate::signed::{SignedTokenProblem, SignedTokenVerifier, VerifiedToken, has_compact_form};
use crate::token::TokenHash;

/// One version of each file; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct AccessRules {
    pub(crate) policy: Arc<AccessPolicy>,
    /// Without it no signed token is right.
    pub(crate) verifier: Option<Arc<SignedTokenVerifier>>,
}

/// The rules in force; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct CurrentRules(Arc<watch::Sender<AccessRules>>);

impl CurrentRules {
    pub(crate) fn new(rules: AccessRules) -> Self {
        Self(Arc::new(watch::Sender::new(rules)))
    }

    /// A copy, so that no replacement waits for the check of a signature.
    pub(crate) fn get(&self) -> AccessRules {
        self.0.borrow().clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut AccessRules)) {
        self.0.send_modify(change);
    }

    /// Receives the rules in force and those to come.
    pub(crate) fn watch(&self) -> watch::Receiver<AccessRules> {
        self.0.subscribe()
    }
}

/// A token as it was presented.
#[derive(Debug, Clone)]
pub(crate) enum PresentedToken {
    /// One of the clients file, or nobody's.
    Opaque(TokenHash),
    /// A signed token whose signature is right.
    Signed(Arc<VerifiedToken>),
}

impl AccessRules {
    /// What a token is. A signature is checked only if `may_verify` still allows it.
    pub(crate) fn read_token(
        &self,
        token: &[u8],
        now: DateTime<Utc>,
        may_verify: impl FnOnce() -> bool,
    ) -> Result<PresentedToken, CredentialsRefusal> {
        let hash = TokenHash::of_token(token);
        let Some(verifier) = self.verifier.as_ref().filter(|_| has_compact_form(token)) else {
            return Ok(PresentedToken::Opaque(hash));
        };
        if !matches!(self.policy.find_token(&hash, now), TokenLookup::Unknown) {
            return Ok(PresentedToken::Opaque(hash));
        }
        if let Some(known) = verifier.find_verified(&hash) {
            return Ok(PresentedToken::Signed(known));
        }
        if !may_verify() {
            return Err(refusal(DenialReason::TooManyWrongTokens, None));
        }
        let token = verifier.verify(token, now).map(Arc::new).map_err(|refused| {
            let client = refused.subject.and_then(|subject| self.policy.find_subject(&subject));
            refusal(DenialReason::WrongSignedToken(refused.problem), client.cloned())
        })?;
        if self.policy.find_subject(&token.subject).is_some() {
            verifier.keep_verified(hash, &token, now);
        }
        Ok(PresentedToken::Signed(token))
    }

    /// The client of a token, and when it expires.
    pub(crate) fn identify_token(
        &self,
        token: &PresentedToken,
        now: DateTime<Utc>,
    ) -> Result<Identified, CredentialsRefusal> {
        match token {
            PresentedToken::Opaque(hash) => match self.policy.find_token(hash, now) {
                TokenLookup::Valid { client, expires } => Ok(Identified { client, expires }),
                TokenLookup::Expired(client) => {
                    Err(refusal(DenialReason::ExpiredToken, Some(client)))
                }
                TokenLookup::Unknown => Err(refusal(DenialReason::UnknownToken, None)),
            },
            PresentedToken::Signed(token) => {
                let client = self.policy.find_subject(&token.subject).cloned();
                let has_key = self.verifier.as_ref().is_some_and(|keys| keys.has_key_of(token));
                let problem = match (&client, has_key) {
                    (_, false) => SignedTokenProblem::UnknownKey,
                    (_, true) if token.expires <= now => SignedTokenProblem::Expired,
                    (None, true) => SignedTokenProblem::UnknownSubject,
                    (Some(client), true) => {
                        let client = Arc::clone(client);
                        return Ok(Identified { client, expires: Some(token.expires) });
                    }
                };
                Err(refusal(DenialReason::WrongSignedToken(problem), client))
            }
        }
    }
}
