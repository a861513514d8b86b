//! Data of an order that its callback brings, and what its postings need besides.

use chrono::{DateTime, Utc};

use crate::orders::{PickupPointId, StorageId};

/// Storage and pickup point of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderData {
    /// Never 0; 0 means "not stored".
    pub storage_id: StorageId,
    /// Never 0; 0 means "not stored".
    pub pickup_point_id: PickupPointId,
}

impl OrderData {
    /// From ids or table columns; `None` if one of them is 0, which means "not stored".
    pub fn from_ids(storage_id: StorageId, pickup_point_id: PickupPointId) -> Option<Self> {
        (storage_id.get() != 0 && pickup_point_id.get() != 0)
            .then_some(Self { storage_id, pickup_point_id })
    }
}

/// Inputs of an order's postings besides its data, fixed by the transaction that stored the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostingContext {
    /// `now()` of that transaction.
    pub stored_at: DateTime<Utc>,
    /// Version of the posting rules then in force; 0 if there were none.
    pub rules_version: i32,
}

/// An order's stored data with its posting context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredOrderData {
    /// Storage and pickup point.
    pub data: OrderData,
    /// Time and rules version of the storing transaction.
    pub posting_context: PostingContext,
}

impl StoredOrderData {
    /// From the columns of an order's row.
    pub(super) fn from_columns(
        storage_id: StorageId,
        pickup_point_id: PickupPointId,
        at: Option<DateTime<Utc>>,
        rules: Option<i32>,
    ) -> Option<Self> {
        let data = OrderData::from_ids(storage_id, pickup_point_id)?;
        // Data stored before the ledger existed is posted by version 1 of the rules.
        Some(Self {
            data,
            posting_context: PostingContext { stored_at: at?, rules_version: rules.unwrap_or(1) },
        })
    }
}
