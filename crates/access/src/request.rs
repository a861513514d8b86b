//! The authenticated client of one request.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::denied::{Denial, DenialReason};
use crate::identify::Credentials;
use crate::policy::Client;
use crate::rules::{AccessRules, CurrentRules};
use crate::scope::{RouteAccess, Scope};

/// How long a call may be open before the right to it is looked at again, and how long it may take
/// to finish once the right is lost: time for a short call, not for a stream, a long poll or a wait
/// for a lock.
const SHORT_CALL: Duration = Duration::from_secs(2);

/// The client of a request, put into the request's extensions; clones share its state.
#[derive(Debug, Clone)]
pub struct RequestClient(Arc<RequestState>);

#[derive(Debug)]
struct RequestState {
    rules: CurrentRules,
    client: Arc<Client>,
    credentials: Credentials,
    address: IpAddr,
    /// The route and what it demands, once it is known.
    route: OnceLock<(&'static str, RouteAccess)>,
    /// The first account type of the request that was checked.
    account_type: OnceLock<String>,
}

impl RequestClient {
    pub(crate) fn new(
        rules: CurrentRules,
        client: Arc<Client>,
        credentials: Credentials,
        address: IpAddr,
    ) -> Self {
        let (route, account_type) = (OnceLock::new(), OnceLock::new());
        let state = RequestState { rules, client, credentials, address, route, account_type };
        Self(Arc::new(state))
    }

    /// The client's name.
    pub fn name(&self) -> &str {
        &self.0.client.name
    }

    /// Its own limit of requests a second and that of requests at a time.
    pub fn limits(&self) -> (Option<u32>, Option<u32>) {
        (self.0.client.rate, self.0.client.concurrency)
    }

    /// Whether it may do everything.
    pub fn is_admin(&self) -> bool {
        self.0.client.scopes.includes(Scope::Admin)
    }

    /// Whether it has a scope, for all account types.
    pub fn has_scope(&self, scope: Scope) -> bool {
        self.0.client.scopes.includes(scope)
    }

    /// Checks what a route demands. `route` is the router's pattern or the rpc's path,
    /// `account_type` the value of the path's `{type}`.
    pub fn check_route(
        &self,
        route: &'static str,
        demanded: RouteAccess,
        account_type: Option<&str>,
    ) -> Result<(), Denial> {
        let _ = self.0.route.set((route, demanded));
        let scopes = &self.0.client.scopes;
        match demanded {
            RouteAccess::Open | RouteAccess::AnyClient => Ok(()),
            RouteAccess::Scope(scope) if scopes.includes(scope) => Ok(()),
            RouteAccess::TypeInBody(scope) if scopes.includes_for_some_type(scope) => Ok(()),
            RouteAccess::TypeInPath(scope) => {
                self.check_account_type(scope, account_type.unwrap_or_default())
            }
            RouteAccess::Scope(_) | RouteAccess::TypeInBody(_) => {
                Err(self.denial(DenialReason::MissingScope, None))
            }
        }
    }

    /// Checks a scope for one account type of the request.
    pub fn check_account_type(&self, scope: Scope, account_type: &str) -> Result<(), Denial> {
        let scopes = &self.0.client.scopes;
        if scopes.includes_for_type(scope, account_type) {
            self.0.account_type.get_or_init(|| account_type.to_owned());
            return Ok(());
        }
        // To a client without any part of the scope, the type does not matter.
        let named = scopes.includes_for_some_type(scope).then(|| account_type.to_owned());
        Err(self.denial(DenialReason::MissingScope, named))
    }

    /// Waits until the client has lost the right to this request, and a short grace period more.
    /// For a short call this costs a timer.
    pub async fn wait_until_withdrawn(&self) -> Denial {
        tokio::time::sleep(SHORT_CALL).await;
        let mut changes = self.0.rules.watch();
        loop {
            let rules = changes.borrow_and_update().clone();
            let Some(expires) = self.still_allowed(&rules, Utc::now()) else { break };
            let expiry = async {
                match expires {
                    Some(expires) => tokio::time::sleep(time_until(expires)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender outlives its requests: they hold it.
                _ = changes.changed() => {}
                () = expiry => {}
            }
        }
        tokio::time::sleep(SHORT_CALL).await;
        self.denial(DenialReason::Withdrawn, None)
    }

    /// When the credentials expire, if the rules still allow the request.
    fn still_allowed(
        &self,
        rules: &AccessRules,
        now: DateTime<Utc>,
    ) -> Option<Option<DateTime<Utc>>> {
        let state = &self.0;
        let found = state.credentials.identify(rules, now).ok()?;
        let scopes = &found.client.scopes;
        let is_allowed = match state.route.get().map(|(_, demanded)| *demanded) {
            None | Some(RouteAccess::Open | RouteAccess::AnyClient) => true,
            Some(RouteAccess::Scope(scope)) => scopes.includes(scope),
            Some(RouteAccess::TypeInBody(scope) | RouteAccess::TypeInPath(scope)) => {
                match state.account_type.get() {
                    Some(account_type) => scopes.includes_for_type(scope, account_type),
                    None => scopes.includes_for_some_type(scope),
                }
            }
        };
        (found.client.name == state.client.name && is_allowed).then_some(found.expires)
    }

    /// Checks a scope that the request needs beside its route's.
    pub fn check_scope(&self, scope: Scope) -> Result<(), Denial> {
        if self.0.client.scopes.includes(scope) {
            return Ok(());
        }
        let denial = self.denial(DenialReason::MissingScope, None);
        Err(Denial { demanded: Some(RouteAccess::Scope(scope)), ..denial })
    }

    /// Denies the client to name another author or owner than itself.
    pub fn foreign_identity_denial(&self) -> Denial {
        self.denial(DenialReason::ForeignIdentity, None)
    }

    fn denial(&self, reason: DenialReason, account_type: Option<String>) -> Denial {
        let (route, demanded) = self.0.route.get().copied().unzip();
        Denial {
            reason,
            demanded,
            client: Some(self.name().to_owned()),
            account_type,
            route,
            address: self.0.address,
        }
    }
}

/// At least a moment, so that a wait that ends early does not spin.
fn time_until(moment: DateTime<Utc>) -> Duration {
    // A wait of hours would miss a clock that is set.
    let longest = Duration::from_secs(5);
    let left = (moment - Utc::now()).to_std().unwrap_or_default();
    left.clamp(Duration::from_millis(10), longest)
}
