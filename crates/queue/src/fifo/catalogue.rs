//! Queue catalogue: reads and writes queue settings, for callers that manage queues
//! and send no messages.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::PgPool;

use super::postgres::duration_ms;
use super::{DeadLetterPolicy, FifoQueueOptions, Result};

/// Access to the queue settings of one engine.
pub trait FifoCatalogue: Send + Sync {
    /// Reads the settings of the existing queues among `names`. Read-only.
    fn find_queues<'a>(
        &'a self,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<BTreeMap<String, FifoQueueOptions>>>;

    /// Creates the queue or updates its settings. Messages are kept.
    fn ensure_queue<'a>(
        &'a self,
        name: &'a str,
        options: FifoQueueOptions,
    ) -> BoxFuture<'a, Result<()>>;
}

/// Queue catalogue of a control database.
pub struct PgFifoCatalogue(pub PgPool);

impl FifoCatalogue for PgFifoCatalogue {
    fn find_queues<'a>(
        &'a self,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<BTreeMap<String, FifoQueueOptions>>> {
        Box::pin(find_queues(&self.0, names))
    }

    fn ensure_queue<'a>(
        &'a self,
        name: &'a str,
        options: FifoQueueOptions,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(ensure_queue(&self.0, name, options))
    }
}

async fn find_queues(
    pool: &PgPool,
    names: &[String],
) -> Result<BTreeMap<String, FifoQueueOptions>> {
    type FifoQueueRow = (String, i64, Option<String>, Option<i32>);
    let rows: Vec<FifoQueueRow> = store::statement(
        "fifo_look",
        "SELECT q.name, q.visibility_ms, d.name, q.max_receives
         FROM fifo_queues q LEFT JOIN fifo_queues d ON d.queue_id = q.dead_letters
         WHERE q.name = ANY ($1)",
    )
    .bind(names)
    .fetch_all(pool)
    .await?;
    let mut found = BTreeMap::new();
    for (name, visibility_ms, dead_letter_queue, max_receives) in rows {
        let visibility_timeout = Duration::from_millis(visibility_ms.unsigned_abs());
        let dead_letters = dead_letter_queue
            .zip(max_receives)
            .map(|(queue, most)| DeadLetterPolicy { queue, max_receives: most.unsigned_abs() });
        found.insert(name, FifoQueueOptions { visibility_timeout, dead_letters });
    }
    Ok(found)
}

pub(super) async fn ensure_queue(
    pool: &PgPool,
    name: &str,
    options: FifoQueueOptions,
) -> Result<()> {
    let (dead_letters, max_receives) = options
        .dead_letters
        .map(|dead| (dead.queue, i32::try_from(dead.max_receives).unwrap_or(i32::MAX)))
        .unzip();
    store::statement(
        "fifo_ensure",
        "INSERT INTO fifo_queues AS q (name, visibility_ms, dead_letters, max_receives)
         VALUES ($1, $2, CASE WHEN $3 IS NOT NULL THEN (fifo_queue($3)).queue_id END, $4)
         ON CONFLICT (name) DO UPDATE
             SET visibility_ms = excluded.visibility_ms, dead_letters = excluded.dead_letters,
                 max_receives = excluded.max_receives
             WHERE (q.visibility_ms, q.dead_letters, q.max_receives) IS DISTINCT FROM
                   (excluded.visibility_ms, excluded.dead_letters, excluded.max_receives)",
    )
    .bind(name)
    .bind(duration_ms(options.visibility_timeout))
    .bind(dead_letters)
    .bind(max_receives)
    .execute(pool)
    .await?;
    Ok(())
}
