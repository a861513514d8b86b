//! The shard's table `export`: how far its exporter last knew to be, fenced by the exporter's lease.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{Generation, Lease, run};

use super::exporter::reconnected;
use super::{Error, Mark, Result};

/// The table's row, and the last number given.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Progress {
    pub(crate) epoch: i64,
    /// The epoch's first number.
    pub(crate) first_seq: i64,
    /// The last number that the broker is known to hold.
    pub(crate) exported_seq: i64,
    follows_epoch: Option<i64>,
    follows_seq: Option<i64>,
    pub(crate) alarm: Option<String>,
    pub(crate) alarm_since: Option<DateTime<Utc>>,
    /// The last number given to an event.
    pub(crate) last_seq: i64,
}

/// From where on to export, as somebody decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) epoch: i64,
    /// The epoch's first number.
    pub(super) first_seq: i64,
    /// The broker holds everything up to this number.
    pub(super) exported_seq: i64,
    /// What the broker's log ended with.
    pub(super) follows: Option<Mark>,
}

impl Progress {
    /// What the stream ended with when the epoch was decided.
    pub(super) fn follows(&self) -> Option<Mark> {
        let (epoch, seq) = self.follows_epoch.zip(self.follows_seq)?;
        Some(Mark { epoch, seq })
    }

    /// The last number known to be exported, in its epoch; none if nothing of the epoch is.
    pub(super) fn recorded(&self) -> Option<Mark> {
        (self.exported_seq >= self.first_seq).then_some(Mark { epoch: self.epoch, seq: self.exported_seq })
    }

    /// Whether nothing was ever exported, as far as it is known here.
    pub(super) fn begins(&self) -> bool {
        self.recorded().is_none() && self.follows().is_none()
    }

    #[cfg(test)]
    pub(super) fn of(decision: Decision, last_seq: i64) -> Self {
        let Decision { epoch, first_seq, exported_seq, follows } = decision;
        let (follows_epoch, follows_seq) = follows.map(|mark| (mark.epoch, mark.seq)).unzip();
        let (alarm, alarm_since) = (None, None);
        Self { epoch, first_seq, exported_seq, follows_epoch, follows_seq, alarm, alarm_since, last_seq }
    }

    /// As it is now. One round trip.
    pub(crate) async fn load(pool: &PgPool) -> store::Result<Self> {
        run(pool, "export_progress", |connection| {
            Box::pin(async move { Ok(sqlx::query_as(LOAD).fetch_one(connection).await?) })
        })
        .await
    }

    /// Puts a decision in the place of what was loaded; `false` if that has changed meanwhile.
    pub(super) async fn replace(&self, pool: &PgPool, decision: Decision) -> store::Result<bool> {
        let (epoch, exported_seq) = (self.epoch, self.exported_seq);
        run(pool, "decide_export", move |connection| {
            Box::pin(async move {
                let decided = sqlx::query(DECIDE)
                    .bind(epoch)
                    .bind(exported_seq)
                    .bind(decision.epoch)
                    .bind(decision.first_seq)
                    .bind(decision.exported_seq)
                    .bind(decision.follows.map(|mark| mark.epoch))
                    .bind(decision.follows.map(|mark| mark.seq));
                Ok(decided.execute(connection).await?.rows_affected() == 1)
            })
        })
        .await
    }
}

/// Notes that the broker holds everything up to `exported`, and that all is well; not on another connection than the one of
/// `generation`, which may be to a ledger that was put back. `pool` is that connection's.
pub(super) async fn record(
    pool: &PgPool,
    lease: &Arc<Lease>,
    exported: Mark,
    generation: &Generation,
) -> Result<()> {
    let (holder, begun) = (lease.clone(), generation.clone());
    let recorded: Option<bool> = run(pool, "record_export", move |connection| {
        let over = begun.is_over();
        let recorded = sqlx::query_scalar("SELECT record_export($1, $2, $3, $4) -- record_export")
            .bind(holder.id)
            .bind(holder.epoch)
            .bind(exported.epoch)
            .bind(exported.seq);
        Box::pin(async move {
            match over {
                true => Ok(Some(false)),
                false => Ok(recorded.fetch_one(connection).await?),
            }
        })
    })
    .await?;
    if generation.is_over() {
        return Err(reconnected());
    }
    judge(lease, recorded)
}

/// Notes why nothing is sent.
pub(super) async fn raise(pool: &PgPool, lease: &Arc<Lease>, epoch: i64, why: String) -> Result<()> {
    let holder = lease.clone();
    let raised: Option<bool> = run(pool, "raise_export_alarm", move |connection| {
        let raised = sqlx::query_scalar("SELECT raise_export_alarm($1, $2, $3, $4) -- raise_export_alarm")
            .bind(holder.id)
            .bind(holder.epoch)
            .bind(epoch)
            .bind(why.clone());
        Box::pin(async move { Ok(raised.fetch_one(connection).await?) })
    })
    .await?;
    judge(lease, raised)
}

fn judge(lease: &Lease, done: Option<bool>) -> Result<()> {
    match done {
        Some(true) => Ok(()),
        Some(false) => Err(Error::Moved("somebody decided on another epoch or place".to_owned())),
        None => Err(lease.fenced().into()),
    }
}

const LOAD: &str = "SELECT x.epoch, x.first_seq, x.exported_seq, x.follows_epoch, x.follows_seq, x.alarm, x.alarm_since, s.last_seq
FROM export x, sequence s -- export_progress";

const DECIDE: &str =
    "UPDATE export SET epoch = $3, first_seq = $4, exported_seq = $5, follows_epoch = $6, follows_seq = $7,
    alarm = NULL, alarm_since = NULL
WHERE epoch = $1 AND exported_seq = $2 -- decide_export";
