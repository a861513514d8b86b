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

use crate::{Lease, LeaseTerms, Leases};

/// Works under the lease for as long as it is held; the future is dropped when the lease is lost or the process stops,
/// so it must be safe to drop at any await (database work is: it runs in tasks of its own).
pub type Work = Arc<dyn Fn(Arc<Lease>) -> BoxFuture<'static, ()> + Send + Sync>;

/// How long a work that ended or failed by itself is left alone.
const PAUSE: Duration = Duration::from_millis(200);

/// Does `duties` of the database behind `pool`, each whenever its lease is this process's, until `stop`; then gives the
/// leases back.
pub async fn do_duties(
    pool: PgPool,
    terms: LeaseTerms,
    duties: HashMap<&'static str, Work>,
    stop: CancellationToken,
) {
    if duties.is_empty() {
        return;
    }
    let class = |name: &str| format!("duty/{name}");
    let (adopted, mut arriving) = mpsc::channel(duties.len());
    let classes = duties.keys().map(|name| class(name)).collect();
    let (leases, renewing) = Leases::start(pool, terms, classes, adopted);
    let mut working = JoinSet::new();
    let begin = |working: &mut JoinSet<()>, lease: Arc<Lease>| {
        if let Some(work) = duties.get(lease.name.as_str()) {
            working.spawn(perform(work.clone(), leases.clone(), lease, stop.clone()));
        }
    };
    // A duty that nobody ever did has no lease that could run out.
    for name in duties.keys() {
        while !stop.is_cancelled() {
            match leases.take(&class(name), name).await {
                Ok(lease) => {
                    lease.into_iter().for_each(|lease| begin(&mut working, lease));
                    break;
                }
                Err(error) => {
                    tracing::warn!(duty = name, %error, code = "UNAVAILABLE", "duty not taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(lease) = arriving.recv() => begin(&mut working, lease),
            Some(_) = working.join_next() => {}
        }
    }
    leases.retire();
    while working.join_next().await.is_some() {}
    renewing.abort();
}

async fn perform(work: Work, leases: Leases, lease: Arc<Lease>, stop: CancellationToken) {
    tracing::debug!(duty = lease.name, epoch = lease.epoch, "on duty");
    while !lease.is_lost() {
        tokio::select! {
            () = lease.lost() => break,
            () = stop.cancelled() => {
                if let Err(error) = leases.release(&lease).await {
                    tracing::warn!(duty = lease.name, %error, code = "UNAVAILABLE", "duty not given back; it expires");
                }
                return;
            }
            done = crate::panics::caught(work(lease.clone())) => {
                if done.is_err() {
                    tracing::error!(duty = lease.name, code = "LOGIC_ERROR", "a duty panicked");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // Should it only have seemed lost: whoever is on duty next, this process perhaps, takes it over when it has run out.
    leases.forget(&lease);
}
