//! Ids of the ledger's rows. Each kind of id has its own type, so that one cannot be passed for
//! another. They are stored as `bigint`.

use std::fmt;

/// Account id, derived from the hash of the account's type and key attributes: the same in every
/// process and on every shard. Column `account_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct AccountId(pub i64);

impl AccountId {
    /// The id as stored.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Attribute set id, derived from the hash of the set's canonical text. Columns `tuple_id` and
/// `group_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct AttributeSetId(pub i64);

impl AttributeSetId {
    /// The id as stored.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for AttributeSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
