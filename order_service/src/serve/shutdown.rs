//! Ordered shutdown: all parts share one deadline, `--shutdown-timeout` after the signal.

use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::http::HttpApiServer;
use super::process::RunningProcess;
use super::tasks::BackgroundTasks;
use super::{database, join_tasks_within};

/// Timeout of REST calls in flight once everything else has stopped.
const LAST_REQUESTS_TIMEOUT: Duration = Duration::from_secs(2);
/// Minimum time for each part, even past the deadline.
const MIN_STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeout of the duties for releasing their leases.
const DUTIES_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Records the moment of the stop signal.
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

    /// Deadline of the shutdown. Without a signal (serving failed) the timeout starts now.
    async fn deadline(self, shutdown_timeout: Duration) -> Instant {
        self.stop.cancel();
        self.received_at.await.unwrap_or_else(|_| Instant::now()) + shutdown_timeout
    }
}

/// Parts that run beside the gRPC server.
pub(super) struct ShutdownParts {
    pub(super) background: BackgroundTasks,
    pub(super) configurator_tasks: JoinSet<()>,
    pub(super) duties: JoinSet<()>,
    pub(super) heartbeat: JoinHandle<()>,
    /// Cancelled to end the heartbeat.
    pub(super) heartbeat_stop: CancellationToken,
    pub(super) api: HttpApiServer,
}

impl ShutdownParts {
    /// Waits for all parts, then closes the database. The parts have been stopping since the
    /// signal, and release unfinished work after two thirds of the timeout.
    pub(super) async fn stop(
        mut self,
        signal: ShutdownSignal,
        shutdown_timeout: Duration,
        running: &RunningProcess,
        database: &database::ControlDatabase,
    ) {
        let deadline = signal.deadline(shutdown_timeout).await;
        // Clients in a lock's wait queue retry at another process.
        running.ledger.locks.stop();
        running.release_lanes().await;
        self.background.join_within(stop_time_left(deadline)).await;
        join_tasks_within(self.configurator_tasks, stop_time_left(deadline)).await;
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

/// Time until `deadline`; at least [`MIN_STOP_TIMEOUT`].
fn stop_time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(MIN_STOP_TIMEOUT)
}
