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
    let (lease_sender, mut lease_receiver) = mpsc::channel(duties.len());
    let names: Vec<&'static str> = duties.keys().copied().collect();
    let classes = names.iter().map(|name| duty_class(name)).collect();
    let (leases, renewal_task) = LeaseManager::start(pool, options, classes, lease_sender);
    let mut own = OwnDuties { duties, leases, running: JoinSet::new(), stop };
    for name in names {
        own.take_duty(name).await;
    }
    loop {
        tokio::select! {
            () = own.stop.cancelled() => break,
            Some(lease) = lease_receiver.recv() => own.begin_duty(lease),
            Some(_) = own.running.join_next() => {}
        }
    }
    own.leases.retire();
    while own.running.join_next().await.is_some() {}
    renewal_task.abort();
}

/// Lease class of a duty.
fn duty_class(name: &str) -> String {
    format!("duty/{name}")
}

/// The duties of one process, and those that it is performing.
struct OwnDuties {
    duties: HashMap<&'static str, DutyWork>,
    leases: LeaseManager,
    running: JoinSet<()>,
    stop: CancellationToken,
}

impl OwnDuties {
    /// Takes a duty if it is free: without a lease row it cannot be adopted by expiry.
    async fn take_duty(&mut self, name: &'static str) {
        while !self.stop.is_cancelled() {
            match self.leases.take_lease(&duty_class(name), name).await {
                Ok(Some(lease)) => return self.begin_duty(lease),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(duty = name, %error, code = "UNAVAILABLE", "duty not taken");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    fn begin_duty(&mut self, lease: Arc<Lease>) {
        if let Some(work) = self.duties.get(lease.name.as_str()) {
            let (work, leases, stop) = (work.clone(), self.leases.clone(), self.stop.clone());
            self.running.spawn(perform_duty(work, leases, lease, stop));
        }
    }
}

async fn perform_duty(
    work: DutyWork,
    leases: LeaseManager,
    lease: Arc<Lease>,
    stop: CancellationToken,
) {
    tracing::debug!(duty = lease.name, epoch = lease.epoch.get(), "on duty");
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
