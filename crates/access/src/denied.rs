//! Denied calls: why, and their trace in log and metrics.

use std::net::IpAddr;

use crate::scope::RouteAccess;

/// Why a call is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialReason {
    /// No `Authorization` header.
    NoCredentials,
    /// An `Authorization` header that holds no bearer token, or several headers.
    MalformedCredentials,
    /// Nobody's token.
    UnknownToken,
    /// A token after its expiry.
    ExpiredToken,
    /// A wrong token after too many others from the same address.
    TooManyWrongTokens,
    /// The client lacks the scope.
    MissingScope,
    /// The client lost its token or scope while the call was open.
    Withdrawn,
}

impl DenialReason {
    /// Value of the label `reason` of `access_denied_total`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::MalformedCredentials => "malformed_credentials",
            Self::UnknownToken => "unknown_token",
            Self::ExpiredToken => "expired_token",
            Self::TooManyWrongTokens => "too_many_wrong_tokens",
            Self::MissingScope => "missing_scope",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A denied call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: DenialReason,
    /// What the route demands, as far as known.
    pub demanded: Option<RouteAccess>,
    /// The authenticated client, or the one whose token has expired.
    pub client: Option<String>,
    /// The account type that the client's scope does not cover.
    pub account_type: Option<String>,
}

impl Denial {
    /// A denial of a caller that is not known.
    pub fn of_stranger(reason: DenialReason) -> Self {
        Self { reason, demanded: None, client: None, account_type: None }
    }

    /// What the caller is told: nothing about tokens, and the same for unknown and expired ones.
    pub fn message(&self) -> String {
        match self.reason {
            DenialReason::NoCredentials => {
                "this service needs a token: Authorization: Bearer TOKEN".to_owned()
            }
            DenialReason::MalformedCredentials => {
                "Authorization: must be one header, `Bearer TOKEN` or `OAuth TOKEN`".to_owned()
            }
            DenialReason::UnknownToken | DenialReason::ExpiredToken => {
                "the token is not one of this service's clients".to_owned()
            }
            DenialReason::TooManyWrongTokens => {
                "too many wrong tokens came from this address: try again later".to_owned()
            }
            DenialReason::MissingScope => self.missing_scope_message(),
            DenialReason::Withdrawn => {
                "the client lost its right to this call while it was open".to_owned()
            }
        }
    }

    fn missing_scope_message(&self) -> String {
        let scope = self.demanded.map_or("another", RouteAccess::label);
        match &self.account_type {
            Some(account_type) => {
                let shown: String = account_type.chars().take(80).collect();
                format!("this needs the scope {scope} for the account type `{shown}`")
            }
            None => format!("this needs the scope {scope}"),
        }
    }

    /// Writes the denied call's log line and counts it. `route` is the router's pattern, never the
    /// path: a path may hold anything.
    pub fn record(&self, address: Option<IpAddr>, route: Option<&str>) {
        metrics::counter!("access_denied_total", "reason" => self.reason.label()).increment(1);
        if self.reason == DenialReason::TooManyWrongTokens {
            return; // The first such call of an address was logged when the limit was reached.
        }
        tracing::warn!(
            reason = self.reason.label(),
            client = self.client.as_deref(),
            scope = self.demanded.map(RouteAccess::label),
            account_type = self.account_type.as_deref().map(|text| text.get(..80).unwrap_or(text)),
            route,
            address = address.map(tracing::field::display),
            "a call is denied"
        );
    }
}
