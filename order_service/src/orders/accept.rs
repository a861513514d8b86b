//! Accepting orders: durable in one statement for all requests that came in meanwhile, each request all or nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::Jobs;
use sqlx::{FromRow, PgPool};
use store::{Coalescer, Error, Lease, Result, connection_of_its_own, run};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Admission, Batch, Clock, Data, Entrance, State, Work, paced};

/// Orders of a request that is accepted together with others of its like, in a few milliseconds.
const SMALL: usize = 256;
/// Small requests accepted in one statement.
const SMALL_TOGETHER: usize = 256;
/// Large requests accepted in one statement: one has commits enough to share among its own orders.
const LARGE_TOGETHER: usize = 4;

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
pub struct Accepted {
    /// Those that had ended already: (order, state, data).
    pub ended: Vec<(i32, State, Option<Data>)>,
    /// Those in work or waiting, here or elsewhere.
    pub underway: Vec<i32>,
}

/// Accepts orders.
#[derive(Clone)]
pub struct Acceptor {
    small: Coalescer<Request>,
    /// They take so long that the small ones do not wait for them.
    large: Coalescer<Request>,
}

struct Request {
    orders: Vec<(i32, i32)>,
    admission: Arc<Admission>,
    reply: oneshot::Sender<Result<Accepted, AcceptError>>,
}

impl Acceptor {
    /// Starts accepting into the lane of `jobs`; new orders go to `intake`, whatever becomes of their client.
    /// `doubtful` gets the batches of which nobody knows whether they were stored: the database went away with the
    /// answer.
    pub fn start(
        pool: PgPool,
        jobs: Jobs,
        clock: Arc<Clock>,
        doubtful: Coalescer<Uuid>,
        intake: Entrance,
    ) -> Self {
        let own = connection_of_its_own(&pool);
        let desk = |pool| {
            let (jobs, clock) = (jobs.clone(), clock.clone());
            Desk { pool, jobs, clock, doubtful: doubtful.clone(), intake: intake.clone() }
        };
        Self { small: desk(own).start(SMALL_TOGETHER), large: desk(pool).start(LARGE_TOGETHER) }
    }

    /// Makes `orders` (each id once) durable and sends the new ones on their way. Answers after the commit. Whoever
    /// wants to hear of them must listen already.
    pub async fn accept(
        &self,
        orders: Vec<(i32, i32)>,
        admission: Arc<Admission>,
    ) -> Result<Accepted, AcceptError> {
        let desk = if orders.len() > SMALL { &self.large } else { &self.small };
        let answer = desk.ask(|reply| Request { orders, admission, reply }).await;
        answer.unwrap_or(Err(AcceptError::Unavailable(Error::Abandoned)))
    }
}

/// The requests that share no order with an earlier one, and the others: those depend on what becomes of the first.
fn disjoint(requests: Vec<Request>) -> (Vec<Request>, Vec<Request>) {
    let mut seen = HashSet::new();
    requests.into_iter().partition(|request| {
        let fresh = request.orders.iter().all(|(order_id, _)| !seen.contains(order_id));
        seen.extend(request.orders.iter().map(|(order_id, _)| *order_id));
        fresh
    })
}

struct Desk {
    pool: PgPool,
    jobs: Jobs,
    clock: Arc<Clock>,
    doubtful: Coalescer<Uuid>,
    intake: Entrance,
}

impl Desk {
    /// Accepts so many requests at a time.
    fn start(self, most: usize) -> Coalescer<Request> {
        let desk = Arc::new(self);
        Coalescer::spawn_fair("accept_orders", 1024, paced(most), move |batch| {
            let desk = desk.clone();
            async move {
                let mut waiting = batch;
                while !waiting.is_empty() {
                    let (now, later) = disjoint(waiting);
                    desk.accept(now).await;
                    waiting = later;
                }
            }
        })
    }

