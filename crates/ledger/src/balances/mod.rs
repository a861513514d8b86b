//! Balances and turnovers of an account: sums up to a moment or between two moments, by allowed
//! groupings.
//!
//! - Shape: aggregates as far as they reach, single events for the rest, in one statement and one
//!   snapshot.
//! - Cost: one round trip; a page has at most about 4 MiB.
//! - Promise: sums are exact: `numeric` in the database, text in the program.

mod explain;
mod page;
mod plan;
mod query;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::PgPool;
use store::Result;

pub use explain::{BalanceExplanation, explain_balance};
pub(crate) use page::BalancePageCursor;
use plan::BalancePlan;
pub(crate) use query::{AccountQuery, AllowedQueryParameters};

use crate::MAX_PAGE_BYTES;
use crate::ids::AccountId;
use crate::partitions::HorizonRow;
use crate::types::{AccountType, AttributeType, find_attribute};

/// Parameters of a balance or turnover.
#[derive(Debug, Clone)]
pub struct BalanceQuery {
    /// Id of the account.
    pub account_id: AccountId,
    /// Inclusive lower bound of the event time; `None` for a balance.
    pub from: Option<DateTime<Utc>>,
    /// Exclusive upper bound of the event time.
    pub to: DateTime<Utc>,
    /// Required values of auxiliary attributes (canonical text by name).
    pub filter: BTreeMap<String, String>,
    /// Auxiliary attributes to group by.
    pub group_by: Vec<String>,
    /// Sort key of the previous page's last group.
    pub after: Option<Vec<String>>,
}

/// Sums of one group, as decimals without trailing zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceGroup {
    /// Canonical values of `group_by`, in its order.
    pub attributes: Vec<Option<String>>,
    /// Sum of the debits.
    pub debit: String,
    /// Sum of the credits.
    pub credit: String,
    /// Debits minus credits.
    pub balance: String,
}

/// One page of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancePage {
    /// Ordered by attribute values, missing values first.
    pub groups: Vec<BalanceGroup>,
    /// Sort key of the last group, if more groups follow.
    pub next_sort_key: Option<Vec<String>>,
}

/// A row of `account_totals`: a group, or the horizon after the read.
#[derive(store::FromRow)]
struct BalanceRow {
    /// The group's sort key.
    sort_key: Option<Vec<String>>,
    /// Groups found before the page was cut by bytes.
    found: i64,
    attributes: Option<Vec<Option<String>>>,
    debit: Option<String>,
    credit: Option<String>,
    balance: Option<String>,
    horizon: Option<DateTime<Utc>>,
    drops: Option<i64>,
}

/// Reads balances: one group without `group_by`, otherwise only groups with events, at most about 4
/// MiB. Also returns the horizon as it was after the read. One round trip.
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
        let zero = "0".to_owned();
        page.groups.push(BalanceGroup {
            attributes: Vec::new(),
            debit: zero.clone(),
            credit: zero.clone(),
            balance: zero,
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
    let mut is_int_flags = Vec::with_capacity(balance_query.group_by.len());
    for name in &balance_query.group_by {
        let attribute = find_attribute(&account_type.attributes, name);
        is_int_flags.push(attribute.is_some_and(|found| found.kind == AttributeType::Int));
    }
    // Bytes of a group's JSON without its values.
    let group_overhead_bytes: usize =
        60 + balance_query.group_by.iter().map(|name| name.len() + 6).sum::<usize>();
    let group_overhead_bytes = i64::try_from(group_overhead_bytes).unwrap_or(i64::MAX);
    let filter_values =
        balance_query.filter.into_iter().map(|(name, value)| (name, Json::String(value)));
    plan.bind_account_parts(store::statement("account_totals", ACCOUNT_TOTALS_SQL))
        .bind(Json::Object(filter_values.collect()))
        .bind(balance_query.group_by)
        .bind(is_int_flags)
        .bind(balance_query.after)
        .bind(group_overhead_bytes)
        .bind(MAX_PAGE_BYTES)
        .fetch_all(pool)
        .await
}

impl BalanceRow {
    fn into_group(self) -> Option<BalanceGroup> {
        let (debit, credit, balance) = (self.debit?, self.credit?, self.balance?);
        Some(BalanceGroup { attributes: self.attributes?, debit, credit, balance })
    }
}

/// Groups ordered by value: integers numerically, missing values first. The page is cut by bytes
/// and has at least one group; the horizon row is always included.
const ACCOUNT_TOTALS_SQL: &str = "SELECT attributes, debit, credit, balance, horizon, drops, sort_key, found FROM (
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
