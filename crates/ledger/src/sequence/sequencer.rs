//! The sequencer of a shard: numbers what is committed, quickly while there is work, hardly at all while there is none.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use store::{Lease, Result};
use tokio::sync::{Notify, watch};

/// Most batches numbered in one transaction.
const MAX_BATCHES_PER_NUMBERING: i32 = 10_000;
/// The pause between two looks while events come in: what is numbered together is cheaper.
const MIN_NUMBERING_INTERVAL: Duration = Duration::from_millis(10);
/// The longest pause: a process that writes elsewhere does not wake this one.
const MAX_NUMBERING_INTERVAL: Duration = Duration::from_secs(1);

/// Wakes a shard's sequencer in this process, if it is there; and tells its followers of new numbers.
#[derive(Debug, Clone)]
pub struct SequenceNotifier {
    events_written: Arc<Notify>,
    last_seq: watch::Sender<i64>,
}

impl Default for SequenceNotifier {
    fn default() -> Self {
        Self { events_written: Arc::default(), last_seq: watch::Sender::new(0) }
    }
}

impl SequenceNotifier {
    /// Events have been committed.
    pub fn notify_written(&self) {
        self.events_written.notify_one();
    }

    /// The last number that this process has seen given; changes wake aggregator, exporter and feeds.
    pub fn subscribe_last_seq(&self) -> watch::Receiver<i64> {
        self.last_seq.subscribe()
    }

    /// Takes note of a number that was given, by whomever. It is smaller than the one before in a ledger that was put back.
    pub fn publish_last_seq(&self, last_seq: i64) {
        self.last_seq.send_if_modified(|known| std::mem::replace(known, last_seq) != last_seq);
    }
}

/// Numbers the events of one shard.
#[derive(Debug, Clone)]
pub struct Sequencer {
    /// The shard's name.
    pub shard: String,
    /// Its database.
    pub pool: PgPool,
    /// What wakes it.
    pub notifier: SequenceNotifier,
}

impl Sequencer {
    /// Numbers until the lease is lost or the database does not answer.
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
                        .set(last as f64);
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

/// Numbers once: how many batches, and the last number given.
pub(crate) async fn number_batches(pool: &PgPool, lease: &Arc<Lease>) -> Result<(i32, i64)> {
    let lease = lease.clone();
    store::run_statement(pool, "number_batches", move |connection| {
        let lease = lease.clone();
        Box::pin(async move {
            store::fail_point("numbering");
            let (numbered, last): (Option<i32>, Option<i64>) = sqlx::query_as(
                "SELECT numbered, last FROM number_batches($1, $2, $3) -- number_batches",
            )
            .bind(lease.id)
            .bind(lease.epoch)
            .bind(MAX_BATCHES_PER_NUMBERING)
            .fetch_one(connection)
            .await?;
            store::fail_point("numbered");
            numbered.zip(last).ok_or_else(|| lease.fenced_error())
        })
    })
    .await
}
