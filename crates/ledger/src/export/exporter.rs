//! The exporter of a shard: one at a time, under a lease; an endless loop of reading events, sending and recording them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use store::{Generation, Lease, OwnConnection, Work, fail_point};
use tokio::time::{Instant, sleep, timeout};

use super::body::entry;
use super::progress::{Progress, raise, record};
use super::recover::recover;
use super::{Alarm, Engine, Entry, Error, Mark, Result};
use crate::sequence::{Wake, feed};
use crate::sharding::Shard;
use crate::types::Types;

/// Most events in one group: sent together, recorded together. What is read at a time is bounded in bytes, too.
const MOST: usize = 2_000;
/// After a group of so many bytes there are probably more.
const FULL_BYTES: usize = 2 << 20;
/// How often progress is recorded: what is not recorded yet is compared by whoever begins next, so it costs nothing to
/// record it late.
const RECORD_EVERY: Duration = Duration::from_millis(100);
/// How long events may come together while not many come.
const LINGER: Duration = Duration::from_millis(20);
/// How long numbers given by another process may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The first pause after trouble, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// How often an alarming state is looked at anew before it is called one: brokers may be slow to know their own end.
const LOOKS: u32 = 3;
/// How often it is looked at while the alarm lasts.
const ALARMED: Duration = Duration::from_secs(5);

/// Exports the events of one shard.
#[derive(Clone)]
pub struct Exporter {
    /// The shard.
    pub shard: Shard,
    /// The ledger's types.
    pub types: Types,
    /// Where to.
    pub engine: Arc<dyn Engine>,
    /// What wakes it.
    pub wake: Wake,
}

/// The duty `exporter` of a shard.
pub fn duty(mut exporter: Exporter) -> Work {
    let own = OwnConnection::beside(&exporter.shard.pool);
    exporter.shard.pool = own.pool().clone();
    Arc::new(move |lease| Box::pin(exporter.clone().run(own.clone(), lease)))
}

/// Why nothing is sent for the moment, and how often in a row.
#[derive(Default)]
struct Trouble {
    in_a_row: u32,
    alarms: u32,
    pause: Duration,
    told: String,
}

impl Exporter {
    /// Exports until the lease is lost.
    async fn run(self, own: OwnConnection, lease: Arc<Lease>) {
        let _gauge = AlarmGauge(self.shard.name.clone());
        let mut trouble = Trouble::default();
        loop {
            let Err(error) = self.export(&own, &lease, &mut trouble).await;
            if lease.is_lost() || matches!(error, Error::Ledger(store::Error::Fenced { .. })) {
                return;
            }
            trouble.in_a_row += 1;
            match error {
                Error::Alarm(alarm) => {
                    trouble.alarms += 1;
                    if trouble.alarms >= LOOKS {
                        self.alarm(&lease, &alarm, &mut trouble).await;
                    }
                    sleep(if trouble.alarms >= LOOKS { ALARMED } else { PAUSES.0 }).await;
                }
                // What the broker really holds is asked at once.
                Error::Moved(_) if trouble.in_a_row == 1 => {
                    tracing::debug!(shard = self.shard.name, %error, "export")
                }
                error => {
                    self.tell(&error, &mut trouble);
                    sleep(trouble.pause).await;
                }
            }
        }
    }

    /// Exports until something is in the way. Where it stands is known of the ledger that one connection saw: after another
    /// has been made it is found out anew, for the ledger may have been put back to an older copy.
    async fn export(
        &self,
        own: &OwnConnection,
        lease: &Arc<Lease>,
        trouble: &mut Trouble,
    ) -> Result<Infallible> {
        let begins = Progress::load(&self.shard.pool).await?.begins();
        let generation = own.generation();
        let mut log = self.engine.open(&self.shard.name, begins).await?;
        let mut after =
            recover(&self.shard, &self.types, &*self.engine, &mut *log, lease, &generation).await?;
        self.exported(after, 0);
        if trouble.in_a_row > 0 {
            tracing::info!(shard = self.shard.name, engine = self.engine.name(), %after, "export goes on");
        }
        let mut recorded = (after, Instant::now());
        let mut numbered = self.wake.last();
        let mut group = Vec::new();
        loop {
            if group.is_empty() {
                numbered.mark_unchanged();
                group = self.group(after, &generation).await?;
            }
            if after != recorded.0 && recorded.1.elapsed() >= RECORD_EVERY {
                self.record(lease, after, &generation).await?;
                recorded = (after, Instant::now());
            }
            let Some(last) = group.last().map(|entry| entry.mark) else {
                *trouble = Trouble::default();
                let pause = if after == recorded.0 { LOOK_EVERY } else { RECORD_EVERY };
                let _ = timeout(pause, numbered.changed()).await;
                continue;
            };
            let full =
                group.len() == MOST || group.iter().map(|entry| entry.body.len()).sum::<usize>() > FULL_BYTES;
            // The next ones are read while these are on their way; or there are none yet, and more together cost less.
            let next = async { if full { self.group(last, &generation).await } else { Ok(Vec::new()) } };
            let (sent, next) = tokio::join!(log.append(&group), next);
            sent?;
            fail_point("exported");
            self.exported(last, group.len());
            *trouble = Trouble::default();
            after = last;
            group = next?;
            if group.is_empty() {
                sleep(LINGER).await;
            }
        }
    }

