//! Which client presented credentials belong to.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::certificate::ClientCertificate;
use crate::denied::DenialReason;
use crate::identified::{CredentialsRefusal, Identified, refusal};
use crate::policy::{AccessPolicy, CertificateLookup};
use crate::rules::{AccessRules, PresentedToken};

/// What a caller presents.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) token: Option<PresentedToken>,
    /// The certificate of the connection.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
}

impl Credentials {
    /// The client of these credentials. Each that is presented must be good, except a certificate
    /// that no client has beside a good token; two may not name different clients.
    pub(crate) fn identify(
        &self,
        rules: &AccessRules,
        now: DateTime<Utc>,
    ) -> Result<Identified, CredentialsRefusal> {
        let token = self.token.as_ref();
        let by_token = token.map(|token| rules.identify_token(token, now)).transpose()?;
        let by_certificate = match &self.certificate {
            Some(certificate) => identify_certificate(&rules.policy, certificate, now)?,
            None => None,
        };
        match (by_token, by_certificate) {
            (Some(token), Some(certificate)) if token.client.name != certificate.client.name => {
                Err(refusal(DenialReason::ConflictingCredentials, Some(token.client)))
            }
            (Some(token), Some(certificate)) => {
                let expires = match (token.expires, certificate.expires) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                Ok(Identified { expires, ..token })
            }
            (Some(identified), None) | (None, Some(identified)) => Ok(identified),
            (None, None) if self.certificate.is_some() => {
                Err(refusal(DenialReason::UnknownCertificate, None))
            }
            (None, None) => Err(refusal(DenialReason::NoCredentials, None)),
        }
    }
}

fn identify_certificate(
    policy: &AccessPolicy,
    certificate: &ClientCertificate,
    now: DateTime<Utc>,
) -> Result<Option<Identified>, CredentialsRefusal> {
    match policy.find_certificate(certificate) {
        CertificateLookup::Unknown => Ok(None),
        CertificateLookup::Several => Err(refusal(DenialReason::ConflictingCredentials, None)),
        CertificateLookup::Client(client) if certificate.expires <= now => {
            Err(refusal(DenialReason::ExpiredCertificate, Some(client)))
        }
        CertificateLookup::Client(client) => {
            Ok(Some(Identified { client, expires: Some(certificate.expires) }))
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::file::parse_clients;
    use crate::token::TokenHash;

    fn rules() -> AccessRules {
        let hash = |token: &str| TokenHash::of_token(token.as_bytes()).to_hex();
        let text = format!(
            "clients:\n  - {{name: a, scopes: [admin], tokens: [{{sha256: '{}'}}], certificates: ['dns:a', 'uri:x:a']}}\n  \
             - {{name: b, scopes: [admin], tokens: [{{sha256: '{}'}}]}}\n  \
             - {{name: c, scopes: [admin], certificates: ['dns:c']}}\n",
            hash("one"),
            hash("two")
        );
        AccessRules { policy: Arc::new(parse_clients(&text).unwrap()), verifier: None }
    }

    #[test]
    fn token_and_certificate_name_one_client_or_none() {
        use DenialReason as R;
        let (rules, now) = (rules(), Utc::now());
        for (token, names, expected) in [
            (None, None, Err(R::NoCredentials)),
            (Some("one"), None, Ok("a")),
            (Some("six"), None, Err(R::UnknownToken)),
            (None, Some("dns:a"), Ok("a")),
            (None, Some("uri:x:a dns:a"), Ok("a")),
            (None, Some("dns:other dns:c"), Ok("c")),
            (None, Some("dns:A"), Err(R::UnknownCertificate)),
            (None, Some("uri:a"), Err(R::UnknownCertificate)),
            (None, Some(""), Err(R::UnknownCertificate)),
            (None, Some("dns:a dns:c"), Err(R::ConflictingCredentials)),
            (Some("one"), Some("dns:a dns:c"), Err(R::ConflictingCredentials)),
            (Some("one"), Some("dns:a"), Ok("a")),
            (Some("one"), Some("dns:other"), Ok("a")),
            (Some("two"), Some("dns:a"), Err(R::ConflictingCredentials)),
            (Some("six"), Some("dns:a"), Err(R::UnknownToken)),
        ] {
            let names = names.map(|names| names.split_whitespace().map(str::to_owned).collect());
            let expires = now + TimeDelta::seconds(1);
            let credentials = Credentials {
                token: token
                    .map(|token| PresentedToken::Opaque(TokenHash::of_token(token.as_bytes()))),
                certificate: names.map(|names| Arc::new(ClientCertificate { names, expires })),
            };
            let found = credentials.identify(&rules, now);
            let found = found.as_ref().map(|found| found.client.name.as_str());
            assert_eq!(found.map_err(|refusal| refusal.reason), expected, "{credentials:?}");
            let later = credentials.identify(&rules, expires).map_err(|refusal| refusal.reason);
            if expected.is_ok() && credentials.token.is_none() {
                assert_eq!(later.map(drop), Err(R::ExpiredCertificate));
            }
        }
    }
}
