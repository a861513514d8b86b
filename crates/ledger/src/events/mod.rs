//! Events: checked, written in batches, listed.
//!
//! An event is one row, written once. It is idempotent by (type, event id) within its shard: the key's hash and a hash
//! of the whole content are kept in a table of their own, for ever.

mod input;
mod listing;
mod months;
mod once;
mod posted;
mod rows;
mod writer;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use input::NewEvent;
pub(crate) use input::{Attributes, Input, Named, shortened, unknown_type};
pub use listing::{Listed, ListedEvent, Listing, Page, list};
pub(crate) use months::{make_months, make_months_in_tx};
pub(crate) use once::{Contradiction, Part, once_each};
pub use posted::{PostedEvent, Posting, find_posted, posted_at, postings};
pub(crate) use rows::{Judged, Known, Rows};
pub(crate) use writer::{MONTHS_MADE_AGAIN, lacks_month, statuses};
pub use writer::{Status, Writer, Written};

use crate::amount::Amount;
use crate::sharding::{ShardHash, digest, identify};
use crate::types::AccountType;

/// Something named by a canonical text, under an id that is a hash of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interned {
    pub(crate) id: i64,
    /// Tells a collision of ids from the same thing.
    pub(crate) check: i64,
    pub(crate) canonical: String,
}

/// A checked event.
#[derive(Debug, Clone)]
pub struct Event {
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
    pub(crate) hash: ShardHash,
    pub(crate) account: Interned,
    pub(crate) tuple: Interned,
    /// Of type and event id.
    pub(crate) key: Uuid,
    /// Of everything.
    pub(crate) content: Uuid,
}

impl Event {
    fn new(
        kind: &AccountType,
        event_id: String,
        dt: DateTime<Utc>,
        named: Named,
        amount: Amount,
        info: Option<String>,
        info_meaning: Option<String>,
    ) -> Self {
        let account = account(&kind.name, named.key);
        let tuple = tuple(named.auxiliary);
        let hash = ShardHash::of(&named.shard_key);
        let said = Said {
            type_name: &kind.name,
            event_id: &event_id,
            dt,
            account: &account.canonical,
            tuple: &tuple.canonical,
            amount,
            info: info_meaning.as_deref().unwrap_or_default(),
        };
        let (key, content) = (said.key(), said.content());
        let type_name = kind.name.clone();
        Self { type_name, event_id, dt, amount, info, hash, account, tuple, key, content }
    }
}

/// All that an event says.
pub(crate) struct Said<'a> {
    pub(crate) type_name: &'a str,
    pub(crate) event_id: &'a str,
    pub(crate) dt: DateTime<Utc>,
    /// Canonical, as the next.
    pub(crate) account: &'a str,
    pub(crate) tuple: &'a str,
    pub(crate) amount: Amount,
    /// Canonical; empty if there is none.
    pub(crate) info: &'a str,
}

impl Said<'_> {
    /// What it is known by in its shard.
    pub(crate) fn key(&self) -> Uuid {
        uuid(digest([self.type_name.as_bytes(), self.event_id.as_bytes()]))
    }

    /// What tells a repeat from another event under the same key.
    pub(crate) fn content(&self) -> Uuid {
        uuid(digest([
            self.type_name.as_bytes(),
            self.event_id.as_bytes(),
            &self.dt.timestamp_micros().to_le_bytes(),
            self.account.as_bytes(),
            self.tuple.as_bytes(),
            self.amount.side().as_bytes(),
            self.amount.value().normalize().to_string().as_bytes(),
            self.info.as_bytes(),
        ]))
    }
}

/// The account of a type and the canonical text of its key attributes.
pub(crate) fn account(type_name: &str, canonical: String) -> Interned {
    let (id, check) = identify([type_name.as_bytes(), canonical.as_bytes()]);
    Interned { id, check, canonical }
}

/// The combination of auxiliary attributes with this canonical text.
pub(crate) fn tuple(canonical: String) -> Interned {
    let (id, check) = identify([canonical.as_bytes()]);
    Interned { id, check, canonical }
}

fn uuid(digest: [u8; 32]) -> Uuid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest;
    Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}