    async fn record(&self, lease: &Arc<Lease>, after: Mark, generation: &Generation) -> Result<()> {
        fail_point("export_recording");
        record(&self.shard.pool, lease, after, generation).await?;
        fail_point("export_recorded");
        Ok(())
    }

    /// The events after a mark, as entries of its epoch, without a gap.
    async fn group(&self, after: Mark, generation: &Generation) -> Result<Vec<Entry>> {
        let fed = feed(&self.shard.pool, after.seq, MOST as i64).await?;
        if generation.is_over() && !store::mutant("export_over_a_new_connection") {
            return Err(reconnected());
        }
        let types = self.types.now();
        let in_order = fed.iter().zip(after.seq + 1..).take_while(|(event, seq)| event.seq == *seq);
        let entries = in_order.map_while(|(event, _)| entry(&self.shard.name, after.epoch, &types, event));
        let entries: Vec<Entry> = entries.collect();
        match fed.first() {
            Some(event) if event.seq != after.seq + 1 => {
                Err(Error::Alarm(Alarm::Lost { seq: after.seq + 1, next: event.seq }))
            }
            Some(event) if entries.is_empty() => Err(Error::unknown_type(event)),
            _ => Ok(entries),
        }
    }

    fn exported(&self, last: Mark, events: usize) {
        let shard = || self.shard.name.clone();
        metrics::counter!("ledger_exported_events_total", "shard" => shard(), "engine" => self.engine.name())
            .increment(events as u64);
        metrics::gauge!("ledger_exported_seq", "shard" => shard()).set(last.seq as f64);
        metrics::gauge!("ledger_export_alarm", "shard" => shard()).set(0.0);
    }

    async fn alarm(&self, lease: &Arc<Lease>, alarm: &Alarm, trouble: &mut Trouble) {
        metrics::gauge!("ledger_export_alarm", "shard" => self.shard.name.clone()).set(1.0);
        let why = alarm.to_string();
        let epoch = Progress::load(&self.shard.pool).await.map(|progress| progress.epoch);
        let raised = match epoch {
            Ok(epoch) => raise(&self.shard.pool, lease, epoch, why.clone()).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = raised {
            tracing::warn!(shard = self.shard.name, %error, code = "UNAVAILABLE", "the alarm could not be recorded");
        }
        if trouble.told != why {
            let advice = alarm.advice(&self.shard.name);
            let engine = self.engine.name();
            tracing::error!(shard = self.shard.name, engine, %alarm, advice, code = "CONSISTENCY_ERROR", "export stopped");
            trouble.told = why;
        }
    }

    /// Says what is in the way, once; and makes the next pause longer.
    fn tell(&self, error: &Error, trouble: &mut Trouble) {
        let (code, reason) = match error {
            Error::Alarm(_) => ("CONSISTENCY_ERROR", "alarm"),
            Error::Refused(_) => ("INTERNAL_ERROR", "refused"),
            Error::Moved(_) => ("UNAVAILABLE", "moved"),
            Error::Unavailable(_) | Error::Ledger(_) => ("UNAVAILABLE", "unavailable"),
        };
        metrics::counter!("ledger_export_troubles_total", "shard" => self.shard.name.clone(), "reason" => reason).increment(1);
        trouble.pause = (trouble.pause * 2).clamp(PAUSES.0, PAUSES.1);
        let text = error.to_string();
        if trouble.told != text {
            tracing::warn!(shard = self.shard.name, engine = self.engine.name(), %error, code, "events not exported");
            trouble.told = text;
        }
    }
}

/// The ledger may be another one now than the one that was looked at.
pub(super) fn reconnected() -> Error {
    Error::Moved("the connection to the ledger was lost".to_owned())
}

/// A process that exports no longer has no alarm to show.
struct AlarmGauge(String);

impl Drop for AlarmGauge {
    fn drop(&mut self) {
        metrics::gauge!("ledger_export_alarm", "shard" => self.0.clone()).set(0.0);
    }
}
