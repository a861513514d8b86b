//! Events: checked, written in batches, listed.
//!
//! An event is one row, written once. It is idempotent by (type, event id) within its shard: the key's hash and a hash
//! of the whole content are kept in a table of their own, for ever.

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
use crate::sharding::{ShardHash, derive_id, digest_parts};
use crate::types::AccountType;

/// Something named by a canonical text, under an id that is a hash of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InternedText {
    pub(crate) id: i64,
    /// Tells a collision of ids from the same thing.
    pub(crate) collision_check: i64,
    pub(crate) canonical: String,
}

/// A checked event.
#[derive(Debug, Clone)]
pub struct LedgerEvent {
    /// Its account's type.
    pub type_name: String,
    /// Its id, unique for its type within its shard.
    pub event_id: String,
    /// When it happened.
    pub dt: DateTime<Utc>,
    /// How much.
    pub amount: Amount,
    /// A JSON object as written.
    pub info: Option<String>,
    /// Where it belongs.
    pub(crate) shard_hash: ShardHash,
    pub(crate) account: InternedText,
    pub(crate) attribute_set: InternedText,
    /// Of type and event id.
    pub(crate) key: Uuid,
    /// Of everything.
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
        let (key, fingerprint) = (event_content.key_hash(), event_content.content_fingerprint());
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

/// All that an event says.
pub(crate) struct LedgerEventContent<'a> {
    pub(crate) type_name: &'a str,
    pub(crate) event_id: &'a str,
    pub(crate) dt: DateTime<Utc>,
    /// Canonical, as the next.
    pub(crate) account: &'a str,
    pub(crate) attribute_set: &'a str,
    pub(crate) amount: Amount,
    /// Canonical; empty if there is none.
    pub(crate) info: &'a str,
}

impl LedgerEventContent<'_> {
    /// What it is known by in its shard.
    pub(crate) fn key_hash(&self) -> Uuid {
        uuid_of_digest(digest_parts([self.type_name.as_bytes(), self.event_id.as_bytes()]))
    }

    /// What tells a repeat from another event under the same key.
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

/// The account of a type and the canonical text of its key attributes.
pub(crate) fn intern_account(type_name: &str, canonical: String) -> InternedText {
    let (id, check) = derive_id([type_name.as_bytes(), canonical.as_bytes()]);
    InternedText { id, collision_check: check, canonical }
}

/// The combination of auxiliary attributes with this canonical text.
pub(crate) fn intern_attribute_set(canonical: String) -> InternedText {
    let (id, check) = derive_id([canonical.as_bytes()]);
    InternedText { id, collision_check: check, canonical }
}

fn uuid_of_digest(digest: [u8; 32]) -> Uuid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest;
    Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}
