//! Table `export` of a shard: the exporter's recorded progress, fenced by its lease.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{ConnectionGeneration, Lease};

use super::exporter::reconnected_error;
use super::{ExportError, ExportMark, Result};
use crate::ids::SequenceNumber;

/// The row of `export`, and the last assigned sequence number.
#[derive(Debug, Clone, PartialEq, Eq, store::FromRow)]
pub(crate) struct ExportProgress {
    pub(crate) epoch: i64,
    /// First sequence number of the epoch.
    pub(crate) first_seq: SequenceNumber,
    /// Last number that the broker is known to hold.
    pub(crate) exported_seq: SequenceNumber,
    follows_epoch: Option<i64>,
    follows_seq: Option<SequenceNumber>,
    pub(crate) alarm: Option<String>,
    pub(crate) alarm_since: Option<DateTime<Utc>>,
    /// Last assigned sequence number.
    pub(crate) last_seq: SequenceNumber,
}

/// An operator's decision on where the export continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExportDecision {
    pub(super) epoch: i64,
    /// First sequence number of the epoch.
    pub(super) first_seq: SequenceNumber,
    /// The broker holds all events up to this number.
    pub(super) exported_seq: SequenceNumber,
    /// Last entry of the broker's log at the decision.
    pub(super) previous_mark: Option<ExportMark>,
}

impl ExportProgress {
    /// Last entry of the stream when the epoch began.
    pub(super) fn previous_mark(&self) -> Option<ExportMark> {
        let (epoch, seq) = self.follows_epoch.zip(self.follows_seq)?;
        Some(ExportMark { epoch, seq })
    }

    /// Last recorded entry of the current epoch; `None` if the epoch has none.
    pub(super) fn recorded_mark(&self) -> Option<ExportMark> {
        (self.exported_seq >= self.first_seq)
            .then_some(ExportMark { epoch: self.epoch, seq: self.exported_seq })
    }

    /// Whether nothing was ever exported, according to this row.
    pub(super) fn is_new(&self) -> bool {
        self.recorded_mark().is_none() && self.previous_mark().is_none()
    }

    #[cfg(test)]
    pub(super) fn from_decision(decision: ExportDecision, last_seq: SequenceNumber) -> Self {
        let ExportDecision { epoch, first_seq, exported_seq, previous_mark: follows } = decision;
        let (follows_epoch, follows_seq) = follows.map(|mark| (mark.epoch, mark.seq)).unzip();
        let (alarm, alarm_since) = (None, None);
        Self {
            epoch,
            first_seq,
            exported_seq,
            follows_epoch,
            follows_seq,
            alarm,
            alarm_since,
            last_seq,
        }
    }

    /// Current progress. One round trip.
    pub(crate) async fn load(pool: &PgPool) -> store::Result<Self> {
        store::statement("export_progress", LOAD_PROGRESS_SQL).fetch_one(pool).await
    }

    /// Compare-and-set: stores the decision unless the row has
    /// changed since it was loaded; returns whether it did.
    pub(super) async fn replace_with(
        &self,
        pool: &PgPool,
        decision: ExportDecision,
    ) -> store::Result<bool> {
        let updated = store::statement("decide_export", DECIDE_EXPORT_SQL)
            .bind(self.epoch)
            .bind(self.exported_seq)
            .bind(decision.epoch)
            .bind(decision.first_seq)
            .bind(decision.exported_seq)
            .bind(decision.previous_mark.map(|mark| mark.epoch))
            .bind(decision.previous_mark.map(|mark| mark.seq))
            .execute(pool)
            .await?;
        Ok(updated == 1)
    }
}

/// Records that the broker holds everything up to `exported`, and clears
/// the alarm. Only on the connection of `generation`: a new connection
/// may lead to a restored ledger. `pool` must be that connection's.
pub(super) async fn record_export(
    pool: &PgPool,
    lease: &Arc<Lease>,
    exported: ExportMark,
    generation: &ConnectionGeneration,
) -> Result<()> {
    let statement = store::statement("record_export", "SELECT record_export($1, $2, $3, $4)")
        .bind(lease.id)
        .bind(lease.epoch)
        .bind(exported.epoch)
        .bind(exported.seq);
    let recorded: Option<Option<bool>> = generation
        .run_statement(pool, "record_export", move |connection| {
            Box::pin(statement.clone().fetch_value(connection))
        })
        .await?;
    match recorded {
        Some(recorded) if !generation.is_over() => check_fenced_update(lease, recorded),
        _ => Err(reconnected_error()),
    }
}

/// Records why the export is stopped.
pub(super) async fn raise_export_alarm(
    pool: &PgPool,
    lease: &Arc<Lease>,
    epoch: i64,
    reason: String,
) -> Result<()> {
    let raised: Option<bool> =
        store::statement("raise_export_alarm", "SELECT raise_export_alarm($1, $2, $3, $4)")
            .bind(lease.id)
            .bind(lease.epoch)
            .bind(epoch)
            .bind(reason)
            .fetch_value(pool)
            .await?;
    check_fenced_update(lease, raised)
}

fn check_fenced_update(lease: &Lease, updated: Option<bool>) -> Result<()> {
    match updated {
        Some(true) => Ok(()),
        Some(false) => {
            Err(ExportError::Moved("somebody decided on another epoch or place".to_owned()))
        }
        None => Err(lease.fenced_error().into()),
    }
}

const LOAD_PROGRESS_SQL: &str = "SELECT x.epoch, x.first_seq, x.exported_seq, x.follows_epoch, x.follows_seq, x.alarm, x.alarm_since, s.last_seq
FROM export x, sequence s";

const DECIDE_EXPORT_SQL: &str =
    "UPDATE export SET epoch = $3, first_seq = $4, exported_seq = $5, follows_epoch = $6, follows_seq = $7,
    alarm = NULL, alarm_since = NULL
WHERE epoch = $1 AND exported_seq = $2";
