//! Claiming: selects due jobs in the lanes held and marks them in memory as in work.
//!
//! - Shape: up to `limit` rows per lane and priority, read from both ends of the index `jobs_due`.
//! - Cost: one round trip per claim, no row locks, no writes.
//! - Promise: a job is in work at most once per process; a lost lane is fenced when
//!   its jobs are settled.

use std::sync::Arc;
use std::time::Duration;

use store::{Lease, LeaseId, Result, statement};
use tokio::time::Instant;

use crate::ids::JobId;
use crate::job::{Job, JobPriority};
use crate::lanes::JobQueue;

/// With latest-first order, every n-th claimed job is the one that became due first.
const OLDEST_JOB_STRIDE: usize = 4;
/// Maximum number of jobs made due per statement after the clock was set back.
const MAX_JOBS_BROUGHT_FORWARD: i64 = 5000;

/// A due job, or none; with the seconds until the next and the last job of the lanes become due.
#[derive(store::FromRow)]
struct DueJobRow {
    next_in: Option<f64>,
    last_in: Option<f64>,
    job_id: Option<JobId>,
    lane: Option<LeaseId>,
    priority: Option<i16>,
    job_key: Option<String>,
    group_key: Option<String>,
    attempts: Option<i32>,
    hurried_after: Option<i32>,
    payload: Option<Vec<u8>>,
    age: Option<f64>,
    is_latest: bool,
}

impl JobQueue {
    /// Claims at most `max_jobs` due jobs that are not in work, by priority and age. Each stays
    /// marked as in work until [`JobQueue::end_job`]. One round trip.
    pub async fn claim(&self, max_jobs: usize) -> Result<Vec<Job>> {
        self.claim_ordered(false, max_jobs).await
    }

    /// Like [`JobQueue::claim`], for jobs with a waiting caller. During a backlog the most recently
    /// due jobs come first, so a new job does not wait behind the whole backlog; the oldest jobs
    /// get a quarter of each claim.
    pub async fn claim_latest_first(&self, max_jobs: usize) -> Result<Vec<Job>> {
        self.claim_ordered(true, max_jobs).await
    }

    async fn claim_ordered(&self, latest_first: bool, max_jobs: usize) -> Result<Vec<Job>> {
        let (held, in_work) = self.begin_claim();
        // Jobs in work are still in their lanes, before all others: read past them.
        let limit = (max_jobs + in_work) as i64;
        let lanes: Vec<LeaseId> = held.iter().map(|lease| lease.id).collect();
        let rows = self.read_due_jobs(latest_first, &lanes, limit).await;
        let claimed = rows.map(|rows| {
            let last_in = rows.first().and_then(|row| row.last_in).unwrap_or_default();
            (self.pick_jobs(&held, rows, max_jobs), last_in)
        });
        self.end_claim();
        let (claimed, last_in) = claimed?;
        if let Some(longest) = self.max_delay.filter(|longest| last_in > longest.as_secs_f64()) {
            self.bring_jobs_forward(&lanes, longest).await;
        }
        if claimed.is_empty() && held.len() > 1 {
            self.dissolve_empty_lanes().await?;
        }
        Ok(claimed)
    }

    fn pick_jobs(&self, held: &[Arc<Lease>], rows: Vec<DueJobRow>, max_jobs: usize) -> Vec<Job> {
        if let Some(seconds) = rows.first().and_then(|row| row.next_in) {
            self.wake_in(Duration::try_from_secs_f64(seconds.clamp(0.0, 60.0)).unwrap_or_default());
        }
        let (latest, by_age): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.is_latest);
        let (mut latest, mut by_age) = (latest.into_iter(), by_age.into_iter());
        let mut claimed = Vec::new();
        while claimed.len() < max_jobs {
            let is_oldests = claimed.len() % OLDEST_JOB_STRIDE == 0;
            let next = if is_oldests {
                self.start_next_job(held, &mut by_age)
            } else {
                self.start_next_job(held, &mut latest)
            };
            let next = next
                .or_else(|| self.start_next_job(held, &mut by_age))
                .or_else(|| self.start_next_job(held, &mut latest));
            let Some(job) = next else { break };
            claimed.push(job);
        }
        claimed
    }

    /// Marks the first row that is not in work as in work and returns its job.
    fn start_next_job(
        &self,
        held: &[Arc<Lease>],
        rows: &mut impl Iterator<Item = DueJobRow>,
    ) -> Option<Job> {
        rows.find_map(|row| {
            let lease = held.iter().find(|lease| Some(lease.id) == row.lane)?;
            let job = row.into_job(lease)?;
            self.begin_job(lease, job.id).then_some(job)
        })
    }

    /// Makes jobs due whose `run_at` was computed before the database's clock was set back. One
    /// batch per call: the next claim continues. An error is only logged, because jobs claimed by
    /// the caller are already marked as in work.
    async fn bring_jobs_forward(&self, lanes: &[LeaseId], max_delay: Duration) {
        let brought = statement("bring_jobs_forward", BRING_JOBS_FORWARD_SQL)
            .bind(lanes)
            .bind(max_delay.as_secs_f64())
            .bind(MAX_JOBS_BROUGHT_FORWARD)
            .execute(&self.shared.claim_pool)
            .await;
        let queue = self.shared.queue;
        match brought {
            Ok(jobs) => {
                tracing::warn!(jobs, %queue, "the database's clock was put back: jobs that waited by it are due");
                self.wake_in(Duration::ZERO);
            }
            Err(error) => {
                tracing::warn!(%error, %queue, "jobs that wait by a clock that was put back could not be made due");
            }
        }
    }

    async fn read_due_jobs(
        &self,
        latest_first: bool,
        lanes: &[LeaseId],
        limit: i64,
    ) -> Result<Vec<DueJobRow>> {
        statement("claim_jobs", CLAIM_JOBS_SQL)
            .bind(lanes)
            .bind(limit)
            .bind(latest_first)
            .fetch_all(&self.shared.claim_pool)
            .await
    }
}

