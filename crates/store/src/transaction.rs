//! Named database work with bounded retry that no client can cancel.
//!
//! Dropping a future in the middle of database work can return a connection with an open transaction to the pool
//! (launchbadge/sqlx #4394), and servers drop the futures of clients that go away. So all work runs in tasks of
//! its own: the caller may vanish, the work ends.
//!
//! Work is repeated also when the answer of a commit was lost: then it meets what it may itself have written. Work that
//! recognises that answers the same again. Work that may *refuse* because of it (a version that has moved on, a lock that
//! is gone, a row that is deleted already) must not say no for something it has done: it runs by [`run_refusable`] or
//! [`run_tx_refusable`], which then answer [`Error::OutcomeUnknown`].
//!
//! Nothing is waited for without an end: work that gets no answer in its time fails, and its connection is closed without
//! a word to a peer that is not there.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::timeout;

use crate::held;
use crate::link::Link;
use crate::operation::STATEMENT_TIMEOUT;
use crate::pool::{discard, give_back, places_of, statement_timeout_of};
use crate::session::IDLE_IN_TRANSACTION;
use crate::{Error, Operation, Result, mutant};

/// How long one piece of work is repeated: long enough for a database to restart.
const PATIENCE: Duration = Duration::from_secs(3);
/// The wait before the first repetition; doubles up to the longest, with jitter.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// Runs `work` on one pooled connection without opening a transaction: for single statements, which are
/// transactions of their own. Repeated for up to 3 s on transient errors (not after an answer that did not come for as
/// long), also when the answer of a commit was lost: `work` must be safe to repeat, and answer the same again. The
/// operation's name labels metrics and logs; without an answer within its time the outcome is [`Error::Unavailable`].
pub async fn run<T, F>(pool: &PgPool, operation: impl Into<Operation>, work: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    uncancelled(pool, operation.into(), work, Terms { transaction: false, is_refusal: |_| false }).await
}

/// Like [`run`], inside one transaction: commits if `work` succeeds, rolls back if not.
pub async fn run_tx<T, F>(pool: &PgPool, operation: impl Into<Operation>, work: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    uncancelled(pool, operation.into(), work, Terms { transaction: true, is_refusal: |_| false }).await
}

/// Like [`run`], for work whose answer may be a refusal: if an earlier try may have been committed, an answer for which
/// `is_refusal` is true becomes [`Error::OutcomeUnknown`].
pub async fn run_refusable<T, F>(
    pool: &PgPool,
    operation: impl Into<Operation>,
    is_refusal: fn(&T) -> bool,
    work: F,
) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    uncancelled(pool, operation.into(), work, Terms { transaction: false, is_refusal }).await
}

/// Like [`run_refusable`], inside one transaction: commits if `work` succeeds, rolls back if not.
pub async fn run_tx_refusable<T, F>(
    pool: &PgPool,
    operation: impl Into<Operation>,
    is_refusal: fn(&T) -> bool,
    work: F,
) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    uncancelled(pool, operation.into(), work, Terms { transaction: true, is_refusal }).await
}

/// How a piece of work is run.
struct Terms<T> {
    transaction: bool,
    /// Whether an answer denies what an earlier try may have done.
    is_refusal: fn(&T) -> bool,
}

/// What one try came to.
struct Try<T> {
    outcome: Result<T>,
    /// Whether it failed in such a way that it may have been committed.
    may_be_committed: bool,
}

async fn uncancelled<T, F>(pool: &PgPool, operation: Operation, work: F, terms: Terms<T>) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    held::check(pool, operation.name());
    let pool = pool.clone();
    tokio::spawn(crate::panics::told(async move { retried(&pool, operation, work, terms).await }))
        .await
        .map_err(|_| Error::Abandoned)?
}

async fn retried<T, F>(pool: &PgPool, operation: Operation, work: F, terms: Terms<T>) -> Result<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    let (started, name) = (Instant::now(), operation.name());
    let mut wait = FIRST_WAIT;
    let mut may_be_committed = false;
    for attempt in 1.. {
        let tried = once(pool, operation, &work, terms.transaction).await;
        match tried.outcome {
            Err(error) if error.is_transient() && started.elapsed() < PATIENCE => {
                may_be_committed |= tried.may_be_committed;
                metrics::counter!("store_retries_total", "name" => name).increment(1);
                tracing::debug!(name, attempt, %error, "database work repeated");
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.8..1.2))).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            outcome => {
                metrics::histogram!("store_seconds", "name" => name).record(started.elapsed().as_secs_f64());
                let may_deny = outcome.as_ref().is_ok_and(terms.is_refusal);
                if may_be_committed && may_deny && !mutant("unknown_commit_denied") {
                    metrics::counter!("store_outcomes_unknown_total", "name" => name).increment(1);
                    return Err(Error::OutcomeUnknown);
                }
                return outcome;
            }
        }
    }
    Err(Error::Abandoned)
}

