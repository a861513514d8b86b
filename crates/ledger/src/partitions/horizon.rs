//! The horizon: how far back a shard can be asked, and the certainty that what was read was whole.
//!
//! A statement that began before a month was dropped may still see the sums of before and the table of after. So whatever
//! is read is held against the number of drops known before it began: if there has been one, it is read again. That costs
//! one small statement per question.

use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use serving::error::ApiError;
use sqlx::PgPool;
use store::{Result, run};

use crate::moment;

/// What a process knows of a shard's horizon.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    /// The number of drops when it last looked.
    drops: AtomicI64,
}

/// From when on something was asked for, and the parameter that says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) field: &'static str,
    pub(crate) moment: DateTime<Utc>,
}

impl Horizon {
    /// What `read` reads of the shard behind `pool`, whole; refused if it was asked for from before the horizon.
    pub(crate) async fn whole<T, F>(
        &self,
        pool: &PgPool,
        asked: Asked,
        read: impl Fn() -> F,
    ) -> Result<Result<T, ApiError>>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            let known = self.drops.load(Ordering::Acquire);
            let done = read().await?;
            let (horizon, drops) = look(pool).await?;
            self.drops.store(drops, Ordering::Release);
            if let Some(horizon) = horizon.filter(|horizon| asked.moment < *horizon) {
                return Ok(Err(refused(asked, horizon)));
            }
            if drops == known {
                return Ok(Ok(done));
            }
        }
    }
}

fn refused(asked: Asked, horizon: DateTime<Utc>) -> ApiError {
    let horizon = moment::show(horizon);
    let reason = format!("must not be before the horizon {horizon}: events before it have been dropped");
    ApiError::field(asked.field, reason).arg("horizon", horizon)
}

/// Events before it may have been dropped; `None` if none has.
pub(crate) async fn horizon(pool: &PgPool) -> Result<Option<DateTime<Utc>>> {
    Ok(look(pool).await?.0)
}

async fn look(pool: &PgPool) -> Result<(Option<DateTime<Utc>>, i64)> {
    run(pool, "horizon", |connection| {
        Box::pin(async move {
            let looked = sqlx::query_as("SELECT horizon, drops FROM horizon -- horizon");
            Ok(looked.fetch_one(connection).await?)
        })
    })
    .await
}
