//! Denied calls: why, and their trace in log and metrics.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Instant;

use crate::calls_by_address::{CallCountVerdict, CallsByAddress};
use crate::scope::RouteAccess;
use crate::signed::SignedTokenProblem;

/// Denied calls that were logged: a stranger must not be able to fill the log.
static LOGGED_CALLS: LazyLock<CallsByAddress> = LazyLock::new(CallsByAddress::default);

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
    /// A signed token that is refused.
    WrongSignedToken(SignedTokenProblem),
    /// A certificate that does not verify, by which a connection was to begin.
    WrongCertificate,
    /// Nobody's certificate, and no token.
    UnknownCertificate,
    /// A certificate that expired while its connection was open.
    ExpiredCertificate,
    /// A certificate and a token of different clients, or a certificate of several.
    ConflictingCredentials,
    /// A wrong token after too many others from the same address.
    TooManyWrongTokens,
    /// The client lacks the scope.
    MissingScope,
    /// The client names another author or owner than itself.
    ForeignIdentity,
    /// The client lost its token or scope while the call was open.
    Withdrawn,
}

impl DenialReason {
    /// Whether it counts against the limit of wrong tokens.
    pub(crate) const fn is_wrong_token(self) -> bool {
        matches!(
            self,
            Self::UnknownToken
                | Self::ExpiredToken
                | Self::WrongSignedToken(_)
                | Self::TooManyWrongTokens
        )
    }

    /// Value of the label `reason` of `access_denied_total`.
    const fn label(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::MalformedCredentials => "malformed_credentials",
            Self::UnknownToken => "unknown_token",
            Self::ExpiredToken => "expired_token",
            Self::WrongSignedToken(problem) => problem.label(),
            Self::WrongCertificate => "wrong_certificate",
            Self::UnknownCertificate => "unknown_certificate",
            Self::ExpiredCertificate => "expired_certificate",
            Self::ConflictingCredentials => "conflicting_credentials",
            Self::TooManyWrongTokens => "too_many_wrong_tokens",
            Self::MissingScope => "missing_scope",
            Self::ForeignIdentity => "foreign_identity",
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
    /// The authenticated client, or the one whose credentials were refused.
    pub client: Option<String>,
    /// The account type that the client's scope does not cover.
    pub account_type: Option<String>,
    /// The router's pattern or the rpc, as far as known; never the path, which may hold anything.
    pub route: Option<&'static str>,
    /// The caller's address.
    pub address: IpAddr,
}

impl Denial {
    /// A denial of a caller that is not known.
    pub fn of_stranger(reason: DenialReason, address: IpAddr) -> Self {
        Self { reason, demanded: None, client: None, account_type: None, route: None, address }
    }

    /// What the caller is told: nothing about tokens, and the same for all wrong ones.
    pub fn message(&self) -> String {
        match self.reason {
            DenialReason::NoCredentials => {
                "this service needs a token: Authorization: Bearer TOKEN".to_owned()
            }
            DenialReason::MalformedCredentials => {
                "Authorization: must be one header, `Bearer TOKEN` or `OAuth TOKEN`".to_owned()
            }
            DenialReason::UnknownToken
            | DenialReason::ExpiredToken
            | DenialReason::WrongSignedToken(_) => {
                "the token is not one of this service's clients".to_owned()
            }
            DenialReason::WrongCertificate
            | DenialReason::UnknownCertificate
            | DenialReason::ExpiredCertificate => {
                "the certificate is not one of this service's clients, and there is no token".to_owned()
            }
            DenialReason::ConflictingCredentials => {
                "the credentials are not all of one client".to_owned()
            }
            DenialReason::TooManyWrongTokens => {
                "too many wrong tokens came from this address: try again later".to_owned()
            }
            DenialReason::MissingScope => self.missing_scope_message(),
            DenialReason::ForeignIdentity => {
                "only a client with the scope admin may name another than itself".to_owned()
            }
            DenialReason::Withdrawn => {
                "the client lost its right to this call while it was open: its effect may have happened"
                    .to_owned()
            }
        }
    }

    fn missing_scope_message(&self) -> String {
        let scope = self.demanded.map_or("another", RouteAccess::label);
        match &self.account_type {
            Some(account_type) => {
                let shown = shorten_type(account_type);
                format!("this needs the scope {scope} for the account type `{shown}`")
            }
            None => format!("this needs the scope {scope}"),
        }
    }

    /// Writes the denied call's log line and counts it.
    pub fn record(&self) {
        metrics::counter!("access_denied_total", "reason" => self.reason.label()).increment(1);
        if self.reason == DenialReason::TooManyWrongTokens {
            return; // The first such call of an address was logged when the limit was reached.
        }
        match LOGGED_CALLS.count(self.address, Instant::now()) {
            CallCountVerdict::Within => {}
            CallCountVerdict::FirstBeyond => {
                tracing::warn!(address = %self.address, "more calls are denied: counted, not logged, for some seconds");
                return;
            }
            CallCountVerdict::Beyond => return,
        }
        tracing::warn!(
            reason = self.reason.label(),
            client = self.client.as_deref(),
            scope = self.demanded.map(RouteAccess::label),
            account_type = self.account_type.as_deref().map(shorten_type),
            route = self.route,
            address = %self.address,
            "a call is denied"
        );
    }
}

/// An account type as the caller wrote it, at most 80 characters.
fn shorten_type(account_type: &str) -> &str {
    account_type.char_indices().nth(80).map_or(account_type, |(end, _)| &account_type[..end])
}
