//! The current policy, and the task that follows the clients file.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use http::HeaderMap;
use tokio::sync::watch;

use crate::calls_by_address::{CallCountVerdict, CallsByAddress};
use crate::certificate::ClientCertificate;
use crate::credentials::find_bearer_token;
use crate::denied::{Denial, DenialReason};
use crate::file::{ClientsFileError, parse_clients, read_clients_file};
use crate::follow::follow_files;
use crate::identify::Credentials;
use crate::policy::AccessPolicy;
use crate::request::RequestClient;
use crate::token::TokenHash;

/// Who may call; clones share the state.
#[derive(Debug, Clone)]
pub struct AccessControl(Arc<ControlState>);

#[derive(Debug)]
struct ControlState {
    policy: watch::Sender<Arc<AccessPolicy>>,
    wrong_tokens: CallsByAddress,
}

impl AccessControl {
    /// A fixed policy.
    pub fn new(policy: AccessPolicy) -> Self {
        let policy = watch::Sender::new(Arc::new(policy));
        Self(Arc::new(ControlState { policy, wrong_tokens: CallsByAddress::default() }))
    }

    /// The policy of a file, which is followed from now on.
    pub fn follow_file(path: &Path) -> Result<Self, ClientsFileError> {
        let text = read_clients_file(path)?;
        let control = Self::new(parse_clients(&text)?);
        let mut follower = FileFollower {
            path: path.to_owned(),
            control: control.clone(),
            seen: content_key(&Ok(text)),
            is_current: true,
        };
        follow_files("clients-file", move || follower.read_again())
            .map_err(|error| ClientsFileError::of_file(format!("cannot be followed: {error}")))?;
        Ok(control)
    }

    /// The current policy.
    pub fn policy(&self) -> Arc<AccessPolicy> {
        Arc::clone(&self.0.policy.borrow())
    }

    /// Replaces the policy. Open calls of clients that lost their right end soon.
    pub fn replace_policy(&self, policy: AccessPolicy) {
        self.0.policy.send_replace(Arc::new(policy));
    }

    /// Receives the policies to come.
    pub fn watch(&self) -> watch::Receiver<Arc<AccessPolicy>> {
        self.0.policy.subscribe()
    }

    /// The client whose token the headers carry, or whose certificate the connection began with.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<&Arc<ClientCertificate>>,
        address: IpAddr,
    ) -> Result<RequestClient, Denial> {
        let token = match find_bearer_token(headers) {
            Ok(token) => Some(TokenHash::of_token(token)),
            Err(DenialReason::NoCredentials) => None,
            Err(reason) => return Err(Denial::of_stranger(reason, address)),
        };
        let credentials = Credentials { token, certificate: certificate.cloned() };
        let policy = self.policy();
        let refusal = match credentials.identify(&policy, Utc::now()) {
            Ok(found) => {
                return Ok(RequestClient::new(self.clone(), found.client, credentials, address));
            }
            Err(refusal) => refusal,
        };
        let denial = Denial {
            client: refusal.client.map(|client| client.name.clone()),
            ..Denial::of_stranger(refusal.reason, address)
        };
        if !matches!(refusal.reason, DenialReason::UnknownToken | DenialReason::ExpiredToken) {
            return Err(denial);
        }
        match self.0.wrong_tokens.count(address, Instant::now()) {
            CallCountVerdict::Within => Err(denial),
            verdict => {
                if verdict == CallCountVerdict::FirstBeyond {
                    tracing::warn!(%address, "too many wrong tokens: refused for some seconds");
                }
                Err(Denial::of_stranger(DenialReason::TooManyWrongTokens, address))
            }
        }
    }
}

/// Follows a clients file for the life of the process.
struct FileFollower {
    path: PathBuf,
    control: AccessControl,
    /// What was read last, good or not.
    seen: ContentKey,
    /// Whether the policy in force is that of the file.
    is_current: bool,
}

/// Identifies what was read: the hash of the text, or the error.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ContentKey {
    Text(TokenHash),
    Unreadable(String),
}

fn content_key(read: &Result<String, ClientsFileError>) -> ContentKey {
    match read {
        Ok(text) => ContentKey::Text(TokenHash::of_token(text.as_bytes())),
        Err(error) => ContentKey::Unreadable(error.to_string()),
    }
}

