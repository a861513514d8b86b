//! Accepting orders: group commit over concurrent requests.
//!
//! - Shape: one row per order in `orders`, one row of order ids in `accepted_batches`, fenced by
//!   the lane.
//! - Cost: one statement per batch; small requests share it, large ones use a writer of their own.
//! - Lock order: lane, then orders by id.
//! - Promise: each request is all or nothing. After a lost commit answer the batch id shows which
//!   orders were stored; if the outcome stays unknown, the batch goes to recovery.

mod rows;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use queue::JobQueue;
use sqlx::PgPool;
use store::{Coalescer, Error, Lease, Result, open_single_connection_pool};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    AcceptedBatch, DatabaseClock, OrderAdmission, OrderAttempt, OrderData, OrderState,
    PipelineSender, paced_batches,
};
use crate::orders::{NewOrder, OrderId};
use rows::{AcceptOrderRow, ExistingOrder, write_accepted_orders};

/// Above this many orders a request goes to the large writer; a small one takes a few milliseconds.
const MAX_SMALL_REQUEST_ORDERS: usize = 256;
/// Maximum number of small requests per statement.
const MAX_SMALL_REQUESTS: usize = 256;
/// Maximum number of large requests per statement: a large request already amortises its commit.
const MAX_LARGE_REQUESTS: usize = 4;

/// Why a request was not accepted.
#[derive(Debug, Clone)]
pub enum AcceptError {
    /// These orders exist with another product; nothing of the request was stored.
    OtherProduct(Vec<OrderId>),
    /// The database did not answer in time. The commit outcome is unknown; repeating
    /// the request is safe.
    Unavailable(Error),
}

/// The durable state of a request's orders. Orders not listed are new and were
/// sent to the pipeline.
#[derive(Debug, Default)]
pub struct AcceptedOrders {
    /// Orders that had already ended.
    pub ended_orders: Vec<EndedOrder>,
    /// Orders that have not ended, in this process or elsewhere.
    pub pending_orders: Vec<OrderId>,
}

/// An order that had ended before the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedOrder {
    /// Order id; any int32.
    pub order_id: OrderId,
    /// Its final state.
    pub state: OrderState,
    /// Storage and pickup point, if stored.
    pub data: Option<OrderData>,
}

/// Handle of the accepting writers; clones share them.
#[derive(Clone)]
pub struct OrderAcceptor {
    small_requests: Coalescer<OrderAcceptRequest>,
    /// Separate: a large statement takes long, and small requests must not wait for it.
    large_requests: Coalescer<OrderAcceptRequest>,
}

struct OrderAcceptRequest {
    orders: Vec<NewOrder>,
    admission: Arc<OrderAdmission>,
    reply: oneshot::Sender<Result<AcceptedOrders, AcceptError>>,
}

impl OrderAcceptor {
    /// Starts the writers. New orders go into the lane of `jobs` and to `pipeline_sender`,
    /// also if their client is cancelled. `doubtful_batches` receives the batches whose
    /// commit outcome is unknown.
    pub fn start(
        pool: PgPool,
        jobs: JobQueue,
        clock: Arc<DatabaseClock>,
        doubtful_batches: Coalescer<Uuid>,
        pipeline_sender: PipelineSender,
    ) -> Self {
        let own_pool = open_single_connection_pool(&pool);
        let large_writer =
            OrderAcceptWriter { pool, jobs, clock, doubtful_batches, pipeline_sender };
        let small_writer = OrderAcceptWriter { pool: own_pool, ..large_writer.clone() };
        Self {
            small_requests: small_writer.start_coalescer(MAX_SMALL_REQUESTS),
            large_requests: large_writer.start_coalescer(MAX_LARGE_REQUESTS),
        }
    }

    /// Stores `orders` (each id once) and sends the new ones into the pipeline. Answers after the
    /// commit. Subscribe to outcomes before calling this.
    pub async fn accept(
        &self,
        orders: Vec<NewOrder>,
        admission: Arc<OrderAdmission>,
    ) -> Result<AcceptedOrders, AcceptError> {
        let coalescer = if orders.len() > MAX_SMALL_REQUEST_ORDERS {
            &self.large_requests
        } else {
            &self.small_requests
        };
        let answer =
            coalescer.submit(|reply| OrderAcceptRequest { orders, admission, reply }).await;
        answer.unwrap_or(Err(AcceptError::Unavailable(Error::Abandoned)))
    }
}

/// Splits off the requests that share an order with an earlier one: their answer
/// depends on its result.
fn split_disjoint_requests(
    requests: Vec<OrderAcceptRequest>,
) -> (Vec<OrderAcceptRequest>, Vec<OrderAcceptRequest>) {
    let mut seen_orders = HashSet::new();
    requests.into_iter().partition(|request| {
        let is_disjoint = request.orders.iter().all(|order| !seen_orders.contains(&order.order_id));
        seen_orders.extend(request.orders.iter().map(|order| order.order_id));
        is_disjoint
    })
}

