//! Ids of the ledger's rows. Each kind of id has its own type, so that one cannot be passed for
//! another. They are stored as `bigint`.

use serde::{Deserialize, Serialize};

store::id_type! {
    /// Account id, derived from the hash of the account's type and key attributes: the same in every
    /// process and on every shard. Column `account_id`.
    pub struct AccountId(i64);
}

store::id_type! {
    /// Attribute set id, derived from the hash of the set's canonical text. Columns `tuple_id` and
    /// `group_id`.
    pub struct AttributeSetId(i64);
}

store::id_type! {
    /// Sequence number of an event in its shard: gap-free from 1. Also a position in the feed and in an
    /// export stream.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct SequenceNumber(i64);
}

impl SequenceNumber {
    /// The position before the first event.
    pub const ZERO: Self = Self(0);
    /// Number of the first event.
    pub const FIRST: Self = Self(1);
    /// Upper bound of all numbers.
    pub const MAX: Self = Self(i64::MAX);

    /// The following number.
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The preceding number.
    pub fn previous(self) -> Self {
        self.plus(-1)
    }

    /// The number that is `count` events later.
    pub fn plus(self, count: i64) -> Self {
        Self(self.0 + count)
    }

    /// Count of the numbers after `earlier` up to this one; negative if `earlier` is later.
    pub fn distance_from(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

store::id_type! {
    /// Fencing token of a lock: greater than that of every earlier grant of the same key. Column
    /// `token`.
    pub struct FencingToken(i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_is_written_as_the_number_alone() {
        let number = SequenceNumber(7);
        assert_eq!(serde_json::to_string(&Some(number)).unwrap(), "7");
        assert_eq!(serde_json::from_str::<SequenceNumber>("7").unwrap(), number);
        assert_eq!(format!("{number}.ndjson {:>3}", AccountId(-5)), "7.ndjson  -5");
    }

    #[test]
    fn distances_count_the_numbers_in_between() {
        let (early, late) = (SequenceNumber::FIRST, SequenceNumber(4));
        assert_eq!((late.distance_from(early), early.distance_from(late)), (3, -3));
        assert_eq!(early.plus(late.distance_from(early)), late);
        assert_eq!((SequenceNumber::ZERO.next(), early.previous()), (early, SequenceNumber::ZERO));
    }
}
