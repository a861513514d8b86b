//! Assignments in Postgres, with group commit.
//!
//! - Shape: one statement and commit for all questions that arrived during the previous one.
//! - Promise: data is sent only after its commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proto::data_manager::get_orders_data_response::OrderData;
use store::{Coalescer, Error, LONG_OPERATION_TIMEOUT, PgConnection, PgOperation, PgPool, Result};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{OrderAssignment, OrderDataCallback, draw_order_data};
use crate::seed::Seed;

/// Maximum number of waiting questions (of one or many orders), and of waiting delivery marks.
const MAX_WAITING_REQUESTS: usize = 10_000;
/// Maximum questions in one group commit.
const MAX_BATCH_REQUESTS: usize = 1000;
/// Maximum orders in one statement.
const MAX_STATEMENT_ROWS: usize = 10_000;
/// Timeout of a question in case the database does not answer; the order service waits 2 s.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

type AssignmentRow = (i32, i32, i32, bool);

struct AssignmentRequest {
    order_ids: Vec<i32>,
    reply: oneshot::Sender<Result<Vec<OrderAssignment>>>,
}

struct DeliveryMark {
    order_ids: Vec<i32>,
    reply: oneshot::Sender<Result<()>>,
}

pub(crate) struct PgAssignments {
    pool: PgPool,
    requests: Coalescer<AssignmentRequest>,
    delivery_marks: Coalescer<DeliveryMark>,
}

impl PgAssignments {
    /// Needs a database at this version's schema.
    pub(crate) fn new(pool: PgPool, seed: Seed) -> Self {
        let (give_pool, mark_pool) = (pool.clone(), pool.clone());
        let requests = Coalescer::spawn(
            "give_orders",
            MAX_WAITING_REQUESTS,
            MAX_BATCH_REQUESTS,
            move |batch| assign_batch(give_pool.clone(), seed, batch),
        );
        let delivery_marks = Coalescer::spawn(
            "mark_delivered",
            MAX_WAITING_REQUESTS,
            MAX_BATCH_REQUESTS,
            move |batch| mark_batch_delivered(mark_pool.clone(), batch),
        );
        Self { pool, requests, delivery_marks }
    }

    pub(super) async fn assign_order(&self, order_id: i32) -> Result<OrderAssignment> {
        self.assign_orders(vec![order_id]).await?.into_iter().next().ok_or(Error::Abandoned)
    }

    pub(super) async fn assign_orders(&self, order_ids: Vec<i32>) -> Result<Vec<OrderAssignment>> {
        let answer = self.requests.submit(|reply| AssignmentRequest { order_ids, reply });
        timeout(ANSWER_TIMEOUT, answer).await.ok().flatten().unwrap_or(Err(Error::Abandoned))
    }

    pub(super) async fn mark_delivered(&self, order_ids: Vec<i32>) -> Result<()> {
        self.delivery_marks
            .submit(|reply| DeliveryMark { order_ids, reply })
            .await
            .unwrap_or(Err(Error::Abandoned))
    }

    pub(super) async fn list_orders(&self) -> Result<Vec<OrderData>> {
        const ALL_GIVEN_SQL: &str =
            "SELECT order_id, storage_id, pickup_point_id FROM given ORDER BY order_id";
        let all_given = PgOperation::named("all_given").with_timeout(LONG_OPERATION_TIMEOUT);
        let rows: Vec<(i32, i32, i32)> =
            store::statement(all_given, ALL_GIVEN_SQL).fetch_all(&self.pool).await?;
        let orders = rows.into_iter().map(|(order_id, storage_id, pickup_point_id)| OrderData {
            order_id,
            storage_id,
            pickup_point_id,
        });
        Ok(orders.collect())
    }
}

async fn assign_batch(pool: PgPool, seed: Seed, batch: Vec<AssignmentRequest>) {
    // Sorted: two data managers on one database must lock rows in the same order, or they deadlock.
    let mut order_ids: Vec<i32> =
        batch.iter().flat_map(|asked| asked.order_ids.iter().copied()).collect();
    order_ids.sort_unstable();
    order_ids.dedup();
    let given = assign_rows(&pool, seed, &order_ids).await;
    if let Err(error) = &given {
        tracing::warn!(%error, orders = order_ids.len(), "what was asked for could not be stored");
    }
    for AssignmentRequest { order_ids, reply } in batch {
        let answer = match &given {
            Ok(given) => order_ids
                .iter()
                .map(|order_id| given.get(order_id).copied().ok_or(Error::Abandoned))
                .collect(),
            Err(error) => Err(error.clone()),
        };
        // The question may have been cancelled.
        let _ = reply.send(answer);
    }
}

async fn assign_rows(
    pool: &PgPool,
    seed: Seed,
    order_ids: &[i32],
) -> Result<HashMap<i32, OrderAssignment>> {
    let mut given = HashMap::with_capacity(order_ids.len());
    for order_ids in order_ids.chunks(MAX_STATEMENT_ROWS) {
        let (storages, pickup_points) =
            order_ids.iter().map(|order_id| draw_order_data(seed, *order_id)).unzip();
        let proposed = Arc::new(ProposedAssignments {
            order_ids: order_ids.to_vec(),
            storages,
            pickup_points,
        });
        let rows = store::run_statement(pool, "give_orders", move |connection| {
            let proposed = Arc::clone(&proposed);
            Box::pin(async move { proposed.insert_or_read(connection).await })
        })
        .await?;
        for (order_id, storage_id, pickup_point_id, delivered) in rows {
            let callback = OrderDataCallback { order_id, storage_id, pickup_point_id };
            given.insert(order_id, OrderAssignment { callback, is_delivered: delivered });
        }
    }
    Ok(given)
}

/// Drawn data of orders; stored for those that are new.
struct ProposedAssignments {
    order_ids: Vec<i32>,
    storages: Vec<i32>,
    pickup_points: Vec<i32>,
}

impl ProposedAssignments {
    async fn insert_or_read(&self, connection: &mut PgConnection) -> Result<Vec<AssignmentRow>> {
        const GIVE_ORDERS_SQL: &str = "WITH asked AS (
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
        // A row committed by another data manager after this statement's snapshot is neither
        // inserted nor visible; the next statement sees it.
        for _ in 0..5 {
            let rows: Vec<AssignmentRow> = store::statement("give_orders", GIVE_ORDERS_SQL)
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

async fn mark_batch_delivered(pool: PgPool, batch: Vec<DeliveryMark>) {
    const MARK_DELIVERED_SQL: &str =
        "UPDATE given SET delivered = true WHERE order_id = ANY($1) AND NOT delivered";
    let order_ids: Vec<i32> =
        batch.iter().flat_map(|marks| marks.order_ids.iter().copied()).collect();
    let marked =
        store::statement("mark_delivered", MARK_DELIVERED_SQL).bind(order_ids).execute(&pool).await;
    for DeliveryMark { reply, .. } in batch {
        let _ = reply.send(marked.clone().map(drop));
    }
}
