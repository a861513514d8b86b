//! One caller's way to a lock. It is walked by a task of its own: when the caller goes away the task still knows what
//! is to be given back.

use std::sync::Arc;

use store::Error;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::answers::{Grant, Outcome};
use super::line::Line;
use super::queries::Request;
use super::{Refusal, Wanted, new_lock_id, refusal};

/// Most callers of a process that wait for locks of one shard.
const MOST_WAITING: usize = 10_000;

type Answer = Result<Grant, Refusal>;

pub(super) async fn acquire(line: &Arc<Line>, wanted: Wanted) -> Answer {
    if line.len() >= MOST_WAITING {
        return Err(Refusal::TooMany);
    }
    let request = Arc::new(Request { wanted, attempt: Uuid::new_v4(), process: line.process });
    let (reply, answer) = oneshot::channel();
    let mut pending = Pending { line: line.clone(), request: request.clone(), answer };
    tokio::spawn(store::panics::told(walk(line.clone(), request, reply)));
    (&mut pending.answer).await.unwrap_or(Err(Refusal::Database(Error::Abandoned)))
}

/// A caller that waits for its answer.
struct Pending {
    line: Arc<Line>,
    request: Arc<Request>,
    answer: oneshot::Receiver<Answer>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.answer.close();
        // Answered, but never heard.
        if let Ok(Ok(grant)) = self.answer.try_recv() {
            leave(&self.line, grant.lock_id, &self.request);
        }
    }
}

/// Leaves the line unless it is told not to, whatever ends the walk.
struct Place {
    line: Arc<Line>,
    request: Arc<Request>,
    lock_id: Uuid,
    left: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.left {
            leave(&self.line, self.lock_id, &self.request);
        }
    }
}

fn leave(line: &Arc<Line>, lock_id: Uuid, request: &Arc<Request>) {
    let (line, request) = (line.clone(), request.clone());
    // No runtime: the process ends, and its places with it.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move { line.leave(lock_id, &request).await });
    }
}

async fn walk(line: Arc<Line>, request: Arc<Request>, mut reply: oneshot::Sender<Answer>) {
    let deadline = Instant::now() + request.wanted.wait;
    let lock_id = new_lock_id(request.wanted.of.hash);
    let mut place = Place { line: line.clone(), request: request.clone(), lock_id, left: false };
    let mut listener = line.listen(place.lock_id);
    let answer = loop {
        match line.take(place.lock_id, &request, Instant::now() < deadline).await {
            Err(error) => break Err(Refusal::Database(error)),
            Ok(Outcome::Granted(grant)) => {
                place.lock_id = grant.lock_id;
                break Ok(grant);
            }
            Ok(Outcome::Queued(lock_id)) if lock_id != place.lock_id => {
                // An earlier call's place. Once more, now that its news would be heard.
                place.lock_id = lock_id;
                listener = line.listen(lock_id);
            }
            Ok(Outcome::Queued(_)) => tokio::select! {
                news = listener.heard() => if let Some(grant) = news { break Ok(grant) },
                // At the deadline once more, without waiting: the last word is the database's.
                () = sleep_until(deadline) => {}
                () = reply.closed() => return,
                () = line.stopping.cancelled() => break Err(Refusal::Stopping),
            },
            Ok(Outcome::Ended) if request.wanted.request_id.is_none() => {
                // It ended before anybody heard of it: the answer of the statement that took it was lost for too long.
                place.lock_id = new_lock_id(request.wanted.of.hash);
                listener = line.listen(place.lock_id);
            }
            Ok(other) => {
                place.left = true;
                line.tell(place.lock_id, None);
                break Err(refusal(other));
            }
        }
    };
    let granted = answer.is_ok();
    metrics::counter!("ledger_locks_granted_total").increment(u64::from(granted));
    // What nobody hears of is given back; so is what may have come of a failed call, or be waited for no longer.
    place.left |= reply.send(answer).is_ok() && granted;
}
