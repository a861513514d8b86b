//! A dedicated connection for long-running statements.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use crate::operation::ANSWER_GRACE;
use crate::pool::discard_connection;
use crate::{Error, Result};

/// A pool connection with a longer statement timeout. It is closed on drop, which rolls back an
/// open transaction: its session settings must not reach another user.
pub struct DedicatedConnection(Option<PoolConnection<Postgres>>);

impl DedicatedConnection {
    /// Acquires a connection whose `statement_timeout`
    /// and `idle_in_transaction_session_timeout` are `statement_timeout`.
    pub async fn acquire(pool: &PgPool, statement_timeout: Duration) -> Result<Self> {
        let mut connection = Self(Some(pool.acquire().await?));
        let limit = statement_timeout.as_millis().to_string();
        let query = sqlx::query(
            "SELECT set_config('statement_timeout', $1, false),
                    set_config('idle_in_transaction_session_timeout', $1, false) -- be_patient",
        )
        .bind(limit)
        .execute(&mut *connection);
        timeout(ANSWER_GRACE, query)
            .await
            .map_err(|_| Error::WaitTimeout("a new connection did not answer"))??;
        Ok(connection)
    }
}

// The option is `None` only during `drop`.
#[allow(clippy::expect_used)]
impl Deref for DedicatedConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_ref().expect("a connection until it is dropped")
    }
}

#[allow(clippy::expect_used)]
impl DerefMut for DedicatedConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("a connection until it is dropped")
    }
}

impl Drop for DedicatedConnection {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(discard_connection);
    }
}
