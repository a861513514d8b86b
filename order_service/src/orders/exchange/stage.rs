//! The external stage of the pipeline.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::DataManagerExchange;
use crate::orders::db::OrderAttempt;
use crate::orders::pipeline::{StageAction, StageError};

/// Asks the data manager, unless the order has its data.
#[derive(Clone)]
pub struct AskDataManager(pub Arc<DataManagerExchange>);

impl StageAction for AskDataManager {
    fn run<'a>(&'a self, order: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            if order.data.is_none() {
                let stored = self.0.ask(order.order_id, order.turn).await?;
                (order.data, order.posting_context) =
                    (Some(stored.data), Some(stored.posting_context));
            }
            Ok(())
        })
    }
}
