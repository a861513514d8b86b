//! Why a signed token is refused.

/// Why a signed token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedTokenProblem {
    /// It is no valid JWS, lacks a claim, or has one of the wrong type.
    Malformed,
    /// Its algorithm is not allowed, or is not that of its key.
    UnsupportedAlgorithm,
    /// It names no known key, or none although there are several.
    UnknownKey,
    /// Its signature is not by its key.
    WrongSignature,
    /// It has expired.
    Expired,
    /// Its first moment has not come.
    NotYetValid,
    /// It is for another audience.
    WrongAudience,
    /// Its subject is no client.
    UnknownSubject,
}

impl SignedTokenProblem {
    /// Value of the label `reason` of `access_denied_total`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_signed_token",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::UnknownKey => "unknown_key",
            Self::WrongSignature => "wrong_signature",
            Self::Expired => "expired_token",
            Self::NotYetValid => "token_not_yet_valid",
            Self::WrongAudience => "wrong_audience",
            Self::UnknownSubject => "unknown_subject",
        }
    }
}
