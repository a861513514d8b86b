//! Balances and turnovers: what an account's events sum up to, before a date or between two, by allowed groupings.
//!
//! Sums are exact: `numeric` in the database, text from there on. They come from the aggregates as far as those go, and
//! from the events themselves for the rest, in one statement that sees one moment.

mod explain;
mod page;
mod plan;
mod query;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::PgPool;
use store::{Result, run};

pub use explain::{Explanation, explain};
pub(crate) use page::GroupsPage;
use plan::Plan;
pub(crate) use query::{Bounds, Query};

use crate::MAX_PAGE_BYTES;
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
    /// Only groups after this place in their order, which an earlier page gave.
    pub after: Option<Vec<String>>,
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

/// A page of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// By their attributes' values; those without a value first.
    pub groups: Vec<Group>,
    /// The last group's place in the order, if there are others after it.
    pub next: Option<Vec<String>>,
}

/// A row of `account_totals`: a group, or how the horizon stood after all was read.
#[derive(sqlx::FromRow)]
struct Row {
    /// The group's place in the order.
    sort_key: Option<Vec<String>>,
    /// How many groups there were before the page was cut by its bytes.
    found: i64,
    attributes: Option<Vec<Option<String>>>,
    debit: Option<String>,
    credit: Option<String>,
    balance: Option<String>,
    horizon: Option<DateTime<Utc>>,
    drops: Option<i64>,
}

/// Sums up; without `group_by` one group, with it only groups that have events, of about 4 MiB at most. And how the shard's
/// horizon stood after that. One round trip.
pub(crate) async fn totals(
    pool: &PgPool,
    kind: &AccountType,
    question: Question,
) -> Result<(Totals, Standing)> {
    let ungrouped = question.group_by.is_empty();
    let rows = read_page(pool, kind, question).await?;
    let mut totals = Totals { groups: Vec::with_capacity(rows.len()), next: None };
    let (mut standing, mut found) = (None, 0);
    for row in rows {
        found = row.found;
        match row.drops {
            Some(drops) => standing = Some(Standing { horizon: row.horizon, drops }),
            None => {
                totals.next.clone_from(&row.sort_key);
                totals.groups.extend(row.group());
            }
        }
    }
    let standing = standing.ok_or(sqlx::Error::RowNotFound)?;
    if usize::try_from(found).is_ok_and(|found| found <= totals.groups.len()) {
        totals.next = None;
    }
    if totals.groups.is_empty() && ungrouped {
        let zero = || "0".to_owned();
        totals.groups.push(Group { attributes: Vec::new(), debit: zero(), credit: zero(), balance: zero() });
    }
    Ok((totals, standing))
}

async fn read_page(pool: &PgPool, kind: &AccountType, question: Question) -> Result<Vec<Row>> {
    let plan = Plan::of(kind, &question);
    let is_int = |name: &String| {
        kind.attributes
            .iter()
            .any(|attribute| attribute.name == *name && attribute.kind == AttributeType::Int)
    };
    let ints: Vec<bool> = question.group_by.iter().map(is_int).collect();
    // What a group is shown with, beside its values.
    let each: usize = 60 + question.group_by.iter().map(|name| name.len() + 6).sum::<usize>();
    let each = i64::try_from(each).unwrap_or(i64::MAX);
    run(pool, "account_totals", move |connection| {
        let (question, plan, ints) = (question.clone(), plan.clone(), ints.clone());
        Box::pin(async move {
            let filter = question.filter.into_iter().map(|(name, value)| (name, Json::String(value)));
            let query = plan.bind(sqlx::query_as(TOTALS)).bind(Json::Object(filter.collect()));
            let query = query.bind(question.group_by).bind(ints).bind(question.after);
            Ok(query.bind(each).bind(MAX_PAGE_BYTES).fetch_all(connection).await?)
        })
    })
    .await
}

impl Row {
    fn group(self) -> Option<Group> {
        let (debit, credit, balance) = (self.debit?, self.credit?, self.balance?);
        Some(Group { attributes: self.attributes?, debit, credit, balance })
    }
}

/// The groups in order: by value, integers by their size, those without a value first. Cut by bytes, not by rows, and never
/// before the first; the row with the horizon always comes.
const TOTALS: &str = "-- account_totals
SELECT attributes, debit, credit, balance, horizon, drops, sort_key, found FROM (
    SELECT k.*, count(*) FILTER (WHERE drops IS NULL) OVER () AS found, row_number() OVER in_order AS place,
           sum(octet_length(attributes::text) + octet_length(debit) + octet_length(credit) + octet_length(balance) + $20)
               OVER in_order AS bytes
    FROM (
        SELECT t.*, ARRAY(
            SELECT CASE WHEN v.value IS NULL THEN ''
                        WHEN ($18::boolean[])[v.place] THEN 'v' || lpad((v.value::numeric + 9223372036854775808)::text, 20, '0')
                        ELSE 'v' || v.value END
            FROM unnest(t.attributes) WITH ORDINALITY AS v (value, place) ORDER BY v.place
        ) COLLATE \"C\" AS sort_key
        FROM account_totals($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) t
    ) k
    WHERE drops IS NOT NULL OR $19::text[] IS NULL OR sort_key > $19::text[]
    WINDOW in_order AS (ORDER BY drops NULLS FIRST, sort_key)
) p WHERE drops IS NOT NULL OR place = 1 OR bytes <= $21 ORDER BY place";
