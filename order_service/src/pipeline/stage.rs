//! Stages and their actions.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::exchange::Exchange;
use crate::orders::{State, Stored, Work};
use crate::postings::Postings;

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
pub trait Action: Send + Sync {
    /// Does it. What is learned of the order is put into it.
    fn run<'a>(&'a self, order: &'a mut Work) -> BoxFuture<'a, Result<(), StageError>>;
}

/// The actions of the three stages.
#[derive(Clone)]
pub struct Stages {
    /// `InitToStarted`.
    pub start: Arc<dyn Action>,
    /// `StartedToFinishedExternalInteraction`.
    pub external: Arc<dyn Action>,
    /// `FinishedExternalInteractionToProcessFinished`.
    pub finish: Arc<dyn Action>,
}

impl Stages {
    /// The action that moves an order on from `state`, and the state it moves it to; `None` at an end.
    pub(super) fn after(&self, state: State) -> Option<(&dyn Action, State)> {
        match state {
            State::Initialized => Some((&*self.start, State::ProcessStarted)),
            State::ProcessStarted => Some((&*self.external, State::FinishedExternalInteraction)),
            State::FinishedExternalInteraction => Some((&*self.finish, State::ProcessFinished)),
            State::ProcessFinished | State::Failed => None,
        }
    }
}

/// Moves every order on.
#[derive(Debug, Clone, Copy)]
pub struct Proceed;

impl Action for Proceed {
    fn run<'a>(&'a self, _: &'a mut Work) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Asks the data manager, unless the data is there.
#[derive(Clone)]
pub struct AskDataManager(pub Arc<Exchange>);

impl Action for AskDataManager {
    fn run<'a>(&'a self, order: &'a mut Work) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            if order.data.is_none() {
                let stored = self.0.ask(order.order_id, order.turn).await?;
                (order.data, order.basis) = (Some(stored.data), Some(stored.basis));
            }
            Ok(())
        })
    }
}

/// Posts the order's events.
#[derive(Clone)]
pub struct PostEvents(pub Arc<dyn Postings>);

impl Action for PostEvents {
    fn run<'a>(&'a self, order: &'a mut Work) -> BoxFuture<'a, Result<(), StageError>> {
        match (order.data, order.basis) {
            (Some(data), Some(basis)) => self.0.post(order, Stored { data, basis }),
            _ => Box::pin(std::future::ready(Err(StageError::Permanent(
                "LOGIC_ERROR: the external interaction ended without data".to_owned(),
            )))),
        }
    }
}