    async fn accept(&self, requests: Vec<Request>) {
        // A lost lane (this process was paused for too long) is replaced within moments, if the database is there.
        let patience = Instant::now() + Duration::from_secs(5);
        // One id for as long as the lane is the same: a repetition must recognise what an earlier try has stored.
        let (mut lane, mut batch_id) = (self.jobs.lane(), Uuid::new_v4());
        loop {
            let present = self.jobs.lane();
            if present.id != lane.id {
                // Whatever was stored under the old lane is found by whoever adopts it.
                (lane, batch_id) = (present, Uuid::new_v4());
            }
            let written = match lane.is_lost() {
                true => Err(lane.fenced()),
                false if store::mutant("accept_answered_before_commit") => {
                    return self.answer(requests, batch_id, lane, &[]).await;
                }
                false => write(&self.pool, &lane, batch_id, &requests).await,
            };
            match written {
                Ok(rows) if rows.first().is_some_and(|row| !row.held) => lane.mark_lost(),
                Ok(rows) => {
                    store::fail_point("orders_accepted");
                    rows.iter().for_each(|row| self.clock.set(row.now));
                    return self.answer(requests, batch_id, lane, &rows).await;
                }
                // Somebody else accepted one of them meanwhile: now it will be found.
                Err(Error::Duplicate(_)) => {}
                Err(Error::Fenced { .. }) if Instant::now() < patience => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => {
                    self.doubtful.push(batch_id).await;
                    for request in requests {
                        // The client may be gone.
                        let _ = request.reply.send(Err(AcceptError::Unavailable(error.clone())));
                    }
                    return;
                }
            }
        }
    }

    async fn answer(&self, requests: Vec<Request>, batch_id: Uuid, lane: Arc<Lease>, rows: &[Row]) {
        let found: HashMap<i32, Found> = rows.iter().filter_map(Found::from_row).collect();
        let mut new = Vec::new();
        for Request { orders, admission, reply } in requests {
            let other =
                |(order, product): &&(i32, i32)| found.get(order).is_some_and(|f| f.product_id != *product);
            let others: Vec<i32> = orders.iter().filter(other).map(|(order, _)| *order).collect();
            if !others.is_empty() {
                let _ = reply.send(Err(AcceptError::OtherProduct(others)));
                continue;
            }
            let mut accepted = Accepted::default();
            for (order_id, product_id) in orders {
                match found.get(&order_id) {
                    Some(f) if f.mine => new.push((order_id, product_id, admission.clone())),
                    None => new.push((order_id, product_id, admission.clone())),
                    Some(f) if f.state.is_end() => accepted.ended.push((order_id, f.state, f.data)),
                    Some(_) => accepted.underway.push(order_id),
                }
            }
            let _ = reply.send(Ok(accepted));
        }
        let batch = Batch::new(batch_id, lane, new.len());
        for (order_id, product_id, admission) in new {
            self.intake.enter(Work::fresh(order_id, product_id, batch.clone(), admission));
        }
    }
}

struct Found {
    product_id: i32,
    state: State,
    data: Option<Data>,
    mine: bool,
}

impl Found {
    fn from_row(row: &Row) -> Option<(i32, Self)> {
        let data = Data::stored(row.storage_id?, row.pickup_point_id?);
        let state = State::from_number(row.state?.into())?;
        Some((row.order_id?, Self { product_id: row.product_id?, state, data, mine: row.mine? }))
    }
}

#[derive(FromRow)]
struct Row {
    now: DateTime<Utc>,
    held: bool,
    order_id: Option<i32>,
    product_id: Option<i32>,
    state: Option<i16>,
    storage_id: Option<i32>,
    pickup_point_id: Option<i32>,
    mine: Option<bool>,
}

async fn write(pool: &PgPool, lane: &Arc<Lease>, batch_id: Uuid, requests: &[Request]) -> Result<Vec<Row>> {
    let rows = requests.iter().enumerate();
    let mut rows: Vec<(i32, i32, i32)> = rows
        .flat_map(|(n, request)| {
            request.orders.iter().map(move |(order, product)| (*order, *product, n as i32))
        })
        .collect();
    // In the order of the key: two replicas that accept the same orders wait for each other in one direction only.
    rows.sort_unstable();
    let orders: Arc<[i32]> = rows.iter().map(|row| row.0).collect();
    let products: Arc<[i32]> = rows.iter().map(|row| row.1).collect();
    let numbers: Arc<[i32]> = rows.iter().map(|row| row.2).collect();
    let lane = lane.clone();
    run(pool, "accept_orders", move |connection| {
        let (lane, orders, products, numbers) =
            (lane.clone(), orders.clone(), products.clone(), numbers.clone());
        Box::pin(async move {
            let rows = sqlx::query_as(ACCEPT)
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
const ACCEPT: &str = "SELECT * FROM accept_orders($1, $2, $3, $4, $5, $6) -- accept_orders";
