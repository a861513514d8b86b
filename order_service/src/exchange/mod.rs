//! The exchange with the data manager: a question, and an answer that comes as a callback: before, during or after the
//! question's return, or never, or at another replica.
//!
//! An asking order waits for its data, not for the call. Data is handed over only once it is committed.

mod batch;
mod breaker;
mod client;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::{Either, select};
use store::FairTurn;
use tonic::Code;

pub use breaker::CircuitBreaker;
pub use client::{AskError, ExchangeClient, ExchangeClientOptions};
use waiters::CallbackWaiters;

use crate::orders::{DatabaseClock, StoredOrderData};
use crate::pipeline::StageError;

/// Asks the data manager and hands callbacks to those who wait for them.
pub struct DataManagerExchange {
    client: ExchangeClient,
    waiters: CallbackWaiters,
    clock: Arc<DatabaseClock>,
    /// How long an answer may take, from the question.
    timeout: Duration,
}

impl DataManagerExchange {
    /// An exchange through `client`.
    pub fn new(client: ExchangeClient, clock: Arc<DatabaseClock>, timeout: Duration) -> Arc<Self> {
        Arc::new(Self { client, waiters: CallbackWaiters::default(), clock, timeout })
    }

    /// Asks for an order's data and waits for the callback, for the time-out from the question at most.
    pub async fn ask(&self, order_id: i32, turn: FairTurn) -> Result<StoredOrderData, StageError> {
        let mut callback_future = self.waiters.register_order(order_id, self.clock.now());
        // A late answer to an earlier question may come while this one waits for its turn.
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
                // Let the call end: a peer may mind an abandoned one. It holds its place until then.
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

    /// Hands committed data to the order that waits for it here; false if none does.
    pub fn deliver(&self, order_id: i32, stored: StoredOrderData) -> bool {
        self.waiters.deliver(order_id, stored)
    }

    /// Since when an order of this process has been waiting for its data.
    pub fn asked_at(&self, order_id: i32) -> Option<DateTime<Utc>> {
        self.waiters.waiting_since(order_id)
    }

    /// The breaker of the connection.
    pub fn breaker(&self) -> &CircuitBreaker {
        self.client.breaker()
    }
}

/// What a failed question means for its order.
fn to_stage_error(error: AskError) -> StageError {
    let reason = error.to_string();
    match error {
        AskError::Unreachable(_) => StageError::NotTried(reason),
        AskError::NoCallback(_) => StageError::Transient(reason),
        AskError::Refused { code, .. } if is_permanent(code) => StageError::Permanent(reason),
        AskError::Refused { .. } => StageError::Transient(reason),
    }
}

/// Whether the data manager's answer to the question of one order is its last word.
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
