//! Ids of the order path as types of their own. Raw numbers appear at the edges only: protobuf
//! messages, command lines, JSON and log fields.

store::id_type! {
    /// Order id, unique within the database; any int32.
    pub struct OrderId(i32);
}

store::id_type! {
    /// Id of the ordered product; any int32.
    pub struct ProductId(i32);
}

store::id_type! {
    /// Storage id from the callback. Never 0 in [`OrderData`](super::db::OrderData).
    pub struct StorageId(i32);
}

store::id_type! {
    /// Pickup point id from the callback. Never 0 in [`OrderData`](super::db::OrderData).
    pub struct PickupPointId(i32);
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
