//! Takes back what nobody has dealt with: a message of the kit must not stand in the way of others, or come for ever.

use std::time::Duration;

use queue::fifo::{FifoError, FifoMessageStatus, MAX_RECEIVED_MESSAGES};
use tokio::time::{Instant, sleep};

use super::IntegrationCheckEngine;
use super::session::IntegrationCheckSession;

/// How long it is tried.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often: the integration waits for the same messages.
const SWEEP_INTERVAL: Duration = Duration::from_millis(30);

/// Takes messages back; how many could not be, as the integration had them in hand.
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

/// Receives what can be received now, and deletes what was not answered; anything else is given back.
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

/// How many unanswered messages may still be in the queue.
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
