//! Enqueueing: in the caller's transaction or in a separate one.

use std::sync::Arc;

use sqlx::{PgConnection, PgPool};
use store::{Error, Lease, Result, run_statement, statement};

use crate::JOB_WAKE_CHANNEL;
use crate::ids::JobId;
use crate::job::NewJob;
use crate::lanes::{QueueName, lane_class};

/// Result of enqueueing one [`NewJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueuedJob {
    /// Job id; for a duplicate key, the id of the existing job.
    pub id: JobId,
    /// Whether the job was inserted by this call.
    pub is_new: bool,
}

/// Arrays for `unnest`, one element per job.
struct JobColumns<'j> {
    priority: Vec<i16>,
    delay: Vec<f64>,
    key: Option<Vec<Option<&'j str>>>,
    group: Option<Vec<Option<&'j str>>>,
    payload: Vec<&'j [u8]>,
    attempts: Vec<i32>,
    last_error: Option<Vec<Option<&'j str>>>,
}

impl<'j> JobColumns<'j> {
    fn from_jobs(jobs: &'j [NewJob]) -> Self {
        Self {
            priority: jobs.iter().map(|job| job.priority.to_number()).collect(),
            delay: jobs.iter().map(|job| job.delay.as_secs_f64()).collect(),
            key: optional_column(jobs, |job| job.key.as_deref()),
            group: optional_column(jobs, |job| job.group.as_deref()),
            payload: jobs.iter().map(|job| job.payload.as_slice()).collect(),
            attempts: jobs.iter().map(|job| job.attempts.cast_signed()).collect(),
            last_error: optional_column(jobs, |job| job.last_error.as_deref()),
        }
    }
}

/// A column that is `NULL` for most batches.
fn optional_column<'j>(
    jobs: &'j [NewJob],
    text: fn(&'j NewJob) -> Option<&'j str>,
) -> Option<Vec<Option<&'j str>>> {
    jobs.iter().any(|job| text(job).is_some()).then(|| jobs.iter().map(text).collect())
}

/// Enqueues `jobs`; the answers are in the same order. With `lane`, the jobs go to that lane, or
/// [`Error::Fenced`] if it is lost; the caller wakes its claimer after the commit. Without, they
/// are spread over the lanes of live processes, which are notified at commit. One round trip.
pub async fn enqueue_jobs_in_tx(
    connection: &mut PgConnection,
    queue: QueueName,
    lane: Option<&Lease>,
    jobs: &[NewJob],
) -> Result<Vec<EnqueuedJob>> {
    let columns = JobColumns::from_jobs(jobs);
    let rows: Vec<(JobId, bool)> = statement("enqueue_jobs", ENQUEUE_JOBS_SQL)
        .bind(queue)
        .bind(lane.map(|lane| lane.id))
        .bind(lane.map(|lane| lane.epoch))
        .bind(lane_class(queue))
        .bind(&columns.priority)
        .bind(&columns.delay)
        .bind(&columns.key)
        .bind(&columns.group)
        .bind(&columns.payload)
        .bind(&columns.attempts)
        .bind(&columns.last_error)
        .bind(JOB_WAKE_CHANNEL)
        .fetch_all(connection)
        .await
        .map_err(|error| match error {
            // A concurrent transaction enqueued the same key: a retry finds its job.
            Error::UniqueViolation(constraint) => Error::KeyRace(constraint),
            other => other,
        })?;
    if let Some(lane) = lane
        && rows.len() < jobs.len()
    {
        return Err(lane.fenced_error());
    }
    Ok(rows.into_iter().map(|(id, added)| EnqueuedJob { id, is_new: added }).collect())
}

/// [`enqueue_jobs_in_tx`] as a single-statement transaction: one round trip. It is retried when the
/// commit outcome is unknown, so jobs without a key may be enqueued twice.
pub async fn enqueue_jobs(
    pool: &PgPool,
    queue: QueueName,
    lane: Option<Arc<Lease>>,
    jobs: Vec<NewJob>,
) -> Result<Vec<EnqueuedJob>> {
    let jobs: Arc<[NewJob]> = jobs.into();
    run_statement(pool, "enqueue_jobs", move |connection| {
        let (lane, jobs) = (lane.clone(), jobs.clone());
        Box::pin(async move { enqueue_jobs_in_tx(connection, queue, lane.as_deref(), &jobs).await })
    })
    .await
}

const ENQUEUE_JOBS_SQL: &str =
    "SELECT * FROM enqueue_jobs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
