//! The exchange with the data manager: a question, and an answer that comes as a callback: before, during or after the
//! question's return, or never, or at another replica.
//!
//! An asking order waits for its data, not for the call. Data is handed over only once it is committed.

mod batch;
mod breaker;
mod client;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::{Either, select};
use store::Turn;
use tonic::Code;

pub use breaker::Breaker;
pub use client::{AskError, Client, ClientTerms};
use waiting::Waiting;

use crate::orders::{Clock, Stored};
use crate::pipeline::StageError;

/// Asks the data manager and hands callbacks to those who wait for them.
pub struct Exchange {
    client: Client,
    waiting: Waiting,
    clock: Arc<Clock>,
    /// How long an answer may take, from the question.
    timeout: Duration,
}

impl Exchange {
    /// An exchange through `client`.
    pub fn new(client: Client, clock: Arc<Clock>, timeout: Duration) -> Arc<Self> {
        Arc::new(Self { client, waiting: Waiting::default(), clock, timeout })
    }

    /// Asks for an order's data and waits for the callback, for the time-out from the question at most.
    pub async fn ask(&self, order_id: i32, turn: Turn) -> Result<Stored, StageError> {
        let mut arrival = self.waiting.register(order_id, self.clock.now());
        // A late answer to an earlier question may come while this one waits for its turn.
        let place = match select(&mut arrival, Box::pin(self.client.place(turn))).await {
            Either::Left((data, _)) => return Ok(data),
            Either::Right((place, _)) => place,
        };
        let timeout = tokio::time::sleep(self.timeout);
        tokio::pin!(timeout);
        let call = self.client.ask(order_id, place, self.timeout);
        match select(&mut arrival, call).await {
            Either::Left((data, call)) => {
                // Let the call end: a peer may mind an abandoned one. It holds its place until then.
                tokio::spawn(call);
                return Ok(data);
            }
            Either::Right((Ok(()), _)) => {}
            Either::Right((Err(error), _)) => {
                return self.waiting.take(order_id, arrival).ok_or_else(|| stage_error(error));
            }
        }
        match select(&mut arrival, timeout).await {
            Either::Left((data, _)) => Ok(data),
            Either::Right(((), _)) => self
                .waiting
                .take(order_id, arrival)
                .ok_or_else(|| stage_error(AskError::NoCallback(self.timeout))),
        }
    }

    /// Hands committed data to the order that waits for it here; false if none does.
    pub fn deliver(&self, order_id: i32, stored: Stored) -> bool {
        self.waiting.deliver(order_id, stored)
    }

    /// Since when an order of this process has been waiting for its data.
    pub fn asked_at(&self, order_id: i32) -> Option<DateTime<Utc>> {
        self.waiting.since(order_id)
    }

    /// The breaker of the connection.
    pub fn breaker(&self) -> &Breaker {
        self.client.breaker()
    }
}

/// What a failed question means for its order.
fn stage_error(error: AskError) -> StageError {
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
