//! One round trip: the arrays of the shard's function `write_events`, and what it answers.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use store::{Generation, Result};
use uuid::Uuid;

use super::months::WantedMonths;
use super::{Event, Interned};
use crate::amount::Amount;
use crate::moment;
use crate::sharding::parse_canonical;

/// So many accounts and attribute combinations are remembered as being in a shard's tables.
const REMEMBERED: usize = 500_000;

/// What this process knows to be in a shard's tables, so that it is not sent again: for as long as the connection lasts on
/// which it was learnt. A database that is put back to an older copy has not kept it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Of which life of the connection accounts and tuples are known.
    generation: AtomicU64,
    accounts: Mutex<HashMap<i64, i64>>,
    tuples: Mutex<HashMap<i64, i64>>,
    months: Mutex<HashSet<DateTime<Utc>>>,
    /// Months that are being made or wait for it.
    pub(super) wanted_months: WantedMonths,
}

impl Known {
    /// The months of `events` for which there may be no partition yet.
    pub(crate) fn new_months(&self, events: &[Event]) -> Vec<DateTime<Utc>> {
        let mut months: Vec<DateTime<Utc>> = events.iter().map(|event| moment::month(event.dt)).collect();
        months.sort_unstable();
        months.dedup();
        self.without_months(months)
    }

    /// Those of `months` for which there may be no partition yet.
    pub(super) fn without_months(&self, mut months: Vec<DateTime<Utc>>) -> Vec<DateTime<Utc>> {
        let known = self.months.lock().unwrap_or_else(PoisonError::into_inner);
        months.retain(|month| !known.contains(month));
        months
    }

    /// Takes note of months that have partitions.
    pub(crate) fn have_months(&self, months: &[DateTime<Utc>]) {
        self.months.lock().unwrap_or_else(PoisonError::into_inner).extend(months);
    }

    /// Forgets which accounts and tuples were seen on another connection than the one in hand, which is of this generation.
    /// (A month that is not there any more is noticed by who writes to it.)
    pub(crate) fn keep_only(&self, generation: &Generation) {
        if self.generation.swap(generation.number(), Ordering::Relaxed) != generation.number() {
            self.forget_names();
        }
    }

    /// Takes note of what a committed write has put in.
    pub(crate) fn remember(&self, rows: &Rows) {
        remember(&self.accounts, rows.accounts.iter());
        remember(&self.tuples, rows.tuples.iter());
    }

    fn forget_names(&self) {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tuples.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Nothing is known any more.
    pub(crate) fn forget(&self) {
        self.forget_names();
        self.months.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn remember<'a>(known: &Mutex<HashMap<i64, i64>>, new: impl Iterator<Item = &'a NewName>) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() > REMEMBERED {
        known.clear();
    }
    known.extend(new.map(|new| (new.name.id, new.name.check)));
}

/// An account or attribute combination that may not be in the tables.
#[derive(Debug)]
struct NewName {
    name: Interned,
    /// An account's type, or a combination's attributes as a JSON object.
    more: String,
}

/// The parts of several callers as arrays; texts stay where they are, in the parts.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    events: Arc<[Arc<[Event]>]>,
    /// By key: (key, content, place of its event from 1).
    keys: Vec<(Uuid, Uuid, i32)>,
    parts: Vec<i32>,
    dts: Vec<DateTime<Utc>>,
    account_ids: Vec<i64>,
    tuple_ids: Vec<i64>,
    debits: Vec<Option<Decimal>>,
    credits: Vec<Option<Decimal>>,
    accounts: Vec<NewName>,
    tuples: Vec<NewName>,
}

/// What the shard says of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Its key was there with the same content.
    Duplicate,
    /// Its key was there with other content.
    Conflict,
    /// Not written, because another event of its part conflicts.
    NotWritten,
}

