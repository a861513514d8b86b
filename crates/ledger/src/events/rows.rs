//! Parameters and result of the shard's function
//! `write_events`, and the cache that keeps parameters small.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use store::{ConnectionGeneration, Result};
use uuid::Uuid;

use super::new_partitions::PendingPartitions;
use super::{InternedText, LedgerEvent};
use crate::amount::Amount;
use crate::ids::{AccountId, AttributeSetId};
use crate::moment;
use crate::sharding::parse_canonical;

/// Maximum cached accounts, and maximum cached attribute sets; the cache is cleared above it.
const MAX_CACHED_NAMES: usize = 500_000;

/// Accounts, attribute sets and partitions that are known to exist in a shard and need not be sent.
/// Accounts and attribute sets are valid for one connection generation: restoring the database to
/// an older copy loses them and ends all connections.
#[derive(Debug, Default)]
pub(crate) struct LedgerEventCache {
    /// Connection generation for which accounts and attribute sets are valid.
    generation: AtomicU64,
    /// Collision checks by id, as are those of `attribute_sets`.
    accounts: Mutex<HashMap<AccountId, i64>>,
    attribute_sets: Mutex<HashMap<AttributeSetId, i64>>,
    partitions: Mutex<HashSet<DateTime<Utc>>>,
    /// Months whose partitions are being created.
    pub(super) pending_partitions: PendingPartitions,
}

impl LedgerEventCache {
    /// Months of `events` that may lack a partition.
    pub(crate) fn find_missing_partitions(&self, events: &[LedgerEvent]) -> Vec<DateTime<Utc>> {
        let mut months: Vec<DateTime<Utc>> =
            events.iter().map(|event| moment::month_start(event.dt)).collect();
        months.sort_unstable();
        months.dedup();
        self.without_cached_partitions(months)
    }

    /// Those of `months` that may lack a partition.
    pub(super) fn without_cached_partitions(
        &self,
        mut months: Vec<DateTime<Utc>>,
    ) -> Vec<DateTime<Utc>> {
        let known = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        months.retain(|month| !known.contains(month));
        months
    }

