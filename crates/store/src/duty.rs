//! Duties: endless background work that one process at a time performs, with hot standbys.
//!
//! - Shape: a duty is a lease (class `duty/<name>`). Its holder works until the lease is lost
//!   or the process stops.
//! - Cost: a standby runs one statement every two seconds for all duties of a database.
//! - Promise: a standby takes over at most one renewal interval after the lease expired or was
//!   released. All writes of the work must be fenced by the lease.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Lease, LeaseManager, LeaseOptions};

/// Work under a lease. The future is dropped when the lease is lost or the process stops, so it
/// must be cancellation-safe at every await (database calls are: they run in separate tasks).
pub type DutyWork = Arc<dyn Fn(Arc<Lease>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Wait before work that ended or failed is started again.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Performs each of `duties` while this process holds its lease, until `stop`;
/// then releases the leases.
pub async fn run_duties(
    pool: PgPool,
    options: LeaseOptions,
    duties: HashMap<&'static str, DutyWork>,
    stop: CancellationToken,
) {
    if duties.is_empty() {
        return;
    }
    let class = |name: &str| format!("duty/{name}");
    let (lease_sender, mut lease_receiver) = mpsc::channel(duties.len());
    let classes = duties.keys().map(|name| class(name)).collect();
    let (leases, renewal_task) = LeaseManager::start(pool, options, classes, lease_sender);
    let mut running = JoinSet::new();
    let begin = |working: &mut JoinSet<()>, lease: Arc<Lease>| {
        if let Some(work) = duties.get(lease.name.as_str()) {
            working.spawn(perform_duty(work.clone(), leases.clone(), lease, stop.clone()));
        }
    };
    // A duty without a lease row cannot be adopted by expiry: take it explicitly.
    for name in duties.keys() {
        while !stop.is_cancelled() {
            match leases.take_lease(&class(name), name).await {
                Ok(lease) => {
                    lease.into_iter().for_each(|lease| begin(&mut running, lease));
                    break;
                }
                Err(error) => {
                    tracing::warn!(duty = name, %error, code = "UNAVAILABLE", "duty not taken");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(lease) = lease_receiver.recv() => begin(&mut running, lease),
            Some(_) = running.join_next() => {}
        }
    }
    leases.retire();
    while running.join_next().await.is_some() {}
    renewal_task.abort();
}

async fn perform_duty(
    work: DutyWork,
    leases: LeaseManager,
    lease: Arc<Lease>,
    stop: CancellationToken,
) {
    tracing::debug!(duty = lease.name, epoch = lease.epoch, "on duty");
    while !lease.is_lost() {
        tokio::select! {
            () = lease.wait_until_lost() => break,
            () = stop.cancelled() => {
                if let Err(error) = leases.release_lease(&lease).await {
                    tracing::warn!(duty = lease.name, %error, code = "UNAVAILABLE", "duty not given back; it expires");
                }
                return;
            }
            done = crate::panics::catch_panic(work(lease.clone())) => {
                if done.is_err() {
                    tracing::error!(duty = lease.name, code = "LOGIC_ERROR", "a duty panicked");
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
    // If the lease only seemed lost, it expires, and any process (perhaps this one) takes it over.
    leases.forget_lease(&lease);
}