impl DueJobRow {
    fn into_job(self, lane: &Arc<Lease>) -> Option<Job> {
        Some(Job {
            id: self.job_id?,
            lane: lane.clone(),
            key: self.job_key,
            group: self.group_key,
            priority: JobPriority::from_number(self.priority?),
            attempts: self.attempts?.cast_unsigned(),
            hurried_after: self.hurried_after?.cast_unsigned(),
            payload: self.payload?,
            age: Duration::try_from_secs_f64(self.age?.max(0.0)).ok()?,
            claimed_at: Instant::now(),
        })
    }
}

/// Reads each (lane, priority) in index order of `jobs_due`: from the start and, with latest-first
/// order during a backlog, from the end. At most `limit` rows per end. Returns at least one row.
const CLAIM_JOBS_SQL: &str = "\
WITH place AS MATERIALIZED (
    SELECT lane, priority FROM unnest($1::bigint[]) AS lane CROSS JOIN generate_series(0, 3) AS priority
), next AS (
    SELECT extract(epoch FROM min(later.run_at) - now())::float8 AS next_in,
           extract(epoch FROM max(last.run_at) - now())::float8 AS last_in
    FROM place CROSS JOIN LATERAL (
        SELECT run_at FROM jobs
        WHERE lane = place.lane AND priority = place.priority AND NOT blocked AND run_at > now()
        ORDER BY run_at LIMIT 1
    ) AS later CROSS JOIN LATERAL (
        SELECT run_at FROM jobs
        WHERE lane = place.lane AND priority = place.priority AND NOT blocked
        ORDER BY run_at DESC, job_id DESC LIMIT 1
    ) AS last
), oldest AS (
    SELECT due.*, false AS is_latest FROM place CROSS JOIN LATERAL (
        SELECT * FROM jobs
        WHERE lane = place.lane AND priority = place.priority AND NOT blocked AND run_at <= now()
        ORDER BY run_at, job_id LIMIT $2
    ) AS due
    ORDER BY due.priority, due.run_at, due.job_id LIMIT $2
), latest AS (
    SELECT due.*, true AS is_latest FROM place CROSS JOIN LATERAL (
        SELECT * FROM jobs
        WHERE lane = place.lane AND priority = place.priority AND NOT blocked AND run_at <= now()
          AND $3 AND (SELECT count(*) FROM oldest) = $2
        ORDER BY run_at DESC, job_id DESC LIMIT $2
    ) AS due
    ORDER BY due.priority, due.run_at DESC, due.job_id DESC LIMIT $2
), due AS (
    SELECT * FROM oldest UNION ALL SELECT * FROM latest
)
SELECT next.next_in, next.last_in, due.job_id, due.lane, due.priority, due.job_key, due.group_key, due.attempts,
       due.hurried_after, due.payload, extract(epoch FROM now() - due.enqueued_at)::float8 AS age,
       coalesce(due.is_latest, false) AS is_latest
FROM next LEFT JOIN due ON true
ORDER BY due.is_latest, due.priority,
         CASE WHEN NOT due.is_latest THEN due.run_at END, CASE WHEN due.is_latest THEN due.run_at END DESC, due.job_id";

/// Locks the jobs in id order, like `hurry_jobs`.
const BRING_JOBS_FORWARD_SQL: &str = "\
WITH found AS MATERIALIZED (
    SELECT job_id FROM jobs
    WHERE lane = ANY ($1) AND run_at > now() + make_interval(secs => $2) ORDER BY job_id LIMIT $3 FOR UPDATE
)
UPDATE jobs SET run_at = now() FROM found WHERE jobs.job_id = found.job_id";
