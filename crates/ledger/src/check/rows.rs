//! Row types and cursors of a check, each ordered by account.

use chrono::{DateTime, Utc};

use super::snapshot::SnapshotCursor;
use crate::aggregates::AggregateSum;
use crate::amount::{self, Amount};
use crate::ids::{AccountId, SequenceNumber};

/// A row that belongs to an account.
pub(super) trait AccountRow {
    /// Account id; type and key attributes if the account row exists.
    fn account(&self) -> (AccountId, Option<(&str, &str)>);
}

/// An event as stored; joined columns are NULL if their row is missing.
#[derive(Debug, store::FromRow)]
pub(super) struct LedgerCheckEventRow {
    account_id: AccountId,
    type_name: Option<String>,
    account: Option<String>,
    pub(super) tuple: Option<String>,
    pub(super) dt: DateTime<Utc>,
    pub(super) event_id: String,
    debit: Option<String>,
    credit: Option<String>,
    pub(super) info: Option<String>,
    /// `None`: not numbered yet.
    pub(super) seq: Option<SequenceNumber>,
}

impl LedgerCheckEventRow {
    /// `None`: not exactly one amount in the ledger's format.
    pub(super) fn parse_amount(&self) -> Option<Amount> {
        match (&self.debit, &self.credit) {
            (Some(debit), None) => amount::parse_amount(debit).map(Amount::Debit),
            (None, Some(credit)) => amount::parse_amount(credit).map(Amount::Credit),
            _ => None,
        }
    }

    /// The event as a sum.
    pub(super) fn to_sum(&self) -> Option<AggregateSum> {
        Some(AggregateSum {
            debit: parse_side_units(self.debit.as_deref())?,
            credit: parse_side_units(self.credit.as_deref())?,
            event_count: 1,
        })
    }
}

/// Units of one side of an event; 0 without an amount.
fn parse_side_units(text: Option<&str>) -> Option<i128> {
    text.map_or(Some(0), amount::parse_amount_units)
}

impl AccountRow for LedgerCheckEventRow {
    fn account(&self) -> (AccountId, Option<(&str, &str)>) {
        (self.account_id, self.type_name.as_deref().zip(self.account.as_deref()))
    }
}

/// A row of `aggregates`, or (without grouping) of `closing_balances`. Amounts in units of 10^-9.
#[derive(Debug, store::FromRow)]
pub(super) struct LedgerCheckSumRow {
    account_id: AccountId,
    type_name: Option<String>,
    account: Option<String>,
    pub(super) grouping_id: Option<i32>,
    pub(super) level: Option<String>,
    pub(super) period: Option<DateTime<Utc>>,
    pub(super) tuple: Option<String>,
    debit: String,
    credit: String,
    events: i64,
}

impl LedgerCheckSumRow {
    /// `None`: not a whole number of units.
    pub(super) fn to_sum(&self) -> Option<AggregateSum> {
        Some(AggregateSum {
            debit: self.debit.parse().ok()?,
            credit: self.credit.parse().ok()?,
            event_count: self.events,
        })
    }
}

impl AccountRow for LedgerCheckSumRow {
    fn account(&self) -> (AccountId, Option<(&str, &str)>) {
        (self.account_id, self.type_name.as_deref().zip(self.account.as_deref()))
    }
}

pub(super) const EVENTS_CURSOR: SnapshotCursor = SnapshotCursor {
    declare_sql: "-- check_events
DECLARE check_events NO SCROLL CURSOR FOR
SELECT e.account_id, a.type AS type_name, a.attributes AS account, t.canonical AS tuple, e.dt, e.event_id,
       e.debit::text AS debit, e.credit::text AS credit, e.info, b.first_seq + e.place AS seq
FROM events e LEFT JOIN accounts a USING (account_id) LEFT JOIN tuples t USING (tuple_id) LEFT JOIN batches b USING (batch_id)
ORDER BY e.account_id",
    fetch_sql: "FETCH FORWARD 5000 FROM check_events -- check_events",
};

pub(super) const AGGREGATES_CURSOR: SnapshotCursor = SnapshotCursor {
    declare_sql: "-- check_sums
DECLARE check_sums NO SCROLL CURSOR FOR
SELECT s.account_id, a.type AS type_name, a.attributes AS account, s.grouping_id, s.level::text, s.period,
       t.canonical AS tuple, trim_scale(s.debit * 1000000000)::text AS debit, trim_scale(s.credit * 1000000000)::text AS credit,
       s.events
FROM aggregates s LEFT JOIN accounts a USING (account_id) LEFT JOIN tuples t ON t.tuple_id = s.group_id
ORDER BY s.account_id",
    fetch_sql: "FETCH FORWARD 5000 FROM check_sums -- check_sums",
};

pub(super) const CLOSING_BALANCES_CURSOR: SnapshotCursor = SnapshotCursor {
    declare_sql: "-- check_closing
DECLARE check_closing NO SCROLL CURSOR FOR
SELECT c.account_id, a.type AS type_name, a.attributes AS account, NULL::int AS grouping_id, NULL::text AS level,
       NULL::timestamptz AS period, t.canonical AS tuple, trim_scale(c.debit * 1000000000)::text AS debit,
       trim_scale(c.credit * 1000000000)::text AS credit, c.events
FROM closing_balances c LEFT JOIN accounts a USING (account_id) LEFT JOIN tuples t USING (tuple_id)
ORDER BY c.account_id",
    fetch_sql: "FETCH FORWARD 5000 FROM check_closing -- check_closing",
};
