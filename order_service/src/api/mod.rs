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

use queue::Jobs;
use serving::error::{ApiError, Code};
use sqlx::PgPool;
use store::Turn;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::exchange::Exchange;
use crate::orders::{Acceptor, Admission, CallbackStore};
use crate::watch::Watch;

pub use service::OrderApi;

/// What a client may ask for at once, and how long it is worked on within its request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Orders in one request.
    pub orders_per_request: usize,
    /// Orders of all open requests.
    pub in_flight: usize,
    /// Attempts within one request.
    pub attempts: u32,
    /// The time a request has if the client does not say.
    pub deadline: Duration,
}

/// Everything the handlers need. Clones share it.
#[derive(Clone)]
pub struct Rooms(Arc<Shared>);

/// See [`Rooms`].
pub struct Shared {
    /// The database, for reading.
    pub pool: PgPool,
    /// Makes orders durable.
    pub acceptor: Acceptor,
    /// Makes callbacks durable.
    pub callbacks: CallbackStore,
    /// The exchange, for what is being asked right now.
    pub exchange: Arc<Exchange>,
    /// The retry queue.
    pub jobs: Jobs,
    /// Who waits for what.
    pub watch: Watch,
    /// The limits.
    pub limits: Limits,
    /// Set when the process stops taking new orders.
    pub stopping: CancellationToken,
    /// Set shortly before the process ends: open requests are answered with what there is.
    pub closing: CancellationToken,
    /// The memory set aside for orders.
    pub admission: Arc<Semaphore>,
    /// Requests that are being answered.
    pub open: Arc<OpenRequests>,
}

impl Rooms {
    /// Shares the parts.
    pub fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// Lets `orders` orders in, or says at once that there are too many.
    fn admit(&self, orders: usize) -> Result<Arc<Admission>, ApiError> {
        self.check_running()?;
        if orders > self.limits.in_flight {
            // Trying again would never help.
            let most = self.limits.in_flight;
            let reason =
                format!("{orders} orders; at most {most} are in work at once (--max-in-flight-orders)");
            return Err(ApiError::field("orders", reason));
        }
        let admitted = self.admission.clone().try_acquire_many_owned(permits(orders));
        admitted.map(|permit| Arc::new(Admission::of(permit))).map_err(|_| self.overloaded(orders))
    }

    /// The same for those who can wait their turn.
    async fn admit_patiently(
        &self,
        orders: usize,
        wait: Duration,
        turn: Turn,
    ) -> Result<Arc<Admission>, ApiError> {
        self.check_running()?;
        let admitted =
            tokio::time::timeout(wait, self.admission.clone().acquire_many_owned(permits(orders))).await;
        let admitted = admitted.ok().and_then(Result::ok);
        let admitted = admitted.map(|permit| Arc::new(Admission::in_turn(permit, turn)));
        admitted.ok_or_else(|| self.overloaded(orders))
    }

    fn check_running(&self) -> Result<(), ApiError> {
        if self.stopping.is_cancelled() {
            return Err(ApiError::new(
                Code::Unavailable,
                "the service is stopping: ask another one, or again soon",
            ));
        }
        Ok(())
    }

    fn overloaded(&self, orders: usize) -> ApiError {
        metrics::counter!("orders_refused_total").increment(orders as u64);
        let most = self.limits.in_flight;
        ApiError::new(Code::Overloaded, format!("more than {most} orders in work at once: try again soon"))
    }
}

fn permits(orders: usize) -> u32 {
    u32::try_from(orders).unwrap_or(u32::MAX)
}

impl std::ops::Deref for Rooms {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Counts the requests that are being answered, so that a stopping process can wait for them.
#[derive(Debug, Default)]
pub struct OpenRequests {
    count: AtomicUsize,
    none: Notify,
}

impl OpenRequests {
    fn enter(self: &Arc<Self>) -> OpenRequest {
        self.count.fetch_add(1, Ordering::AcqRel);
        OpenRequest(self.clone())
    }

    /// Waits until there is none.
    pub async fn none(&self) {
        loop {
            let none = self.none.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

struct OpenRequest(Arc<OpenRequests>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
