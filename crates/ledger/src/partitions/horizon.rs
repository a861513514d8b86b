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
use store::{Result, run_statement};

use crate::moment;

/// What a process knows of a shard's horizon.
#[derive(Debug, Default)]
pub(crate) struct HorizonGuard {
    /// The number of drops when it last looked.
    known_drops: AtomicI64,
}

/// A shard's horizon at a moment.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(crate) struct HorizonRow {
    /// Events before it may have been dropped; `None` if none has.
    pub(crate) horizon: Option<DateTime<Utc>>,
    /// How many months had been dropped.
    pub(crate) drops: i64,
}

/// From when on something was asked for, and the parameter that says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestedMoment {
    pub(crate) field: &'static str,
    pub(crate) moment: DateTime<Utc>,
}

impl HorizonGuard {
    /// What `read` reads of a shard, whole; refused if it was asked for from before the horizon. `read` answers also how
    /// the horizon stood after it had read.
    pub(crate) async fn read_consistent<T, F>(
        &self,
        requested: RequestedMoment,
        read: impl Fn() -> F,
    ) -> Result<Result<T, ApiError>>
    where
        F: Future<Output = Result<(T, HorizonRow)>>,
    {
        loop {
            let known_drops = self.known_drops.load(Ordering::Acquire);
            let (answer, HorizonRow { horizon, drops }) = read().await?;
            self.known_drops.store(drops, Ordering::Release);
            if let Some(horizon) = horizon.filter(|horizon| requested.moment < *horizon) {
                return Ok(Err(before_horizon_error(requested, horizon)));
            }
            if drops == known_drops {
                return Ok(Ok(answer));
            }
        }
    }
}

fn before_horizon_error(requested: RequestedMoment, horizon: DateTime<Utc>) -> ApiError {
    let horizon = moment::format_moment(horizon);
    let reason =
        format!("must not be before the horizon {horizon}: events before it have been dropped");
    ApiError::invalid_field(requested.field, reason).with_arg("horizon", horizon)
}

/// Events before it may have been dropped; `None` if none has.
pub(crate) async fn read_horizon(pool: &PgPool) -> Result<Option<DateTime<Utc>>> {
    Ok(read_horizon_row(pool).await?.horizon)
}

/// How a shard's horizon stands now.
pub(crate) async fn read_horizon_row(pool: &PgPool) -> Result<HorizonRow> {
    run_statement(pool, "horizon", |connection| {
        Box::pin(async move {
            let row = sqlx::query_as("SELECT horizon, drops FROM horizon -- horizon");
            Ok(row.fetch_one(connection).await?)
        })
    })
    .await
}
