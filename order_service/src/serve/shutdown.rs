//! Stopping, in order: everything has `--shutdown-timeout` from the signal on, however many parts of it there are.

use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::http::HttpApiServer;
use super::process::RunningProcess;
use super::tasks::BackgroundTasks;
use super::{database, join_tasks_within};

/// REST calls in flight have so long when everything else has ended.
const LAST_REQUESTS_TIMEOUT: Duration = Duration::from_secs(2);
/// What has been stopping since the signal has so long at least.
const MIN_STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// What duties have to give their leases back.
const DUTIES_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// When the process was told to stop.
pub(super) struct ShutdownSignal {
    stop: CancellationToken,
    received_at: JoinHandle<Instant>,
}

impl ShutdownSignal {
    pub(super) fn watch(stop: &CancellationToken) -> Self {
        let cancelled_token = stop.clone();
        let received_at = tokio::spawn(async move {
            cancelled_token.cancelled().await;
            Instant::now()
        });
        Self { stop: stop.clone(), received_at }
    }

    /// When everything is to have ended that has so long from the signal on. Without a signal (serving has failed) it is
    /// given now.
    async fn deadline(self, shutdown_timeout: Duration) -> Instant {
        self.stop.cancel();
        self.received_at.await.unwrap_or_else(|_| Instant::now()) + shutdown_timeout
    }
}

/// What runs beside the servers.
pub(super) struct ShutdownParts {
    pub(super) background: BackgroundTasks,
    pub(super) configurator_tasks: JoinSet<()>,
    pub(super) duties: JoinSet<()>,
    pub(super) heartbeat: JoinHandle<()>,
    /// Ends the heartbeat.
    pub(super) heartbeat_stop: CancellationToken,
    pub(super) api: HttpApiServer,
}

impl ShutdownParts {
    /// Waits for all parts, which have been stopping since the signal and hand in what is unfinished after two thirds of the
    /// time; then closes the database.
    pub(super) async fn stop(
        mut self,
        signal: ShutdownSignal,
        shutdown_timeout: Duration,
        running: &RunningProcess,
        database: &database::ControlDatabase,
    ) {
        let deadline = signal.deadline(shutdown_timeout).await;
        let time_left = || deadline.saturating_duration_since(Instant::now()).max(MIN_STOP_TIMEOUT);
        // Whoever waits in line for a lock asks another process.
        running.ledger.locks.stop();
        running.release_lanes().await;
        self.background.join_within(time_left()).await;
        join_tasks_within(self.configurator_tasks, time_left()).await;
        self.heartbeat_stop.cancel();
        let _ = timeout(MIN_STOP_TIMEOUT, self.heartbeat).await;
        self.api.stop(LAST_REQUESTS_TIMEOUT).await;
        let _ = timeout(DUTIES_STOP_TIMEOUT, async {
            while self.duties.join_next().await.is_some() {}
        })
        .await;
        database.close().await;
    }
}
