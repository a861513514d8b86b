//! Reads of orders: by id, and a page by keyset pagination.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{PgOperation, Result};

use super::{OrderData, OrderState, PostingContext, StoredOrderData};
use crate::orders::{OrderId, PickupPointId, ProductId, StorageId};

/// An order as stored, with its retry time.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Order id; any int32.
    pub order_id: OrderId,
    /// Product id, as accepted.
    pub product_id: ProductId,
    /// State as of the last commit.
    pub state: OrderState,
    /// Storage and pickup point, once stored.
    pub data: Option<OrderData>,
    /// Time and rules version of its postings, once the data is stored.
    pub posting_context: Option<PostingContext>,
    /// Number of counted attempts.
    pub attempts: u32,
    /// Error message of the last failed attempt.
    pub last_error: Option<String>,
    /// States reached, oldest first.
    pub history: Vec<OrderStateChange>,
    /// Time of the next attempt, if it is in the retry queue.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// An entry of an order's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderStateChange {
    /// The state that was reached.
    pub state: OrderState,
    /// Time of the change, by the database's clock.
    pub at: DateTime<Utc>,
}

/// Filter and page of a listing.
#[derive(Debug, Clone, Copy)]
pub struct OrderListQuery {
    /// Only orders in this state.
    pub state: Option<OrderState>,
    /// Only orders with a greater id (keyset cursor).
    pub after: Option<OrderId>,
    /// Maximum number of rows.
    pub limit: i64,
}

#[derive(store::FromRow)]
struct OrderRow {
    order_id: OrderId,
    product_id: ProductId,
    state: i16,
    storage_id: StorageId,
    pickup_point_id: PickupPointId,
    attempts: i32,
    accepted_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    external_at: Option<DateTime<Utc>>,
    data_at: Option<DateTime<Utc>>,
    posting_rules: Option<i32>,
    finished_at: Option<DateTime<Utc>>,
    failed_at: Option<Vec<DateTime<Utc>>>,
    last_error: Option<String>,
    run_at: Option<DateTime<Utc>>,
}

impl OrderRow {
    fn into_order(self) -> Option<Order> {
        let reached = [
            (OrderState::Initialized, Some(self.accepted_at)),
            (OrderState::ProcessStarted, self.started_at),
            (OrderState::FinishedExternalInteraction, self.external_at),
            (OrderState::ProcessFinished, self.finished_at),
        ];
        let reached =
            reached.into_iter().filter_map(|(state, at)| Some(OrderStateChange { state, at: at? }));
        let failures = self
            .failed_at
            .into_iter()
            .flatten()
            .map(|at| OrderStateChange { state: OrderState::Failed, at });
        let mut history: Vec<OrderStateChange> = reached.collect();
        // By state, not by time: a clock that was set back must not reorder the history.
        for later in 1..history.len() {
            history[later].at = history[later].at.max(history[later - 1].at);
        }
        for failure in failures {
            let index = history.partition_point(|change| change.at <= failure.at);
            history.insert(index, failure);
        }
        let state = OrderState::from_number(self.state.into())?;
        let stored = StoredOrderData::from_columns(
            self.storage_id,
            self.pickup_point_id,
            self.data_at,
            self.posting_rules,
        );
        Some(Order {
            order_id: self.order_id,
            product_id: self.product_id,
            state,
            // A callback after the failure is kept for a retry, and does not change the answer.
            data: stored
                .map(|stored| stored.data)
                .filter(|_| state != OrderState::Failed || self.external_at.is_some()),
            posting_context: stored.map(|stored| stored.posting_context),
            attempts: self.attempts.cast_unsigned(),
            last_error: self.last_error,
            history,
            next_attempt_at: self.run_at.filter(|_| !state.is_final()),
        })
    }
}

const ORDER_COLUMNS_SQL: &str = "o.*, (SELECT j.run_at FROM jobs j WHERE j.queue = 'orders' AND j.job_key = o.order_id::text) AS run_at";

/// The order, if it exists.
pub async fn get_order(pool: &PgPool, order_id: OrderId) -> Result<Option<Order>> {
    Ok(load_orders(pool, vec![order_id]).await?.pop())
}

/// The existing orders of `ids`.
pub async fn load_orders(pool: &PgPool, ids: Vec<OrderId>) -> Result<Vec<Order>> {
    let sql = format!("SELECT {ORDER_COLUMNS_SQL} FROM orders o WHERE o.order_id = ANY ($1)");
    let rows: Vec<OrderRow> =
        store::statement("load_orders", sql).bind(ids).fetch_all(pool).await?;
    Ok(rows.into_iter().filter_map(OrderRow::into_order).collect())
}

/// A page of orders by ascending id. Bounded reads: for states with few orders, the candidates come
/// from jobs, dead letters and accepted batches.
pub async fn list_orders(pool: &PgPool, list_query: OrderListQuery) -> Result<Vec<Order>> {
    let source = match list_query.state {
        None | Some(OrderState::ProcessFinished) => "orders",
        Some(OrderState::Failed) => {
            "(SELECT f.* FROM dead_jobs d JOIN orders f ON f.order_id = d.job_key::int
              WHERE d.queue = 'orders' AND d.job_key::int > coalesce($2::bigint, -2147483649) ORDER BY d.job_key::int)"
        }
        Some(_) => {
            "(SELECT w.* FROM orders w JOIN (
                (SELECT j.job_key::int AS order_id FROM jobs j JOIN orders i ON i.order_id = j.job_key::int
                 WHERE j.queue = 'orders' AND j.job_key::int > coalesce($2::bigint, -2147483649) AND i.state = $1
                 ORDER BY j.job_key::int LIMIT $3)
                UNION
                (SELECT i.order_id FROM accepted_batches b CROSS JOIN unnest(b.order_ids) AS id (order_id)
                 JOIN orders i ON i.order_id = id.order_id
                 WHERE i.order_id > coalesce($2::bigint, -2147483649) AND i.state = $1 ORDER BY i.order_id LIMIT $3)
              ) AS ids USING (order_id))"
        }
    };
    let sql = format!(
        "SELECT {ORDER_COLUMNS_SQL} FROM {source} o
        WHERE ($1::smallint IS NULL OR o.state = $1) AND o.order_id > coalesce($2::bigint, -2147483649)
        ORDER BY o.order_id LIMIT $3"
    );
    let rows: Vec<OrderRow> = store::statement(PgOperation::named("list_orders").expensive(), sql)
        .bind(list_query.state.map(|state| state as i16))
        .bind(list_query.after.map(|after| i64::from(after.get())))
        .bind(list_query.limit)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().filter_map(OrderRow::into_order).collect())
}
