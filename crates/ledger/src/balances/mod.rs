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
use store::{Result, run_statement};

pub use explain::{BalanceExplanation, explain_balance};
pub(crate) use page::BalancePageCursor;
use plan::BalancePlan;
pub(crate) use query::{AccountQuery, AllowedQueryParameters};

use crate::MAX_PAGE_BYTES;
use crate::partitions::HorizonRow;
use crate::types::{AccountType, AttributeType};

/// What to sum up.
#[derive(Debug, Clone)]
pub struct BalanceQuery {
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
pub struct BalanceGroup {
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
pub struct BalancePage {
    /// By their attributes' values; those without a value first.
    pub groups: Vec<BalanceGroup>,
    /// The last group's place in the order, if there are others after it.
    pub next_sort_key: Option<Vec<String>>,
}

/// A row of `account_totals`: a group, or how the horizon stood after all was read.
#[derive(sqlx::FromRow)]
struct BalanceRow {
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
pub(crate) async fn read_balances(
    pool: &PgPool,
    account_type: &AccountType,
    balance_query: BalanceQuery,
) -> Result<(BalancePage, HorizonRow)> {
    let is_ungrouped = balance_query.group_by.is_empty();
    let balance_rows = read_balance_rows(pool, account_type, balance_query).await?;
    let mut page =
        BalancePage { groups: Vec::with_capacity(balance_rows.len()), next_sort_key: None };
    let (mut standing, mut found_count) = (None, 0);
    for row in balance_rows {
        found_count = row.found;
        match row.drops {
            Some(drops) => standing = Some(HorizonRow { horizon: row.horizon, drops }),
            None => {
                page.next_sort_key.clone_from(&row.sort_key);
                page.groups.extend(row.into_group());
            }
        }
    }
    let standing = standing.ok_or(sqlx::Error::RowNotFound)?;
    if usize::try_from(found_count).is_ok_and(|found| found <= page.groups.len()) {
        page.next_sort_key = None;
    }
    if page.groups.is_empty() && is_ungrouped {
        let zero = || "0".to_owned();
        page.groups.push(BalanceGroup {
            attributes: Vec::new(),
            debit: zero(),
            credit: zero(),
            balance: zero(),
        });
    }
    Ok((page, standing))
}

async fn read_balance_rows(
    pool: &PgPool,
    account_type: &AccountType,
    balance_query: BalanceQuery,
) -> Result<Vec<BalanceRow>> {
    let plan = BalancePlan::for_query(account_type, &balance_query);
    let is_int = |name: &String| {
        account_type
            .attributes
            .iter()
            .any(|attribute| attribute.name == *name && attribute.kind == AttributeType::Int)
    };
    let is_int_flags: Vec<bool> = balance_query.group_by.iter().map(is_int).collect();
    // What a group is shown with, beside its values.
    let group_overhead_bytes: usize =
        60 + balance_query.group_by.iter().map(|name| name.len() + 6).sum::<usize>();
    let group_overhead_bytes = i64::try_from(group_overhead_bytes).unwrap_or(i64::MAX);
    run_statement(pool, "account_totals", move |connection| {
        let (balance_query, plan, ints) =
            (balance_query.clone(), plan.clone(), is_int_flags.clone());
        Box::pin(async move {
            let filter_values =
                balance_query.filter.into_iter().map(|(name, value)| (name, Json::String(value)));
            let query = plan
                .bind_account_sums(sqlx::query_as(ACCOUNT_TOTALS_SQL))
                .bind(Json::Object(filter_values.collect()));
            let query = query.bind(balance_query.group_by).bind(ints).bind(balance_query.after);
            Ok(query.bind(group_overhead_bytes).bind(MAX_PAGE_BYTES).fetch_all(connection).await?)
        })
    })
    .await
}

impl BalanceRow {
    fn into_group(self) -> Option<BalanceGroup> {
        let (debit, credit, balance) = (self.debit?, self.credit?, self.balance?);
        Some(BalanceGroup { attributes: self.attributes?, debit, credit, balance })
    }
}

/// The groups in order: by value, integers by their size, those without a value first. Cut by bytes, not by rows, and never
/// before the first; the row with the horizon always comes.
const ACCOUNT_TOTALS_SQL: &str = "-- account_totals
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
