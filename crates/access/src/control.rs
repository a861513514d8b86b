//! The rules in force, and the clients of requests by them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use http::HeaderMap;

use crate::calls_by_address::{CallCountVerdict, CallsByAddress};
use crate::certificate::ClientCertificate;
use crate::credentials::find_bearer_token;
use crate::denied::{Denial, DenialReason};
use crate::identified::CredentialsRefusal;
use crate::identify::Credentials;
use crate::policy::AccessPolicy;
use crate::request::RequestClient;
use crate::rules::{AccessRules, CurrentRules};
use crate::signed::SignedTokenVerifier;

/// Who may call; clones share the state.
#[derive(Debug, Clone)]
pub struct AccessControl(Arc<ControlState>);

#[derive(Debug)]
struct ControlState {
    rules: CurrentRules,
    wrong_tokens: CallsByAddress,
}

impl AccessControl {
    /// A policy without signed tokens.
    pub fn new(policy: AccessPolicy) -> Self {
        let rules = AccessRules { policy: Arc::new(policy), verifier: None };
        let (rules, wrong_tokens) = (CurrentRules::new(rules), CallsByAddress::default());
        Self(Arc::new(ControlState { rules, wrong_tokens }))
    }

    /// Replaces the policy. Open calls of clients that lost their right end soon.
    pub fn replace_policy(&self, policy: AccessPolicy) {
        self.0.rules.change(|rules| rules.policy = Arc::new(policy));
    }

    /// Replaces the keys of signed tokens. Open calls with tokens of a key that is gone end soon.
    pub fn replace_verifier(&self, verifier: SignedTokenVerifier) {
        self.0.rules.change(|rules| rules.verifier = Some(Arc::new(verifier)));
    }

