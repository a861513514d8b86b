//! Claiming: what is due in the lanes held, marked in memory as in work.

use std::time::Duration;

use chrono::{DateTime, Utc};
use store::{Result, run};

use crate::job::{Job, Priority};
use crate::lanes::Jobs;

type Row = (i64, i64, i16, Option<String>, Option<String>, i32, Vec<u8>, DateTime<Utc>);

impl Jobs {
    /// At most `most` due jobs, by priority and age, none of which is in work. Each stays marked as in work until
    /// [`Jobs::end`]. One round trip; a second one, for the time of the next job, when there was not enough.
    pub async fn claim(&self, most: usize) -> Result<Vec<Job>> {
        let (held, in_work) = self.held();
        let lanes: Vec<i64> = held.iter().map(|lease| lease.id).collect();
        // What is in work is still in its lane, and first in line: read past it.
        let limit = (most + in_work) as i64;
        let rows = self.due(lanes.clone(), limit).await?;
        let enough = rows.len() as i64 == limit;
        let mut claimed = Vec::new();
        for (id, lane, priority, key, group, attempts, payload, enqueued_at) in rows {
            let Some(lease) = held.iter().find(|lease| lease.id == lane) else { continue };
            if claimed.len() < most && self.begin(lease, id) {
                let (lane, priority) = (lease.clone(), Priority::from_number(priority));
                let attempts = attempts.cast_unsigned();
                claimed.push(Job { id, lane, key, group, priority, attempts, payload, enqueued_at });
            }
        }
        if !enough {
            self.note_next_due(lanes).await?;
        }
        if claimed.is_empty() && held.len() > 1 {
            self.dissolve_empty_lanes().await?;
        }
        Ok(claimed)
    }

    async fn due(&self, lanes: Vec<i64>, limit: i64) -> Result<Vec<Row>> {
        run(&self.shared.pool, "claim_jobs", move |connection| {
            let lanes = lanes.clone();
            Box::pin(
                async move { Ok(sqlx::query_as(DUE).bind(lanes).bind(limit).fetch_all(connection).await?) },
            )
        })
        .await
    }

    async fn note_next_due(&self, lanes: Vec<i64>) -> Result<()> {
        let seconds: Option<f64> = run(&self.shared.pool, "next_due", move |connection| {
            let lanes = lanes.clone();
            Box::pin(async move { Ok(sqlx::query_scalar(NEXT_DUE).bind(lanes).fetch_one(connection).await?) })
        })
        .await?;
        if let Some(seconds) = seconds {
            self.wake_in(Duration::try_from_secs_f64(seconds.clamp(0.0, 60.0)).unwrap_or_default());
        }
        Ok(())
    }
}

/// Each (lane, priority) is read in the order of the index `jobs_due`, never more than asked for.
const DUE: &str = "-- claim_jobs
SELECT j.job_id, j.lane, j.priority, j.job_key, j.group_key, j.attempts, j.payload, j.enqueued_at
FROM unnest($1::bigint[]) AS held (lane)
CROSS JOIN generate_series(0, 3) AS level (priority)
CROSS JOIN LATERAL (
    SELECT * FROM jobs
    WHERE lane = held.lane AND priority = level.priority AND NOT blocked AND run_at <= now()
    ORDER BY run_at, job_id LIMIT $2
) AS j
ORDER BY j.priority, j.run_at, j.job_id LIMIT $2";

const NEXT_DUE: &str = "-- next_due
SELECT extract(epoch FROM min(j.run_at) - now())::float8
FROM unnest($1::bigint[]) AS held (lane)
CROSS JOIN generate_series(0, 3) AS level (priority)
CROSS JOIN LATERAL (
    SELECT run_at FROM jobs
    WHERE lane = held.lane AND priority = level.priority AND NOT blocked AND run_at > now()
    ORDER BY run_at LIMIT 1
) AS j";
