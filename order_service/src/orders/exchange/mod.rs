//! Exchange with the data manager: a question by gRPC, and the data by a separate callback.
//!
//! The callback may come before, during or after the question's return, never, or at another
//! replica. An order waits for its data, not for the call; data is delivered only after its commit.

mod batch;
mod breaker;
mod client;
mod stage;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::{Either, select};
use store::FairTurn;
use tonic::Code;

pub use breaker::CircuitBreaker;
pub use client::{AskError, ExchangeClient, ExchangeClientOptions};
pub use stage::AskDataManager;
use waiters::CallbackWaiters;

use crate::orders::OrderId;
use crate::orders::db::{DatabaseClock, StoredCallback, StoredOrderData};
use crate::orders::pipeline::StageError;

/// Asks the data manager and delivers callbacks to the waiting orders of this process.
pub struct DataManagerExchange {
    client: ExchangeClient,
    waiters: CallbackWaiters,
    clock: Arc<DatabaseClock>,
    /// Timeout of the callback, from the start of the question's call.
    timeout: Duration,
}

impl DataManagerExchange {
    /// Creates an exchange that uses `client`.
    pub fn new(client: ExchangeClient, clock: Arc<DatabaseClock>, timeout: Duration) -> Arc<Self> {
        Arc::new(Self { client, waiters: CallbackWaiters::default(), clock, timeout })
    }

    /// Asks for an order's data and waits for its callback. The timeout starts with the call, not
    /// with the wait for a permit.
    pub async fn ask(
        &self,
        order_id: OrderId,
        turn: FairTurn,
    ) -> Result<StoredOrderData, StageError> {
        let mut callback_future = self.waiters.register_order(order_id, self.clock.now(), turn);
        // A late callback to an earlier question may arrive while this one waits for a permit.
        let permit =
            match select(&mut callback_future, Box::pin(self.client.acquire_permit(turn))).await {
                Either::Left((data, _)) => return Ok(data),
                Either::Right((permit, _)) => permit,
            };
        let timeout = tokio::time::sleep(self.timeout);
        tokio::pin!(timeout);
        let call = self.client.ask(order_id, permit, self.timeout);
        match select(&mut callback_future, call).await {
            Either::Left((data, call)) => {
                // Let the call complete: peers may handle cancelled calls badly. It keeps its
                // permit until then.
                tokio::spawn(call);
                return Ok(data);
            }
            Either::Right((Ok(()), _)) => {}
            Either::Right((Err(error), _)) => {
                return self
                    .waiters
                    .unregister_order(order_id, callback_future)
                    .ok_or_else(|| to_stage_error(error));
            }
        }
        match select(&mut callback_future, timeout).await {
            Either::Left((data, _)) => Ok(data),
            Either::Right(((), _)) => self
                .waiters
                .unregister_order(order_id, callback_future)
                .ok_or_else(|| to_stage_error(AskError::NoCallback(self.timeout))),
        }
    }

    /// Delivers committed data to the order that waits in this process; false if none waits.
    pub fn deliver(&self, callback: StoredCallback) -> bool {
        self.waiters.deliver(callback)
    }

    /// Time since which an order of this process has been waiting for its data.
    pub fn asked_at(&self, order_id: OrderId) -> Option<DateTime<Utc>> {
        self.waiters.waiting_since(order_id)
    }

    /// Turn of the request whose order waits for its data in this process. Its callback gets the same
    /// turn, whatever other callbacks came in the same call.
    pub fn turn_of(&self, order_id: OrderId) -> Option<FairTurn> {
        self.waiters.turn_of(order_id)
    }

    /// The circuit breaker of the connection.
    pub fn breaker(&self) -> &CircuitBreaker {
        self.client.breaker()
    }
}

/// Maps a failed question to the error of its stage.
fn to_stage_error(error: AskError) -> StageError {
    let reason = error.to_string();
    match error {
        AskError::Unreachable(_) => StageError::NotTried(reason),
        AskError::NoCallback(_) => StageError::Transient(reason),
        AskError::Refused { code, .. } if is_permanent(code) => StageError::Permanent(reason),
        AskError::Refused { .. } => StageError::Transient(reason),
    }
}

/// Whether this status of a single-order question is permanent.
fn is_permanent(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}