impl FileFollower {
    fn read_again(&mut self) -> ControlFlow<()> {
        self.apply(read_clients_file(&self.path));
        // Set each time: the recorder is installed after the first.
        let value = if self.is_current { 1.0 } else { 0.0 };
        metrics::gauge!("clients_file_is_current").set(value);
        ControlFlow::Continue(())
    }

    fn apply(&mut self, read: Result<String, ClientsFileError>) {
        let key = content_key(&read);
        if key == self.seen {
            return;
        }
        self.seen = key;
        let path = self.path.display();
        match read.and_then(|text| parse_clients(&text)) {
            Ok(policy) => {
                let clients = policy.clients().len();
                self.control.replace_policy(policy);
                self.is_current = true;
                metrics::counter!("clients_file_loads_total", "outcome" => "loaded").increment(1);
                tracing::info!(%path, clients, "the clients file has changed and is in force");
            }
            Err(error) => {
                self.is_current = false;
                metrics::counter!("clients_file_loads_total", "outcome" => "refused").increment(1);
                tracing::error!(
                    %path, %error, code = "VALIDATION_ERROR",
                    "the new clients file is refused; the clients of the old one stay in force"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header;

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn clients_text(name: &str, scopes: &str, token: &str) -> String {
        let hash = TokenHash::of_token(token.as_bytes()).to_hex();
        format!(
            "clients:\n  - name: {name}\n    scopes: [{scopes}]\n    tokens: [{{sha256: \"{hash}\"}}]\n"
        )
    }

    fn headers(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers
    }

    fn client_of(control: &AccessControl, token: &str) -> Result<String, DenialReason> {
        let client = control.authenticate(&headers(token), None, ADDRESS);
        client.map(|client| client.name().to_owned()).map_err(|denial| denial.reason)
    }

    fn follower(control: &AccessControl) -> FileFollower {
        let seen = ContentKey::Unreadable(String::new());
        FileFollower { path: PathBuf::new(), control: control.clone(), seen, is_current: true }
    }

    #[test]
    fn a_good_file_replaces_and_a_broken_one_does_not() {
        let control = AccessControl::new(AccessPolicy::default());
        let mut follower = follower(&control);
        follower.apply(Ok(clients_text("a", "admin", "one")));
        assert_eq!(client_of(&control, "one"), Ok("a".to_owned()));
        for broken in ["", "clients: []", "clients: [", "nothing"] {
            follower.apply(Ok(broken.to_owned()));
            assert_eq!(client_of(&control, "one"), Ok("a".to_owned()), "{broken}");
        }
        follower.apply(parse_clients("").map(|_| String::new()));
        assert_eq!(client_of(&control, "one"), Ok("a".to_owned()));
        follower.apply(Ok(clients_text("b", "admin", "two")));
        assert_eq!(client_of(&control, "one"), Err(DenialReason::UnknownToken));
        assert_eq!(client_of(&control, "two"), Ok("b".to_owned()));
    }

    #[test]
    fn wrong_tokens_are_limited_and_nothing_else_is() {
        let control =
            AccessControl::new(parse_clients(&clients_text("a", "admin", "one")).unwrap());
        for _ in 0..40 {
            let none = control.authenticate(&HeaderMap::new(), None, ADDRESS).unwrap_err();
            assert_eq!(none.reason, DenialReason::NoCredentials);
            assert!(client_of(&control, "one").is_ok());
        }
        for _ in 0..30 {
            assert_eq!(client_of(&control, "two"), Err(DenialReason::UnknownToken));
        }
        assert_eq!(client_of(&control, "two"), Err(DenialReason::TooManyWrongTokens));
        assert!(client_of(&control, "one").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_withdrawn_when_its_client_loses_token_or_scope() {
        use crate::scope::{RouteAccess, Scope};
        for (changed, is_withdrawn) in [
            (clients_text("a", "orders:read, events:read", "one"), false),
            (clients_text("a", "events:read", "one"), true),
            (clients_text("a", "orders:read", "two"), true),
            (clients_text("b", "orders:read", "one"), true),
        ] {
            let text = clients_text("a", "orders:read", "one");
            let control = AccessControl::new(parse_clients(&text).unwrap());
            let client = control.authenticate(&headers("one"), None, ADDRESS).unwrap();
            client.check_route("/x", RouteAccess::Scope(Scope::OrdersRead), None).unwrap();
            let wait = tokio::spawn(async move { client.wait_until_withdrawn().await });
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(!wait.is_finished());
            control.replace_policy(parse_clients(&changed).unwrap());
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert_eq!(wait.is_finished(), is_withdrawn, "{changed}");
            wait.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_withdrawn_when_its_certificate_is_no_longer_its_clients() {
        let with = |clients: &str| parse_clients(&format!("clients: [{clients}]")).unwrap();
        let before = "{name: a, scopes: [admin], certificates: ['dns:a', 'dns:b']}";
        for (changed, is_withdrawn) in [
            ("{name: a, scopes: [admin], certificates: ['dns:a']}", false),
            ("{name: a, scopes: [admin], certificates: ['dns:c']}", true),
            ("{name: b, scopes: [admin], certificates: ['dns:a']}", true),
        ] {
            let control = AccessControl::new(with(before));
            let expires = Utc::now() + chrono::TimeDelta::days(1);
            let certificate =
                Arc::new(ClientCertificate { names: vec!["dns:a".to_owned()], expires });
            let client = control.authenticate(&HeaderMap::new(), Some(&certificate), ADDRESS);
            let client = client.unwrap();
            let wait = tokio::spawn(async move { client.wait_until_withdrawn().await });
            tokio::time::sleep(Duration::from_secs(1)).await;
            control.replace_policy(with(changed));
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert_eq!(wait.is_finished(), is_withdrawn, "{changed}");
            wait.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_scope_that_is_narrowed_withdraws_what_it_no_longer_covers() {
        use crate::scope::{RouteAccess as R, Scope as S};
        for (demanded, account_type, is_withdrawn) in [
            (R::Scope(S::LedgerWrite), None, true),
            (R::TypeInBody(S::LedgerWrite), Some("x"), false),
            (R::TypeInBody(S::LedgerWrite), Some("y"), true),
        ] {
            let policy = parse_clients(&clients_text("a", "ledger:write", "one")).unwrap();
            let control = AccessControl::new(policy);
            let client = control.authenticate(&headers("one"), None, ADDRESS).unwrap();
            client.check_route("/x", demanded, None).unwrap();
            if let Some(account_type) = account_type {
                client.check_account_type(S::LedgerWrite, account_type).unwrap();
            }
            let wait = tokio::spawn(async move { client.wait_until_withdrawn().await });
            tokio::time::sleep(Duration::from_secs(1)).await;
            let narrowed = clients_text("a", "\"ledger:write:x\"", "one");
            control.replace_policy(parse_clients(&narrowed).unwrap());
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert_eq!(wait.is_finished(), is_withdrawn, "{demanded:?} {account_type:?}");
            wait.abort();
        }
    }

    #[test]
    fn a_scope_is_checked_for_route_and_account_type() {
        use crate::scope::{RouteAccess as R, Scope as S};
        let text = clients_text("a", "\"ledger:read:x\", ledger:write", "one");
        let control = AccessControl::new(parse_clients(&text).unwrap());
        for (demanded, account_type, is_allowed) in [
            (R::Open, None, true),
            (R::AnyClient, None, true),
            (R::Scope(S::LedgerRead), None, false),
            (R::Scope(S::LedgerWrite), None, true),
            (R::Scope(S::Admin), None, false),
            (R::TypeInPath(S::LedgerRead), Some("x"), true),
            (R::TypeInPath(S::LedgerRead), Some("y"), false),
            (R::TypeInPath(S::LedgerRead), None, false),
            (R::TypeInPath(S::LedgerWrite), Some("y"), true),
            (R::TypeInBody(S::LedgerRead), None, true),
            (R::TypeInBody(S::EventsRead), None, false),
        ] {
            let client = control.authenticate(&headers("one"), None, ADDRESS).unwrap();
            let checked = client.check_route("/x", demanded, account_type);
            assert_eq!(checked.is_ok(), is_allowed, "{demanded:?} {account_type:?}");
            if let Err(denial) = checked {
                assert!(denial.message().contains(demanded.label()), "{denial:?}");
            }
        }
    }
}
