//! The consumer of integrations' answers: any process may receive any answer.
//!
//! - Shape: answers of all runs, coalesced into group commits of at most 500.
//! - Cost: one statement per group commit; at most 1000 answers wait in memory.
//! - Promise: an answer's message is deleted only after its commit. The commit notifies the
//!   drivers in the same transaction. A redelivered answer is ignored: the first answer to
//!   a block's message counts.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use queue::Backoff;
use queue::fifo::{FifoConsumer, FifoError, FifoMessage, MessageOutcome, RefusedMessage};
use serde_json::json;
use sqlx::PgPool;
use store::{Coalescer, Outage, Result};
use tokio::sync::oneshot;

use crate::ids::BlockId;
use crate::protocol::{
    BlockAnswer, BlockFailure, CHECK_BLOCK_ID_RANGE, block_id_from_deduplication,
};
use crate::run::{RUNS_CHANNEL, json_text};

/// Maximum answers per group commit.
const MAX_ANSWERS_PER_COMMIT: usize = 500;
/// Maximum answers that wait for a group commit.
const MAX_WAITING_ANSWERS: usize = 1000;
/// First redelivery delay of an answer that could not be committed.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Redelivery delays grow while commits fail.
const COMMIT_BACKOFF: Backoff =
    Backoff { first_delay: RETRY_DELAY, max_delay: Duration::from_secs(60), jitter: 0.2 };

/// Up to this age an answer to the conformance kit is returned to the queue immediately,
/// later only every [`RETRY_DELAY`].
const CHECK_FAST_RETURN_TIMEOUT: TimeDelta = TimeDelta::seconds(10);
/// At this age the kit no longer waits for its answer, which is then deleted.
const CHECK_ANSWER_TIMEOUT: TimeDelta = TimeDelta::minutes(2);

/// Receives whether this configurator sent the message that the answer names.
type AnswerCommitReply = oneshot::Sender<Result<bool>>;

/// The writer of received answers, with group commit.
pub struct BlockAnswerWriter {
    coalescer: Coalescer<(BlockAnswer, AnswerCommitReply)>,
    outage: Outage,
}

impl BlockAnswerWriter {
    /// Starts a writer to the control database behind `pool`.
    pub fn start(pool: PgPool) -> Self {
        let coalescer = Coalescer::spawn(
            "configurator_answers",
            MAX_WAITING_ANSWERS,
            MAX_ANSWERS_PER_COMMIT,
            move |batch| {
                let pool = pool.clone();
                async move {
                    let (answers, replies): (Vec<BlockAnswer>, Vec<AnswerCommitReply>) =
                        batch.into_iter().unzip();
                    let ids: Vec<BlockId> = answers.iter().map(|answer| answer.block_id).collect();
                    match commit_answers(&pool, answers).await {
                        Ok(known) => {
                            for (reply, id) in replies.into_iter().zip(ids) {
                                let _ = reply.send(Ok(known.contains(&id)));
                            }
                        }
                        Err(error) => {
                            for reply in replies {
                                let _ = reply.send(Err(error.clone()));
                            }
                        }
                    }
                }
            },
        );
        Self { coalescer, outage: Outage::default() }
    }
}