impl Rows {
    /// The rows for `parts`, no key twice; what is not `known` to be there is sent along.
    pub(crate) fn of(parts: Arc<[Arc<[Event]>]>, known: &Known) -> Self {
        let mut rows = Self { events: parts.clone(), ..Self::default() };
        let accounts = known.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let tuples = known.tuples.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut new_accounts, mut new_tuples) = (HashSet::new(), HashSet::new());
        for (part, events) in (0..).zip(&*parts) {
            for event in &**events {
                rows.push(part, event);
                if accounts.get(&event.account.id) != Some(&event.account.check)
                    && new_accounts.insert((event.account.id, event.account.check))
                {
                    rows.accounts
                        .push(NewName { name: event.account.clone(), more: event.type_name.clone() });
                }
                if tuples.get(&event.tuple.id) != Some(&event.tuple.check)
                    && new_tuples.insert((event.tuple.id, event.tuple.check))
                {
                    let pairs = parse_canonical(&event.tuple.canonical).into_iter();
                    let object: serde_json::Map<_, _> =
                        pairs.map(|(name, value)| (name, value.into())).collect();
                    let more = serde_json::Value::Object(object).to_string();
                    rows.tuples.push(NewName { name: event.tuple.clone(), more });
                }
            }
        }
        // One order for all writers: they wait for each other, but never in a circle.
        rows.keys.sort_unstable();
        rows.accounts.sort_unstable_by_key(|new| new.name.id);
        rows.tuples.sort_unstable_by_key(|new| new.name.id);
        rows
    }

    fn push(&mut self, part: i32, event: &Event) {
        self.parts.push(part);
        self.dts.push(event.dt);
        self.account_ids.push(event.account.id);
        self.tuple_ids.push(event.tuple.id);
        let (debit, credit) = match event.amount {
            Amount::Debit(value) => (Some(value), None),
            Amount::Credit(value) => (None, Some(value)),
        };
        self.debits.push(debit);
        self.credits.push(credit);
        self.keys.push((event.key, event.content, i32::try_from(self.parts.len()).unwrap_or(i32::MAX)));
    }

    /// Whether all of them are there, with the same content. Writes nothing.
    pub(crate) async fn are_written(&self, connection: &mut PgConnection) -> Result<bool> {
        let written = sqlx::query_scalar(
            "SELECT count(*) = cardinality($1) FROM unnest($1, $2) AS k (key, content) JOIN event_keys USING (key, content) -- written_events",
        )
        .bind(self.keys.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(self.keys.iter().map(|key| key.1).collect::<Vec<_>>());
        Ok(written.fetch_one(connection).await?)
    }

    /// Writes them in the caller's transaction. Answers the events that were not created, by their place in the
    /// parts put one after another, from 0.
    pub(crate) async fn write(&self, connection: &mut PgConnection) -> Result<Vec<(usize, Judged)>> {
        let column = |of: fn(&NewName) -> String, names: &[NewName]| names.iter().map(of).collect::<Vec<_>>();
        let events = || self.events.iter().flat_map(|part| &**part);
        let ids = |names: &[NewName]| names.iter().map(|new| new.name.id).collect::<Vec<_>>();
        let judged: Vec<(i32, i8)> = sqlx::query_as(
            "SELECT * FROM write_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) -- write_events",
        )
        .bind(self.keys.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(self.keys.iter().map(|key| key.1).collect::<Vec<_>>())
        .bind(self.keys.iter().map(|key| key.2).collect::<Vec<_>>())
        .bind(&self.parts)
        .bind(&self.dts)
        .bind(&self.account_ids)
        .bind(&self.tuple_ids)
        .bind(events().map(|event| event.event_id.as_str()).collect::<Vec<_>>())
        .bind(&self.debits)
        .bind(&self.credits)
        .bind(events().map(|event| event.info.as_deref()).collect::<Vec<_>>())
        .bind(ids(&self.accounts))
        .bind(column(|new| new.more.clone(), &self.accounts))
        .bind(column(|new| new.name.canonical.clone(), &self.accounts))
        .bind(ids(&self.tuples))
        .bind(column(|new| new.name.canonical.clone(), &self.tuples))
        .bind(column(|new| new.more.clone(), &self.tuples))
        .fetch_all(connection)
        .await?;
        Ok(judged.into_iter().filter_map(judgement).collect())
    }
}

fn judgement((event, status): (i32, i8)) -> Option<(usize, Judged)> {
    let judged = match u8::try_from(status).ok()? {
        b'd' => Judged::Duplicate,
        b'c' => Judged::Conflict,
        _ => Judged::NotWritten,
    };
    Some((usize::try_from(event).ok()?.checked_sub(1)?, judged))
}
