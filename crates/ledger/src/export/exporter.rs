//! Exporter of a shard: reads the feed, appends to the broker's log and records progress, under a
//! lease.
//!
//! - Shape: groups of at most 2,000 events; the next group is read while the current one is sent.
//! - Cost: one round trip per group, and one per 100 ms to record progress, on one dedicated
//!   connection.
//! - Promise: after an error, a lost lease or a reconnect it realigns with the broker before it
//!   sends again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use store::{ConnectionGeneration, DutyWork, Lease, OwnConnection, fail_point};
use tokio::time::{Instant, sleep, timeout};

use super::body::build_export_entry;
use super::progress::{ExportProgress, raise_export_alarm, record_export};
use super::recover::realign_export;
use super::{ExportAlarm, ExportEngine, ExportEntry, ExportError, ExportMark, Result};
use crate::sequence::{SequenceNotifier, read_feed};
use crate::sharding::Shard;
use crate::types::LedgerTypeRegistry;

/// Maximum events per group, which is sent with one append. A read is also bounded in bytes.
const MAX_EVENTS_PER_GROUP: usize = 2_000;
/// A group above this size counts as full: more events are probably waiting.
const FULL_GROUP_BYTES: usize = 2 << 20;
/// Interval of recording progress. Recording late is safe: the next exporter compares the
/// unrecorded entries with the ledger.
const RECORD_INTERVAL: Duration = Duration::from_millis(100);
/// Time to collect events into a group under low load.
const LINGER_INTERVAL: Duration = Duration::from_millis(50);
/// Poll interval for numbers assigned by another process.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum and maximum backoff after an error.
const BACKOFF_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// Detections of an alarm, without success in between, before
/// it is raised: a broker may report its last entry late.
const ALARM_CHECK_COUNT: u32 = 3;
/// Interval between checks while an alarm lasts.
const ALARM_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Exports the events of one shard.
#[derive(Clone)]
pub struct Exporter {
    /// The shard to export.
    pub shard: Shard,
    /// Type catalogue of the ledger.
    pub types: LedgerTypeRegistry,
    /// The broker to export to.
    pub engine: Arc<dyn ExportEngine>,
    /// Wakes the exporter after new sequence numbers.
    pub wake: SequenceNotifier,
}

/// The `exporter` duty of a shard.
pub fn exporter_duty(mut exporter: Exporter) -> DutyWork {
    let own = OwnConnection::open_beside(&exporter.shard.pool);
    exporter.shard.pool = own.pool().clone();
    Arc::new(move |lease| Box::pin(exporter.clone().run(own.clone(), lease)))
}

/// Errors since the last success.
#[derive(Default)]
struct ExportFailures {
    consecutive: u32,
    alarms: u32,
    backoff: Duration,
    last_report: String,
}

impl Exporter {
    /// Exports until the lease is lost.
    async fn run(self, own: OwnConnection, lease: Arc<Lease>) {
        let _gauge = ExportAlarmGauge(self.shard.name.clone());
        let mut failures = ExportFailures::default();
        loop {
            let Err(error) = self.export_until_error(&own, &lease, &mut failures).await;
            if lease.is_lost() || matches!(error, ExportError::Ledger(store::Error::Fenced { .. }))
            {
                return;
            }
            failures.consecutive += 1;
            match error {
                ExportError::Alarm(alarm) => {
                    failures.alarms += 1;
                    if failures.alarms >= ALARM_CHECK_COUNT {
                        self.raise_alarm(&lease, &alarm, &mut failures).await;
                    }
                    sleep(if failures.alarms >= ALARM_CHECK_COUNT {
                        ALARM_POLL_INTERVAL
                    } else {
                        BACKOFF_RANGE.0
                    })
                    .await;
                }
                // Realign immediately: no backoff for the first one.
                ExportError::Moved(_) if failures.consecutive == 1 => {
                    tracing::debug!(shard = self.shard.name, %error, "export")
                }
                error => {
                    self.report_error(&error, &mut failures);
                    sleep(failures.backoff).await;
                }
            }
        }
    }

    /// Exports until an error. The position is valid for one connection generation: after a
    /// reconnect the ledger may be a restored copy, so the position is determined again.
    async fn export_until_error(
        &self,
        own: &OwnConnection,
        lease: &Arc<Lease>,
        failures: &mut ExportFailures,
    ) -> Result<Infallible> {
        let may_create = ExportProgress::load(&self.shard.pool).await?.is_new();
        let generation = own.generation();
        let mut log = self.engine.open_log(&self.shard.name, may_create).await?;
        let mut after =
            realign_export(&self.shard, &self.types, &*self.engine, &mut *log, lease, &generation)
                .await?;
        self.update_metrics(after, 0);
        if failures.consecutive > 0 {
            tracing::info!(shard = self.shard.name, engine = self.engine.name(), %after, "export goes on");
        }
        let mut recorded = (after, Instant::now());
        let mut last_number = self.wake.subscribe_last_seq();
        let mut group = Vec::new();
        loop {
            if group.is_empty() {
                last_number.mark_unchanged();
                group = self.read_group(after, &generation).await?;
            }
            if after != recorded.0 && recorded.1.elapsed() >= RECORD_INTERVAL {
                self.record_progress(lease, after, &generation).await?;
                recorded = (after, Instant::now());
            }
            let Some(last) = group.last().map(|entry| entry.mark) else {
                *failures = ExportFailures::default();
                let interval = if after == recorded.0 { POLL_INTERVAL } else { RECORD_INTERVAL };
                let _ = timeout(interval, last_number.changed()).await;
                continue;
            };
            let full = group.len() == MAX_EVENTS_PER_GROUP
                || group.iter().map(|entry| entry.body.len()).sum::<usize>() > FULL_GROUP_BYTES;
            // Read ahead while this group is sent; after a
            // partial group, let more events collect first.
            let next = async {
                if full { self.read_group(last, &generation).await } else { Ok(Vec::new()) }
            };
            let (sent, next) = tokio::join!(log.append(&group), next);
            sent?;
            fail_point("exported");
            self.update_metrics(last, group.len());
            *failures = ExportFailures::default();
            after = last;
            group = next?;
            if group.is_empty() {
                sleep(LINGER_INTERVAL).await;
            }
        }
    }

