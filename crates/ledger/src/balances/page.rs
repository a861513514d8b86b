//! Keyset pagination of balance groups; a token is valid for the same query and keeps its moments.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::AccountQuery;
use crate::moment;
use crate::sharding::digest_parts;

/// Cursor at the end of a page of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BalancePageCursor {
    /// Moments of the first page: a default of "now" is not evaluated again.
    pub(crate) from: Option<DateTime<Utc>>,
    pub(crate) to: DateTime<Utc>,
    /// Sort key of the last group, as [`ACCOUNT_TOTALS_SQL`](super::ACCOUNT_TOTALS_SQL) returns it.
    pub(crate) last_sort_key: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct BalancePageToken {
    question: String,
    from: Option<i64>,
    to: i64,
    last: Vec<String>,
}

impl BalancePageCursor {
    /// Encodes the cursor as the next page's token.
    pub(crate) fn encode_token(&self, query: &AccountQuery) -> String {
        let token = BalancePageToken {
            question: query_fingerprint(query),
            from: self.from.map(|from| from.timestamp_micros()),
            to: self.to.timestamp_micros(),
            last: self.last_sort_key.clone(),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_string(&token).unwrap_or_default())
    }

    /// Decodes a page token; `None` if it is malformed or of another account, filter or grouping.
    pub(crate) fn parse_token(token: &str, query: &AccountQuery) -> Option<Self> {
        let token: BalancePageToken =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let is_valid = token.question == query_fingerprint(query)
            && token.last.len() == query.group_by.len()
            && !token.last.iter().any(|part| part.contains('\0'));
        let from = match token.from {
            Some(micros) => Some(parse_micros(micros)?),
            None => None,
        };
        Some(Self { from, to: parse_micros(token.to)?, last_sort_key: token.last })
            .filter(|_| is_valid)
    }
}

fn parse_micros(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros).filter(|at| moment::has_four_digit_year(*at))
}

/// Binds page tokens to account, filter and grouping.
fn query_fingerprint(query: &AccountQuery) -> String {
    let mut parts = vec![format!("{:x}", query.account.id.get()), query.group_by.join(",")];
    parts.extend(query.filter.iter().map(|(name, value)| format!("{name}={value}")));
    let digest = digest_parts(parts.iter().map(String::as_bytes));
    hex::encode(&digest[..8])
}
