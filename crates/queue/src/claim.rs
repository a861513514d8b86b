//! Claiming: what is due in the lanes held, marked in memory as in work.

use std::sync::Arc;
use std::time::Duration;

use store::{Lease, Result, run};
use tokio::time::Instant;

use crate::job::{Job, Priority};
use crate::lanes::Jobs;

/// A due job, or none; and when the next one will be due.
#[derive(sqlx::FromRow)]
struct Row {
    next_in: Option<f64>,
    job_id: Option<i64>,
    lane: Option<i64>,
    priority: Option<i16>,
    job_key: Option<String>,
    group_key: Option<String>,
    attempts: Option<i32>,
    hurried_after: Option<i32>,
    payload: Option<Vec<u8>>,
    age: Option<f64>,
}

impl Jobs {
    /// At most `most` due jobs, by priority and age, none of which is in work. Each stays marked as in work until
    /// [`Jobs::end`]. One round trip.
    pub async fn claim(&self, most: usize) -> Result<Vec<Job>> {
        let (held, in_work) = self.begin_claim();
        // What is in work is still in its lane, and first in line: read past it.
        let limit = (most + in_work) as i64;
        let rows = self.due(held.iter().map(|lease| lease.id).collect(), limit).await;
        let claimed = rows.map(|rows| self.take(&held, rows, most));
        self.end_claim();
        let claimed = claimed?;
        if claimed.is_empty() && held.len() > 1 {
            self.dissolve_empty_lanes().await?;
        }
        Ok(claimed)
    }

    fn take(&self, held: &[Arc<Lease>], rows: Vec<Row>, most: usize) -> Vec<Job> {
        if let Some(seconds) = rows.first().and_then(|row| row.next_in) {
            self.wake_in(Duration::try_from_secs_f64(seconds.clamp(0.0, 60.0)).unwrap_or_default());
        }
        let mut claimed = Vec::new();
        for row in rows {
            let Some(lease) = held.iter().find(|lease| Some(lease.id) == row.lane) else { continue };
            if claimed.len() < most
                && let Some(job) = row.job(lease)
                && self.begin(lease, job.id)
            {
                claimed.push(job);
            }
        }
        claimed
    }

    async fn due(&self, lanes: Vec<i64>, limit: i64) -> Result<Vec<Row>> {
        run(&self.shared.claiming, "claim_jobs", move |connection| {
            let lanes = lanes.clone();
            Box::pin(
                async move { Ok(sqlx::query_as(DUE).bind(lanes).bind(limit).fetch_all(connection).await?) },
            )
        })
        .await
    }
}

impl Row {
    fn job(self, lane: &Arc<Lease>) -> Option<Job> {
        Some(Job {
            id: self.job_id?,
            lane: lane.clone(),
            key: self.job_key,
            group: self.group_key,
            priority: Priority::from_number(self.priority?),
            attempts: self.attempts?.cast_unsigned(),
            hurried_after: self.hurried_after?.cast_unsigned(),
            payload: self.payload?,
            age: Duration::try_from_secs_f64(self.age?.max(0.0)).ok()?,
            claimed_at: Instant::now(),
        })
    }
}

/// Each (lane, priority) is read in the order of the index `jobs_due`, never more than asked for. At least one row.
const DUE: &str = "-- claim_jobs
WITH place AS MATERIALIZED (
    SELECT lane, priority FROM unnest($1::bigint[]) AS lane CROSS JOIN generate_series(0, 3) AS priority
), next AS (
    SELECT extract(epoch FROM min(later.run_at) - now())::float8 AS next_in
    FROM place CROSS JOIN LATERAL (
        SELECT run_at FROM jobs
        WHERE lane = place.lane AND priority = place.priority AND NOT blocked AND run_at > now()
        ORDER BY run_at LIMIT 1
    ) AS later
), due AS (
    SELECT due.* FROM place CROSS JOIN LATERAL (
        SELECT * FROM jobs
        WHERE lane = place.lane AND priority = place.priority AND NOT blocked AND run_at <= now()
        ORDER BY run_at, job_id LIMIT $2
    ) AS due
    ORDER BY due.priority, due.run_at, due.job_id LIMIT $2
)
SELECT next.next_in, due.job_id, due.lane, due.priority, due.job_key, due.group_key, due.attempts,
       due.hurried_after, due.payload, extract(epoch FROM now() - due.enqueued_at)::float8 AS age
FROM next LEFT JOIN due ON true
ORDER BY due.priority, due.run_at, due.job_id";
