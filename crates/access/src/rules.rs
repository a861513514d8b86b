//! What decides who may call: the policy of the clients file and the keys of signed tokens.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::denied::DenialReason;
use crate::policy::{AccessPolicy, Client, TokenLookup};
use crate::signed::{
    RefusedToken, SignedTokenProblem, SignedTokenVerifier, VerifiedToken, has_compact_form,
};
use crate::token::TokenHash;

/// One version of each file; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct AccessRules {
    pub(crate) policy: Arc<AccessPolicy>,
    /// Without it no signed token is right.
    pub(crate) verifier: Option<Arc<SignedTokenVerifier>>,
}

/// What a caller has shown.
#[derive(Debug)]
pub(crate) enum Credential {
    /// A token of the clients file.
    Token(TokenHash),
    /// A signed token that was right.
    Signed(Arc<VerifiedToken>),
}

/// A token that gives no right.
#[derive(Debug)]
pub(crate) struct WrongToken {
    pub(crate) reason: DenialReason,
    /// Whose it is, if that is certain.
    pub(crate) client: Option<String>,
}

impl AccessRules {
    /// The client of a token. A signature is checked only if `may_verify` still allows it.
    pub(crate) fn authenticate(
        &self,
        token: &[u8],
        now: DateTime<Utc>,
        may_verify: impl FnOnce() -> bool,
    ) -> Result<(Arc<Client>, Credential), WrongToken> {
        let hash = TokenHash::of_token(token);
        match (self.policy.find_token(&hash, now), &self.verifier) {
            (TokenLookup::Valid { client, .. }, _) => Ok((client, Credential::Token(hash))),
            (TokenLookup::Expired(client), _) => {
                let client = Some(client.name.clone());
                Err(WrongToken { reason: DenialReason::ExpiredToken, client })
            }
            (TokenLookup::Unknown, Some(verifier)) if has_compact_form(token) => {
                if let Some(known) = verifier.find_verified(&hash, now) {
                    return self.client_of_signed(known);
                }
                if !may_verify() {
                    let reason = DenialReason::TooManyWrongTokens;
                    return Err(WrongToken { reason, client: None });
                }
                let verified = verifier.verify(token, now).map(Arc::new);
                let found = self.client_of_signed(verified);
                if let Ok((_, Credential::Signed(token))) = &found {
                    verifier.keep_verified(hash, token, now);
                }
                found
            }
            (TokenLookup::Unknown, _) => {
                Err(WrongToken { reason: DenialReason::UnknownToken, client: None })
            }
        }
    }

    fn client_of_signed(
        &self,
        verified: Result<Arc<VerifiedToken>, RefusedToken>,
    ) -> Result<(Arc<Client>, Credential), WrongToken> {
        let problem = match verified {
            Ok(token) => match self.policy.find_subject(&token.subject) {
                Some(client) => return Ok((Arc::clone(client), Credential::Signed(token))),
                None => RefusedToken::from(SignedTokenProblem::UnknownSubject),
            },
            Err(refused) => refused,
        };
        let client = problem.subject.and_then(|subject| self.policy.find_subject(&subject));
        let reason = DenialReason::WrongSignedToken(problem.problem);
        Err(WrongToken { reason, client: client.map(|client| client.name.clone()) })
    }

    /// The client of a credential that was right before, and when it expires; `None` if the rules no
    /// longer accept it.
    pub(crate) fn find_client(
        &self,
        credential: &Credential,
        now: DateTime<Utc>,
    ) -> Option<(Arc<Client>, Option<DateTime<Utc>>)> {
        match credential {
            Credential::Token(hash) => match self.policy.find_token(hash, now) {
                TokenLookup::Valid { client, expires } => Some((client, expires)),
                TokenLookup::Expired(_) | TokenLookup::Unknown => None,
            },
            Credential::Signed(token) => {
                let is_right = token.expires > now
                    && self.verifier.as_ref().is_some_and(|keys| keys.has_key_of(token));
                let client = self.policy.find_subject(&token.subject).filter(|_| is_right)?;
                Some((Arc::clone(client), Some(token.expires)))
            }
        }
    }
}
