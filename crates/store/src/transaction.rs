//! Named database work with bounded retry that no client can cancel.
//!
//! Dropping a future in the middle of database work can return a connection with an open transaction to the pool
//! (launchbadge/sqlx #4394), and servers drop the futures of clients that go away. So all work runs in tasks of
//! its own: the caller may vanish, the work ends.
//!
//! Work is repeated also when the answer of a commit was lost: then it meets what it may itself have written. Work that
//! recognises that answers the same again. Work that may *refuse* because of it (a version that has moved on, a lock that
//! is gone, a row that is deleted already) must not say no for something it has done: it runs by [`run_refusable_statement`] or
//! [`run_refusable_tx`], which then answer [`Error::OutcomeUnknown`].
//!
//! Nothing is waited for without an end: work that gets no answer in its time fails, and its connection is closed without
//! a word to a peer that is not there.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::timeout;

use crate::link::DatabaseLink;
use crate::operation::STATEMENT_TIMEOUT;
use crate::pool::{
    discard_connection, expensive_permits_of, pool_statement_timeout, return_connection,
};
use crate::second_connection;
use crate::session::IDLE_IN_TRANSACTION_TIMEOUT;
use crate::{Error, PgOperation, Result, mutant};

/// How long one piece of work is repeated: long enough for a database to restart.
const RETRY_TIMEOUT: Duration = Duration::from_secs(3);
/// The wait before the first repetition; doubles up to the longest, with jitter.
const FIRST_RETRY_WAIT: Duration = Duration::from_millis(5);
const MAX_RETRY_WAIT: Duration = Duration::from_millis(200);

/// Runs `work` on one pooled connection without opening a transaction: for single statements, which are
/// transactions of their own. Repeated for up to 3 s on transient errors (not after an answer that did not come for as
/// long), also when the answer of a commit was lost: `work` must be safe to repeat, and answer the same again. The
/// operation's name labels metrics and logs; without an answer within its time the outcome is [`Error::Unavailable`].
pub async fn run_statement<T, F>(
    pool: &PgPool,
    operation: impl Into<PgOperation>,
    work: F,
) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    spawn_operation(
        pool,
        operation.into(),
        work,
        OperationOptions { in_transaction: false, is_refusal: |_| false },
    )
    .await
}

/// Like [`run_statement`], inside one transaction: commits if `work` succeeds, rolls back if not.
pub async fn run_tx<T, F>(pool: &PgPool, operation: impl Into<PgOperation>, work: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    spawn_operation(
        pool,
        operation.into(),
        work,
        OperationOptions { in_transaction: true, is_refusal: |_| false },
    )
    .await
}

/// Like [`run_statement`], for work whose answer may be a refusal: if an earlier try may have been committed, an answer for which
/// `is_refusal` is true becomes [`Error::OutcomeUnknown`].
pub async fn run_refusable_statement<T, F>(
    pool: &PgPool,
    operation: impl Into<PgOperation>,
    is_refusal: fn(&T) -> bool,
    work: F,
) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    spawn_operation(
        pool,
        operation.into(),
        work,
        OperationOptions { in_transaction: false, is_refusal },
    )
    .await
}

/// Like [`run_refusable_statement`], inside one transaction: commits if `work` succeeds, rolls back if not.
pub async fn run_refusable_tx<T, F>(
    pool: &PgPool,
    operation: impl Into<PgOperation>,
    is_refusal: fn(&T) -> bool,
    work: F,
) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    spawn_operation(
        pool,
        operation.into(),
        work,
        OperationOptions { in_transaction: true, is_refusal },
    )
    .await
}

/// How a piece of work is run.
struct OperationOptions<T> {
    in_transaction: bool,
    /// Whether an answer denies what an earlier try may have done.
    is_refusal: fn(&T) -> bool,
}

/// What one try came to.
struct OperationAttempt<T> {
    outcome: Result<T>,
    /// Whether it failed in such a way that it may have been committed.
    may_be_committed: bool,
}

async fn spawn_operation<T, F>(
    pool: &PgPool,
    operation: PgOperation,
    work: F,
    options: OperationOptions<T>,
) -> Result<T>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    second_connection::check_not_held(pool, operation.name());
    let pool = pool.clone();
    tokio::spawn(crate::panics::contain_panic(async move {
        retry_operation(&pool, operation, work, options).await
    }))
    .await
    .map_err(|_| Error::Abandoned)?
}

