//! Duties: endless work of which one process at a time may do its part, with the others as hot standbys.
//!
//! A duty is a lease (class `duty/<name>`). Whoever holds it works until it is lost or the process stops; whatever the
//! work writes must be fenced by the lease. A standby costs one statement every two seconds for all duties of a
//! database together; it takes over at most a renewal after the lease ran out or was given back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Lease, LeaseManager, LeaseOptions};

/// Works under the lease for as long as it is held; the future is dropped when the lease is lost or the process stops,
/// so it must be safe to drop at any await (database work is: it runs in tasks of its own).
pub type DutyWork = Arc<dyn Fn(Arc<Lease>) -> BoxFuture<'static, ()> + Send + Sync>;

/// How long a work that ended or failed by itself is left alone.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Does `duties` of the database behind `pool`, each whenever its lease is this process's, until `stop`; then gives the
/// leases back.
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
    // A duty that nobody ever did has no lease that could run out.
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
    // Should it only have seemed lost: whoever is on duty next, this process perhaps, takes it over when it has run out.
    leases.forget_lease(&lease);
}
