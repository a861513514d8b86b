//! One SQL statement with its name and arguments.
//!
//! - Shape: the name labels metrics and logs, and stands in front of the SQL as a comment, where
//!   `pg_stat_activity` shows it. A name belongs to one statement of the platform.
//! - Cost: one round trip; on a pool in a task of its own, so that a cancelled caller does not cancel
//!   it, and repeated on transient errors as by [`run_statement`](crate::run_statement).

use std::borrow::Cow;

use futures::future::BoxFuture;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{
    Arguments as _, AssertSqlSafe, Encode, FromRow, PgConnection, PgPool, Postgres, SqlStr, Type,
};

use crate::{PgOperation, Result, run_statement};

/// A statement that is ready to run once its arguments are bound.
///
/// ```no_run
/// # async fn example(pool: &store::PgPool) -> store::Result<()> {
/// let names: Vec<String> = store::statement("list_schedules", "SELECT name FROM task_schedules WHERE owner = $1")
///     .bind("bundle")
///     .fetch_values(pool)
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "a statement does nothing until it is executed or fetched"]
#[derive(Clone)]
pub struct PgStatement {
    operation: PgOperation,
    sql: SqlStr,
    arguments: std::result::Result<PgArguments, std::sync::Arc<str>>,
}

/// The statement `sql` named by `operation`. The text may not come from outside.
pub fn statement(
    operation: impl Into<PgOperation>,
    sql: impl Into<Cow<'static, str>>,
) -> PgStatement {
    let operation = operation.into();
    let sql = format!("-- {}\n{}", operation.name(), sql.into());
    PgStatement {
        operation,
        sql: sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(sql)),
        arguments: Ok(PgArguments::default()),
    }
}

/// Where a statement runs: on a pool, alone and repeatable; or on a connection, as part of a
/// transaction.
pub trait StatementTarget: Send {
    /// Runs `work`, which sends the one statement.
    fn run<T, F>(self, operation: PgOperation, work: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static;
}

impl StatementTarget for &PgPool {
    async fn run<T, F>(self, operation: PgOperation, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        run_statement(self, operation, work).await
    }
}

impl StatementTarget for &mut PgConnection {
    async fn run<T, F>(self, _operation: PgOperation, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        work(self).await
    }
}

impl PgStatement {
    /// Binds the next argument, `$1` first.
    pub fn bind<'q, T>(mut self, value: T) -> Self
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        if let Ok(arguments) = &mut self.arguments
            && let Err(error) = arguments.add(value)
        {
            self.arguments = Err(error.to_string().into());
        }
        self
    }

    /// Executes it; the number of rows that it affected.
    pub async fn execute(self, target: impl StatementTarget) -> Result<u64> {
        let operation = self.operation;
        target
            .run(operation, move |connection| {
                let query = self.query();
                Box::pin(async move { Ok(query?.execute(connection).await?.rows_affected()) })
            })
            .await
    }

    /// All rows.
    pub async fn fetch_all<R>(self, target: impl StatementTarget) -> Result<Vec<R>>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        let operation = self.operation;
        target
            .run(operation, move |connection| {
                let query = self.query_as();
                Box::pin(async move { Ok(query?.fetch_all(connection).await?) })
            })
            .await
    }

    /// The first row, if there is one.
    pub async fn fetch_optional<R>(self, target: impl StatementTarget) -> Result<Option<R>>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        let operation = self.operation;
        target
            .run(operation, move |connection| {
                let query = self.query_as();
                Box::pin(async move { Ok(query?.fetch_optional(connection).await?) })
            })
            .await
    }

    /// The first row; no row is an error.
    pub async fn fetch_one<R>(self, target: impl StatementTarget) -> Result<R>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        let operation = self.operation;
        target
            .run(operation, move |connection| {
                let query = self.query_as();
                Box::pin(async move { Ok(query?.fetch_one(connection).await?) })
            })
            .await
    }

    /// The first column of all rows.
    pub async fn fetch_values<T>(self, target: impl StatementTarget) -> Result<Vec<T>>
    where
        (T,): for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        let rows: Vec<(T,)> = self.fetch_all(target).await?;
        Ok(rows.into_iter().map(|(value,)| value).collect())
    }

    /// The first column of the first row, if there is one.
    pub async fn fetch_optional_value<T>(self, target: impl StatementTarget) -> Result<Option<T>>
    where
        (T,): for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        let row: Option<(T,)> = self.fetch_optional(target).await?;
        Ok(row.map(|(value,)| value))
    }

    /// The first column of the first row; no row is an error.
    pub async fn fetch_value<T>(self, target: impl StatementTarget) -> Result<T>
    where
        (T,): for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        let (value,) = self.fetch_one(target).await?;
        Ok(value)
    }

    fn query(&self) -> Result<Query<'static, Postgres, PgArguments>> {
        Ok(sqlx::query_with(self.sql.clone(), self.encoded_arguments()?))
    }

    fn query_as<R>(&self) -> Result<QueryAs<'static, Postgres, R, PgArguments>>
    where
        R: for<'r> FromRow<'r, PgRow>,
    {
        Ok(sqlx::query_as_with(self.sql.clone(), self.encoded_arguments()?))
    }

    fn encoded_arguments(&self) -> Result<PgArguments> {
        let encoded = self.arguments.clone();
        encoded.map_err(|reason| sqlx::Error::Encode(reason.to_string().into()).into())
    }
}
