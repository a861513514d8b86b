//! Named database work with bounded retry that no client can cancel.
//!
//! Dropping a future in the middle of database work can return a connection with an open transaction to the pool
//! (launchbadge/sqlx #4394), and servers drop the futures of clients that go away. So all work runs in tasks of
//! its own: the caller may vanish, the work ends.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::{Error, Result};

/// How long one piece of work is repeated: long enough for a database to restart.
const PATIENCE: Duration = Duration::from_secs(3);
/// The wait before the first repetition; doubles up to the longest, with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// Runs `work` on one pooled connection without opening a transaction: for single statements, which are
/// transactions of their own. Repeated up to six times (about 0.3 s of waits) on transient errors, also when the
/// answer of a commit was lost: `work` must be safe to repeat. `name` labels metrics and logs.
pub async fn run<T, F>(pool: &PgPool, name: &'static str, work: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    uncancelled(pool, name, work, false).await
}

/// Like [`run`], inside one transaction: commits if `work` succeeds, rolls back if not.
pub async fn run_tx<T, F>(pool: &PgPool, name: &'static str, work: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    uncancelled(pool, name, work, true).await
}

async fn uncancelled<T, F>(pool: &PgPool, name: &'static str, work: F, transaction: bool) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    let pool = pool.clone();
    tokio::spawn(async move { retried(&pool, name, work, transaction).await })
        .await
        .map_err(|_| Error::Abandoned)?
}

async fn retried<T, F>(pool: &PgPool, name: &'static str, work: F, transaction: bool) -> Result<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    let started = Instant::now();
    let mut wait = FIRST_WAIT;
    for attempt in 1.. {
        let outcome = once(pool, &work, transaction).await;
        match outcome {
            Err(error) if error.is_transient() && started.elapsed() < PATIENCE => {
                metrics::counter!("store_retries_total", "name" => name).increment(1);
                tracing::debug!(name, attempt, %error, "database work repeated");
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.8..1.2))).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            outcome => {
                metrics::histogram!("store_seconds", "name" => name).record(started.elapsed().as_secs_f64());
                return outcome;
            }
        }
    }
    Err(Error::Abandoned)
}

async fn once<T, F>(pool: &PgPool, work: &F, transaction: bool) -> Result<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    let mut connection = pool.acquire().await?;
    let done = on(&mut connection, work, transaction).await;
    if let Err(Error::Unavailable(_)) = done {
        // Probably dead: the next try must not get it again.
        connection.close_on_drop();
    }
    done
}

async fn on<T, F>(connection: &mut PgConnection, work: &F, transaction: bool) -> Result<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    if !transaction {
        return work(connection).await;
    }
    let mut tx = connection.begin().await?;
    let value = work(&mut tx).await?;
    tx.commit().await?;
    Ok(value)
}
