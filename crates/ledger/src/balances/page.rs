//! Pages of groups: where one ends, so that the next begins there, about the same question at the same moments.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Query;
use crate::moment;
use crate::sharding::digest;

/// Where a page of groups ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupsPage {
    /// The moments that were asked about: a default that has passed is not taken anew.
    pub(crate) from: Option<DateTime<Utc>>,
    pub(crate) to: DateTime<Utc>,
    /// The last group's place in the order, as `account_totals_page` gives it.
    pub(crate) last: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Token {
    question: String,
    from: Option<i64>,
    to: i64,
    last: Vec<String>,
}

impl GroupsPage {
    /// The token for the page after this one.
    pub(crate) fn token(&self, query: &Query) -> String {
        let token = Token {
            question: question(query),
            from: self.from.map(|from| from.timestamp_micros()),
            to: self.to.timestamp_micros(),
            last: self.last.clone(),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_string(&token).unwrap_or_default())
    }

    /// Reads a token; `None` if it is not one of this account's, filter's and grouping's.
    pub(crate) fn parse(token: &str, query: &Query) -> Option<Self> {
        let token: Token = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let at = |micros| DateTime::from_timestamp_micros(micros).filter(|at| moment::is_possible(*at));
        let possible = token.question == question(query)
            && token.last.len() == query.group_by.len()
            && !token.last.iter().any(|part| part.contains('\0'));
        let from = match token.from {
            Some(micros) => Some(at(micros)?),
            None => None,
        };
        Some(Self { from, to: at(token.to)?, last: token.last }).filter(|_| possible)
    }
}

/// What tells the pages of one question from those of others.
fn question(query: &Query) -> String {
    let mut parts = vec![format!("{:x}", query.account.id), query.group_by.join(",")];
    parts.extend(query.filter.iter().map(|(name, value)| format!("{name}={value}")));
    let digest = digest(parts.iter().map(String::as_bytes));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