    /// Caches months that have partitions.
    pub(crate) fn add_partitions(&self, months: &[DateTime<Utc>]) {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).extend(months);
    }

    /// Invalidates accounts and attribute sets of another connection generation. (A dropped
    /// partition is detected by the write that fails.)
    pub(crate) fn clear_if_reconnected(&self, generation: &ConnectionGeneration) {
        if self.generation.swap(generation.number(), Ordering::Relaxed) != generation.number() {
            self.clear_names();
        }
    }

    /// Caches the accounts and attribute sets of a committed write.
    pub(crate) fn add_names(&self, rows: &LedgerEventColumns) {
        cache_names(&self.accounts, rows.accounts.iter());
        cache_names(&self.attribute_sets, rows.attribute_sets.iter());
    }

    fn clear_names(&self) {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.attribute_sets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Invalidates the whole cache.
    pub(crate) fn clear(&self) {
        self.clear_names();
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn cache_names<'a, Id: Copy + Eq + Hash + 'a>(
    cached: &Mutex<HashMap<Id, i64>>,
    new: impl Iterator<Item = &'a NewInternedText<Id>>,
) {
    let mut cached = cached.lock().unwrap_or_else(PoisonError::into_inner);
    if cached.len() > MAX_CACHED_NAMES {
        cached.clear();
    }
    cached.extend(new.map(|new| (new.text.id, new.text.collision_check)));
}

/// An account or attribute set that may not be stored yet.
#[derive(Debug)]
struct NewInternedText<Id> {
    text: InternedText<Id>,
    /// Account type, or the attribute set as a JSON object.
    detail: String,
}

/// Several callers' parts as column arrays; texts stay in the shared parts.
#[derive(Debug, Default)]
pub(crate) struct LedgerEventColumns {
    events: Arc<[Arc<[LedgerEvent]>]>,
    /// Sorted by key: (key, fingerprint, index of the event from 1).
    keys: Vec<(Uuid, Uuid, i32)>,
    parts: Vec<i32>,
    dts: Vec<DateTime<Utc>>,
    account_ids: Vec<AccountId>,
    attribute_set_ids: Vec<AttributeSetId>,
    debits: Vec<Option<Decimal>>,
    credits: Vec<Option<Decimal>>,
    accounts: Vec<NewInternedText<AccountId>>,
    attribute_sets: Vec<NewInternedText<AttributeSetId>>,
}

/// Why an event was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LedgerEventRefusal {
    /// Its key is stored with the same content.
    Duplicate,
    /// Its key is stored with other content.
    Conflict,
    /// Another event of its part conflicts.
    NotWritten,
}

impl LedgerEventColumns {
    /// Columns for `parts`, whose keys must be distinct; includes the accounts and attribute sets
    /// that are not cached.
    pub(crate) fn from_parts(parts: Arc<[Arc<[LedgerEvent]>]>, cache: &LedgerEventCache) -> Self {
        let mut rows = Self { events: parts.clone(), ..Self::default() };
        let accounts = cache.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let attribute_sets = cache.attribute_sets.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut new_accounts, mut new_attribute_sets) = (HashSet::new(), HashSet::new());
        for (part, events) in (0..).zip(&*parts) {
            for event in &**events {
                rows.push_event(part, event);
                if accounts.get(&event.account.id) != Some(&event.account.collision_check)
                    && new_accounts.insert((event.account.id, event.account.collision_check))
                {
                    rows.accounts.push(NewInternedText {
                        text: event.account.clone(),
                        detail: event.type_name.clone(),
                    });
                }
                if attribute_sets.get(&event.attribute_set.id)
                    != Some(&event.attribute_set.collision_check)
                    && new_attribute_sets
                        .insert((event.attribute_set.id, event.attribute_set.collision_check))
                {
                    let pairs = parse_canonical(&event.attribute_set.canonical).into_iter();
                    let object: serde_json::Map<_, _> =
                        pairs.map(|(name, value)| (name, value.into())).collect();
                    let detail = serde_json::Value::Object(object).to_string();
                    rows.attribute_sets
                        .push(NewInternedText { text: event.attribute_set.clone(), detail });
                }
            }
        }
        // All writers insert in the same order, which prevents deadlocks.
        rows.keys.sort_unstable();
        rows.accounts.sort_unstable_by_key(|new| new.text.id);
        rows.attribute_sets.sort_unstable_by_key(|new| new.text.id);
        rows
    }

    fn push_event(&mut self, part: i32, event: &LedgerEvent) {
        self.parts.push(part);
        self.dts.push(event.dt);
        self.account_ids.push(event.account.id);
        self.attribute_set_ids.push(event.attribute_set.id);
        let (debit, credit) = match event.amount {
            Amount::Debit(value) => (Some(value), None),
            Amount::Credit(value) => (None, Some(value)),
        };
        self.debits.push(debit);
        self.credits.push(credit);
        self.keys.push((
            event.key,
            event.fingerprint,
            i32::try_from(self.parts.len()).unwrap_or(i32::MAX),
        ));
    }

    /// Whether all events are stored with the same content. Read-only.
    pub(crate) async fn are_written(&self, connection: &mut PgConnection) -> Result<bool> {
        store::statement(
            "written_events",
            "SELECT count(*) = cardinality($1) FROM unnest($1, $2) AS k (key, content) JOIN event_keys USING (key, content)",
        )
        .bind(self.keys.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(self.keys.iter().map(|key| key.1).collect::<Vec<_>>())
        .fetch_value(connection)
        .await
    }

    /// Writes the events in the caller's transaction. Returns those that were not created, by index
    /// from 0 over the concatenated parts.
    pub(crate) async fn write(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<(usize, LedgerEventRefusal)>> {
        let refusals: Vec<(i32, i8)> = store::statement(
            "write_events",
            "SELECT * FROM write_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        )
        .bind(self.keys.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(self.keys.iter().map(|key| key.1).collect::<Vec<_>>())
        .bind(self.keys.iter().map(|key| key.2).collect::<Vec<_>>())
        .bind(&self.parts)
        .bind(&self.dts)
        .bind(&self.account_ids)
        .bind(&self.attribute_set_ids)
        .bind(self.iter_events().map(|event| event.event_id.as_str()).collect::<Vec<_>>())
        .bind(&self.debits)
        .bind(&self.credits)
        .bind(self.iter_events().map(|event| event.info.as_deref()).collect::<Vec<_>>())
        .bind(collect_ids(&self.accounts))
        .bind(collect_details(&self.accounts))
        .bind(collect_canonicals(&self.accounts))
        .bind(collect_ids(&self.attribute_sets))
        .bind(collect_canonicals(&self.attribute_sets))
        .bind(collect_details(&self.attribute_sets))
        .fetch_all(connection)
        .await?;
        Ok(refusals.into_iter().filter_map(parse_refusal).collect())
    }

    fn iter_events(&self) -> impl Iterator<Item = &LedgerEvent> {
        self.events.iter().flat_map(|part| &**part)
    }
}

fn collect_ids<Id: Copy>(names: &[NewInternedText<Id>]) -> Vec<Id> {
    names.iter().map(|new| new.text.id).collect()
}

fn collect_canonicals<Id>(names: &[NewInternedText<Id>]) -> Vec<&str> {
    names.iter().map(|new| new.text.canonical.as_str()).collect()
}

fn collect_details<Id>(names: &[NewInternedText<Id>]) -> Vec<&str> {
    names.iter().map(|new| new.detail.as_str()).collect()
}

fn parse_refusal((event, status): (i32, i8)) -> Option<(usize, LedgerEventRefusal)> {
    let refusal = match u8::try_from(status).ok()? {
        b'd' => LedgerEventRefusal::Duplicate,
        b'c' => LedgerEventRefusal::Conflict,
        _ => LedgerEventRefusal::NotWritten,
    };
    Some((usize::try_from(event).ok()?.checked_sub(1)?, refusal))
}
