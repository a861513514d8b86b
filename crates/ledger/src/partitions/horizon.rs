//! Horizon of a shard: the earliest moment that queries may ask for, and a consistency guard for
//! reads.
//!
//! - Shape: table `horizon`, one row with the horizon and the number of drops.
//! - Cost: one repetition of a read per drop that this process had not seen.
//! - Promise: a statement whose snapshot predates a drop may combine old closing sums with the
//!   table after the drop. Every read therefore also returns the horizon as a later statement saw
//!   it; if the number of drops has changed, the read is repeated.

use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use serving::error::ApiError;
use sqlx::PgPool;
use store::Result;

use crate::moment;

/// Per-shard guard against reads across a drop.
#[derive(Debug, Default)]
pub(crate) struct HorizonGuard {
    /// Number of drops seen by the last read.
    known_drops: AtomicI64,
}

/// Row of the table `horizon`.
#[derive(Debug, Clone, Copy, store::FromRow)]
pub(crate) struct HorizonRow {
    /// Events before this moment may have been dropped; `None` if none was.
    pub(crate) horizon: Option<DateTime<Utc>>,
    /// Number of months dropped so far.
    pub(crate) drops: i64,
}

/// Earliest moment of a request, and the parameter that sets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestedMoment {
    pub(crate) field: &'static str,
    pub(crate) moment: DateTime<Utc>,
}

impl HorizonGuard {
    /// Runs `read` until no drop happened around it; refuses requests from before the horizon.
    /// `read` also returns the horizon as seen by a later statement.
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

/// Current horizon: events before it may have been dropped; `None` if none was.
pub(crate) async fn read_horizon(pool: &PgPool) -> Result<Option<DateTime<Utc>>> {
    Ok(read_horizon_row(pool).await?.horizon)
}

/// Reads the row of the table `horizon`.
pub(crate) async fn read_horizon_row(pool: &PgPool) -> Result<HorizonRow> {
    store::statement("horizon", "SELECT horizon, drops FROM horizon").fetch_one(pool).await
}
