//! Settlement of jobs in the transaction of their effect, fenced by the lane
//! they were claimed from.
//!
//! - Lock order: the lanes' lease rows by id, the groups' advisory locks, then jobs by id. Only
//!   completing locks them as the plan visits them, which is in id order for an index scan; a
//!   deadlock of another plan is retried.

use std::collections::HashMap;
use std::mem::discriminant;
use std::time::Duration;

use sqlx::PgConnection;
use store::{Error, Lease, LeaseEpoch, LeaseId, Result, mutant, statement};

use crate::enqueue::enqueue_jobs_in_tx;
use crate::ids::JobId;
use crate::job::{Job, JobPriority, NewJob};
use crate::lanes::QueueName;
use crate::{EnqueuedJob, JOB_WAKE_CHANNEL};

/// Settlement of a job after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobSettlement {
    /// Done: the job is deleted.
    Complete,
    /// Failed: the job is retried.
    Retry {
        /// Delay before the next attempt.
        delay: Duration,
        /// Delay if an immediate retry was requested during the attempt and this is shorter.
        hurried_delay: Duration,
        /// Error of the attempt.
        reason: String,
        /// Whether it counts as a failed attempt.
        counts_attempt: bool,
    },
    /// Given up: the job becomes a dead letter.
    Bury {
        /// Error of the last attempt.
        reason: String,
    },
}

/// Settles `jobs` of `queue`; returns the time until the first retry is due.
///
/// Returns [`Error::Fenced`] if one of their lanes is lost: nothing is changed, and the lane is
/// marked as lost, so that the caller can retry without its jobs. Cost: one round trip to check the
/// lanes, one per kind of settlement, two more if jobs have groups, one more to lock several jobs of
/// several kinds or with groups. The caller calls
/// [`crate::JobQueue::end_job`] and [`crate::JobQueue::wake_in`] after the commit.
pub async fn settle_jobs_in_tx(
    connection: &mut PgConnection,
    queue: QueueName,
    jobs: &[(Job, JobSettlement)],
) -> Result<Option<Duration>> {
    if jobs.is_empty() {
        return Ok(None);
    }
    fence_lanes(connection, jobs.iter().map(|(job, _)| job.lane.as_ref())).await?;
    let mut groups: Vec<&str> = Vec::new();
    for (job, settlement) in jobs {
        if !matches!(settlement, JobSettlement::Retry { .. }) {
            groups.extend(job.group.as_deref());
        }
    }
    lock_groups(connection, queue, &groups).await?;
    if jobs.len() > 1 && (has_several_kinds(jobs) || !groups.is_empty()) {
        lock_jobs(connection, queue, jobs, &groups).await?;
    }
    complete_jobs(connection, jobs).await?;
    let soonest = retry_jobs(connection, jobs).await?;
    bury_jobs(connection, jobs).await?;
    unblock_next_jobs(connection, queue, &groups).await?;
    Ok(soonest)
}

/// Fails with [`Error::Fenced`] unless all these lanes are held; they cannot be taken over before
/// the transaction ends. Locks their rows in id order.
pub async fn fence_lanes<'l>(
    connection: &mut PgConnection,
    lanes: impl Iterator<Item = &'l Lease>,
) -> Result<()> {
    let lanes: HashMap<LeaseId, &Lease> = lanes.map(|lane| (lane.id, lane)).collect();
    if lanes.is_empty() || mutant("lanes_not_fenced") {
        return Ok(());
    }
    let (ids, epochs): (Vec<LeaseId>, Vec<LeaseEpoch>) =
        lanes.values().map(|lane| (lane.id, lane.epoch)).unzip();
    let lost: Vec<LeaseId> = statement(
        "fence_lanes",
        "SELECT id FROM (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS t (id, epoch) ORDER BY id) AS lanes
        WHERE NOT lease_held(id, epoch)",
    )
    .bind(ids)
    .bind(epochs)
    .fetch_values(connection)
    .await?;
    // `fenced_error` marks every lost lane; one error is returned.
    let errors: Vec<Error> =
        lost.iter().filter_map(|id| lanes.get(id)).map(|lane| lane.fenced_error()).collect();
    errors.into_iter().next().map_or(Ok(()), Err)
}

fn has_several_kinds(jobs: &[(Job, JobSettlement)]) -> bool {
    jobs.windows(2).any(
        |pair| matches!(pair, [(_, one), (_, other)] if discriminant(one) != discriminant(other)),
    )
}

