//! The final sweep: deletes the kit's messages that were not handled, as they would block their
//! groups and be redelivered for ever.

use std::time::Duration;

use queue::fifo::{FifoError, FifoMessageStatus, MAX_RECEIVED_MESSAGES};
use tokio::time::{Instant, sleep};

use super::IntegrationCheckEngine;
use super::session::IntegrationCheckSession;

/// Time limit of the sweep.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between receives: the integration competes for the same messages.
const SWEEP_INTERVAL: Duration = Duration::from_millis(30);

/// Deletes unhandled messages; returns how many remain in flight at the integration.
pub(super) async fn sweep_messages(session: &IntegrationCheckSession) -> Result<usize, FifoError> {
    let deadline = Instant::now() + SWEEP_TIMEOUT;
    loop {
        let remaining = count_remaining(session).await?;
        if remaining == 0 || Instant::now() >= deadline {
            return Ok(remaining);
        }
        delete_unanswered(session).await?;
        sleep(SWEEP_INTERVAL).await;
    }
}

/// Receives the messages that are visible now. Deletes unanswered ones of the
/// kit, returns all others.
async fn delete_unanswered(session: &IntegrationCheckSession) -> Result<(), FifoError> {
    let unanswered = session.unanswered_messages();
    for message in session
        .task_queue
        .receive(MAX_RECEIVED_MESSAGES, Duration::ZERO, Some(SWEEP_TIMEOUT))
        .await?
    {
        if unanswered.iter().any(|sent| sent.id == message.id) {
            session.task_queue.delete(&message.receipt).await?;
            session.forget_message(&message.id);
        } else {
            session.task_queue.change_visibility(&message.receipt, Duration::ZERO).await?;
        }
    }
    Ok(())
}

/// The number of unanswered messages that may still be in the queue.
async fn count_remaining(session: &IntegrationCheckSession) -> Result<usize, FifoError> {
    let unanswered = session.unanswered_messages();
    let IntegrationCheckEngine::Postgres(engine) = &session.engine else {
        return Ok(unanswered.len());
    };
    let mut remaining = 0;
    for sent in unanswered {
        match engine.message_status(session.task_queue.name(), &sent).await? {
            FifoMessageStatus::Queued(_) => remaining += 1,
            FifoMessageStatus::Deleted(_) | FifoMessageStatus::Lost => {
                session.forget_message(&sent.id)
            }
        }
    }
    Ok(remaining)
}