#[derive(Clone)]
struct OrderAcceptWriter {
    pool: PgPool,
    jobs: JobQueue,
    clock: Arc<DatabaseClock>,
    doubtful_batches: Coalescer<Uuid>,
    pipeline_sender: PipelineSender,
}

impl OrderAcceptWriter {
    /// Starts the writing task, for at most `max_requests` per statement.
    fn start_coalescer(self, max_requests: usize) -> Coalescer<OrderAcceptRequest> {
        let writer = Arc::new(self);
        Coalescer::spawn_fair("accept_orders", 1024, paced_batches(max_requests), move |batch| {
            let writer = writer.clone();
            async move {
                let mut pending = batch;
                while !pending.is_empty() {
                    let (now, later) = split_disjoint_requests(pending);
                    writer.accept_batch(now).await;
                    pending = later;
                }
            }
        })
    }

    async fn accept_batch(&self, requests: Vec<OrderAcceptRequest>) {
        // A lost lane (this process was paused for too long) is replaced within moments if the
        // database is reachable.
        let deadline = Instant::now() + Duration::from_secs(5);
        // One batch id per lane: a repeated statement recognises the rows of an earlier one.
        let (mut lane, mut batch_id) = (self.jobs.own_lane(), Uuid::new_v4());
        loop {
            let current_lane = self.jobs.own_lane();
            if current_lane.id != lane.id {
                // The adopter of the old lane finds the orders stored under it.
                (lane, batch_id) = (current_lane, Uuid::new_v4());
            }
            let result = match lane.is_lost() {
                true => Err(lane.fenced_error()),
                false if store::mutant("accept_answered_before_commit") => {
                    return self.answer_requests(requests, batch_id, lane, &[]).await;
                }
                false => write_accepted_orders(&self.pool, &lane, batch_id, &requests).await,
            };
            match result {
                Ok(rows) if rows.first().is_some_and(|row| !row.held) => lane.mark_lost(),
                Ok(rows) => {
                    store::fail_point("orders_accepted");
                    rows.iter().for_each(|row| self.clock.observe(row.now));
                    return self.answer_requests(requests, batch_id, lane, &rows).await;
                }
                // Another process accepted one of the orders concurrently: the repeated statement
                // finds it.
                Err(Error::UniqueViolation(_)) => {}
                Err(Error::Fenced { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => {
                    self.doubtful_batches.push(batch_id).await;
                    for request in requests {
                        // The client may have disconnected.
                        let _ = request.reply.send(Err(AcceptError::Unavailable(error.clone())));
                    }
                    return;
                }
            }
        }
    }

    async fn answer_requests(
        &self,
        requests: Vec<OrderAcceptRequest>,
        batch_id: Uuid,
        lane: Arc<Lease>,
        rows: &[AcceptOrderRow],
    ) {
        let existing_orders: HashMap<OrderId, ExistingOrder> =
            rows.iter().filter_map(ExistingOrder::from_row).collect();
        let mut new_orders = Vec::new();
        for OrderAcceptRequest { orders, admission, reply } in requests {
            let mismatched_ids = find_mismatched_orders(&orders, &existing_orders);
            if !mismatched_ids.is_empty() {
                let _ = reply.send(Err(AcceptError::OtherProduct(mismatched_ids)));
                continue;
            }
            let mut accepted = AcceptedOrders::default();
            for order in orders {
                let order_id = order.order_id;
                match existing_orders.get(&order_id) {
                    Some(existing) if existing.is_in_batch => {
                        new_orders.push((order, admission.clone()))
                    }
                    None => new_orders.push((order, admission.clone())),
                    Some(ExistingOrder { state, data, .. }) if state.is_final() => accepted
                        .ended_orders
                        .push(EndedOrder { order_id, state: *state, data: *data }),
                    Some(_) => accepted.pending_orders.push(order_id),
                }
            }
            let _ = reply.send(Ok(accepted));
        }
        let batch = AcceptedBatch::new(batch_id, lane, new_orders.len());
        for (order, admission) in new_orders {
            self.pipeline_sender.send(OrderAttempt::first_attempt(order, batch.clone(), admission));
        }
    }
}

/// The orders that exist with another product.
fn find_mismatched_orders(
    orders: &[NewOrder],
    existing_orders: &HashMap<OrderId, ExistingOrder>,
) -> Vec<OrderId> {
    let mut mismatched_ids = Vec::new();
    for order in orders {
        if let Some(existing) = existing_orders.get(&order.order_id)
            && existing.product_id != order.product_id
        {
            mismatched_ids.push(order.order_id);
        }
    }
    mismatched_ids
}
