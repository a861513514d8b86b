//! The compact form of a JWS, `HEADER.CLAIMS.SIGNATURE`, and its header.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::problem::SignedTokenProblem;

/// Values of `typ` that are allowed, in any case and with `application/` in front: tokens that are made
/// for something else, such as a logout, say so.
const ALLOWED_TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// What a header is read for. Other members are left alone, among them `jku`, `x5u`, `x5c` and `jwk`: a
/// token does not bring its key.
#[derive(Debug, Deserialize)]
pub(super) struct JwsHeader {
    pub(super) alg: String,
    #[serde(default, deserialize_with = "not_null")]
    pub(super) kid: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    typ: Option<String>,
    /// What the reader must understand; it understands no extension.
    #[serde(default, deserialize_with = "not_null")]
    crit: Option<IgnoredAny>,
}

/// A token whose signature is not checked yet.
pub(super) struct CompactJws<'t> {
    pub(super) header: JwsHeader,
    /// What is signed: header and claims as they came.
    pub(super) signed: &'t [u8],
    claims: &'t [u8],
    pub(super) signature: Vec<u8>,
}

/// Whether a token has the form of three parts. No token of `clients new-token` has it.
pub(crate) fn has_compact_form(token: &[u8]) -> bool {
    token.iter().filter(|byte| **byte == b'.').count() == 2
}

impl<'t> CompactJws<'t> {
    /// Splits a token and reads its header.
    pub(super) fn parse(token: &'t [u8]) -> Result<Self, SignedTokenProblem> {
        let malformed = SignedTokenProblem::Malformed;
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed);
        };
        let signed = &token[..header.len() + 1 + claims.len()];
        let header: JwsHeader = parse_part(header)?;
        if header.crit.is_some() || !header.typ.as_deref().is_none_or(is_allowed_type) {
            return Err(malformed);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed)?;
        Ok(Self { header, signed, claims, signature })
    }

    /// The claims. Only of a token whose signature was checked.
    pub(super) fn parse_claims<T: DeserializeOwned>(&self) -> Result<T, SignedTokenProblem> {
        parse_part(self.claims)
    }
}

fn is_allowed_type(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ALLOWED_TYPES.contains(&name.strip_prefix("application/").unwrap_or(&name))
}

/// A JSON object in base64url. Members that are read must be there once; serde refuses doubled ones.
fn parse_part<T: DeserializeOwned>(part: &[u8]) -> Result<T, SignedTokenProblem> {
    let malformed = SignedTokenProblem::Malformed;
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed)?;
    // A list would be taken for the members in their order.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(malformed);
    }
    serde_json::from_slice(&json).map_err(|_| malformed)
}

/// A member that is there has a value: `null` is none.
pub(super) fn not_null<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}
