//! Crash notes of renderings: detects events whose templates crash the process.
//!
//! Such a crash would recur after each restart, when the event is sent again. Renderings are
//! therefore noted outside the transaction. An event whose rendering several processes began and
//! none finished is set aside: it is written, starts no task, and its story says why.
//!
//! - The notes count processes, not renderings: a retry within one process (after a database error)
//!   does not count.
//! - Only a young process takes notes, because a recurring crash comes soon after the start; later
//!   they cost nothing.
//! - A batch that was begun too often is rendered event by event with a note for each, so that the
//!   other events of the batch are not affected.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use store::{PgOperation, Result, open_single_connection_pool};
use tokio::time::timeout;
use uuid::Uuid;

/// Fingerprint of an event that has no id yet.
pub(super) type EventIdentity = [u8; 32];

/// Notes are taken for this long after process start.
const NOTE_TAKING_PERIOD: Duration = Duration::from_secs(120);
/// A batch begun by more processes without finishing is rendered event by event.
const MAX_BATCH_PROCESSES: i32 = 2;
/// An event begun alone by more processes without finishing is set aside.
const MAX_ALONE_PROCESSES: i32 = 3;

/// Timeout of a note's statement. The writer holds a transaction open meanwhile, which the server
/// ends after 5 s idle.
const NOTE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(1);
/// The same including connection wait and retries.
const NOTE_TIMEOUT: Duration = Duration::from_secs(2);

static PROCESS_STARTED_AT: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Random id of this process.
static PROCESS_ID: LazyLock<Uuid> = LazyLock::new(Uuid::new_v4);

/// Writer of crash notes; clones share a connection. Best effort: a failed note blocks no event.
#[derive(Clone)]
pub(crate) struct RenderingNotes {
    pool: PgPool,
    /// Dedicated connection: the caller holds a transaction open and must not wait for a pool.
    own_pool: Arc<OnceLock<PgPool>>,
}

/// Permission to render an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RenderingPermission {
    Granted,
    SetAside,
}

impl RenderingNotes {
    /// Notes in the control database behind `pool`.
    pub(crate) fn new(pool: PgPool) -> Self {
        LazyLock::force(&PROCESS_STARTED_AT);
        Self { pool, own_pool: Arc::default() }
    }

    /// Whether this process still takes notes.
    pub(super) fn is_active(&self) -> bool {
        PROCESS_STARTED_AT.elapsed() < NOTE_TAKING_PERIOD
    }

    /// Notes the start of a batch; returns whether it must be rendered event by event.
    pub(super) async fn begin_batch(&self, identities: Vec<EventIdentity>) -> bool {
        let begun = self
            .write_notes("begin_renderings", BEGIN_RENDERINGS_SQL, identities, Some(*PROCESS_ID))
            .await;
        begun.values().any(|begun| *begun > MAX_BATCH_PROCESSES)
    }

    /// Notes the start of a single event; returns whether it may be rendered.
    pub(super) async fn begin_event(&self, identity: EventIdentity) -> RenderingPermission {
        let begun = self
            .write_notes(
                "begin_rendering_alone",
                BEGIN_RENDERING_ALONE_SQL,
                vec![identity],
                Some(*PROCESS_ID),
            )
            .await;
        let too_often = begun.get(&identity).is_some_and(|begun| *begun > MAX_ALONE_PROCESSES);
        if too_often { RenderingPermission::SetAside } else { RenderingPermission::Granted }
    }

    /// Notes that a single event has finished.
    pub(super) async fn end_event(&self, identity: EventIdentity) {
        self.write_notes("end_rendering_alone", END_RENDERING_ALONE_SQL, vec![identity], None)
            .await;
    }

    /// Deletes the notes of a finished batch, whatever its result.
    pub(super) async fn end_batch(&self, identities: Vec<EventIdentity>) {
        self.write_notes("end_renderings", END_RENDERINGS_SQL, identities, None).await;
    }

    async fn write_notes(
        &self,
        name: &'static str,
        sql: &'static str,
        mut identities: Vec<EventIdentity>,
        begun_by: Option<Uuid>,
    ) -> HashMap<EventIdentity, i32> {
        // Fixed lock order: concurrent notes of the same events cannot deadlock.
        identities.sort_unstable();
        identities.dedup();
        let pool = self.own_pool.get_or_init(|| open_single_connection_pool(&self.pool));
        let operation = PgOperation::named(name).with_timeout(NOTE_STATEMENT_TIMEOUT);
        let identities: Vec<&[u8]> =
            identities.iter().map(|identity| identity.as_slice()).collect();
        let mut statement = store::statement(operation, sql).bind(identities);
        if let Some(process) = begun_by {
            statement = statement.bind(process);
        }
        let noted: Result<Vec<(Vec<u8>, i32)>> =
            timeout(NOTE_TIMEOUT, statement.fetch_all(pool)).await.unwrap_or_else(|_| {
                Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))
                    .into())
            });
        match noted {
            Ok(rows) => rows
                .into_iter()
                .filter_map(|(identity, n)| Some((identity.try_into().ok()?, n)))
                .collect(),
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "what is rendered was not noted");
                HashMap::new()
            }
        }
    }
}

// `synchronous_commit = off`: a process crash loses nothing that the server has received.
// `begun_at` keeps the first process's time, so that the note expires after a day however often the
// event is sent.
const BEGIN_RENDERINGS_SQL: &str =
    "WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO event_renderings AS r (identity, begun, begun_by)
SELECT identity, 1, $2 FROM quick, unnest($1::bytea[]) AS identity ORDER BY identity
ON CONFLICT (identity) DO UPDATE
SET begun = r.begun + (r.begun_by <> excluded.begun_by)::int, begun_by = excluded.begun_by
RETURNING identity, begun";

const BEGIN_RENDERING_ALONE_SQL: &str =
    "WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE event_renderings SET alone = alone + (alone_by IS DISTINCT FROM $2)::int, alone_by = $2
FROM quick WHERE identity = ANY ($1) RETURNING identity, alone";

const END_RENDERING_ALONE_SQL: &str = "WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE event_renderings SET alone = 0, alone_by = NULL FROM quick WHERE identity = ANY ($1) RETURNING identity, alone";

/// Notes of events set aside stay, so that they are set aside again.
const END_RENDERINGS_SQL: &str = "WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
DELETE FROM event_renderings USING quick WHERE identity = ANY ($1) AND alone = 0 RETURNING identity, begun";
