//! Sequencer of a shard: numbers committed batches, with backoff while idle.
//!
//! - Cost: one round trip and one row lock per pass; every 50 ms under load, every second when
//!   idle.
//! - Promise: fenced by the lease in the numbering transaction, so that two sequencers never
//!   interleave.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use store::{Lease, Result};
use tokio::sync::{Notify, watch};

use crate::ids::SequenceNumber;

/// Maximum batches numbered in one transaction.
const MAX_BATCHES_PER_NUMBERING: i32 = 10_000;
/// Interval between passes under load. Numbers are promised within 200 ms, and a pass over many
/// batches costs as much as one over a few.
const MIN_NUMBERING_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum interval when idle: another process that writes does not wake this one.
const MAX_NUMBERING_INTERVAL: Duration = Duration::from_secs(1);

/// Wakes the shard's sequencer if it runs in this process, and notifies subscribers of new numbers.
#[derive(Debug, Clone)]
pub struct SequenceNotifier {
    events_written: Arc<Notify>,
    last_seq: watch::Sender<SequenceNumber>,
}

impl Default for SequenceNotifier {
    fn default() -> Self {
        Self { events_written: Arc::default(), last_seq: watch::Sender::new(SequenceNumber::ZERO) }
    }
}

impl SequenceNotifier {
    /// Wakes the sequencer after a commit of events.
    pub fn notify_written(&self) {
        self.events_written.notify_one();
    }

    /// Last assigned number seen by this process; a change wakes aggregator, exporter and feeds.
    pub fn subscribe_last_seq(&self) -> watch::Receiver<SequenceNumber> {
        self.last_seq.subscribe()
    }

    /// Publishes the last assigned number, no matter which process assigned it. It decreases when
    /// the ledger is restored to an older copy.
    pub fn publish_last_seq(&self, last_seq: SequenceNumber) {
        self.last_seq.send_if_modified(|known| std::mem::replace(known, last_seq) != last_seq);
    }
}

/// Assigns sequence numbers to the events of one shard.
#[derive(Debug, Clone)]
pub struct Sequencer {
    /// Name of the shard.
    pub shard: String,
    /// Pool of the shard's database.
    pub pool: PgPool,
    /// Wakeups of this sequencer, and its subscribers.
    pub notifier: SequenceNotifier,
}

impl Sequencer {
    /// Numbers batches until the lease is lost or the database is unavailable.
    pub async fn run(self, lease: Arc<Lease>) {
        let mut interval = MIN_NUMBERING_INTERVAL;
        loop {
            let woken = self.notifier.events_written.notified();
            match number_batches(&self.pool, &lease).await {
                Ok((0, _)) => interval = (interval * 2).min(MAX_NUMBERING_INTERVAL),
                Ok((batches, last)) => {
                    metrics::counter!("ledger_batches_numbered_total", "shard" => self.shard.clone())
                        .increment(batches.unsigned_abs().into());
                    metrics::gauge!("ledger_last_seq", "shard" => self.shard.clone())
                        .set(last.get() as f64);
                    self.notifier.publish_last_seq(last);
                    interval = MIN_NUMBERING_INTERVAL;
                }
                Err(store::Error::Fenced { .. }) => return,
                Err(error) => {
                    tracing::warn!(shard = self.shard, %error, code = "UNAVAILABLE", "events not numbered");
                    return;
                }
            }
            if interval == MIN_NUMBERING_INTERVAL {
                tokio::time::sleep(MIN_NUMBERING_INTERVAL).await;
            } else {
                let _ = tokio::time::timeout(interval, woken).await;
            }
        }
    }
}

/// Numbers one round of batches; returns their count and the last assigned number.
pub(crate) async fn number_batches(
    pool: &PgPool,
    lease: &Arc<Lease>,
) -> Result<(i32, SequenceNumber)> {
    store::fail_point("numbering");
    let (numbered, last): (Option<i32>, Option<SequenceNumber>) =
        store::statement("number_batches", "SELECT numbered, last FROM number_batches($1, $2, $3)")
            .bind(lease.id)
            .bind(lease.epoch)
            .bind(MAX_BATCHES_PER_NUMBERING)
            .fetch_one(pool)
            .await?;
    store::fail_point("numbered");
    numbered.zip(last).ok_or_else(|| lease.fenced_error())
}
