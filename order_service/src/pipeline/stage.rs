//! Stages and their actions.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::exchange::DataManagerExchange;
use crate::orders::{OrderAttempt, OrderState, StoredOrderData};
use crate::postings::OrderPoster;

/// Why a stage did not move an order on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageError {
    /// May go well another time.
    Transient(String),
    /// May go well another time, and nothing was tried: uses up no attempt.
    NotTried(String),
    /// Will never go well.
    Permanent(String),
}

/// What a stage does with an order. A panic is contained: it fails this order for good, and no other.
pub trait StageAction: Send + Sync {
    /// Does it. What is learned of the order is put into it.
    fn run<'a>(&'a self, order: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>>;
}

/// The actions of the three stages.
#[derive(Clone)]
pub struct StageActions {
    /// `InitToStarted`.
    pub start: Arc<dyn StageAction>,
    /// `StartedToFinishedExternalInteraction`.
    pub external: Arc<dyn StageAction>,
    /// `FinishedExternalInteractionToProcessFinished`.
    pub finish: Arc<dyn StageAction>,
}

impl StageActions {
    /// The action that moves an order on from `state`, and the state it moves it to; `None` at an end.
    pub(super) fn action_after(&self, state: OrderState) -> Option<(&dyn StageAction, OrderState)> {
        match state {
            OrderState::Initialized => Some((&*self.start, OrderState::ProcessStarted)),
            OrderState::ProcessStarted => {
                Some((&*self.external, OrderState::FinishedExternalInteraction))
            }
            OrderState::FinishedExternalInteraction => {
                Some((&*self.finish, OrderState::ProcessFinished))
            }
            OrderState::ProcessFinished | OrderState::Failed => None,
        }
    }
}

/// Moves every order on.
#[derive(Debug, Clone, Copy)]
pub struct PassThrough;

impl StageAction for PassThrough {
    fn run<'a>(&'a self, _: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Asks the data manager, unless the data is there.
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

/// Posts the order's events.
#[derive(Clone)]
pub struct PostEvents(pub Arc<dyn OrderPoster>);

impl StageAction for PostEvents {
    fn run<'a>(&'a self, order: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        match (order.data, order.posting_context) {
            (Some(data), Some(posting_context)) => {
                self.0.post_order(order, StoredOrderData { data, posting_context })
            }
            _ => Box::pin(std::future::ready(Err(StageError::Permanent(
                "LOGIC_ERROR: the external interaction ended without data".to_owned(),
            )))),
        }
    }
}
