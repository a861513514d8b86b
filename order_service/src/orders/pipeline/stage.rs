//! Pipeline stages and their actions.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::orders::db::{OrderAttempt, OrderState};

/// Why a stage failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageError {
    /// A transient error: the order is retried.
    Transient(String),
    /// A transient error before anything was tried; does not count as an attempt.
    NotTried(String),
    /// A permanent error: the order fails.
    Permanent(String),
}

/// The action of a stage. A panic is contained: it fails this order for good, and no other.
pub trait StageAction: Send + Sync {
    /// Runs the action; results are stored in `order`.
    fn run<'a>(&'a self, order: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>>;
}

/// The actions of the three stages.
#[derive(Clone)]
pub struct StageActions {
    /// Stage `InitToStarted` of the pipeline.
    pub start: Arc<dyn StageAction>,
    /// Stage `StartedToFinishedExternalInteraction`, the exchange.
    pub external: Arc<dyn StageAction>,
    /// Stage `FinishedExternalInteractionToProcessFinished`, the posting.
    pub finish: Arc<dyn StageAction>,
}

impl StageActions {
    /// The action for an order in `state` and the state it leads to; `None` for a final state.
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

/// An action that does nothing.
#[derive(Debug, Clone, Copy)]
pub struct PassThrough;

impl StageAction for PassThrough {
    fn run<'a>(&'a self, _: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
