//! Accepting orders: durable in one statement for all requests that came in meanwhile, each request all or nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::JobQueue;
use sqlx::{FromRow, PgPool};
use store::{Coalescer, Error, Lease, Result, open_single_connection_pool, run_statement};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    AcceptedBatch, DatabaseClock, OrderAdmission, OrderAttempt, OrderData, OrderState,
    PipelineSender, paced_batches,
};

/// Orders of a request that is accepted together with others of its like, in a few milliseconds.
const MAX_SMALL_REQUEST_ORDERS: usize = 256;
/// Small requests accepted in one statement.
const MAX_SMALL_REQUESTS: usize = 256;
/// Large requests accepted in one statement: one has commits enough to share among its own orders.
const MAX_LARGE_REQUESTS: usize = 4;

/// Why a request was not accepted; nothing of it was.
#[derive(Debug, Clone)]
pub enum AcceptError {
    /// These orders exist with another product.
    OtherProduct(Vec<i32>),
    /// The database did not answer in time. Some of the orders may turn out to be stored; repeating is safe.
    Unavailable(Error),
}

/// What a request's orders are now, each durable; those not named here are new and on their way through the pipeline.
#[derive(Debug, Default)]
pub struct AcceptedOrders {
    /// Those that had ended already: (order, state, data).
    pub ended_orders: Vec<(i32, OrderState, Option<OrderData>)>,
    /// Those in work or waiting, here or elsewhere.
    pub pending_orders: Vec<i32>,
}

/// Accepts orders.
#[derive(Clone)]
pub struct OrderAcceptor {
    small_requests: Coalescer<OrderAcceptRequest>,
    /// They take so long that the small ones do not wait for them.
    large_requests: Coalescer<OrderAcceptRequest>,
}

struct OrderAcceptRequest {
    orders: Vec<(i32, i32)>,
    admission: Arc<OrderAdmission>,
    reply: oneshot::Sender<Result<AcceptedOrders, AcceptError>>,
}

impl OrderAcceptor {
    /// Starts accepting into the lane of `jobs`; new orders go to `pipeline_sender`, whatever becomes of their client.
    /// `doubtful_batches` gets the batches of which nobody knows whether they were stored: the database went away with the
    /// answer.
    pub fn start(
        pool: PgPool,
        jobs: JobQueue,
        clock: Arc<DatabaseClock>,
        doubtful_batches: Coalescer<Uuid>,
        pipeline_sender: PipelineSender,
    ) -> Self {
        let own_pool = open_single_connection_pool(&pool);
        let new_writer = |pool| {
            let (jobs, clock) = (jobs.clone(), clock.clone());
            OrderAcceptWriter {
                pool,
                jobs,
                clock,
                doubtful_batches: doubtful_batches.clone(),
                pipeline_sender: pipeline_sender.clone(),
            }
        };
        Self {
            small_requests: new_writer(own_pool).start_coalescer(MAX_SMALL_REQUESTS),
            large_requests: new_writer(pool).start_coalescer(MAX_LARGE_REQUESTS),
        }
    }