impl FifoConsumer for BlockAnswerWriter {
    async fn consume(&self, message: &FifoMessage) -> MessageOutcome {
        let Some(answer) = BlockAnswer::parse(&message.body) else {
            metrics::counter!("configurator_answers_total", "outcome" => "malformed").increment(1);
            return MessageOutcome::Dead(
                "VALIDATION_ERROR: the answer says no block_id".to_owned(),
            );
        };
        let block_id = answer.block_id;
        let committed = self.coalescer.submit(|reply| (answer, reply)).await;
        if matches!(committed, Some(Ok(_))) {
            self.outage.record_success(|lasted| {
                tracing::info!(seconds = lasted.as_secs(), "answers are committed again")
            });
        }
        match committed {
            Some(Ok(true)) => {
                metrics::counter!("configurator_answers_total", "outcome" => "taken").increment(1);
                MessageOutcome::Done
            }
            Some(Ok(false))
                if CHECK_BLOCK_ID_RANGE.contains(&block_id)
                    && message_age(message) < CHECK_ANSWER_TIMEOUT =>
            {
                MessageOutcome::RetryAfter(if message_age(message) < CHECK_FAST_RETURN_TIMEOUT {
                    Duration::ZERO
                } else {
                    RETRY_DELAY
                })
            }
            Some(Ok(false)) => {
                metrics::counter!("configurator_answers_total", "outcome" => "unknown")
                    .increment(1);
                tracing::info!(
                    block_id = block_id.get(),
                    code = "NOT_FOUND",
                    "an answer to a message that nobody here has sent"
                );
                MessageOutcome::Done
            }
            Some(Err(error)) => {
                self.outage.record_failure(|failures| {
                    tracing::warn!(block_id = block_id.get(), %error, failures, code = "UNAVAILABLE", "answers cannot be committed; they come again");
                });
                MessageOutcome::RetryAfter(COMMIT_BACKOFF.random_delay(message.receive_count))
            }
            None => MessageOutcome::RetryAfter(COMMIT_BACKOFF.random_delay(message.receive_count)),
        }
    }
}

/// Answers a block whose message its queue permanently refuses, as if its integration had failed.
/// Returns `false` if the message belongs to no block. Safe to repeat.
pub async fn answer_refused_message(pool: &PgPool, refused: &RefusedMessage) -> Result<bool> {
    let Some(block_id) = block_id_from_deduplication(&refused.deduplication_id) else {
        return Ok(false);
    };
    let code = match refused.error {
        FifoError::TooLarge(_) => "TOO_LARGE",
        _ => "VALIDATION_ERROR",
    };
    let reason = store::to_storable_text(&refused.error.to_string());
    let failure = BlockFailure::new(code, json!({"queue": refused.queue, "reason": reason}));
    commit_answers(pool, vec![BlockAnswer { block_id, outcome: Err(failure) }]).await?;
    Ok(true)
}

fn message_age(message: &FifoMessage) -> TimeDelta {
    Utc::now() - message.sent_at
}

/// Commits answers and notifies the drivers. Returns the `block_id`s that were sent from here.
async fn commit_answers(
    pool: &PgPool,
    answers: Vec<BlockAnswer>,
) -> Result<std::collections::HashSet<BlockId>> {
    let (mut block_ids, mut states) = (Vec::new(), Vec::new());
    let (mut error_codes, mut error_args) = (Vec::new(), Vec::new());
    for BlockAnswer { block_id, outcome } in answers {
        let (state, failure) = match outcome {
            Ok(state) => (Some(json_text(&state)), None),
            Err(failure) => (None, Some(failure)),
        };
        block_ids.push(block_id);
        states.push(state);
        error_args.push(failure.as_ref().map(|failure| json_text(&failure.args)));
        error_codes.push(failure.map(|failure| failure.code));
    }
    let known: Vec<BlockId> = store::statement("commit_answers", COMMIT_ANSWERS_SQL)
        .bind(block_ids)
        .bind(states)
        .bind(error_codes)
        .bind(error_args)
        .bind(RUNS_CHANNEL)
        .fetch_values(pool)
        .await?;
    Ok(known.into_iter().collect())
}

/// The final SELECT reads the count of `told`: Postgres does not execute an unreferenced SELECT
/// CTE, and the notification would be lost. The texts contain no NUL bytes: JSON escapes NUL, and
/// codes are sanitized when parsed.
const COMMIT_ANSWERS_SQL: &str = "WITH known AS MATERIALIZED (
    SELECT DISTINCT ON (a.block_id) a.block_id, s.instance_id, a.state, a.code, a.args
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS a (block_id, state, code, args, place)
    JOIN configurator_sends s USING (block_id)
    ORDER BY a.block_id, a.place
), committed AS (
    INSERT INTO configurator_answers (block_id, instance_id, state, error_code, error_args)
    SELECT block_id, instance_id, state, code, args FROM known
    ON CONFLICT (block_id) DO NOTHING
), told AS MATERIALIZED (
    SELECT pg_notify($5, instance_id::text) FROM (SELECT DISTINCT instance_id FROM known) AS instances
)
SELECT block_id FROM known, (SELECT count(*) AS n FROM told) AS t WHERE t.n > 0";
