//! gRPC API of the order service: validates requests, passes them on, answers.
//!
//! - Cancellation: every write runs in a task of the service; a cancelled client does not cancel
//!   it.
//! - Memory bound: a semaphore of `max_in_flight` orders over all open requests and streams.

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

use crate::orders::db::{CallbackWriter, OrderAcceptor, OrderAdmission};
use crate::orders::exchange::DataManagerExchange;
use crate::orders::outcome_hub::OutcomeHub;

pub use service::{ORDER_SERVICE_RPCS, OrderApi};

/// Limits per request and per process.
#[derive(Debug, Clone, Copy)]
pub struct OrderApiLimits {
    /// Maximum number of orders in one request.
    pub max_orders_per_request: usize,
    /// Maximum number of orders of all open requests together.
    pub max_in_flight: usize,
    /// Failed attempts after which an order is answered as not processed.
    pub max_attempts: u32,
    /// Timeout of a request without a `grpc-timeout`.
    pub default_timeout: Duration,
}

/// Shared state of the handlers; clones are cheap.
#[derive(Clone)]
pub struct OrderApiState(Arc<OrderApiParts>);

/// The fields shared by [`OrderApiState`].
pub struct OrderApiParts {
    /// Connection pool of the control database, for reads and short transactions.
    pub pool: PgPool,
    /// Group commit of new orders.
    pub acceptor: OrderAcceptor,
    /// Group commit of callbacks.
    pub callbacks: CallbackWriter,
    /// The exchange; knows which orders wait for a callback now.
    pub exchange: Arc<DataManagerExchange>,
    /// Retry queue of orders.
    pub jobs: JobQueue,
    /// Outcome notices for open requests and streams.
    pub outcome_hub: OutcomeHub,
    /// Limits per request and per process.
    pub limits: OrderApiLimits,
    /// Cancelled when shutdown starts: no new orders are accepted.
    pub stopping: CancellationToken,
    /// Cancelled shortly before exit: open requests are answered with the outcomes known so far.
    pub closing: CancellationToken,
    /// One permit per order in flight; bounds memory.
    pub admission: Arc<Semaphore>,
    /// Open requests, for graceful shutdown.
    pub open_requests: Arc<OpenRequests>,
}

impl OrderApiState {
    /// Makes `parts` shareable by handlers.
    pub fn new(parts: OrderApiParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Takes permits for `orders` orders, or fails immediately with `OVERLOADED`.
    fn admit_orders(&self, orders: usize) -> Result<Arc<OrderAdmission>, ApiError> {
        self.check_running()?;
        if orders > self.limits.max_in_flight {
            // A retry could never succeed.
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

    /// Like [`Self::admit_orders`], but waits up to `max_wait` for the permits.
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

/// Counter of open requests, so that shutdown can wait for them.
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

    /// Waits until no request is open.
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
