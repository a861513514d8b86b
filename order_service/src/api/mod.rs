//! The gRPC surface: validates, hands over, answers. No request is worked on by the future that its client can cancel.

mod convert;
mod page;
mod process;
mod read;
mod retries;
mod service;
mod stream;
mod validate;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use queue::JobQueue;
use serving::error::{ApiError, ErrorCode};
use sqlx::PgPool;
use store::FairTurn;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::exchange::DataManagerExchange;
use crate::orders::{CallbackWriter, OrderAcceptor, OrderAdmission};
use crate::outcome_hub::OutcomeHub;

pub use service::OrderApi;

/// What a client may ask for at once, and how long it is worked on within its request.
#[derive(Debug, Clone, Copy)]
pub struct OrderApiLimits {
    /// Orders in one request.
    pub max_orders_per_request: usize,
    /// Orders of all open requests.
    pub max_in_flight: usize,
    /// Attempts within one request.
    pub max_attempts: u32,
    /// The time a request has if the client does not say.
    pub default_timeout: Duration,
}

/// Everything the handlers need. Clones share it.
#[derive(Clone)]
pub struct OrderApiState(Arc<OrderApiParts>);

/// See [`OrderApiState`].
pub struct OrderApiParts {
    /// The database, for reading.
    pub pool: PgPool,
    /// Makes orders durable.
    pub acceptor: OrderAcceptor,
    /// Makes callbacks durable.
    pub callbacks: CallbackWriter,
    /// The exchange, for what is being asked right now.
    pub exchange: Arc<DataManagerExchange>,
    /// The retry queue.
    pub jobs: JobQueue,
    /// Who waits for what.
    pub outcome_hub: OutcomeHub,
    /// The limits.
    pub limits: OrderApiLimits,
    /// Set when the process stops taking new orders.
    pub stopping: CancellationToken,
    /// Set shortly before the process ends: open requests are answered with what there is.
    pub closing: CancellationToken,
    /// The memory set aside for orders.
    pub admission: Arc<Semaphore>,
    /// Requests that are being answered.
    pub open_requests: Arc<OpenRequests>,
}

impl OrderApiState {
    /// Shares the parts.
    pub fn new(parts: OrderApiParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Lets `orders` orders in, or says at once that there are too many.
    fn admit_orders(&self, orders: usize) -> Result<Arc<OrderAdmission>, ApiError> {
        self.check_running()?;
        if orders > self.limits.max_in_flight {
            // Trying again would never help.
            let most = self.limits.max_in_flight;
            let reason = format!(
                "{orders} orders; at most {most} are in work at once (--max-in-flight-orders)"
            );
            return Err(ApiError::invalid_field("orders", reason));
        }
        let admitted = self.admission.clone().try_acquire_many_owned(permit_count(orders));
        admitted
            .map(|permit| Arc::new(OrderAdmission::for_request(permit)))
            .map_err(|_| self.overloaded_error(orders))
    }

    /// The same for those who can wait their turn.
    async fn wait_for_admission(
        &self,
        orders: usize,
        max_wait: Duration,
        turn: FairTurn,
    ) -> Result<Arc<OrderAdmission>, ApiError> {
        self.check_running()?;
        let admitted = tokio::time::timeout(
            max_wait,
            self.admission.clone().acquire_many_owned(permit_count(orders)),
        )
        .await;
        let admitted = admitted.ok().and_then(Result::ok);
        let admitted = admitted.map(|permit| Arc::new(OrderAdmission::with_turn(permit, turn)));
        admitted.ok_or_else(|| self.overloaded_error(orders))
    }

    fn check_running(&self) -> Result<(), ApiError> {
        if self.stopping.is_cancelled() {
            return Err(ApiError::new(
                ErrorCode::Unavailable,
                "the service is stopping: ask another one, or again soon",
            ));
        }
        Ok(())
    }

    fn overloaded_error(&self, orders: usize) -> ApiError {
        metrics::counter!("orders_refused_total").increment(orders as u64);
        let most = self.limits.max_in_flight;
        ApiError::new(
            ErrorCode::Overloaded,
            format!("more than {most} orders in work at once: try again soon"),
        )
    }
}

fn permit_count(orders: usize) -> u32 {
    u32::try_from(orders).unwrap_or(u32::MAX)
}

impl std::ops::Deref for OrderApiState {
    type Target = OrderApiParts;

    fn deref(&self) -> &OrderApiParts {
        &self.0
    }
}

/// Counts the requests that are being answered, so that a stopping process can wait for them.
#[derive(Debug, Default)]
pub struct OpenRequests {
    count: AtomicUsize,
    idle: Notify,
}

impl OpenRequests {
    fn track_request(self: &Arc<Self>) -> OpenRequestGuard {
        self.count.fetch_add(1, Ordering::AcqRel);
        OpenRequestGuard(self.clone())
    }

    /// Waits until there is none.
    pub async fn wait_until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

struct OpenRequestGuard(Arc<OpenRequests>);

impl Drop for OpenRequestGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
