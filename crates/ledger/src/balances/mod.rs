//! Balances and turnovers: what an account's events sum up to, before a date or between two, by allowed groupings.
//!
//! Sums are exact: `numeric` in the database, text from there on. They come from the aggregates as far as those go, and
//! from the events themselves for the rest, in one statement that sees one moment.

mod explain;
mod plan;
mod query;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::PgPool;
use store::{Result, run};

pub use explain::{Explanation, explain};
use plan::Plan;
pub(crate) use query::{Bounds, Query};

use crate::partitions::Standing;
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
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// A row of `account_totals`: a group, or at last how the horizon stood after all was read.
#[derive(sqlx::FromRow)]
struct Row {
    attributes: Option<Vec<Option<String>>>,
    debit: Option<String>,
    credit: Option<String>,
    balance: Option<String>,
    horizon: Option<DateTime<Utc>>,
    drops: Option<i64>,
}

/// Sums up; without `group_by` one group, with it only groups that have events. And how the shard's horizon stood after
/// that. One round trip.
pub(crate) async fn totals(
    pool: &PgPool,
    kind: &AccountType,
    question: Question,
) -> Result<(Vec<Group>, Standing)> {
    let group_by = question.group_by.clone();
    let plan = Plan::of(kind, &question);
    let mut rows: Vec<Row> = run(pool, "account_totals", move |connection| {
        let (question, plan) = (question.clone(), plan.clone());
        Box::pin(async move {
            let filter = question.filter.into_iter().map(|(name, value)| (name, Json::String(value)));
            let filter = Json::Object(filter.collect());
            let query = plan.bind(sqlx::query_as(TOTALS)).bind(filter).bind(question.group_by);
            Ok(query.fetch_all(connection).await?)
        })
    })
    .await?;
    let last = rows.pop().and_then(|row| Some(Standing { horizon: row.horizon, drops: row.drops? }));
    let standing = last.ok_or(sqlx::Error::RowNotFound)?;
    let mut groups: Vec<Group> = rows.into_iter().filter_map(Row::group).collect();
    if groups.is_empty() && group_by.is_empty() {
        let zero = || "0".to_owned();
        groups.push(Group { attributes: Vec::new(), debit: zero(), credit: zero(), balance: zero() });
    }
    let kinds: Vec<Option<AttributeType>> = group_by
        .iter()
        .map(|name| kind.attributes.iter().find(|attribute| attribute.name == *name).map(|found| found.kind))
        .collect();
    groups.sort_by(|a, b| in_order(a, b, &kinds));
    Ok((groups, standing))
}

impl Row {
    fn group(self) -> Option<Group> {
        let (debit, credit, balance) = (self.debit?, self.credit?, self.balance?);
        Some(Group { attributes: self.attributes?, debit, credit, balance })
    }
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

const TOTALS: &str = "SELECT * FROM account_totals($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) -- account_totals";
