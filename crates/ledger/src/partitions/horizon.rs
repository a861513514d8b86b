//! The horizon: how far back a shard can be asked, and the certainty that what was read was whole.
//!
//! A statement that began before a month was dropped may still see the sums of before and the table of after. So whatever
//! is read is held against the number of drops known before it began: if there has been one, it is read again. So whoever
//! reads also tells how the horizon stood after it, as a later statement saw it.

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

/// A shard's horizon at a moment.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(crate) struct Standing {
    /// Events before it may have been dropped; `None` if none has.
    pub(crate) horizon: Option<DateTime<Utc>>,
    /// How many months had been dropped.
    pub(crate) drops: i64,
}

/// From when on something was asked for, and the parameter that says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) field: &'static str,
    pub(crate) moment: DateTime<Utc>,
}

impl Horizon {
    /// What `read` reads of a shard, whole; refused if it was asked for from before the horizon. `read` answers also how
    /// the horizon stood after it had read.
    pub(crate) async fn whole<T, F>(&self, asked: Asked, read: impl Fn() -> F) -> Result<Result<T, ApiError>>
    where
        F: Future<Output = Result<(T, Standing)>>,
    {
        loop {
            let known = self.drops.load(Ordering::Acquire);
            let (done, Standing { horizon, drops }) = read().await?;
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
    Ok(standing(pool).await?.horizon)
}

/// How a shard's horizon stands now.
pub(crate) async fn standing(pool: &PgPool) -> Result<Standing> {
    run(pool, "horizon", |connection| {
        Box::pin(async move {
            let looked = sqlx::query_as("SELECT horizon, drops FROM horizon -- horizon");
            Ok(looked.fetch_one(connection).await?)
        })
    })
    .await
}
