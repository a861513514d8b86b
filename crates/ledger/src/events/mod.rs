//! Ledger events: validation, batched writes, listing and lookup.
//!
//! - Shape: an event is one row, written once and never updated.
//! - Promise: idempotent by (type, event id) within a shard key, so that no answer depends on how
//!   many shards there are. The hash of the key and the
//!   fingerprint of the content stay in `event_keys` forever.

mod dedup;
mod input;
mod listing;
mod lookup;
mod new_partitions;
mod rows;
mod writer;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub(crate) use dedup::{LedgerEventContradiction, LedgerEventDedup, dedup_events};
pub use input::NewLedgerEvent;
pub(crate) use input::{
    CanonicalAttributes, LedgerEventInput, RawAttributes, shorten_text, unknown_type_error,
};
pub use listing::{
    LedgerEventCursor, LedgerEventPage, LedgerEventQuery, LedgerEventRow, list_events,
};
pub use lookup::{
    LedgerEventMatch, StoredLedgerEvent, find_event_time, find_stored_events, match_stored_events,
};
pub(crate) use new_partitions::{create_event_partitions, create_event_partitions_in_tx};
pub(crate) use rows::{LedgerEventCache, LedgerEventColumns, LedgerEventRefusal};
pub use writer::{LedgerEventOutcome, LedgerEventStatus, LedgerEventWriter};
pub(crate) use writer::{MAX_PARTITION_RETRIES, is_partition_missing, statuses_from_refusals};

use crate::amount::Amount;
use crate::ids::{AccountId, AttributeSetId};
use crate::sharding::{ShardHash, derive_id, digest_parts};
use crate::types::AccountType;

/// Canonical text with an id derived from its hash: an account or attribute set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InternedText<Id> {
    pub(crate) id: Id,
    /// Second hash; detects a collision of ids.
    pub(crate) collision_check: i64,
    pub(crate) canonical: String,
}

/// A validated event, ready to write.
#[derive(Debug, Clone)]
pub struct LedgerEvent {
    /// Name of the account type.
    pub type_name: String,
    /// Idempotency key, unique per type within its shard; 1 to 256 bytes.
    pub event_id: String,
    /// Event time, microsecond precision.
    pub dt: DateTime<Utc>,
    /// Debit or credit amount.
    pub amount: Amount,
    /// JSON object as received.
    pub info: Option<String>,
    /// Hash of the shard key; determines the shard.
    pub(crate) shard_hash: ShardHash,
    pub(crate) account: InternedText<AccountId>,
    pub(crate) attribute_set: InternedText<AttributeSetId>,
    /// Hash of type and event id.
    pub(crate) key: Uuid,
    /// Hash of the whole content.
    pub(crate) fingerprint: Uuid,
}

impl LedgerEvent {
    fn new(
        account_type: &AccountType,
        event_id: String,
        dt: DateTime<Utc>,
        attributes: CanonicalAttributes,
        amount: Amount,
        info: Option<String>,
        canonical_info: Option<String>,
    ) -> Self {
        let account = intern_account(&account_type.name, attributes.key);
        let attribute_set = intern_attribute_set(attributes.auxiliary);
        let shard_hash = ShardHash::from_shard_key(&attributes.shard_key);
        let event_content = LedgerEventContent {
            type_name: &account_type.name,
            event_id: &event_id,
            dt,
            account: &account.canonical,
            attribute_set: &attribute_set.canonical,
            amount,
            info: canonical_info.as_deref().unwrap_or_default(),
        };
        let (key, fingerprint) =
            (event_content.key_hash(shard_hash), event_content.content_fingerprint());
        let type_name = account_type.name.clone();
        Self {
            type_name,
            event_id,
            dt,
            amount,
            info,
            shard_hash,
            account,
            attribute_set,
            key,
            fingerprint,
        }
    }
}

/// The content that a fingerprint covers.
pub(crate) struct LedgerEventContent<'a> {
    pub(crate) type_name: &'a str,
    pub(crate) event_id: &'a str,
    pub(crate) dt: DateTime<Utc>,
    /// Canonical text, as is `attribute_set`.
    pub(crate) account: &'a str,
    pub(crate) attribute_set: &'a str,
    pub(crate) amount: Amount,
    /// Canonical JSON; empty if the event has no info.
    pub(crate) info: &'a str,
}

impl LedgerEventContent<'_> {
    /// Idempotency key: 8 bytes of the hash of type and event id, then 8 more bytes of it combined with
    /// the shard key's hash. One event id under two shard keys is two events; both start alike.
    pub(crate) fn key_hash(&self, shard_hash: ShardHash) -> Uuid {
        let digest = digest_parts([self.type_name.as_bytes(), self.event_id.as_bytes()]);
        let (id_half, mixed_half) = uuid_of_digest(digest).as_u64_pair();
        Uuid::from_u64_pair(id_half, mixed_half ^ shard_hash.hash_prefix())
    }

    /// Hash of the whole content: distinguishes a duplicate from a conflict under the same key.
    pub(crate) fn content_fingerprint(&self) -> Uuid {
        uuid_of_digest(digest_parts([
            self.type_name.as_bytes(),
            self.event_id.as_bytes(),
            &self.dt.timestamp_micros().to_le_bytes(),
            self.account.as_bytes(),
            self.attribute_set.as_bytes(),
            self.amount.side().as_bytes(),
            self.amount.value().normalize().to_string().as_bytes(),
            self.info.as_bytes(),
        ]))
    }
}

/// The account with this type and canonical key attributes.
pub(crate) fn intern_account(type_name: &str, canonical: String) -> InternedText<AccountId> {
    let (id, check) = derive_id([type_name.as_bytes(), canonical.as_bytes()]);
    InternedText { id: AccountId(id), collision_check: check, canonical }
}

/// The attribute set with this canonical text.
pub(crate) fn intern_attribute_set(canonical: String) -> InternedText<AttributeSetId> {
    let (id, check) = derive_id([canonical.as_bytes()]);
    InternedText { id: AttributeSetId(id), collision_check: check, canonical }
}

fn uuid_of_digest(digest: [u8; 32]) -> Uuid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest;
    Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}
