//! Stopping, in order: everything has `--shutdown-timeout` from the signal on, however many parts of it there are.

use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::http::Api;
use super::rooms::Running;
use super::tasks::Background;
use super::{database, ended};

/// REST calls in flight have so long when everything else has ended.
const FOR_LAST_ANSWERS: Duration = Duration::from_secs(2);
/// What has been stopping since the signal has so long at least.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// What duties have to give their leases back.
const FOR_DUTIES: Duration = Duration::from_secs(2);

/// When the process was told to stop.
pub(super) struct Signal {
    stop: CancellationToken,
    came: JoinHandle<Instant>,
}

impl Signal {
    pub(super) fn watch(stop: &CancellationToken) -> Self {
        let heard = stop.clone();
        let came = tokio::spawn(async move {
            heard.cancelled().await;
            Instant::now()
        });
        Self { stop: stop.clone(), came }
    }

    /// When everything is to have ended that has so long from the signal on. Without a signal (serving has failed) it is
    /// given now.
    async fn deadline(self, shutdown_timeout: Duration) -> Instant {
        self.stop.cancel();
        self.came.await.unwrap_or_else(|_| Instant::now()) + shutdown_timeout
    }
}

/// What runs beside the servers.
pub(super) struct Parts {
    pub(super) background: Background,
    pub(super) configuring: JoinSet<()>,
    pub(super) duties: JoinSet<()>,
    pub(super) heartbeat: JoinHandle<()>,
    /// Ends the heartbeat.
    pub(super) gone: CancellationToken,
    pub(super) api: Api,
}

impl Parts {
    /// Waits for all parts, which have been stopping since the signal and hand in what is unfinished after two thirds of the
    /// time; then closes the database.
    pub(super) async fn stop(
        mut self,
        signal: Signal,
        shutdown_timeout: Duration,
        running: &Running,
        database: &database::Database,
    ) {
        let deadline = signal.deadline(shutdown_timeout).await;
        let left = || deadline.saturating_duration_since(Instant::now()).max(LEAST_WAIT);
        // Whoever waits in line for a lock asks another process.
        running.ledger.locks.stop();
        running.leave().await;
        self.background.ended(left()).await;
        ended(self.configuring, left()).await;
        self.gone.cancel();
        let _ = timeout(LEAST_WAIT, self.heartbeat).await;
        self.api.stop(FOR_LAST_ANSWERS).await;
        let _ = timeout(FOR_DUTIES, async { while self.duties.join_next().await.is_some() {} }).await;
        database.close().await;
    }
}
