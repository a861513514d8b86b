//! What one version of the clients file says, and which version is in force.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::certificate::ClientCertificate;
use crate::scope::GrantedScopes;
use crate::token::TokenHash;

/// A named client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Unique name; the author of what the client writes.
    pub name: String,
    /// What it may do.
    pub scopes: GrantedScopes,
    /// Hashes of its tokens, with the moment from which each is refused.
    pub tokens: Vec<(TokenHash, Option<DateTime<Utc>>)>,
    /// Requests a second at most, in place of the program's setting; 0: any number.
    pub rate: Option<u32>,
    /// Requests at a time at most, in place of the program's setting; 0: any number.
    pub concurrency: Option<u32>,
    /// Subjects (`sub`) of signed tokens that name it.
    pub subjects: Vec<String>,
    /// Names of its certificates, such as `dns:robot.example`.
    pub certificates: Vec<String>,
}

/// What a presented token is.
#[derive(Debug, Clone)]
pub(crate) enum TokenLookup {
    /// A token of this client.
    Valid {
        /// The client.
        client: Arc<Client>,
        /// When the token expires.
        expires: Option<DateTime<Utc>>,
    },
    /// A token of this client that has expired.
    Expired(Arc<Client>),
    /// Nobody's token.
    Unknown,
}

/// Whose a certificate is.
#[derive(Debug, Clone)]
pub(crate) enum CertificateLookup {
    /// This client's.
    Client(Arc<Client>),
    /// It has names of several clients.
    Several,
    /// Nobody's.
    Unknown,
}

/// All clients, their tokens and certificates; immutable.
#[derive(Debug, Default)]
pub struct AccessPolicy {
    clients: Vec<Arc<Client>>,
    /// Tokens by the first bytes of their hash.
    tokens: HashMap<[u8; 8], Vec<ClientToken>>,
    subjects: HashMap<String, Arc<Client>>,
    /// Clients by the names of their certificates.
    certificates: HashMap<String, Arc<Client>>,
}

#[derive(Debug)]
struct ClientToken {
    hash: TokenHash,
    expires: Option<DateTime<Utc>>,
    client: Arc<Client>,
}

impl AccessPolicy {
    /// A policy of these clients; their names, hashes, subjects and certificates' names are unique.
    pub fn new(clients: Vec<Client>) -> Self {
        let clients: Vec<Arc<Client>> = clients.into_iter().map(Arc::new).collect();
        let mut tokens: HashMap<[u8; 8], Vec<ClientToken>> = HashMap::new();
        let (mut subjects, mut certificates) = (HashMap::new(), HashMap::new());
        for client in &clients {
            let named = client.subjects.iter().map(|name| (name.clone(), Arc::clone(client)));
            subjects.extend(named);
            for &(hash, expires) in &client.tokens {
                let token = ClientToken { hash, expires, client: Arc::clone(client) };
                tokens.entry(hash.prefix()).or_default().push(token);
            }
            let names = client.certificates.iter();
            certificates.extend(names.map(|name| (name.clone(), Arc::clone(client))));
        }
        Self { clients, tokens, subjects, certificates }
    }

    /// The clients, in the order of the file.
    pub fn clients(&self) -> &[Arc<Client>] {
        &self.clients
    }

    /// The client that a right signed token with this subject names.
    pub fn find_subject(&self, subject: &str) -> Option<&Arc<Client>> {
        self.subjects.get(subject)
    }

    /// Whose token this is. `now` is the system clock of this process: an expiry is a date that an
    /// operator wrote, and no other decision depends on it.
    pub(crate) fn find_token(&self, hash: &TokenHash, now: DateTime<Utc>) -> TokenLookup {
        // The prefix of a hash tells nothing about the token; the rest is compared in constant time.
        let candidates = self.tokens.get(&hash.prefix()).map(Vec::as_slice).unwrap_or_default();
        let Some(found) = candidates.iter().find(|token| token.hash == *hash) else {
            return TokenLookup::Unknown;
        };
        let client = Arc::clone(&found.client);
        match found.expires {
            Some(expires) if expires <= now => TokenLookup::Expired(client),
            expires => TokenLookup::Valid { client, expires },
        }
    }

    /// Whose certificate this is.
    pub(crate) fn find_certificate(&self, certificate: &ClientCertificate) -> CertificateLookup {
        let mut owners = certificate.names.iter().filter_map(|name| self.certificates.get(name));
        let Some(owner) = owners.next() else { return CertificateLookup::Unknown };
        match owners.all(|other| Arc::ptr_eq(owner, other)) {
            true => CertificateLookup::Client(Arc::clone(owner)),
            false => CertificateLookup::Several,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_until_it_expires() {
        let now = Utc::now();
        let hash = |token: &str| TokenHash::of_token(token.as_bytes());
        let client = Client {
            name: "shop".to_owned(),
            scopes: GrantedScopes::default(),
            tokens: vec![(hash("for ever"), None), (hash("until now"), Some(now))],
            rate: None,
            concurrency: None,
            subjects: Vec::new(),
            certificates: Vec::new(),
        };
        let policy = AccessPolicy::new(vec![client]);
        let before = now - chrono::TimeDelta::nanoseconds(1);
        for (token, at, expected) in [
            ("for ever", now, "Valid"),
            ("until now", before, "Valid"),
            ("until now", now, "Expired"),
            ("for eve", now, "Unknown"),
            ("", now, "Unknown"),
        ] {
            let found = format!("{:?}", policy.find_token(&hash(token), at));
            assert!(found.starts_with(expected), "{token}: {found}");
        }
    }
}
