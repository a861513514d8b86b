//! Authentication by the policy in force, and the thread that follows the clients file.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use http::HeaderMap;

use crate::calls_by_address::{CallCountVerdict, CallsByAddress};
use crate::credentials::find_bearer_token;
use crate::denied::{Denial, DenialReason};
use crate::file::{ClientsFileError, parse_clients, read_clients_file};
use crate::policy::{AccessPolicy, CurrentPolicy, TokenLookup};
use crate::request::RequestClient;
use crate::token::TokenHash;

/// Interval at which the file is read. A changed content is found however it was written: in place,
/// by a renamed file, or behind a symbolic link.
const READ_INTERVAL: Duration = Duration::from_secs(2);

/// Who may call; clones share the state.
#[derive(Debug, Clone)]
pub struct AccessControl(Arc<ControlState>);

#[derive(Debug)]
struct ControlState {
    policy: CurrentPolicy,
    wrong_tokens: CallsByAddress,
}

impl AccessControl {
    /// A fixed policy.
    pub fn new(policy: AccessPolicy) -> Self {
        let (policy, wrong_tokens) = (CurrentPolicy::new(policy), CallsByAddress::default());
        Self(Arc::new(ControlState { policy, wrong_tokens }))
    }

    /// The policy of a file, which is followed from now on, by a thread of its own: a network file
    /// system may block.
    pub fn follow_file(path: &Path) -> Result<Self, ClientsFileError> {
        let text = read_clients_file(path)?;
        let control = Self::new(parse_clients(&text)?);
        let follower = FileFollower {
            path: path.to_owned(),
            policy: control.0.policy.clone(),
            seen: Ok(text),
            is_current: true,
        };
        let name = "clients-file".to_owned();
        let followed = std::thread::Builder::new().name(name).spawn(move || follower.run());
        followed
            .map_err(|error| ClientsFileError::of_file(format!("cannot be followed: {error}")))?;
        Ok(control)
    }

    /// Replaces the policy. Open calls of clients that lost their right end soon.
    pub fn replace_policy(&self, policy: AccessPolicy) {
        self.0.policy.replace(policy);
    }

    /// The client whose token the headers carry.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        address: IpAddr,
    ) -> Result<RequestClient, Denial> {
        let token =
            find_bearer_token(headers).map_err(|reason| Denial::of_stranger(reason, address))?;
        let hash = TokenHash::of_token(token);
        let lookup = self.0.policy.get().find_token(&hash, Utc::now());
        let denial = match lookup {
            TokenLookup::Valid { client, .. } => {
                return Ok(RequestClient::new(self.0.policy.clone(), client, hash, address));
            }
            TokenLookup::Expired(client) => Denial {
                client: Some(client.name.clone()),
                ..Denial::of_stranger(DenialReason::ExpiredToken, address)
            },
            TokenLookup::Unknown => Denial::of_stranger(DenialReason::UnknownToken, address),
        };
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
    policy: CurrentPolicy,
    /// What was read last, good or not.
    seen: Result<String, ClientsFileError>,
    /// Whether the policy in force is that of the file.
    is_current: bool,
}

impl FileFollower {
    fn run(mut self) {
        loop {
            std::thread::sleep(READ_INTERVAL);
            self.apply(read_clients_file(&self.path));
            // Set each time: the recorder is installed after the first.
            let value = if self.is_current { 1.0 } else { 0.0 };
            metrics::gauge!("clients_file_is_current").set(value);
        }
    }

    fn apply(&mut self, read: Result<String, ClientsFileError>) {
        if read == self.seen {
            return;
        }
        self.seen = read;
        let path = self.path.display();
        match self.seen.as_ref().map_err(Clone::clone).and_then(|text| parse_clients(text)) {
            Ok(policy) => {
                let clients = policy.clients().len();
                self.policy.replace(policy);
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
        let client = control.authenticate(&headers(token), ADDRESS);
        client.map(|client| client.name().to_owned()).map_err(|denial| denial.reason)
    }

    fn follower(control: &AccessControl) -> FileFollower {
        let policy = control.0.policy.clone();
        FileFollower { path: PathBuf::new(), policy, seen: Ok(String::new()), is_current: true }
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
            let none = control.authenticate(&HeaderMap::new(), ADDRESS).unwrap_err();
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
            let client = control.authenticate(&headers("one"), ADDRESS).unwrap();
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
    async fn a_scope_that_is_narrowed_withdraws_what_it_no_longer_covers() {
        use crate::scope::{RouteAccess as R, Scope as S};
        for (demanded, account_type, is_withdrawn) in [
            (R::Scope(S::LedgerWrite), None, true),
            (R::TypeInBody(S::LedgerWrite), Some("x"), false),
            (R::TypeInBody(S::LedgerWrite), Some("y"), true),
        ] {
            let policy = parse_clients(&clients_text("a", "ledger:write", "one")).unwrap();
            let control = AccessControl::new(policy);
            let client = control.authenticate(&headers("one"), ADDRESS).unwrap();
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
            let client = control.authenticate(&headers("one"), ADDRESS).unwrap();
            let checked = client.check_route("/x", demanded, account_type);
            assert_eq!(checked.is_ok(), is_allowed, "{demanded:?} {account_type:?}");
            if let Err(denial) = checked {
                assert!(denial.message().contains(demanded.label()), "{denial:?}");
            }
        }
    }
}