    async fn record_progress(
        &self,
        lease: &Arc<Lease>,
        after: ExportMark,
        generation: &ConnectionGeneration,
    ) -> Result<()> {
        fail_point("export_recording");
        record_export(&self.shard.pool, lease, after, generation).await?;
        fail_point("export_recorded");
        Ok(())
    }

    /// Events after a mark, without gaps, as entries of its epoch.
    async fn read_group(
        &self,
        after: ExportMark,
        generation: &ConnectionGeneration,
    ) -> Result<Vec<ExportEntry>> {
        let events = read_feed(&self.shard.pool, after.seq, MAX_EVENTS_PER_GROUP as i64).await?;
        if generation.is_over() && !store::mutant("export_over_a_new_connection") {
            return Err(reconnected_error());
        }
        let types = self.types.current();
        let in_order =
            events.iter().zip(1..).take_while(|(event, place)| event.seq == after.seq.plus(*place));
        let entries = in_order.map_while(|(event, _)| {
            build_export_entry(&self.shard.name, after.epoch, &types, event)
        });
        let entries: Vec<ExportEntry> = entries.collect();
        match events.first() {
            Some(event) if event.seq != after.seq.next() => {
                Err(ExportError::Alarm(ExportAlarm::MissingNumber {
                    seq: after.seq.next(),
                    next_seq: event.seq,
                }))
            }
            Some(event) if entries.is_empty() => Err(ExportError::unknown_type(event)),
            _ => Ok(entries),
        }
    }

    fn update_metrics(&self, last: ExportMark, event_count: usize) {
        let shard = &self.shard.name;
        metrics::counter!("ledger_exported_events_total", "shard" => shard.clone(), "engine" => self.engine.name())
            .increment(event_count as u64);
        metrics::gauge!("ledger_exported_seq", "shard" => shard.clone()).set(last.seq.get() as f64);
        metrics::gauge!("ledger_export_alarm", "shard" => shard.clone()).set(0.0);
    }

    async fn raise_alarm(
        &self,
        lease: &Arc<Lease>,
        alarm: &ExportAlarm,
        failures: &mut ExportFailures,
    ) {
        metrics::gauge!("ledger_export_alarm", "shard" => self.shard.name.clone()).set(1.0);
        let reason = alarm.to_string();
        let epoch = ExportProgress::load(&self.shard.pool).await.map(|progress| progress.epoch);
        let raised = match epoch {
            Ok(epoch) => raise_export_alarm(&self.shard.pool, lease, epoch, reason.clone()).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = raised {
            tracing::warn!(shard = self.shard.name, %error, code = "UNAVAILABLE", "the alarm could not be recorded");
        }
        if failures.last_report != reason {
            let advice = alarm.advice(&self.shard.name);
            let engine = self.engine.name();
            tracing::error!(shard = self.shard.name, engine, %alarm, advice, code = "CONSISTENCY_ERROR", "export stopped");
            failures.last_report = reason;
        }
    }

    /// Logs the error unless it repeats, and increases the backoff.
    fn report_error(&self, error: &ExportError, failures: &mut ExportFailures) {
        let (code, reason) = match error {
            ExportError::Alarm(_) => ("CONSISTENCY_ERROR", "alarm"),
            ExportError::Refused(_) => ("INTERNAL_ERROR", "refused"),
            ExportError::Moved(_) => ("UNAVAILABLE", "moved"),
            ExportError::Unavailable(_) | ExportError::Ledger(_) => ("UNAVAILABLE", "unavailable"),
        };
        metrics::counter!("ledger_export_troubles_total", "shard" => self.shard.name.clone(), "reason" => reason).increment(1);
        failures.backoff = (failures.backoff * 2).clamp(BACKOFF_RANGE.0, BACKOFF_RANGE.1);
        let text = error.to_string();
        if failures.last_report != text {
            tracing::warn!(shard = self.shard.name, engine = self.engine.name(), %error, code, "events not exported");
            failures.last_report = text;
        }
    }
}

/// The new connection may lead to a restored ledger.
pub(super) fn reconnected_error() -> ExportError {
    ExportError::Moved("the connection to the ledger was lost".to_owned())
}

/// Resets the alarm gauge when this process stops exporting.
struct ExportAlarmGauge(String);

impl Drop for ExportAlarmGauge {
    fn drop(&mut self) {
        metrics::gauge!("ledger_export_alarm", "shard" => self.0.clone()).set(0.0);
    }
}