    /// Makes `orders` (each id once) durable and sends the new ones on their way. Answers after the commit. Whoever
    /// wants to hear of them must listen already.
    pub async fn accept(
        &self,
        orders: Vec<(i32, i32)>,
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

/// The requests that share no order with an earlier one, and the others: those depend on what becomes of the first.
fn split_disjoint_requests(
    requests: Vec<OrderAcceptRequest>,
) -> (Vec<OrderAcceptRequest>, Vec<OrderAcceptRequest>) {
    let mut seen_orders = HashSet::new();
    requests.into_iter().partition(|request| {
        let is_disjoint =
            request.orders.iter().all(|(order_id, _)| !seen_orders.contains(order_id));
        seen_orders.extend(request.orders.iter().map(|(order_id, _)| *order_id));
        is_disjoint
    })
}

struct OrderAcceptWriter {
    pool: PgPool,
    jobs: JobQueue,
    clock: Arc<DatabaseClock>,
    doubtful_batches: Coalescer<Uuid>,
    pipeline_sender: PipelineSender,
}

impl OrderAcceptWriter {
    /// Accepts so many requests at a time.
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
        // A lost lane (this process was paused for too long) is replaced within moments, if the database is there.
        let deadline = Instant::now() + Duration::from_secs(5);
        // One id for as long as the lane is the same: a repetition must recognise what an earlier try has stored.
        let (mut lane, mut batch_id) = (self.jobs.own_lane(), Uuid::new_v4());
        loop {
            let current_lane = self.jobs.own_lane();
            if current_lane.id != lane.id {
                // Whatever was stored under the old lane is found by whoever adopts it.
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
                // Somebody else accepted one of them meanwhile: now it will be found.
                Err(Error::UniqueViolation(_)) => {}
                Err(Error::Fenced { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => {
                    self.doubtful_batches.push(batch_id).await;
                    for request in requests {
                        // The client may be gone.
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
        let existing_orders: HashMap<i32, ExistingOrder> =
            rows.iter().filter_map(ExistingOrder::from_row).collect();
        let mut new_orders = Vec::new();
        for OrderAcceptRequest { orders, admission, reply } in requests {
            let has_other_product = |(order, product): &&(i32, i32)| {
                existing_orders.get(order).is_some_and(|existing| existing.product_id != *product)
            };
            let mismatched_ids: Vec<i32> =
                orders.iter().filter(has_other_product).map(|(order, _)| *order).collect();
            if !mismatched_ids.is_empty() {
                let _ = reply.send(Err(AcceptError::OtherProduct(mismatched_ids)));
                continue;
            }
            let mut accepted = AcceptedOrders::default();
            for (order_id, product_id) in orders {
                match existing_orders.get(&order_id) {
                    Some(existing) if existing.is_in_batch => {
                        new_orders.push((order_id, product_id, admission.clone()))
                    }
                    None => new_orders.push((order_id, product_id, admission.clone())),
                    Some(existing) if existing.state.is_final() => {
                        accepted.ended_orders.push((order_id, existing.state, existing.data))
                    }
                    Some(_) => accepted.pending_orders.push(order_id),
                }
            }
            let _ = reply.send(Ok(accepted));
        }
        let batch = AcceptedBatch::new(batch_id, lane, new_orders.len());
        for (order_id, product_id, admission) in new_orders {
            self.pipeline_sender.send(OrderAttempt::first_attempt(
                order_id,
                product_id,
                batch.clone(),
                admission,
            ));
        }
    }
}

struct ExistingOrder {
    product_id: i32,
    state: OrderState,
    data: Option<OrderData>,
    is_in_batch: bool,
}

impl ExistingOrder {
    fn from_row(row: &AcceptOrderRow) -> Option<(i32, Self)> {
        let data = OrderData::from_columns(row.storage_id?, row.pickup_point_id?);
        let state = OrderState::from_number(row.state?.into())?;
        Some((
            row.order_id?,
            Self { product_id: row.product_id?, state, data, is_in_batch: row.mine? },
        ))
    }
}

#[derive(FromRow)]
struct AcceptOrderRow {
    now: DateTime<Utc>,
    held: bool,
    order_id: Option<i32>,
    product_id: Option<i32>,
    state: Option<i16>,
    storage_id: Option<i32>,
    pickup_point_id: Option<i32>,
    mine: Option<bool>,
}

async fn write_accepted_orders(
    pool: &PgPool,
    lane: &Arc<Lease>,
    batch_id: Uuid,
    requests: &[OrderAcceptRequest],
) -> Result<Vec<AcceptOrderRow>> {
    let rows = requests.iter().enumerate();
    let mut rows: Vec<(i32, i32, i32)> = rows
        .flat_map(|(request_index, request)| {
            request
                .orders
                .iter()
                .map(move |(order, product)| (*order, *product, request_index as i32))
        })
        .collect();
    // In the order of the key: two replicas that accept the same orders wait for each other in one direction only.
    rows.sort_unstable();
    let orders: Arc<[i32]> = rows.iter().map(|row| row.0).collect();
    let products: Arc<[i32]> = rows.iter().map(|row| row.1).collect();
    let request_indexes: Arc<[i32]> = rows.iter().map(|row| row.2).collect();
    let lane = lane.clone();
    run_statement(pool, "accept_orders", move |connection| {
        let (lane, orders, products, numbers) =
            (lane.clone(), orders.clone(), products.clone(), request_indexes.clone());
        Box::pin(async move {
            let rows = sqlx::query_as(ACCEPT_ORDERS_SQL)
                .bind(batch_id)
                .bind(lane.id)
                .bind(lane.epoch)
                .bind(&orders[..])
                .bind(&products[..])
                .bind(&numbers[..])
                .fetch_all(connection)
                .await?;
            Ok(rows)
        })
    })
    .await
}

/// One row for each order that was there before, or a single row without order.
const ACCEPT_ORDERS_SQL: &str =
    "SELECT * FROM accept_orders($1, $2, $3, $4, $5, $6) -- accept_orders";
