//! Ids of the order path as types of their own. Raw numbers appear at the edges only: protobuf
//! messages, command lines, JSON and log fields.

use std::fmt;

/// Defines an id that encodes, decodes and displays like its number, in SQL also as an array.
macro_rules! define_id {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name(i32);

        impl $name {
            /// The number.
            pub const fn get(self) -> i32 {
                self.0
            }
        }

        impl From<i32> for $name {
            fn from(number: i32) -> Self {
                Self(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }
    };
}

define_id! {
    /// Order id, unique within the database; any int32.
    OrderId
}

define_id! {
    /// Id of the ordered product; any int32.
    ProductId
}

define_id! {
    /// Storage id from the callback. Never 0 in [`OrderData`](super::db::OrderData).
    StorageId
}

define_id! {
    /// Pickup point id from the callback. Never 0 in [`OrderData`](super::db::OrderData).
    PickupPointId
}

impl OrderId {
    /// Index of the order among `shard_count` shards of a map in memory.
    pub(super) const fn shard_index(self, shard_count: usize) -> usize {
        self.0.unsigned_abs() as usize % shard_count
    }
}

/// An order as requested: its id and its product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewOrder {
    /// Order id; any int32.
    pub order_id: OrderId,
    /// Id of the ordered product; any int32.
    pub product_id: ProductId,
}