/// Locks the jobs that several statements settle, and the next ones of `groups`, whose advisory
/// locks are held.
async fn lock_jobs(
    connection: &mut PgConnection,
    queue: QueueName,
    jobs: &[(Job, JobSettlement)],
    groups: &[&str],
) -> Result<()> {
    statement(
        "lock_jobs",
        "WITH wanted AS MATERIALIZED (
            SELECT unnest($1::bigint[]) AS job_id
            UNION
            SELECT (SELECT min(job_id) FROM jobs WHERE queue = $2 AND group_key = name AND job_id <> ALL ($1))
            FROM unnest($3::text[]) AS name
        )
        SELECT FROM jobs WHERE job_id IN (SELECT job_id FROM wanted) ORDER BY job_id FOR UPDATE",
    )
    .bind(jobs.iter().map(|(job, _)| job.id).collect::<Vec<_>>())
    .bind(queue)
    .bind(groups)
    .execute(connection)
    .await?;
    Ok(())
}

/// The statement of most jobs, so without a row lock before the delete: an index scan of an array
/// visits, and locks, the rows in id order.
async fn complete_jobs(connection: &mut PgConnection, jobs: &[(Job, JobSettlement)]) -> Result<()> {
    let done = jobs.iter().filter(|(_, settle)| matches!(settle, JobSettlement::Complete));
    let ids: Vec<JobId> = done.map(|(job, _)| job.id).collect();
    if !ids.is_empty() {
        statement("complete_jobs", "DELETE FROM jobs WHERE job_id = ANY ($1)")
            .bind(ids)
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn retry_jobs(
    connection: &mut PgConnection,
    jobs: &[(Job, JobSettlement)],
) -> Result<Option<Duration>> {
    let (mut ids, mut delays, mut reasons, mut attempts) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut delays_if_hurried, mut hurried_after) = (Vec::new(), Vec::new());
    for (job, settle) in jobs {
        if let JobSettlement::Retry { delay, hurried_delay, reason, counts_attempt } = settle {
            ids.push(job.id);
            delays.push(delay.as_secs_f64());
            delays_if_hurried.push(delay.min(hurried_delay).as_secs_f64());
            hurried_after.push(job.hurried_after.cast_signed());
            reasons.push(reason.as_str());
            // An absolute value, not an increment: a retry after an unknown commit outcome
            // must not count twice.
            attempts.push((job.attempts + u32::from(*counts_attempt)).cast_signed());
        }
    }
    if ids.is_empty() {
        return Ok(None);
    }
    let soonest: Option<f64> = statement(
        "retry_jobs",
        "WITH found AS MATERIALIZED (
            SELECT job_id FROM jobs WHERE job_id = ANY ($1) ORDER BY job_id FOR UPDATE
        ), retried AS (
            UPDATE jobs j
            SET run_at = now() + make_interval(secs => CASE WHEN j.hurried_after > t.hurried_after
                                                            THEN t.delay_if_hurried ELSE t.delay END),
                attempts = t.attempts, last_error = t.reason
            FROM unnest($1::bigint[], $2::float8[], $3::float8[], $4::int[], $5::text[], $6::int[])
                AS t (job_id, delay, delay_if_hurried, hurried_after, reason, attempts)
                JOIN found f ON f.job_id = t.job_id
            WHERE j.job_id = t.job_id RETURNING j.run_at
        )
        SELECT extract(epoch FROM min(run_at) - now())::float8 FROM retried",
    )
    .bind(ids)
    .bind(delays)
    .bind(delays_if_hurried)
    .bind(hurried_after)
    .bind(reasons)
    .bind(attempts)
    .fetch_value(connection)
    .await?;
    Ok(soonest.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}

async fn bury_jobs(connection: &mut PgConnection, jobs: &[(Job, JobSettlement)]) -> Result<()> {
    let (mut ids, mut reasons) = (Vec::new(), Vec::new());
    for (job, settle) in jobs {
        if let JobSettlement::Bury { reason } = settle {
            ids.push(job.id);
            reasons.push(reason.as_str());
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    statement(
        "bury_jobs",
        "WITH found AS MATERIALIZED (
            SELECT job_id FROM jobs WHERE job_id = ANY ($1) ORDER BY job_id FOR UPDATE
        ), gone AS (
            DELETE FROM jobs j USING unnest($1::bigint[], $2::text[]) AS t (job_id, reason)
                JOIN found f ON f.job_id = t.job_id
            WHERE j.job_id = t.job_id RETURNING j.*, t.reason
        )
        INSERT INTO dead_jobs (job_id, queue, priority, job_key, group_key, attempts, payload, reason, enqueued_at)
        SELECT job_id, queue, priority, job_key, group_key, attempts + 1, payload, reason, enqueued_at FROM gone",
    )
    .bind(ids)
    .bind(reasons)
    .execute(connection)
    .await?;
    Ok(())
}

/// Inserts dead letters for work that was given up before it became a job. An existing dead letter
/// with the same key stays.
pub async fn bury_new_jobs_in_tx(
    connection: &mut PgConnection,
    queue: QueueName,
    letters: &[(NewJob, String)],
) -> Result<()> {
    if letters.is_empty() {
        return Ok(());
    }
    let keys: Vec<Option<&str>> = letters.iter().map(|(job, _)| job.key.as_deref()).collect();
    let payloads: Vec<&[u8]> = letters.iter().map(|(job, _)| job.payload.as_slice()).collect();
    let attempts: Vec<i32> = letters.iter().map(|(job, _)| job.attempts.cast_signed()).collect();
    let reasons: Vec<&str> = letters.iter().map(|(_, reason)| reason.as_str()).collect();
    statement(
        "bury_new_jobs",
        "INSERT INTO dead_jobs (job_id, queue, priority, job_key, attempts, payload, reason, enqueued_at)
        SELECT nextval(pg_get_serial_sequence('jobs', 'job_id')), $1, $2, job_key, attempts, payload, reason, now()
        FROM unnest($3::text[], $4::bytea[], $5::int[], $6::text[]) AS t (job_key, payload, attempts, reason)
        WHERE NOT EXISTS (SELECT FROM dead_jobs d WHERE d.queue = $1 AND d.job_key = t.job_key)",
    )
    .bind(queue)
    .bind(JobPriority::Normal.to_number())
    .bind(keys)
    .bind(payloads)
    .bind(attempts)
    .bind(reasons)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes the dead letters with these keys, which have been dealt with.
pub async fn delete_dead_jobs_in_tx(
    connection: &mut PgConnection,
    queue: QueueName,
    keys: &[String],
) -> Result<()> {
    statement("forget_dead_jobs", "DELETE FROM dead_jobs WHERE queue = $1 AND job_key = ANY ($2)")
        .bind(queue)
        .bind(keys)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the groups' advisory locks: one transaction at a time changes
/// a group (see `enqueue_dependent_jobs`).
async fn lock_groups(
    connection: &mut PgConnection,
    queue: QueueName,
    groups: &[&str],
) -> Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    statement(
        "lock_groups",
        "SELECT pg_advisory_xact_lock(key) FROM (
            SELECT DISTINCT hashtextextended($1 || '/' || name, 0) AS key FROM unnest($2::text[]) AS name ORDER BY 1
        ) AS keys",
    )
    .bind(queue)
    .bind(groups)
    .execute(connection)
    .await?;
    Ok(())
}

async fn unblock_next_jobs(
    connection: &mut PgConnection,
    queue: QueueName,
    groups: &[&str],
) -> Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    statement(
        "unblock_jobs",
        "UPDATE jobs SET blocked = false WHERE blocked AND job_id IN (
            SELECT (SELECT min(job_id) FROM jobs WHERE queue = $1 AND group_key = name) FROM unnest($2::text[]) AS name
        )",
    )
    .bind(queue)
    .bind(groups)
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes waiting jobs due now in any lane, restarts their backoff, and returns the keys that have a
/// job. A job in work continues; if it fails, it is retried after the first backoff delay. Locks
/// the jobs in id order.
pub async fn hurry_jobs_in_tx(
    connection: &mut PgConnection,
    queue: QueueName,
    keys: &[String],
) -> Result<Vec<String>> {
    statement(
        "hurry_jobs",
        "WITH found AS MATERIALIZED (
            SELECT job_id, job_key, run_at > now() OR hurried_after < attempts AS changes FROM jobs
            WHERE queue = $1 AND job_key = ANY ($2) ORDER BY job_id FOR UPDATE
        ), hurried AS (
            UPDATE jobs j SET run_at = least(j.run_at, now()), hurried_after = j.attempts
            FROM found f WHERE j.job_id = f.job_id AND f.changes RETURNING j.lane
        ), woken AS (
            SELECT count(pg_notify($3, lane::text)) FROM (SELECT DISTINCT lane FROM hurried) AS lanes
        )
        SELECT job_key FROM found WHERE (SELECT count FROM woken) >= 0",
    )
    .bind(queue)
    .bind(keys)
    .bind(JOB_WAKE_CHANNEL)
    .fetch_values(connection)
    .await
}

/// Moves the dead letters with these keys back to the queue, due now, with no failed attempts.
pub async fn redrive_dead_jobs_in_tx(
    connection: &mut PgConnection,
    queue: QueueName,
    keys: &[String],
) -> Result<Vec<EnqueuedJob>> {
    type DeadJobRow = (i16, Option<String>, Option<String>, Vec<u8>);
    let rows: Vec<DeadJobRow> = statement(
        "redrive_jobs",
        "DELETE FROM dead_jobs WHERE queue = $1 AND job_key = ANY ($2)
         RETURNING priority, job_key, group_key, payload",
    )
    .bind(queue)
    .bind(keys)
    .fetch_all(&mut *connection)
    .await?;
    let mut jobs = Vec::with_capacity(rows.len());
    for (priority, key, group, payload) in rows {
        let priority = JobPriority::from_number(priority);
        jobs.push(NewJob { key, group, priority, payload, ..NewJob::default() });
    }
    enqueue_jobs_in_tx(connection, queue, None, &jobs).await
}