async fn once<T, F>(pool: &PgPool, operation: Operation, work: &F, transaction: bool) -> Try<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    let _place = match operation.is_expensive().then(|| places_of(pool)) {
        Some(places) => match places.take().await {
            Ok(place) => Some(place),
            Err(error) => return Try { outcome: Err(error), may_be_committed: false },
        },
        None => None,
    };
    let mut connection = match pool.acquire().await {
        Ok(connection) => connection,
        Err(error) => return Try { outcome: Err(error.into()), may_be_committed: false },
    };
    let deadline = operation.deadline(transaction);
    let worked = held::while_held(pool, patiently(&mut connection, operation, work, transaction));
    let Ok(tried) = timeout(deadline, worked).await else {
        discard(connection);
        // Before the server's own limit it may be a lock, or a slow disk: the network is not to blame.
        if deadline > statement_timeout_of(pool) {
            Link::to(&pool.connect_options()).suspect();
        }
        return Try { outcome: Err(no_answer(operation, deadline)), may_be_committed: true };
    };
    if let Err(error) = &tried.outcome {
        crate::disk_full::note(error);
    }
    if let Err(Error::Unavailable(_)) = tried.outcome {
        // Probably dead: the next try must not get it again.
        connection.close_on_drop();
    } else {
        give_back(connection, pool.connect_options());
    }
    tried
}

fn no_answer(operation: Operation, deadline: Duration) -> Error {
    let (name, seconds) = (operation.name(), deadline.as_secs());
    metrics::counter!("store_no_answer_total", "name" => name).increment(1);
    tracing::warn!(
        name,
        seconds,
        code = "UNAVAILABLE",
        "the database gave no answer; the connection is given up"
    );
    let silence = std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {seconds} s"));
    Error::from(sqlx::Error::Io(silence))
}

/// Lets the server be as patient as the operation is, for as long as it lasts.
async fn patiently<T, F>(
    connection: &mut PgConnection,
    operation: Operation,
    work: &F,
    transaction: bool,
) -> Try<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    let Some(limit) = operation.longer_statements() else { return on(connection, work, transaction).await };
    if let Err(error) = set_timeouts(connection, limit, limit).await {
        return Try { outcome: Err(error), may_be_committed: false };
    }
    let done = on(connection, work, transaction).await;
    // What was done is done; a connection that cannot be told is broken, which is seen when it is given back.
    let _ = set_timeouts(connection, STATEMENT_TIMEOUT, IDLE_IN_TRANSACTION).await;
    done
}

/// For each statement, and for what the process does between those of a transaction.
async fn set_timeouts(connection: &mut PgConnection, statement: Duration, idle: Duration) -> Result<()> {
    sqlx::query(
        "SELECT set_config('statement_timeout', $1, false),
                set_config('idle_in_transaction_session_timeout', $2, false) -- be_patient",
    )
    .bind(statement.as_millis().to_string())
    .bind(idle.as_millis().to_string())
    .execute(connection)
    .await?;
    Ok(())
}

async fn on<T, F>(connection: &mut PgConnection, work: &F, transaction: bool) -> Try<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    if !transaction {
        let outcome = work(connection).await;
        let may_be_committed = outcome.as_ref().is_err_and(Error::leaves_outcome_unknown);
        return Try { outcome, may_be_committed };
    }
    let worked = async {
        let mut tx = connection.begin().await?;
        let value = work(&mut tx).await?;
        Ok((tx, value))
    };
    match worked.await {
        // A transaction whose commit was not asked for is rolled back.
        Err(error) => Try { outcome: Err(error), may_be_committed: false },
        Ok((tx, value)) => {
            let outcome = tx.commit().await.map_err(Error::from);
            let may_be_committed = outcome.as_ref().is_err_and(Error::leaves_outcome_unknown);
            Try { outcome: outcome.map(|()| value), may_be_committed }
        }
    }
}
