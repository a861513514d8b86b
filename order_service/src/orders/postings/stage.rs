//! The final stage of the pipeline.

use futures::future::BoxFuture;

use super::LedgerOrderPoster;
use crate::orders::db::{OrderAttempt, StoredOrderData};
use crate::orders::pipeline::{StageAction, StageError};

/// Posts the order's ledger events.
pub struct PostEvents(pub LedgerOrderPoster);

impl StageAction for PostEvents {
    fn run<'a>(&'a self, order: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        match (order.data, order.posting_context) {
            (Some(data), Some(posting_context)) => {
                Box::pin(self.0.post_order(order, StoredOrderData { data, posting_context }))
            }
            _ => Box::pin(std::future::ready(Err(StageError::Permanent(
                "LOGIC_ERROR: the external interaction ended without data".to_owned(),
            )))),
        }
    }
}
