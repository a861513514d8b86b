//! Acquisition of one lock. It runs in a spawned task, so that a cancelled caller does not lose
//! track of what must be given back.

use std::sync::Arc;

use store::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::answers::{LockGrant, LockOutcome};
use super::queries::LockCall;
use super::queue::LockQueue;
use super::{LockRefusal, LockRequest, new_lock_id, refusal_from_outcome};

/// Maximum number of waiting callers per process and shard.
const MAX_WAITING_CALLERS: usize = 10_000;

type LockGrantResult = Result<LockGrant, LockRefusal>;

pub(super) async fn acquire_lock(
    queue: &Arc<LockQueue>,
    lock_request: LockRequest,
) -> LockGrantResult {
    if queue.len() >= MAX_WAITING_CALLERS {
        return Err(LockRefusal::TooMany);
    }
    let lock_call = Arc::new(LockCall {
        request: lock_request,
        attempt_id: Uuid::new_v4(),
        process_id: queue.process_id,
    });
    let (reply, answer) = oneshot::channel();
    let mut pending = LockCaller { queue: queue.clone(), lock_call: lock_call.clone(), answer };
    tokio::spawn(store::panics::contain_panic(run_acquire(queue.clone(), lock_call, reply)));
    (&mut pending.answer).await.unwrap_or(Err(LockRefusal::Database(Error::Abandoned)))
}

/// Caller's end of an acquisition; dropping it cancels.
struct LockCaller {
    queue: Arc<LockQueue>,
    lock_call: Arc<LockCall>,
    answer: oneshot::Receiver<LockGrantResult>,
}

impl Drop for LockCaller {
    fn drop(&mut self) {
        self.answer.close();
        // The grant was sent but not received.
        if let Ok(Ok(grant)) = self.answer.try_recv() {
            spawn_leave(&self.queue, grant.lock_id, &self.lock_call);
        }
    }
}

/// Guard that leaves the queue on drop, unless `has_left` is set.
struct LockQueuePlace {
    queue: Arc<LockQueue>,
    lock_call: Arc<LockCall>,
    lock_id: Uuid,
    has_left: bool,
}

impl Drop for LockQueuePlace {
    fn drop(&mut self) {
        if !self.has_left {
            spawn_leave(&self.queue, self.lock_id, &self.lock_call);
        }
    }
}

fn spawn_leave(queue: &Arc<LockQueue>, lock_id: Uuid, lock_call: &Arc<LockCall>) {
    let (queue, lock_call) = (queue.clone(), lock_call.clone());
    // Without a runtime the process is ending, and its places expire with it.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move { queue.leave_queue(lock_id, &lock_call).await });
    }
}

async fn run_acquire(
    queue: Arc<LockQueue>,
    lock_call: Arc<LockCall>,
    mut reply: oneshot::Sender<LockGrantResult>,
) {
    let deadline = Instant::now() + lock_call.request.wait;
    let lock_id = new_lock_id(lock_call.request.target.shard_hash);
    let mut place = LockQueuePlace {
        queue: queue.clone(),
        lock_call: lock_call.clone(),
        lock_id,
        has_left: false,
    };
    let mut subscriber = queue.subscribe(place.lock_id);
    let answer = loop {
        match queue.take_lock(place.lock_id, &lock_call, Instant::now() < deadline).await {
            Err(error) => break Err(LockRefusal::Database(error)),
            Ok(LockOutcome::Granted(grant)) => {
                place.lock_id = grant.lock_id;
                break Ok(grant);
            }
            Ok(LockOutcome::Queued(lock_id)) if lock_id != place.lock_id => {
                // The place belongs to an earlier call. Subscribe to it first, then ask again.
                place.lock_id = lock_id;
                subscriber = queue.subscribe(lock_id);
            }
            Ok(LockOutcome::Queued(_)) => tokio::select! {
                news = subscriber.wait_for_grant() => if let Some(grant) = news { break Ok(grant) },
                // At the deadline ask once more without queueing: the database decides.
                () = sleep_until(deadline) => {}
                () = reply.closed() => return,
                () = queue.stopping.cancelled() => break Err(LockRefusal::Stopping),
            },
            Ok(LockOutcome::Ended) if lock_call.request.request_id.is_none() => {
                // The lock ended before the grant arrived: the answer of the granting statement was
                // lost for longer than the TTL. Start over with a new id.
                place.lock_id = new_lock_id(lock_call.request.target.shard_hash);
                subscriber = queue.subscribe(place.lock_id);
            }
            Ok(other) => {
                place.has_left = true;
                queue.notify_waiter(place.lock_id, None);
                break Err(refusal_from_outcome(other));
            }
        }
    };
    let granted = answer.is_ok();
    metrics::counter!("ledger_locks_granted_total").increment(u64::from(granted));
    // Give back a grant that the caller did not receive, and whatever a failed or timed-out call
    // may have left in the database.
    place.has_left |= reply.send(answer).is_ok() && granted;
}
