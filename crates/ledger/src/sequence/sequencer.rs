//! The sequencer of a shard: numbers what is committed, quickly while there is work, hardly at all while there is none.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use store::{Lease, Result};
use tokio::sync::{Notify, watch};

/// Most batches numbered in one transaction.
const MOST: i32 = 10_000;
/// The pause between two looks while events come in: what is numbered together is cheaper.
const BUSY: Duration = Duration::from_millis(10);
/// The longest pause: a process that writes elsewhere does not wake this one.
const IDLE: Duration = Duration::from_secs(1);

/// Wakes a shard's sequencer in this process, if it is there; and tells its followers of new numbers.
#[derive(Debug, Clone)]
pub struct Wake {
    written: Arc<Notify>,
    last: watch::Sender<i64>,
}

impl Default for Wake {
    fn default() -> Self {
        Self { written: Arc::default(), last: watch::Sender::new(0) }
    }
}

impl Wake {
    /// Events have been committed.
    pub fn written(&self) {
        self.written.notify_one();
    }

    /// The last number that this process has seen given; changes wake aggregator, exporter and feeds.
    pub fn last(&self) -> watch::Receiver<i64> {
        self.last.subscribe()
    }

    /// Takes note of a number that was given, by whomever. It is smaller than the one before in a ledger that was put back.
    pub fn numbered(&self, last: i64) {
        self.last.send_if_modified(|known| std::mem::replace(known, last) != last);
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
    pub wake: Wake,
}

impl Sequencer {
    /// Numbers until the lease is lost or the database does not answer.
    pub async fn run(self, lease: Arc<Lease>) {
        let mut pause = BUSY;
        loop {
            let woken = self.wake.written.notified();
            match number(&self.pool, &lease).await {
                Ok((0, _)) => pause = (pause * 2).min(IDLE),
                Ok((batches, last)) => {
                    metrics::counter!("ledger_batches_numbered_total", "shard" => self.shard.clone())
                        .increment(batches.unsigned_abs().into());
                    metrics::gauge!("ledger_last_seq", "shard" => self.shard.clone()).set(last as f64);
                    self.wake.numbered(last);
                    pause = BUSY;
                }
                Err(store::Error::Fenced { .. }) => return,
                Err(error) => {
                    tracing::warn!(shard = self.shard, %error, code = "UNAVAILABLE", "events not numbered");
                    return;
                }
            }
            if pause == BUSY {
                tokio::time::sleep(BUSY).await;
            } else {
                let _ = tokio::time::timeout(pause, woken).await;
            }
        }
    }
}

/// Numbers once: how many batches, and the last number given.
pub(crate) async fn number(pool: &PgPool, lease: &Arc<Lease>) -> Result<(i32, i64)> {
    let lease = lease.clone();
    store::run(pool, "number_batches", move |connection| {
        let lease = lease.clone();
        Box::pin(async move {
            store::fail_point("numbering");
            let (numbered, last): (Option<i32>, Option<i64>) =
                sqlx::query_as("SELECT numbered, last FROM number_batches($1, $2, $3) -- number_batches")
                    .bind(lease.id)
                    .bind(lease.epoch)
                    .bind(MOST)
                    .fetch_one(connection)
                    .await?;
            store::fail_point("numbered");
            numbered.zip(last).ok_or_else(|| lease.fenced())
        })
    })
    .await
}
