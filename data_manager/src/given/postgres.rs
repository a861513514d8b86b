//! What was given, in Postgres: one statement, round trip and commit for all questions that came in while the
//! previous one ran. Nothing is told before it is committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use proto::data_manager::get_orders_data_response::OrderData;
use store::{Coalescer, Error, PgConnection, PgPool, Result};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Callback, Given, decide};
use crate::seed::Seed;

/// Questions (of one order or of many) and delivery marks waiting for the database, each.
const CAPACITY: usize = 10_000;
/// Questions written together.
const MAX_BATCH: usize = 1000;
/// Orders in one statement.
const MAX_ROWS: usize = 10_000;
/// How long a question waits for a database that does not answer; whoever asks has 2 s.
const PATIENCE: Duration = Duration::from_millis(1500);

type Row = (i32, i32, i32, bool);

struct Asked {
    order_ids: Vec<i32>,
    reply: oneshot::Sender<Result<Vec<Given>>>,
}

struct Delivered {
    order_ids: Vec<i32>,
    reply: oneshot::Sender<Result<()>>,
}

pub(crate) struct Postgres {
    pool: PgPool,
    asked: Coalescer<Asked>,
    delivered: Coalescer<Delivered>,
}

impl Postgres {
    /// Works on a database that has the schema already.
    pub(crate) fn new(pool: PgPool, seed: Seed) -> Self {
        let (give_pool, mark_pool) = (pool.clone(), pool.clone());
        let asked = Coalescer::spawn("give_orders", CAPACITY, MAX_BATCH, move |batch| {
            give_batch(give_pool.clone(), seed, batch)
        });
        let delivered = Coalescer::spawn("mark_delivered", CAPACITY, MAX_BATCH, move |batch| {
            mark_batch(mark_pool.clone(), batch)
        });
        Self { pool, asked, delivered }
    }

    pub(super) async fn give(&self, order_id: i32) -> Result<Given> {
        self.give_all(vec![order_id]).await?.into_iter().next().ok_or(Error::Abandoned)
    }

    pub(super) async fn give_all(&self, order_ids: Vec<i32>) -> Result<Vec<Given>> {
        let given = self.asked.ask(|reply| Asked { order_ids, reply });
        timeout(PATIENCE, given).await.ok().flatten().unwrap_or(Err(Error::Abandoned))
    }

    pub(super) async fn mark_delivered(&self, order_ids: Vec<i32>) -> Result<()> {
        self.delivered.ask(|reply| Delivered { order_ids, reply }).await.unwrap_or(Err(Error::Abandoned))
    }

    pub(super) async fn all(&self) -> Result<Vec<OrderData>> {
        const ALL: &str = "-- all_given
            SELECT order_id, storage_id, pickup_point_id FROM given ORDER BY order_id";
        let rows: Vec<(i32, i32, i32)> =
            store::run(&self.pool, store::Operation::named("all_given").within(store::LONG), |connection| {
                async move { Ok(sqlx::query_as(ALL).fetch_all(connection).await?) }.boxed()
            })
            .await?;
        let order =
            |(order_id, storage_id, pickup_point_id)| OrderData { order_id, storage_id, pickup_point_id };
        Ok(rows.into_iter().map(order).collect())
    }
}

async fn give_batch(pool: PgPool, seed: Seed, batch: Vec<Asked>) {
    // Sorted, so that two data managers on one database cannot deadlock.
    let mut order_ids: Vec<i32> = batch.iter().flat_map(|asked| asked.order_ids.iter().copied()).collect();
    order_ids.sort_unstable();
    order_ids.dedup();
    let given = give_rows(&pool, seed, &order_ids).await;
    if let Err(error) = &given {
        tracing::warn!(%error, orders = order_ids.len(), "what was asked for could not be stored");
    }
    for Asked { order_ids, reply } in batch {
        let answer = given.as_ref().map_err(Clone::clone).and_then(|given| {
            let of = |order_id| given.get(order_id).copied().ok_or(Error::Abandoned);
            order_ids.iter().map(of).collect()
        });
        // Whoever asked may be gone.
        let _ = reply.send(answer);
    }
}

async fn give_rows(pool: &PgPool, seed: Seed, order_ids: &[i32]) -> Result<HashMap<i32, Given>> {
    let mut given = HashMap::with_capacity(order_ids.len());
    for order_ids in order_ids.chunks(MAX_ROWS) {
        let (storages, pickup_points) = order_ids.iter().map(|order_id| decide(seed, *order_id)).unzip();
        let proposed = Arc::new(Proposed { order_ids: order_ids.to_vec(), storages, pickup_points });
        let rows = store::run(pool, "give_orders", move |connection| {
            let proposed = Arc::clone(&proposed);
            async move { proposed.give(connection).await }.boxed()
        })
        .await?;
        for (order_id, storage_id, pickup_point_id, delivered) in rows {
            let callback = Callback { order_id, storage_id, pickup_point_id };
            given.insert(order_id, Given { callback, delivered });
        }
    }
    Ok(given)
}

/// Data for orders, of which those that are new are to be stored.
struct Proposed {
    order_ids: Vec<i32>,
    storages: Vec<i32>,
    pickup_points: Vec<i32>,
}

impl Proposed {
    async fn give(&self, connection: &mut PgConnection) -> Result<Vec<Row>> {
        const GIVE: &str = "-- give_orders
            WITH asked AS (
                SELECT * FROM unnest($1::int[], $2::int[], $3::int[]) AS asked (order_id, storage_id, pickup_point_id)
            ), new AS (
                INSERT INTO given (order_id, storage_id, pickup_point_id) SELECT * FROM asked
                ON CONFLICT (order_id) DO NOTHING
                RETURNING order_id, storage_id, pickup_point_id, delivered
            )
            SELECT * FROM new
            UNION ALL
            SELECT known.order_id, known.storage_id, known.pickup_point_id, known.delivered
            FROM given AS known JOIN asked USING (order_id)";
        // A row that another data manager committed after the statement's snapshot is neither new nor known to it;
        // the next statement sees it.
        for _ in 0..5 {
            let rows: Vec<Row> = sqlx::query_as(GIVE)
                .bind(&self.order_ids)
                .bind(&self.storages)
                .bind(&self.pickup_points)
                .fetch_all(&mut *connection)
                .await?;
            if rows.len() == self.order_ids.len() {
                return Ok(rows);
            }
        }
        Err(Error::Abandoned)
    }
}

async fn mark_batch(pool: PgPool, batch: Vec<Delivered>) {
    const MARK: &str = "-- mark_delivered
        UPDATE given SET delivered = true WHERE order_id = ANY($1) AND NOT delivered";
    let order_ids: Vec<i32> = batch.iter().flat_map(|marks| marks.order_ids.iter().copied()).collect();
    let order_ids = Arc::new(order_ids);
    let marked = store::run(&pool, "mark_delivered", move |connection| {
        let order_ids = Arc::clone(&order_ids);
        async move { Ok(sqlx::query(MARK).bind(&*order_ids).execute(connection).await.map(|_| ())?) }.boxed()
    })
    .await;
    for Delivered { reply, .. } in batch {
        let _ = reply.send(marked.clone());
    }
}
