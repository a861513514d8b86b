//! Whether a message is deleted before its answer is sent, where deletes cannot be seen: the kit races the integration for
//! the next message of the group.
//!
//! Of two messages of a group the second can be received as soon as the first is deleted. If the kit receives it, and the
//! answer to the first was sent later than that (both by the queue's clock), the first was deleted unanswered. An
//! integration that answers first can never be seen so. Messages are sent in waves: what an integration receives
//! together, the kit can watch one by one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::{join_all, try_join_all};
use queue::fifo::{FifoError, MOST_RECEIVED, Message, Receipt, SqsEngine};
use tokio::time::{Instant, sleep};

use super::super::desk::{Desk, Shot};
use super::super::report::Verdict;
use super::Judged;
use crate::protocol::Action;

/// Groups of a wave: what one receive may bring.
const GROUPS: usize = MOST_RECEIVED;
/// Second messages that the kit wants to have caught.
const WANTED: usize = 20;
/// How long all waves may take.
const ALL_WAVES: Duration = Duration::from_secs(20);
/// How long it is waited until the first messages of a wave are in hand.
const IN_HAND: Duration = Duration::from_secs(2);
/// How long a wave may take.
const WAVE: Duration = Duration::from_secs(3);
/// How long what was caught is kept.
const KEPT: Duration = Duration::from_secs(5);
/// Receives at the same time.
const RACERS: usize = 4;

/// One wave.
struct Wave {
    first: Vec<Shot>,
    second: Vec<Shot>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Second messages that were caught, by id: when they were received first.
    caught: HashMap<String, DateTime<Utc>>,
    /// First messages that were caught before the integration had them: to be given back.
    kept: HashMap<String, Receipt>,
}

pub(super) async fn run(desk: &Desk, engine: &dyn SqsEngine) -> Judged {
    let by_then = Instant::now() + ALL_WAVES;
    let mut caught = 0;
    while caught < WANTED && Instant::now() < by_then {
        let wave = wave(desk, engine).await?;
        let received = wave.seen.into_inner().unwrap_or_else(PoisonError::into_inner).caught;
        for (first, second) in wave.first.iter().zip(&wave.second) {
            let Some(came) = desk.answer(first.number).await else {
                return Ok(Verdict::failed(desk.unanswered(first).await?));
            };
            let Some(at) = received.get(&second.sent.id) else { continue };
            caught += 1;
            if *at < came.sent_at {
                let early = (came.sent_at - *at).num_milliseconds();
                return Ok(Verdict::failed(format!(
                    "the message behind one could be received {early} ms before that one's answer was sent: it is deleted first"
                )));
            }
        }
    }
    Ok(match caught {
        0 => Verdict::skipped(
            "the integration was too quick: nothing could be seen between its delete and its next receive",
        ),
        caught => Verdict::ok(format!(
            "{caught} messages could be received only after the answer to the one before"
        )),
    })
}

async fn wave(desk: &Desk, engine: &dyn SqsEngine) -> Result<Wave, FifoError> {
    let groups: Vec<String> = (0..GROUPS).map(|_| format!("race/{}", desk.number())).collect();
    let first = send(desk, &groups).await?;
    let by_then = Instant::now() + IN_HAND;
    while engine.count_in_flight(desk.tasks.name()).await? == 0
        && desk.collected().to(first[0].number).is_empty()
        && Instant::now() < by_then
    {}
    let mut wave = Wave { first, second: send(desk, &groups).await?, seen: Mutex::default() };
    let by_then = Instant::now() + WAVE;
    join_all((0..RACERS).map(|_| racer(desk, &wave, by_then)))
        .await
        .into_iter()
        .collect::<Result<Vec<()>, _>>()?;
    let seen = wave.seen.get_mut().unwrap_or_else(PoisonError::into_inner);
    for receipt in seen.kept.values() {
        match desk.tasks.change_visibility(receipt, Duration::ZERO).await {
            // It has come to others by itself.
            Err(FifoError::Expired) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wave)
}

/// A task to each group, all at once.
async fn send(desk: &Desk, groups: &[String]) -> Result<Vec<Shot>, FifoError> {
    let (task, args) = desk.any_task();
    let args = &args;
    try_join_all(groups.iter().map(|group| async move {
        desk.task(group, desk.number(), (task, args), Action::Create, None).await
    }))
    .await
}

async fn racer(desk: &Desk, wave: &Wave, by_then: Instant) -> Result<(), FifoError> {
    while !wave.is_over(desk) && Instant::now() < by_then {
        for message in desk.tasks.receive(MOST_RECEIVED, Duration::ZERO, Some(KEPT)).await? {
            wave.caught(desk, message).await?;
        }
    }
    Ok(())
}

impl Wave {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is nothing left to be caught.
    fn is_over(&self, desk: &Desk) -> bool {
        let seen = self.seen();
        self.first.iter().zip(&self.second).all(|(first, second)| {
            seen.kept.contains_key(&first.sent.id)
                || seen.caught.contains_key(&second.sent.id)
                || !desk.collected().to(second.number).is_empty()
        })
    }

    async fn caught(&self, desk: &Desk, message: Message) -> Result<(), FifoError> {
        if self.second.iter().any(|shot| shot.sent.id == message.id) {
            if let Some(at) = message.first_received_at {
                self.seen().caught.insert(message.id.clone(), at);
            }
            desk.tasks.delete(&message.receipt).await?;
            desk.settled(&message.id);
        } else if self.first.iter().any(|shot| shot.sent.id == message.id) {
            self.seen().kept.insert(message.id, message.receipt);
        } else {
            desk.tasks.change_visibility(&message.receipt, Duration::ZERO).await?;
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
