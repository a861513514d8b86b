//! Named database operations with bounded retry, independent of client cancellation.
//!
//! - Cancellation: dropping a future during database work can return a connection with an open
//!   transaction to the pool (launchbadge/sqlx #4394), and servers drop the futures of disconnected
//!   clients. All work therefore runs in separate tasks: a cancelled caller does
//!   not cancel the transaction.
//!
//! - Commit outcome unknown: work is retried when the answer of a commit was lost, and may then
//!   meet its earlier effect. Idempotent work returns the same answer again. Work that may *refuse*
//!   because of that effect (a moved version, a released lock, a deleted row) must not report a
//!   refusal for its success: it runs by [`run_refusable_statement`] or
//!   [`PgTransaction::run_refusable`], which then return [`Error::OutcomeUnknown`].
//!
//! - Every wait has a timeout: work without an answer in time fails, and its connection is dropped
//!   without a graceful close.

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

/// Total time of retries of one operation: long enough for a database restart.
const RETRY_TIMEOUT: Duration = Duration::from_secs(3);
/// Wait before the first retry; doubles up to the maximum, with jitter.
const FIRST_RETRY_WAIT: Duration = Duration::from_millis(5);
const MAX_RETRY_WAIT: Duration = Duration::from_millis(200);

/// Runs `work` on a pooled connection without an explicit transaction: for single statements.
/// Transient errors are retried for up to 3 s (not after a timeout that took as long), also when
/// the commit outcome is unknown: `work` must be idempotent and return the same answer again. The
/// operation's name labels metrics and logs. Without an answer within its timeout
/// the result is [`Error::Unavailable`].
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
        (),
        move |connection, ()| work(connection),
        OperationOptions { in_transaction: false, is_refusal: |_| false },
    )
    .await
}

/// Like [`run_statement`], for work whose answer may be a refusal: if an earlier attempt may have
/// been committed, an answer for which `is_refusal` holds becomes [`Error::OutcomeUnknown`].
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
        (),
        move |connection, ()| work(connection),
        OperationOptions { in_transaction: false, is_refusal },
    )
    .await
}

/// A transaction with the arguments that it reads; see [`transaction`].
#[must_use = "a transaction does nothing until it is run"]
pub struct PgTransaction<A> {
    operation: PgOperation,
    arguments: A,
}

/// A named transaction that reads `arguments`: an attempt borrows them, so nothing is cloned when it
/// is repeated.
pub fn transaction<A>(operation: impl Into<PgOperation>, arguments: A) -> PgTransaction<A> {
    PgTransaction { operation: operation.into(), arguments }
}

impl<A: Send + Sync + 'static> PgTransaction<A> {
    /// Runs `work` in one transaction: commits if it succeeds, else rolls back. Transient errors are
    /// retried as by [`run_statement`], also when the commit outcome is unknown: `work` must be
    /// idempotent and return the same answer again.
    pub async fn run<T, F>(self, pool: &PgPool, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T>>
            + Send
            + Sync
            + 'static,
    {
        self.run_refusable(pool, |_| false, work).await
    }

    /// Like [`PgTransaction::run`], for work whose answer may be a refusal: if an earlier attempt may
    /// have been committed, an answer for which `is_refusal` holds becomes
    /// [`Error::OutcomeUnknown`].
    pub async fn run_refusable<T, F>(
        self,
        pool: &PgPool,
        is_refusal: fn(&T) -> bool,
        work: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T>>
            + Send
            + Sync
            + 'static,
    {
        let options = OperationOptions { in_transaction: true, is_refusal };
        spawn_operation(pool, self.operation, self.arguments, work, options).await
    }
}

/// Mode of an operation.
struct OperationOptions<T> {
    in_transaction: bool,
    /// Whether an answer denies the effect of an earlier attempt.
    is_refusal: fn(&T) -> bool,
}

/// Result of one attempt.
struct OperationAttempt<T> {
    outcome: Result<T>,
    /// Whether the commit outcome is unknown.
    may_be_committed: bool,
}

async fn spawn_operation<T, A, F>(
    pool: &PgPool,
    operation: PgOperation,
    arguments: A,
    work: F,
    options: OperationOptions<T>,
) -> Result<T>
where
    T: Send + 'static,
    A: Send + Sync + 'static,
    F: for<'c> Fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
{
    second_connection::check_not_held(pool, operation.name());
    let pool = pool.clone();
    tokio::spawn(crate::panics::contain_panic(async move {
        retry_operation(&pool, operation, &arguments, work, options).await
    }))
    .await
    .map_err(|_| Error::Abandoned)?
}

async fn retry_operation<T, A, F>(
    pool: &PgPool,
    operation: PgOperation,
    arguments: &A,
    work: F,
    options: OperationOptions<T>,
) -> Result<T>
where
    F: for<'c> Fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T>>,
{
    let (started, name) = (Instant::now(), operation.name());
    let mut wait = FIRST_RETRY_WAIT;
    let mut may_be_committed = false;
    for attempt in 1.. {
        let result =
            attempt_operation(pool, operation, arguments, &work, options.in_transaction).await;
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

async fn attempt_operation<T, A, F>(
    pool: &PgPool,
    operation: PgOperation,
    arguments: &A,
    work: &F,
    transaction: bool,
) -> OperationAttempt<T>
where
    F: for<'c> Fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T>>,
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
        attempt_within_timeout(&mut connection, operation, arguments, work, transaction),
    );
    let Ok(result) = timeout(deadline, worked).await else {
        discard_connection(connection);
        // Below the server's statement timeout a lock or a slow disk may be the
        // cause, not the network.
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
        // Probably dead: the next attempt needs another connection.
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

/// Raises the server's timeouts to the operation's for its duration.
async fn attempt_within_timeout<T, A, F>(
    connection: &mut PgConnection,
    operation: PgOperation,
    arguments: &A,
    work: &F,
    transaction: bool,
) -> OperationAttempt<T>
where
    F: for<'c> Fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T>>,
{
    let Some(limit) = operation.server_timeout() else {
        return attempt_work(connection, arguments, work, transaction).await;
    };
    if let Err(error) = set_session_timeouts(connection, limit, limit).await {
        return OperationAttempt { outcome: Err(error), may_be_committed: false };
    }
    let done = attempt_work(connection, arguments, work, transaction).await;
    // The work's outcome stands; a broken connection is detected when it is returned.
    let _ = set_session_timeouts(connection, STATEMENT_TIMEOUT, IDLE_IN_TRANSACTION_TIMEOUT).await;
    done
}

/// Sets the timeout of each statement and of idle time within a transaction.
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

async fn attempt_work<T, A, F>(
    connection: &mut PgConnection,
    arguments: &A,
    work: &F,
    transaction: bool,
) -> OperationAttempt<T>
where
    F: for<'c> Fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T>>,
{
    if !transaction {
        let outcome = work(connection, arguments).await;
        let may_be_committed = outcome.as_ref().is_err_and(Error::leaves_outcome_unknown);
        return OperationAttempt { outcome, may_be_committed };
    }
    let worked = async {
        let mut tx = connection.begin().await?;
        let value = work(&mut tx, arguments).await?;
        Ok((tx, value))
    };
    match worked.await {
        // Without a COMMIT the transaction is rolled back.
        Err(error) => OperationAttempt { outcome: Err(error), may_be_committed: false },
        Ok((tx, value)) => {
            let outcome = tx.commit().await.map_err(Error::from);
            let may_be_committed = outcome.as_ref().is_err_and(Error::leaves_outcome_unknown);
            OperationAttempt { outcome: outcome.map(|()| value), may_be_committed }
        }
    }
}