    /// The client whose token the headers carry, or whose certificate the connection began with.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<&Arc<ClientCertificate>>,
        address: IpAddr,
    ) -> Result<RequestClient, Denial> {
        let token = match find_bearer_token(headers) {
            Ok(token) => Some(token),
            Err(DenialReason::NoCredentials) => None,
            Err(reason) => return Err(Denial::of_stranger(reason, address)),
        };
        let (rules, now) = (self.0.rules.get(), Utc::now());
        let may_verify = || !self.0.wrong_tokens.is_exhausted(address, Instant::now());
        let token = token.map(|token| rules.read_token(token, now, may_verify)).transpose();
        let found = token.and_then(|token| {
            let credentials = Credentials { token, certificate: certificate.cloned() };
            credentials.identify(&rules, now).map(|found| (found.client, credentials))
        });
        found
            .map(|(client, credentials)| {
                RequestClient::new(self.0.rules.clone(), client, credentials, address)
            })
            .map_err(|refusal| self.count_refusal(refusal, address))
    }

    /// The denial of refused credentials; wrong tokens are counted, and limited.
    fn count_refusal(&self, refusal: CredentialsRefusal, address: IpAddr) -> Denial {
        let denial = Denial {
            client: refusal.client.map(|client| client.name.clone()),
            ..Denial::of_stranger(refusal.reason, address)
        };
        if !refusal.reason.is_wrong_token() {
            return denial;
        }
        match self.0.wrong_tokens.count(address, Instant::now()) {
            CallCountVerdict::Within => denial,
            verdict => {
                if verdict == CallCountVerdict::FirstBeyond {
                    tracing::warn!(%address, "too many wrong tokens: refused for some seconds");
                }
                Denial::of_stranger(DenialReason::TooManyWrongTokens, address)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header;

    use super::*;
    use crate::file::parse_clients;
    use crate::signed::signing::{AUDIENCE, Signer, claims_of, claims_until, key_set};
    use crate::signed::{SignedTokenProblem, TokenKeys};
    use crate::token::TokenHash;

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

    fn control_of_signer(signer: &Signer) -> AccessControl {
        let text = "clients: [{name: a, scopes: [orders:read], subjects: [svc-a, svc-b]}]";
        let control = AccessControl::new(parse_clients(text).unwrap());
        control.replace_verifier(verifier_of(&[signer]));
        control
    }

    fn verifier_of(signers: &[&Signer]) -> SignedTokenVerifier {
        SignedTokenVerifier::new(TokenKeys::parse(&key_set(signers)).unwrap(), AUDIENCE.into())
    }

    #[test]
    fn over_the_limit_no_signature_is_checked_and_verified_tokens_are_taken() {
        let (signer, forger) = (Signer::ed25519("k"), Signer::ed25519("k"));
        let control = control_of_signer(&signer);
        let [known, fresh, strange] =
            ["svc-a", "svc-b", "svc-c"].map(|subject| signer.sign(&claims_of(subject)));
        let late = signer.sign(&claims_until("svc-b", Utc::now().timestamp() + 77));
        assert_eq!(client_of(&control, &known), Ok("a".to_owned()));
        let refused = |problem| Err(DenialReason::WrongSignedToken(problem));
        let forged = forger.sign(&claims_of("svc-a"));
        for _ in 0..30 {
            assert_eq!(client_of(&control, &forged), refused(SignedTokenProblem::WrongSignature));
        }
        assert_eq!(client_of(&control, &forged), Err(DenialReason::TooManyWrongTokens));
        assert_eq!(client_of(&control, &fresh), Ok("a".to_owned()), "still checked");
        for _ in 0..2_000 {
            assert_eq!(client_of(&control, &forged), Err(DenialReason::TooManyWrongTokens));
        }
        assert_eq!(client_of(&control, &strange), Err(DenialReason::TooManyWrongTokens));
        assert_eq!(client_of(&control, &known), Ok("a".to_owned()), "verified before");
        assert_eq!(client_of(&control, &late), Err(DenialReason::TooManyWrongTokens));
        let elsewhere = control.authenticate(&headers(&late), None, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(elsewhere.unwrap().name(), "a");
        let elsewhere =
            control.authenticate(&headers(&strange), None, IpAddr::from([192, 0, 2, 1]));
        let reason = elsewhere.unwrap_err().reason;
        assert_eq!(Err::<String, _>(reason), refused(SignedTokenProblem::UnknownSubject));
    }

    #[test]
    fn a_denied_token_names_its_client_only_if_its_signature_is_right() {
        let (signer, forger) = (Signer::es256("k"), Signer::es256("k"));
        let control = control_of_signer(&signer);
        let expired = claims_until("svc-a", Utc::now().timestamp() - 60);
        for (signer, client) in [(&signer, Some("a")), (&forger, None)] {
            let token = signer.sign(&expired);
            let denial = control.authenticate(&headers(&token), None, ADDRESS).unwrap_err();
            assert_eq!(denial.client.as_deref(), client);
            assert!(!format!("{denial:?} {}", denial.message()).contains(&token[..20]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_when_its_signed_token_loses_its_key_or_its_client() {
        let (signer, other) = (Signer::ed25519("k"), Signer::ed25519("other"));
        let text = |subject: &str| {
            format!("clients: [{{name: a, scopes: [orders:read], subjects: [{subject}]}}]")
        };
        for (keys, subject, is_withdrawn) in [
            (vec![&signer, &other], "svc-a", false),
            (vec![&other], "svc-a", true),
            (vec![&signer], "svc-b", true),
        ] {
            let control = control_of_signer(&signer);
            let token = signer.sign(&claims_of("svc-a"));
            let client = control.authenticate(&headers(&token), None, ADDRESS).unwrap();
            let wait = tokio::spawn(async move { client.wait_until_withdrawn().await });
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(!wait.is_finished());
            control.replace_verifier(verifier_of(&keys));
            control.replace_policy(parse_clients(&text(subject)).unwrap());
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert_eq!(wait.is_finished(), is_withdrawn, "{} keys, {subject}", keys.len());
            wait.abort();
        }
    }

    #[tokio::test]
    async fn a_request_ends_soon_after_its_signed_token_expires() {
        let signer = Signer::ed25519("k");
        let control = control_of_signer(&signer);
        // It has expired; the leeway lets it in for one or two seconds.
        let exp = Utc::now().timestamp() - 3;
        let token = signer.sign(&claims_until("svc-a", exp));
        let client = control.authenticate(&headers(&token), None, ADDRESS).unwrap();
        let denial = client.wait_until_withdrawn().await;
        assert_eq!(denial.reason, DenialReason::Withdrawn);
        assert!(Utc::now().timestamp() - exp < 10);
        let expired = DenialReason::WrongSignedToken(SignedTokenProblem::Expired);
        assert_eq!(client_of(&control, &token), Err(expired), "though it was verified before");
    }
}
