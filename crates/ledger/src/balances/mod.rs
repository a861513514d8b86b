//! Balances and turnovers: what an account's events sum up to, before a date or between two, by allowed groupings.
//!
//! Sums are exact: `numeric` in the database, text from there on.

mod query;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::PgPool;
use store::{Result, run};

pub(crate) use query::{Bounds, Query};

use crate::types::{AccountType, AttributeType};

/// What to sum up.
#[derive(Debug, Clone)]
pub struct Question {
    /// The account.
    pub account_id: i64,
    /// Events not before; all if nothing is given.
    pub from: Option<DateTime<Utc>>,
    /// Events before.
    pub to: DateTime<Utc>,
    /// Only events with these auxiliary attributes (canonical texts).
    pub filter: BTreeMap<String, String>,
    /// One group for each combination of these.
    pub group_by: Vec<String>,
}

/// Sums of one group, as decimals without superfluous zeros.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Group {
    /// The values of `group_by`, in its order, as canonical texts.
    pub attributes: Vec<Option<String>>,
    /// All debits.
    pub debit: String,
    /// All credits.
    pub credit: String,
    /// Debits minus credits.
    pub balance: String,
}

/// Sums up; without `group_by` one group, with it only groups that have events. One round trip.
pub async fn totals(pool: &PgPool, kind: &AccountType, question: Question) -> Result<Vec<Group>> {
    let group_by = question.group_by.clone();
    let plain = question.group_by.is_empty() && question.filter.is_empty();
    let mut groups: Vec<Group> = run(pool, "ledger_totals", move |connection| {
        let question = question.clone();
        Box::pin(async move {
            let query = sqlx::query_as(if plain { TOTAL } else { TOTALS_BY_GROUP })
                .bind(question.account_id)
                .bind(question.from)
                .bind(question.to);
            if plain {
                return Ok(query.fetch_all(connection).await?);
            }
            let filter = question.filter.into_iter().map(|(name, value)| (name, Json::String(value)));
            let filter = Json::Object(filter.collect());
            Ok(query.bind(filter).bind(question.group_by).fetch_all(connection).await?)
        })
    })
    .await?;
    if groups.is_empty() && group_by.is_empty() {
        let zero = || "0".to_owned();
        groups.push(Group { attributes: Vec::new(), debit: zero(), credit: zero(), balance: zero() });
    }
    let kinds: Vec<Option<AttributeType>> = group_by
        .iter()
        .map(|name| kind.attributes.iter().find(|attribute| attribute.name == *name).map(|found| found.kind))
        .collect();
    groups.sort_by(|a, b| in_order(a, b, &kinds));
    Ok(groups)
}

/// By value; those without a value first.
fn in_order(a: &Group, b: &Group, kinds: &[Option<AttributeType>]) -> Ordering {
    let pairs = a.attributes.iter().zip(&b.attributes).zip(kinds);
    let compared = pairs.map(|((a, b), kind)| match (a, b, kind) {
        (Some(a), Some(b), Some(AttributeType::Int)) => a.parse::<i64>().ok().cmp(&b.parse().ok()),
        (a, b, _) => a.cmp(b),
    });
    compared.fold(Ordering::Equal, Ordering::then)
}

const TOTAL: &str = "-- ledger_total
SELECT '{}'::text[] AS attributes, trim_scale(coalesce(sum(debit), 0))::text AS debit,
       trim_scale(coalesce(sum(credit), 0))::text AS credit,
       trim_scale(coalesce(sum(debit), 0) - coalesce(sum(credit), 0))::text AS balance
FROM events WHERE account_id = $1 AND ($2::timestamptz IS NULL OR dt >= $2) AND dt < $3";

/// Sums by combination first: there are fewer of them than of events.
const TOTALS_BY_GROUP: &str = "-- ledger_totals_by_group
WITH sums AS (
    SELECT tuple_id, sum(debit) AS debit, sum(credit) AS credit FROM events
    WHERE account_id = $1 AND ($2::timestamptz IS NULL OR dt >= $2) AND dt < $3 GROUP BY tuple_id
)
SELECT (SELECT coalesce(array_agg(t.attributes ->> g.name ORDER BY g.place), '{}')
        FROM unnest($5::text[]) WITH ORDINALITY AS g (name, place)) AS attributes,
       trim_scale(coalesce(sum(debit), 0))::text AS debit, trim_scale(coalesce(sum(credit), 0))::text AS credit,
       trim_scale(coalesce(sum(debit), 0) - coalesce(sum(credit), 0))::text AS balance
FROM sums JOIN tuples t USING (tuple_id) WHERE t.attributes @> $4 GROUP BY 1";