async fn retry_operation<T, F>(
    pool: &PgPool,
    operation: PgOperation,
    work: F,
    options: OperationOptions<T>,
) -> Result<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    let (started, name) = (Instant::now(), operation.name());
    let mut wait = FIRST_RETRY_WAIT;
    let mut may_be_committed = false;
    for attempt in 1.. {
        let result = attempt_operation(pool, operation, &work, options.in_transaction).await;
        match result.outcome {
            Err(error) if error.is_transient() && started.elapsed() < RETRY_TIMEOUT => {
                may_be_committed |= result.may_be_committed;
                metrics::counter!("store_retries_total", "name" => name).increment(1);
                tracing::debug!(name, attempt, %error, "database work repeated");
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.8..1.2))).await;
                wait = (wait * 2).min(MAX_RETRY_WAIT);
            }
            outcome => {
                metrics::histogram!("store_seconds", "name" => name)
                    .record(started.elapsed().as_secs_f64());
                let may_deny = outcome.as_ref().is_ok_and(options.is_refusal);
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

async fn attempt_operation<T, F>(
    pool: &PgPool,
    operation: PgOperation,
    work: &F,
    transaction: bool,
) -> OperationAttempt<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    let _permit = match operation.is_expensive().then(|| expensive_permits_of(pool)) {
        Some(places) => match places.acquire().await {
            Ok(place) => Some(place),
            Err(error) => return OperationAttempt { outcome: Err(error), may_be_committed: false },
        },
        None => None,
    };
    let mut connection = match pool.acquire().await {
        Ok(connection) => connection,
        Err(error) => {
            return OperationAttempt { outcome: Err(error.into()), may_be_committed: false };
        }
    };
    let deadline = operation.answer_timeout(transaction);
    let worked = second_connection::while_held(
        pool,
        attempt_within_timeout(&mut connection, operation, work, transaction),
    );
    let Ok(result) = timeout(deadline, worked).await else {
        discard_connection(connection);
        // Before the server's own limit it may be a lock, or a slow disk: the network is not to blame.
        if deadline > pool_statement_timeout(pool) {
            DatabaseLink::for_options(&pool.connect_options()).mark_suspected();
        }
        return OperationAttempt {
            outcome: Err(no_answer_error(operation, deadline)),
            may_be_committed: true,
        };
    };
    if let Err(error) = &result.outcome {
        crate::disk_full::note_disk_error(error);
    }
    if let Err(Error::Unavailable(_)) = result.outcome {
        // Probably dead: the next try must not get it again.
        connection.close_on_drop();
    } else {
        return_connection(connection, pool.connect_options());
    }
    result
}

fn no_answer_error(operation: PgOperation, deadline: Duration) -> Error {
    let (name, seconds) = (operation.name(), deadline.as_secs());
    metrics::counter!("store_no_answer_total", "name" => name).increment(1);
    tracing::warn!(
        name,
        seconds,
        code = "UNAVAILABLE",
        "the database gave no answer; the connection is given up"
    );
    let silence =
        std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {seconds} s"));
    Error::from(sqlx::Error::Io(silence))
}

/// Lets the server be as patient as the operation is, for as long as it lasts.
async fn attempt_within_timeout<T, F>(
    connection: &mut PgConnection,
    operation: PgOperation,
    work: &F,
    transaction: bool,
) -> OperationAttempt<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    let Some(limit) = operation.server_timeout() else {
        return attempt_work(connection, work, transaction).await;
    };
    if let Err(error) = set_session_timeouts(connection, limit, limit).await {
        return OperationAttempt { outcome: Err(error), may_be_committed: false };
    }
    let done = attempt_work(connection, work, transaction).await;
    // What was done is done; a connection that cannot be told is broken, which is seen when it is given back.
    let _ = set_session_timeouts(connection, STATEMENT_TIMEOUT, IDLE_IN_TRANSACTION_TIMEOUT).await;
    done
}

/// For each statement, and for what the process does between those of a transaction.
async fn set_session_timeouts(
    connection: &mut PgConnection,
    statement: Duration,
    idle: Duration,
) -> Result<()> {
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

async fn attempt_work<T, F>(
    connection: &mut PgConnection,
    work: &F,
    transaction: bool,
) -> OperationAttempt<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>,
{
    if !transaction {
        let outcome = work(connection).await;
        let may_be_committed = outcome.as_ref().is_err_and(Error::leaves_outcome_unknown);
        return OperationAttempt { outcome, may_be_committed };
    }
    let worked = async {
        let mut tx = connection.begin().await?;
        let value = work(&mut tx).await?;
        Ok((tx, value))
    };
    match worked.await {
        // A transaction whose commit was not asked for is rolled back.
        Err(error) => OperationAttempt { outcome: Err(error), may_be_committed: false },
        Ok((tx, value)) => {
            let outcome = tx.commit().await.map_err(Error::from);
            let may_be_committed = outcome.as_ref().is_err_and(Error::leaves_outcome_unknown);
            OperationAttempt { outcome: outcome.map(|()| value), may_be_committed }
        }
    }
}
