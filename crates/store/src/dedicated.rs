//! A connection for long work with limits of its own.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use crate::operation::ANSWER_GRACE;
use crate::pool::discard;
use crate::{Error, Result};

/// A connection of a pool, and its place in it, for work whose statements take longer than others may. It is closed when
/// it is dropped, and with it what was begun on it and not committed: its limits are for nobody else.
pub struct Dedicated(Option<PoolConnection<Postgres>>);

impl Dedicated {
    /// Takes one whose statements may take `statement_timeout` each, and whose transactions may wait for as long between
    /// them.
    pub async fn take(pool: &PgPool, statement_timeout: Duration) -> Result<Self> {
        let mut taken = Self(Some(pool.acquire().await?));
        let limit = statement_timeout.as_millis().to_string();
        let told = sqlx::query(
            "SELECT set_config('statement_timeout', $1, false),
                    set_config('idle_in_transaction_session_timeout', $1, false) -- be_patient",
        )
        .bind(limit)
        .execute(&mut *taken);
        timeout(ANSWER_GRACE, told).await.map_err(|_| Error::Waited("a new connection did not answer"))??;
        Ok(taken)
    }
}

// Both hold it until they are dropped; only `drop` takes it out.
#[allow(clippy::expect_used)]
impl Deref for Dedicated {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_ref().expect("a connection until it is dropped")
    }
}

#[allow(clippy::expect_used)]
impl DerefMut for Dedicated {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("a connection until it is dropped")
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(discard);
    }
}
