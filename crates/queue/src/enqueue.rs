//! Putting jobs into a queue, in the caller's transaction.

use sqlx::PgConnection;
use store::{Error, Lease, Result};

use crate::WAKE_CHANNEL;
use crate::job::NewJob;
use crate::lanes::{QueueName, lane_class};

/// What became of a [`NewJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// The job's id, or that of the job that already had its key.
    pub id: i64,
    /// Whether it was added now.
    pub added: bool,
}

/// Columns of a batch of jobs, for `unnest`.
#[derive(Default)]
struct Columns {
    priority: Vec<i16>,
    delay: Vec<f64>,
    key: Vec<Option<String>>,
    group: Vec<Option<String>>,
    payload: Vec<Vec<u8>>,
    attempts: Vec<i32>,
    last_error: Vec<Option<String>>,
}

impl Columns {
    fn of<'j>(jobs: impl Iterator<Item = &'j NewJob>) -> Self {
        let mut columns = Self::default();
        for job in jobs {
            columns.priority.push(job.priority.number());
            columns.delay.push(job.delay.as_secs_f64());
            columns.key.push(job.key.clone());
            columns.group.push(job.group.clone());
            columns.payload.push(job.payload.clone());
            columns.attempts.push(job.attempts.cast_signed());
            columns.last_error.push(job.last_error.clone());
        }
        columns
    }
}

/// Adds `jobs` and answers in their order. With a `lane` (which must be held: [`Lease::fence`]) they go there and the
/// caller wakes its own claimer; without, they are spread over the lanes of living processes, which are woken when the
/// transaction commits. Two round trips, one more for jobs with groups.
pub async fn enqueue_in_tx(
    connection: &mut PgConnection,
    queue: QueueName,
    lane: Option<&Lease>,
    jobs: &[NewJob],
) -> Result<Vec<Enqueued>> {
    lock_groups(connection, queue, jobs.iter().filter_map(|job| job.group.as_deref())).await?;
    let columns = Columns::of(jobs.iter());
    let rows: Vec<(i64, bool)> = sqlx::query_as(ENQUEUE)
        .bind(queue)
        .bind(lane.map(|lane| lane.id))
        .bind(lane_class(queue))
        .bind(&columns.priority)
        .bind(&columns.delay)
        .bind(&columns.key)
        .bind(&columns.group)
        .bind(&columns.payload)
        .bind(&columns.attempts)
        .bind(&columns.last_error)
        .bind(WAKE_CHANNEL)
        .fetch_all(connection)
        .await
        .map_err(|error| match Error::from(error) {
            // Somebody enqueued the same key at this very moment: repeated, the transaction finds it.
            Error::Duplicate(constraint) => Error::Raced(constraint),
            other => other,
        })?;
    Ok(rows.into_iter().map(|(id, added)| Enqueued { id, added }).collect())
}

/// Groups are changed by one transaction at a time: whether a job is blocked depends on the group's other jobs.
pub(crate) async fn lock_groups<'g>(
    connection: &mut PgConnection,
    queue: QueueName,
    groups: impl Iterator<Item = &'g str>,
) -> Result<()> {
    let groups: Vec<&str> = groups.collect();
    if groups.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "-- lock_groups
        SELECT pg_advisory_xact_lock(key) FROM (
            SELECT DISTINCT hashtextextended($1 || '/' || name, 0) AS key FROM unnest($2::text[]) AS name ORDER BY 1
        ) AS keys",
    )
    .bind(queue)
    .bind(groups)
    .execute(connection)
    .await?;
    Ok(())
}

/// A job with a key that waits already is not added; within the batch the first one counts. A job whose group has
/// jobs goes to their lane and is blocked; the first of a group in the batch blocks the others of it.
const ENQUEUE: &str = "-- enqueue_jobs
WITH live AS MATERIALIZED (
    SELECT array_agg(lease_id) AS lanes FROM (
        SELECT lease_id FROM leases WHERE class = $3 AND expires_at > now() AND $2::bigint IS NULL FOR KEY SHARE
    ) AS alive
), fallback AS MATERIALIZED (
    SELECT min(lease_id) AS lane FROM leases WHERE class = $3 AND name = 'unclaimed'
), input AS MATERIALIZED (
    SELECT n, priority, delay, job_key, group_key, payload, attempts, last_error,
           row_number() OVER (PARTITION BY coalesce(job_key, n::text || '/'), job_key IS NULL ORDER BY n) AS key_turn
    FROM unnest($4::smallint[], $5::float8[], $6::text[], $7::text[], $8::bytea[], $9::int[], $10::text[])
        WITH ORDINALITY AS t (priority, delay, job_key, group_key, payload, attempts, last_error, n)
), waiting AS MATERIALIZED (
    SELECT i.n, j.job_id FROM input i JOIN jobs j ON j.queue = $1 AND j.job_key = i.job_key
), groups AS MATERIALIZED (
    SELECT DISTINCT ON (i.group_key) i.group_key, j.lane,
           coalesce($2, (SELECT lanes[1 + floor(random() * cardinality(lanes))::int] FROM live), (SELECT lane FROM fallback)) AS fresh_lane
    FROM input i LEFT JOIN jobs j ON j.queue = $1 AND j.group_key = i.group_key
    WHERE i.group_key IS NOT NULL
), numbered AS MATERIALIZED (
    SELECT i.*, nextval(pg_get_serial_sequence('jobs', 'job_id')) AS job_id
    FROM (
        SELECT *, row_number() OVER (PARTITION BY group_key ORDER BY n) AS group_turn
        FROM input WHERE key_turn = 1 AND n NOT IN (SELECT n FROM waiting) ORDER BY n
    ) AS i
), placed AS MATERIALIZED (
    SELECT i.*,
           coalesce(g.lane, g.fresh_lane, $2,
                    (SELECT lanes[1 + floor(random() * cardinality(lanes) + i.n * 0)::int] FROM live),
                    (SELECT lane FROM fallback)) AS lane,
           coalesce(g.lane IS NOT NULL OR i.group_turn > 1, false) AND i.group_key IS NOT NULL AS blocked
    FROM numbered i LEFT JOIN groups g USING (group_key)
), added AS (
    INSERT INTO jobs (job_id, queue, lane, priority, run_at, blocked, job_key, group_key, attempts, payload, last_error)
    OVERRIDING SYSTEM VALUE
    SELECT job_id, $1, lane, priority, now() + make_interval(secs => delay), blocked, job_key, group_key, attempts,
           payload, last_error
    FROM placed ORDER BY n
    RETURNING lane
), woken AS (
    SELECT count(pg_notify($11, lane::text)) FROM (SELECT DISTINCT lane FROM added WHERE $2::bigint IS NULL) AS lanes
)
SELECT coalesce(p.job_id, w.job_id, f.job_id), p.job_id IS NOT NULL
FROM input i
LEFT JOIN placed p USING (n)
LEFT JOIN waiting w USING (n)
LEFT JOIN placed f ON f.job_key = i.job_key
WHERE (SELECT count FROM woken) >= 0
ORDER BY i.n";
