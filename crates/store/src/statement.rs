//! One SQL statement with its name and arguments.
//!
//! - Shape: the name labels metrics and logs, and stands in front of the SQL as a comment, where
//!   `pg_stat_activity` shows it. A name belongs to one statement of the platform.
//! - Cost: one round trip; on a pool in a task of its own, so that a cancelled caller does not cancel
//!   it, and repeated on transient errors as by [`run_statement`](crate::run_statement).

use std::borrow::Cow;

use futures::future::BoxFuture;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{
    Arguments as _, AssertSqlSafe, Encode, FromRow, PgConnection, PgPool, Postgres, SqlStr, Type,
};

use crate::{Error, PgOperation, Result, run_statement};

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
/// transaction. Implemented in this crate only.
pub trait StatementTarget: SendStatement {}

impl StatementTarget for &PgPool {}

impl StatementTarget for &mut PgConnection {}

/// What of a statement's result is wanted. Not exported, like [`SendStatement`].
#[derive(Debug, Clone, Copy)]
pub enum StatementResult {
    /// All rows.
    Rows,
    /// The first row.
    FirstRow,
    /// The number of affected rows.
    AffectedRows,
}

/// The result of a statement. Not exported, like [`SendStatement`].
#[derive(Default)]
pub struct StatementAnswer {
    rows: Vec<PgRow>,
    affected_rows: u64,
}

/// The private part of [`StatementTarget`]. Nothing here is generic over the rows' type, so that
/// this is compiled once.
pub trait SendStatement: Send {
    /// Runs the statement.
    fn send<'t>(
        self,
        statement: PgStatement,
        wanted: StatementResult,
    ) -> BoxFuture<'t, Result<StatementAnswer>>
    where
        Self: 't;
}

impl SendStatement for &PgPool {
    fn send<'t>(
        self,
        statement: PgStatement,
        wanted: StatementResult,
    ) -> BoxFuture<'t, Result<StatementAnswer>>
    where
        Self: 't,
    {
        Box::pin(run_statement(self, statement.operation, move |connection| {
            Box::pin(attempt_statement(connection, statement.clone(), wanted))
        }))
    }
}

impl SendStatement for &mut PgConnection {
    fn send<'t>(
        self,
        statement: PgStatement,
        wanted: StatementResult,
    ) -> BoxFuture<'t, Result<StatementAnswer>>
    where
        Self: 't,
    {
        Box::pin(attempt_statement(self, statement, wanted))
    }
}

async fn attempt_statement(
    connection: &mut PgConnection,
    statement: PgStatement,
    wanted: StatementResult,
) -> Result<StatementAnswer> {
    let encoded = statement.arguments;
    let arguments =
        encoded.map_err(|reason| Error::from(sqlx::Error::Encode(reason.to_string().into())))?;
    let query = sqlx::query_with(statement.sql, arguments);
    let mut answer = StatementAnswer::default();
    match wanted {
        StatementResult::Rows => answer.rows = query.fetch_all(connection).await?,
        StatementResult::FirstRow => {
            answer.rows.extend(query.fetch_optional(connection).await?);
        }
        StatementResult::AffectedRows => {
            answer.affected_rows = query.execute(connection).await?.rows_affected();
        }
    }
    Ok(answer)
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
        Ok(target.send(self, StatementResult::AffectedRows).await?.affected_rows)
    }

    /// All rows.
    pub async fn fetch_all<R>(self, target: impl StatementTarget) -> Result<Vec<R>>
    where
        R: for<'r> FromRow<'r, PgRow>,
    {
        let answer = target.send(self, StatementResult::Rows).await?;
        // By value: a raw row is freed when it is decoded.
        answer.rows.into_iter().map(|row| Ok(R::from_row(&row)?)).collect()
    }

    /// The first row, if there is one.
    pub async fn fetch_optional<R>(self, target: impl StatementTarget) -> Result<Option<R>>
    where
        R: for<'r> FromRow<'r, PgRow>,
    {
        let answer = target.send(self, StatementResult::FirstRow).await?;
        answer.rows.first().map(|row| Ok(R::from_row(row)?)).transpose()
    }

    /// The first row; no row is an error.
    pub async fn fetch_one<R>(self, target: impl StatementTarget) -> Result<R>
    where
        R: for<'r> FromRow<'r, PgRow>,
    {
        self.fetch_optional(target).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// The first column of all rows.
    pub async fn fetch_values<T>(self, target: impl StatementTarget) -> Result<Vec<T>>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
    {
        let rows: Vec<(T,)> = self.fetch_all(target).await?;
        Ok(rows.into_iter().map(|(value,)| value).collect())
    }

    /// The first column of the first row, if there is one.
    pub async fn fetch_optional_value<T>(self, target: impl StatementTarget) -> Result<Option<T>>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
    {
        let row: Option<(T,)> = self.fetch_optional(target).await?;
        Ok(row.map(|(value,)| value))
    }

    /// The first column of the first row; no row is an error.
    pub async fn fetch_value<T>(self, target: impl StatementTarget) -> Result<T>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
    {
        let (value,) = self.fetch_one(target).await?;
        Ok(value)
    }
}
