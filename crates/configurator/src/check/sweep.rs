//! Takes back what nobody has dealt with: a message of the kit must not stand in the way of others, or come for ever.

use std::time::Duration;

use queue::fifo::{FifoError, MOST_RECEIVED, Trace};
use tokio::time::{Instant, sleep};

use super::Place;
use super::desk::Desk;

/// How long it is tried.
const WITHIN: Duration = Duration::from_secs(5);
/// How often: the integration waits for the same messages.
const EVERY: Duration = Duration::from_millis(30);

/// Takes messages back; how many could not be, as the integration had them in hand.
pub(super) async fn sweep(desk: &Desk) -> Result<usize, FifoError> {
    let by_then = Instant::now() + WITHIN;
    loop {
        let open = still_there(desk).await?;
        if open == 0 || Instant::now() >= by_then {
            return Ok(open);
        }
        take_back(desk).await?;
        sleep(EVERY).await;
    }
}

/// Receives what can be received now, and deletes what was not answered; anything else is given back.
async fn take_back(desk: &Desk) -> Result<(), FifoError> {
    let open = desk.open_messages();
    for message in desk.tasks.receive(MOST_RECEIVED, Duration::ZERO, Some(WITHIN)).await? {
        if open.iter().any(|sent| sent.id == message.id) {
            desk.tasks.delete(&message.receipt).await?;
            desk.settled(&message.id);
        } else {
            desk.tasks.change_visibility(&message.receipt, Duration::ZERO).await?;
        }
    }
    Ok(())
}

/// How many unanswered messages may still be in the queue.
async fn still_there(desk: &Desk) -> Result<usize, FifoError> {
    let open = desk.open_messages();
    let Place::Postgres(engine) = &desk.place else { return Ok(open.len()) };
    let mut there = 0;
    for sent in open {
        match engine.trace(desk.tasks.name(), &sent).await? {
            Trace::There(_) => there += 1,
            Trace::Deleted(_) | Trace::Lost => desk.settled(&sent.id),
        }
    }
    Ok(there)
}
