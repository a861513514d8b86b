//! Lock service: exclusive and shared locks with a TTL, FIFO queueing and fencing tokens.
//!
//! - Shape: one row per request in `locks`; all decisions are made in the shard's database, on its
//!   clock, one key at a time. `queue` is one process's view of a shard's queues, `maintenance`
//!   keeps them alive, `acquire_lock` is one caller's acquisition.
//! - Cost: one function call and one commit per call, whether it takes a free lock, joins the
//!   queue, or ends a lock and grants it to the next waiters. Work grows with the number of grants,
//!   not with the number of waiters.
//! - Lock order: the key's advisory lock first; within it no row lock is waited for.
//! - Promise: an exclusive lock has one holder; grants are FIFO per key across all processes;
//!   tokens grow with each grant of a key; an ended lock is never revived. A write under a lock
//!   ([`check_lock_in_tx`]) commits before a conflicting grant. A caller that is cancelled, or
//!   whose process dies, leaves the queue.

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

/// Parameters of an acquisition.
#[derive(Debug, Clone)]
pub struct LockRequest {
    /// Lock type and key attributes.
    pub target: LedgerKey,
    /// Exclusive, or shared with other shared holders.
    pub exclusive: bool,
    /// Time to live unless extended, in whole milliseconds.
    pub ttl: Duration,
    /// Maximum time in the queue; zero means no queueing.
    pub wait: Duration,
    /// Name of the caller, shown to other callers.
    pub owner: Option<String>,
    /// Idempotency key: a repeated request gets the same grant.
    pub request_id: Option<String>,
}

/// Reason for not getting, extending or releasing a lock.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LockRefusal {
    /// Held by others; carries one of the holders, unless they have just released it.
    #[error("held by another")]
    Locked(Option<LockHolder>),
    /// The lock was released or has expired.
    #[error("the lock has ended")]
    Ended,
    /// Unknown lock id, or a lock that ended long ago.
    #[error("no such lock")]
    Unknown,
    /// The `request_id` belongs to a request with other parameters.
    #[error("the request id is another request's")]
    OtherRequest,
    /// Too many waiting callers in this process.
    #[error("too many wait")]
    TooMany,
    /// This process is shutting down.
    #[error("stopping")]
    Stopping,
    /// Transactions under the lock kept it from being ended within the timeout.
    #[error("still written under")]
    Busy,
    /// Error of the shard's database.
    #[error(transparent)]
    Database(#[from] Error),
}

/// Lock service over all shards; clones share all state.
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
    /// Starts one maintenance task per shard; it sends no statements while no caller waits.
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

    /// Acquires a lock, queueing for up to `request.wait`. Dropping the future cancels: the place
    /// in the queue and a grant that was not delivered are given back.
    pub async fn acquire(&self, request: LockRequest) -> Result<LockGrant, LockRefusal> {
        let queue = &self.0.queues[self.0.shards.index_of_hash(request.target.shard_hash)];
        acquire::acquire_lock(queue, request).await
    }

    /// Refuses all waiting callers, for shutdown.
    pub fn stop(&self) {
        self.0.queues.iter().for_each(|line| line.stopping.cancel());
    }

    /// Sets the expiry of a live lock to `ttl` from now.
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

    /// Ends a live lock and grants it to the next waiter. Waits for transactions under the lock.
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

    /// Reads a held or ended lock; `None` if the id is unknown or only queued.
    pub async fn get_lock(&self, lock_id: Uuid) -> Result<Option<LockRow>, Error> {
        queries::read_lock(&self.shard_queue(lock_id).pool, lock_id).await
    }

    fn shard_queue(&self, lock_id: Uuid) -> Arc<LockQueue> {
        self.0.queues[self.0.shards.index_of_prefix(lock_prefix(lock_id))].clone()
    }
}

/// First 8 bytes of the shard key's hash, which select the lock's shard.
pub fn lock_prefix(lock_id: Uuid) -> u64 {
    lock_id.as_u64_pair().0
}

/// New lock id that carries the shard prefix of `hash`.
fn new_lock_id(hash: ShardHash) -> Uuid {
    Uuid::from_u64_pair(hash.hash_prefix(), Uuid::new_v4().as_u64_pair().1)
}

/// Awaits a spawned call; a cancelled caller does not cancel it.
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
        // Not possible as a refusal.
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
