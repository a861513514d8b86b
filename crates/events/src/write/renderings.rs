//! Events that end the process: a crash while an event's templates are rendered comes again at the next start, when the event is
//! written again. So renderings are noted, outside of any transaction, and what was begun some times and never ended is set
//! aside: the event is written, starts nothing, and its story says why.
//!
//! Processes are counted, not renderings: one that tries again, because the database failed meanwhile, has not ended.
//!
//! A crash that comes again comes soon after the start; so only a young process takes notes, and afterwards they cost nothing. A
//! batch that was begun too often is looked at event by event, each noted by itself: the others of the batch do not suffer.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use store::{PgOperation, Result, open_single_connection_pool, run_statement};
use tokio::time::timeout;
use uuid::Uuid;

/// What an event is, as long as it is not written.
pub(super) type EventIdentity = [u8; 32];

/// How long after its start a process takes notes.
const NOTE_TAKING_PERIOD: Duration = Duration::from_secs(120);
/// A batch that was begun by more processes, and never ended, is looked at event by event.
const MAX_BATCH_PROCESSES: i32 = 2;
/// An event that was begun by itself by more processes, and never ended, is set aside.
const MAX_ALONE_PROCESSES: i32 = 3;

/// What a note may take: whoever takes it holds a transaction open, which the server ends when it is idle for 5 s.
const NOTE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(1);
/// The same with waiting for the connection, and with trying again.
const NOTE_TIMEOUT: Duration = Duration::from_secs(2);

static PROCESS_STARTED_AT: LazyLock<Instant> = LazyLock::new(Instant::now);
/// This process.
static PROCESS_ID: LazyLock<Uuid> = LazyLock::new(Uuid::new_v4);

/// Notes of what is being rendered; clones share their connection. Notes that cannot be taken are not: events are written all the
/// same.
#[derive(Clone)]
pub(crate) struct RenderingNotes {
    pool: PgPool,
    /// Whoever takes notes holds a transaction open: nobody else's connection is waited for.
    own_pool: Arc<OnceLock<PgPool>>,
}

/// Whether an event may be rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RenderingPermission {
    Granted,
    SetAside,
}

impl RenderingNotes {
    /// In the control database behind `pool`.
    pub(crate) fn new(pool: PgPool) -> Self {
        LazyLock::force(&PROCESS_STARTED_AT);
        Self { pool, own_pool: Arc::default() }
    }

    /// Whether notes are taken.
    pub(super) fn is_active(&self) -> bool {
        PROCESS_STARTED_AT.elapsed() < NOTE_TAKING_PERIOD
    }

    /// Notes that these are begun; whether they are to be looked at one by one.
    pub(super) async fn begin_batch(&self, identities: Vec<EventIdentity>) -> bool {
        let begun = self
            .write_notes("begin_renderings", BEGIN_RENDERINGS_SQL, identities, Some(*PROCESS_ID))
            .await;
        begun.values().any(|begun| *begun > MAX_BATCH_PROCESSES)
    }

    /// Notes that one is begun by itself, and whether it may be.
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

    /// Notes that one has ended by itself.
    pub(super) async fn end_event(&self, identity: EventIdentity) {
        self.write_notes("end_rendering_alone", END_RENDERING_ALONE_SQL, vec![identity], None)
            .await;
    }

    /// Forgets those that have ended, however they did.
    pub(super) async fn end_batch(&self, identities: Vec<EventIdentity>) {
        self.write_notes("end_renderings", END_RENDERINGS_SQL, identities, None).await;
    }

    async fn write_notes(
        &self,
        name: &'static str,
        statement: &'static str,
        mut identities: Vec<EventIdentity>,
        begun_by: Option<Uuid>,
    ) -> HashMap<EventIdentity, i32> {
        // In one order: those who note the same do not wait for each other in a circle.
        identities.sort_unstable();
        identities.dedup();
        let pool = self.own_pool.get_or_init(|| open_single_connection_pool(&self.pool));
        let operation = PgOperation::named(name).with_timeout(NOTE_STATEMENT_TIMEOUT);
        let noted = run_statement(pool, operation, move |connection| {
            let identities: Vec<Vec<u8>> =
                identities.iter().map(|identity| identity.to_vec()).collect();
            let mut query = sqlx::query_as(statement).bind(identities);
            if let Some(process) = begun_by {
                query = query.bind(process);
            }
            Box::pin(async move { Ok(query.fetch_all(connection).await?) })
        });
        let noted: Result<Vec<(Vec<u8>, i32)>> =
            timeout(NOTE_TIMEOUT, noted).await.unwrap_or_else(|_| {
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

// None waits for the disk: a process that ends takes nothing with it that the server has. When the first process began
// stays as it is, so that the day for which it is remembered ends, however often the event is sent.
const BEGIN_RENDERINGS_SQL: &str = "-- begin_renderings
WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO event_renderings AS r (identity, begun, begun_by)
SELECT identity, 1, $2 FROM quick, unnest($1::bytea[]) AS identity ORDER BY identity
ON CONFLICT (identity) DO UPDATE
SET begun = r.begun + (r.begun_by <> excluded.begun_by)::int, begun_by = excluded.begun_by
RETURNING identity, begun";

const BEGIN_RENDERING_ALONE_SQL: &str = "-- begin_rendering_alone
WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE event_renderings SET alone = alone + (alone_by IS DISTINCT FROM $2)::int, alone_by = $2
FROM quick WHERE identity = ANY ($1) RETURNING identity, alone";

const END_RENDERING_ALONE_SQL: &str = "-- end_rendering_alone
WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE event_renderings SET alone = 0, alone_by = NULL FROM quick WHERE identity = ANY ($1) RETURNING identity, alone";

/// Those that were set aside stay, so that they are the next time.
const END_RENDERINGS_SQL: &str = "-- end_renderings
WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
DELETE FROM event_renderings USING quick WHERE identity = ANY ($1) AND alone = 0 RETURNING identity, begun";
