//! Locks: exclusive or shared, for a time, waited for in line, with fencing tokens.
//!
//! Everything is decided in the shard's database, one lock key at a time, on its clock: a call is one function call
//! and one commit, whether it takes a free lock, joins the line, or ends a lock and grants it to those next in line. What
//! a call does costs as many steps as it grants locks, however many wait. Processes only wait: `line` is what one
//! process knows of a shard's lines, `keeping` looks after them, `acquire` is one caller's way through them.
//!
//! Promises: who holds an exclusive lock holds it alone; first come, first served, per key, among all processes; tokens
//! grow with each grant of a key; a lock that has ended never lives again; a write under a lock ([`alive_in_tx`]) is
//! committed before anybody else is granted what conflicts with it. A caller or process that is gone leaves the line.

mod acquire;
mod alive;
mod answers;
mod keeping;
mod line;
mod queries;

use std::sync::Arc;
use std::time::Duration;

use store::Error;
use store::panics::told;
use tokio::task::AbortHandle;
use uuid::Uuid;

pub use alive::{Hold, alive_in_tx};
use answers::Outcome;
pub use answers::{Grant, Held, Holder};
use line::Line;

use crate::attributes::Keyed;
use crate::sharding::{ShardHash, Shards};

/// What a caller wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// A lock of this.
    pub of: Keyed,
    /// For itself alone, or together with others who share it.
    pub exclusive: bool,
    /// For how long, unless it is extended; to the millisecond.
    pub ttl: Duration,
    /// How long to wait in line.
    pub wait: Duration,
    /// Who the caller is, for others to see.
    pub owner: Option<String>,
    /// Names the request, so that its repetition gets the same grant.
    pub request_id: Option<String>,
}

/// Why there is no lock.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// Others hold it; one of them, unless they have just left.
    #[error("held by another")]
    Locked(Option<Holder>),
    /// It has ended.
    #[error("the lock has ended")]
    Ended,
    /// There is no lock of this id, or it ended long ago.
    #[error("no such lock")]
    Unknown,
    /// The `request_id` is another request's.
    #[error("the request id is another request's")]
    OtherRequest,
    /// Too many callers of this process wait.
    #[error("too many wait")]
    TooMany,
    /// This process is about to end.
    #[error("stopping")]
    Stopping,
    /// Writes under the lock go on and on: it could not be ended.
    #[error("still written under")]
    Busy,
    /// The database.
    #[error(transparent)]
    Database(#[from] Error),
}

/// The locks of all shards; clones share everything.
#[derive(Clone)]
pub struct Locks(Arc<Inner>);

struct Inner {
    shards: Shards,
    lines: Vec<Arc<Line>>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Locks {
    /// Begins to look after each shard's lines; nothing is asked of them while nobody waits.
    pub fn start(shards: Shards) -> Self {
        let process = Uuid::new_v4();
        let (mut lines, mut tasks) = (Vec::new(), Vec::new());
        for shard in shards.all() {
            let line = Arc::new(Line::new(shard.pool.clone(), process));
            tasks.push(tokio::spawn(keeping::watch(line.clone())).abort_handle());
            lines.push(line);
        }
        Self(Arc::new(Inner { shards, lines, tasks }))
    }

    /// Takes a lock, waiting in line if the caller wants to. Dropping the future gives up: the place in line, and what
    /// was granted unheard.
    pub async fn acquire(&self, wanted: Wanted) -> Result<Grant, Refusal> {
        let line = &self.0.lines[self.0.shards.owner(wanted.of.hash)];
        acquire::acquire(line, wanted).await
    }

    /// Lets nobody wait any more: this process is about to end.
    pub fn stop(&self) {
        self.0.lines.iter().for_each(|line| line.stopping.cancel());
    }

    /// Lets a lock that is alive expire `ttl` from now.
    pub async fn extend(&self, lock_id: Uuid, ttl: Duration) -> Result<Grant, Refusal> {
        let line = self.line(lock_id);
        match finished(tokio::spawn(told(async move { line.extend(lock_id, ttl).await }))).await? {
            Outcome::Granted(grant) => Ok(grant),
            other => Err(refusal(other)),
        }
    }

    /// Ends a lock that is alive; whoever is next in line has it then. Waits for writes under it.
    pub async fn release(&self, lock_id: Uuid) -> Result<(), Refusal> {
        let line = self.line(lock_id);
        match finished(tokio::spawn(told(async move { line.release(lock_id).await }))).await? {
            Outcome::Released => Ok(()),
            other => Err(refusal(other)),
        }
    }

    /// A lock that is or was held.
    pub async fn look(&self, lock_id: Uuid) -> Result<Option<Held>, Error> {
        queries::look(&self.line(lock_id).pool, lock_id).await
    }

    fn line(&self, lock_id: Uuid) -> Arc<Line> {
        self.0.lines[self.0.shards.owner_of(lock_prefix(lock_id))].clone()
    }
}

/// The beginning of the hash of a lock's shard key: what decides on its shard.
pub fn lock_prefix(lock_id: Uuid) -> u64 {
    lock_id.as_u64_pair().0
}

/// An id for a lock of what lies at `hash`.
fn new_lock_id(hash: ShardHash) -> Uuid {
    Uuid::from_u64_pair(hash.prefix(), Uuid::new_v4().as_u64_pair().1)
}

/// Waits for work that must go on whatever becomes of the caller.
async fn finished<T>(task: tokio::task::JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    task.await.unwrap_or(Err(Error::Abandoned))
}

fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Locked(holder) => Refusal::Locked(holder),
        Outcome::Ended => Refusal::Ended,
        Outcome::Unknown => Refusal::Unknown,
        Outcome::OtherRequest => Refusal::OtherRequest,
        Outcome::Busy => Refusal::Busy,
        // Not what such a call can be answered with.
        Outcome::Granted(_) | Outcome::Queued(_) | Outcome::Released => Refusal::Database(Error::Abandoned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_id_says_where_it_belongs() {
        let hash = ShardHash::of("storage_id=7");
        let lock_id = new_lock_id(hash);
        assert_eq!(lock_prefix(lock_id), hash.prefix());
        assert!(lock_id.to_string().starts_with("c86a8df0-febd-adcd-"), "{lock_id}");
        assert_ne!(lock_id, new_lock_id(hash));
    }
}
