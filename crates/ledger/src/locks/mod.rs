//! Locks: exclusive or shared, for a time, waited for in line, with fencing tokens.
//!
//! Everything is decided in the shard's database, one lock key at a time, on its clock: a call is one function call
//! and one commit, whether it takes a free lock, joins the line, or ends a lock and grants it to those next in line. What
//! a call does costs as many steps as it grants locks, however many wait. Processes only wait: `line` is what one
//! process knows of a shard's lines, `maintenance` looks after them, `acquire_lock` is one caller's way through them.
//!
//! Promises: who holds an exclusive lock holds it alone; first come, first served, per key, among all processes; tokens
//! grow with each grant of a key; a lock that has ended never lives again; a write under a lock ([`check_lock_in_tx`]) is
//! committed before anybody else is granted what conflicts with it. A caller or process that is gone leaves the line.

mod acquire;
mod alive;
mod answers;
mod maintenance;
mod queries;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use store::Error;
use store::panics::contain_panic;
use tokio::task::AbortHandle;
use uuid::Uuid;

pub use alive::{LockStatus, check_lock_in_tx};
use answers::LockOutcome;
pub use answers::{LockGrant, LockHolder, LockRow};
use queue::LockQueue;

use crate::attributes::LedgerKey;
use crate::sharding::{LedgerShards, ShardHash};

/// What a caller wants.
#[derive(Debug, Clone)]
pub struct LockRequest {
    /// A lock of this.
    pub target: LedgerKey,
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
pub enum LockRefusal {
    /// Others hold it; one of them, unless they have just left.
    #[error("held by another")]
    Locked(Option<LockHolder>),
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
pub struct LockService(Arc<LockServiceInner>);

struct LockServiceInner {
    shards: LedgerShards,
    queues: Vec<Arc<LockQueue>>,
    tasks: Vec<AbortHandle>,
}

impl Drop for LockServiceInner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl LockService {
    /// Begins to look after each shard's lines; nothing is asked of them while nobody waits.
    pub fn start(shards: LedgerShards) -> Self {
        let process_id = Uuid::new_v4();
        let (mut queues, mut tasks) = (Vec::new(), Vec::new());
        for shard in shards.all() {
            let queue = Arc::new(LockQueue::new(shard.pool.clone(), process_id));
            tasks.push(tokio::spawn(maintenance::maintain_queue(queue.clone())).abort_handle());
            queues.push(queue);
        }
        Self(Arc::new(LockServiceInner { shards, queues, tasks }))
    }

    /// Takes a lock, waiting in line if the caller wants to. Dropping the future gives up: the place in line, and what
    /// was granted unheard.
    pub async fn acquire(&self, request: LockRequest) -> Result<LockGrant, LockRefusal> {
        let queue = &self.0.queues[self.0.shards.index_of_hash(request.target.shard_hash)];
        acquire::acquire_lock(queue, request).await
    }

    /// Lets nobody wait any more: this process is about to end.
    pub fn stop(&self) {
        self.0.queues.iter().for_each(|line| line.stopping.cancel());
    }

    /// Lets a lock that is alive expire `ttl` from now.
    pub async fn extend(&self, lock_id: Uuid, ttl: Duration) -> Result<LockGrant, LockRefusal> {
        let queue = self.shard_queue(lock_id);
        match join_task(tokio::spawn(contain_panic(async move {
            queue.extend_lock(lock_id, ttl).await
        })))
        .await?
        {
            LockOutcome::Granted(grant) => Ok(grant),
            other => Err(refusal_from_outcome(other)),
        }
    }

    /// Ends a lock that is alive; whoever is next in line has it then. Waits for writes under it.
    pub async fn release(&self, lock_id: Uuid) -> Result<(), LockRefusal> {
        let queue = self.shard_queue(lock_id);
        match join_task(tokio::spawn(contain_panic(
            async move { queue.release_lock(lock_id).await },
        )))
        .await?
        {
            LockOutcome::Released => Ok(()),
            other => Err(refusal_from_outcome(other)),
        }
    }

    /// A lock that is or was held.
    pub async fn get_lock(&self, lock_id: Uuid) -> Result<Option<LockRow>, Error> {
        queries::read_lock(&self.shard_queue(lock_id).pool, lock_id).await
    }

    fn shard_queue(&self, lock_id: Uuid) -> Arc<LockQueue> {
        self.0.queues[self.0.shards.index_of_prefix(lock_prefix(lock_id))].clone()
    }
}

/// The beginning of the hash of a lock's shard key: what decides on its shard.
pub fn lock_prefix(lock_id: Uuid) -> u64 {
    lock_id.as_u64_pair().0
}

/// An id for a lock of what lies at `shard_hash`.
fn new_lock_id(hash: ShardHash) -> Uuid {
    Uuid::from_u64_pair(hash.hash_prefix(), Uuid::new_v4().as_u64_pair().1)
}

/// Waits for work that must go on whatever becomes of the caller.
async fn join_task<T>(task: tokio::task::JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    task.await.unwrap_or(Err(Error::Abandoned))
}

fn refusal_from_outcome(outcome: LockOutcome) -> LockRefusal {
    match outcome {
        LockOutcome::Locked(holder) => LockRefusal::Locked(holder),
        LockOutcome::Ended => LockRefusal::Ended,
        LockOutcome::Unknown => LockRefusal::Unknown,
        LockOutcome::OtherRequest => LockRefusal::OtherRequest,
        LockOutcome::Busy => LockRefusal::Busy,
        // Not what such a call can be answered with.
        LockOutcome::Granted(_) | LockOutcome::Queued(_) | LockOutcome::Released => {
            LockRefusal::Database(Error::Abandoned)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_id_says_where_it_belongs() {
        let hash = ShardHash::from_shard_key("storage_id=7");
        let lock_id = new_lock_id(hash);
        assert_eq!(lock_prefix(lock_id), hash.hash_prefix());
        assert!(lock_id.to_string().starts_with("c86a8df0-febd-adcd-"), "{lock_id}");
        assert_ne!(lock_id, new_lock_id(hash));
    }
}
