//! The answer-before-delete check on SQS, where deletes are invisible: the kit competes with the
//! integration for the next message of the group.
//!
//! Of two messages of a group, the second is receivable only after the delete of the first. If
//! the kit receives the second before the answer to the first was sent (both by the queue's
//! clock), the first was deleted unanswered. An integration that answers first never fails this
//! check. Messages are sent in waves, because the kit can then observe messages one by one that
//! an integration receives together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::{join_all, try_join_all};
use queue::fifo::{FifoError, FifoMessage, MAX_RECEIVED_MESSAGES, MessageReceipt, SqsEngine};
use tokio::time::{Instant, sleep};

use super::super::report::CheckFinding;
use super::super::session::{IntegrationCheckSession, SentCheckTask};
use super::CheckCaseResult;
use crate::protocol::BlockAction;

/// Groups of a wave: as many as one receive can return.
const GROUPS_PER_WAVE: usize = MAX_RECEIVED_MESSAGES;
/// Number of second messages to receive before the check passes.
const MIN_CAUGHT_MESSAGES: usize = 20;
/// Time limit for all waves.
const RACE_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout for the first messages of a wave to be in flight.
const IN_FLIGHT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for one wave.
const WAVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Visibility timeout of the messages that the kit received.
const CAUGHT_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(5);
/// Concurrent receivers of the kit.
const RACER_COUNT: usize = 4;

/// One wave: two messages in each of its groups.
struct RaceWave {
    first_tasks: Vec<SentCheckTask>,
    second_tasks: Vec<SentCheckTask>,
    observations: Mutex<RaceObservations>,
}

#[derive(Default)]
struct RaceObservations {
    /// Second messages that the kit received: first receive time by message id.
    second_received_at: HashMap<String, DateTime<Utc>>,
    /// First messages that the kit received before the integration: to be returned.
    first_receipts: HashMap<String, MessageReceipt>,
}

pub(super) async fn race_for_deletes(
    session: &IntegrationCheckSession,
    engine: &dyn SqsEngine,
) -> CheckCaseResult {
    let deadline = Instant::now() + RACE_TIMEOUT;
    let mut caught_count = 0;
    while caught_count < MIN_CAUGHT_MESSAGES && Instant::now() < deadline {
        let wave = run_wave(session, engine).await?;
        let received = wave
            .observations
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .second_received_at;
        for (first, second) in wave.first_tasks.iter().zip(&wave.second_tasks) {
            let Some(answer) = session.wait_for_answer(first.block_id).await else {
                return Ok(CheckFinding::failed(session.describe_unanswered(first).await?));
            };
            let Some(received_at) = received.get(&second.message.id) else { continue };
            caught_count += 1;
            if *received_at < answer.sent_at {
                let early = (answer.sent_at - *received_at).num_milliseconds();
                return Ok(CheckFinding::failed(format!(
                    "the message behind one could be received {early} ms before that one's answer was sent: it is deleted first"
                )));
            }
        }
    }
    Ok(match caught_count {
        0 => CheckFinding::skipped(
            "the integration was too quick: nothing could be seen between its delete and its next receive",
        ),
        caught => CheckFinding::ok(format!(
            "{caught} messages could be received only after the answer to the one before"
        )),
    })
}

async fn run_wave(
    session: &IntegrationCheckSession,
    engine: &dyn SqsEngine,
) -> Result<RaceWave, FifoError> {
    let groups: Vec<String> =
        (0..GROUPS_PER_WAVE).map(|_| format!("race/{}", session.allocate_block_id())).collect();
    let first = send_tasks(session, &groups).await?;
    let deadline = Instant::now() + IN_FLIGHT_TIMEOUT;
    while engine.count_in_flight(session.task_queue.name()).await? == 0
        && session.answer_collector().answers_to(first[0].block_id).is_empty()
        && Instant::now() < deadline
    {}
    let mut wave = RaceWave {
        first_tasks: first,
        second_tasks: send_tasks(session, &groups).await?,
        observations: Mutex::default(),
    };
    let deadline = Instant::now() + WAVE_TIMEOUT;
    join_all((0..RACER_COUNT).map(|_| run_racer(session, &wave, deadline)))
        .await
        .into_iter()
        .collect::<Result<Vec<()>, _>>()?;
    let observations = wave.observations.get_mut().unwrap_or_else(PoisonError::into_inner);
    for receipt in observations.first_receipts.values() {
        match session.task_queue.change_visibility(receipt, Duration::ZERO).await {
            // The visibility timeout has already returned it.
            Err(FifoError::ReceiptExpired) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wave)
}

/// Sends one task to each group, concurrently.
async fn send_tasks(
    session: &IntegrationCheckSession,
    groups: &[String],
) -> Result<Vec<SentCheckTask>, FifoError> {
    let (task, args) = session.any_task();
    let args = &args;
    try_join_all(groups.iter().map(|group| async move {
        session
            .send_task(group, session.allocate_block_id(), (task, args), BlockAction::Create, None)
            .await
    }))
    .await
}

async fn run_racer(
    session: &IntegrationCheckSession,
    wave: &RaceWave,
    deadline: Instant,
) -> Result<(), FifoError> {
    while !wave.is_over(session) && Instant::now() < deadline {
        for message in session
            .task_queue
            .receive(MAX_RECEIVED_MESSAGES, Duration::ZERO, Some(CAUGHT_VISIBILITY_TIMEOUT))
            .await?
        {
            wave.handle_message(session, message).await?;
        }
    }
    Ok(())
}

impl RaceWave {
    fn lock_observations(&self) -> std::sync::MutexGuard<'_, RaceObservations> {
        self.observations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the kit can receive no further message of this wave.
    fn is_over(&self, session: &IntegrationCheckSession) -> bool {
        let observations = self.lock_observations();
        self.first_tasks.iter().zip(&self.second_tasks).all(|(first, second)| {
            observations.first_receipts.contains_key(&first.message.id)
                || observations.second_received_at.contains_key(&second.message.id)
                || !session.answer_collector().answers_to(second.block_id).is_empty()
        })
    }

    async fn handle_message(
        &self,
        session: &IntegrationCheckSession,
        message: FifoMessage,
    ) -> Result<(), FifoError> {
        if self.second_tasks.iter().any(|shot| shot.message.id == message.id) {
            if let Some(received_at) = message.first_received_at {
                self.lock_observations().second_received_at.insert(message.id.clone(), received_at);
            }
            session.task_queue.delete(&message.receipt).await?;
            session.forget_message(&message.id);
        } else if self.first_tasks.iter().any(|shot| shot.message.id == message.id) {
            self.lock_observations().first_receipts.insert(message.id, message.receipt);
        } else {
            session.task_queue.change_visibility(&message.receipt, Duration::ZERO).await?;
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
