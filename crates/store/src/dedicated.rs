//! A connection for long work with limits of its own.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use crate::operation::ANSWER_GRACE;
use crate::pool::discard_connection;
use crate::{Error, Result};

/// A connection of a pool, and its place in it, for work whose statements take longer than others may. It is closed when
/// it is dropped, and with it what was begun on it and not committed: its limits are for nobody else.
pub struct DedicatedConnection(Option<PoolConnection<Postgres>>);

impl DedicatedConnection {
    /// Takes one whose statements may take `statement_timeout` each, and whose transactions may wait for as long between
    /// them.
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

// Both hold it until they are dropped; only `drop` takes it out.
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
