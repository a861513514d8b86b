//! Pages of groups: where one ends, so that the next begins there, about the same question at the same moments.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::AccountQuery;
use crate::moment;
use crate::sharding::digest_parts;

/// Where a page of groups ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BalancePageCursor {
    /// The moments that were asked about: a default that has passed is not taken anew.
    pub(crate) from: Option<DateTime<Utc>>,
    pub(crate) to: DateTime<Utc>,
    /// The last group's place in the order, as `account_totals_page` gives it.
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
    /// The token for the page after this one.
    pub(crate) fn encode_token(&self, query: &AccountQuery) -> String {
        let token = BalancePageToken {
            question: query_fingerprint(query),
            from: self.from.map(|from| from.timestamp_micros()),
            to: self.to.timestamp_micros(),
            last: self.last_sort_key.clone(),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_string(&token).unwrap_or_default())
    }

    /// Reads a token; `None` if it is not one of this account's, filter's and grouping's.
    pub(crate) fn parse_token(token: &str, query: &AccountQuery) -> Option<Self> {
        let token: BalancePageToken =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let parse_micros = |micros| {
            DateTime::from_timestamp_micros(micros).filter(|at| moment::has_four_digit_year(*at))
        };
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

/// What tells the pages of one question from those of others.
fn query_fingerprint(query: &AccountQuery) -> String {
    let mut parts = vec![format!("{:x}", query.account.id), query.group_by.join(",")];
    parts.extend(query.filter.iter().map(|(name, value)| format!("{name}={value}")));
    let digest = digest_parts(parts.iter().map(String::as_bytes));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
