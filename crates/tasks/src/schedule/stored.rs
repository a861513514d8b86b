//! Stored schedules: one row of `task_schedules` each.

use chrono::{DateTime, Utc};
use reconcile::ObjectOwner;
use serde_json::Value as Json;
use sqlx::PgConnection;
use sqlx::types::Json as Jsonb;
use store::Result;

use super::TaskSchedule;

/// `NOTIFY` channel of schedule changes.
pub const SCHEDULES_CHANNEL: &str = "task_schedules";

/// A stored schedule with owner and progress.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSchedule {
    /// The schedule as in its file.
    pub definition: TaskSchedule,
    /// Owner, such as the bundle or the API.
    pub owner: ObjectOwner,
    /// Watermark: ticks up to this time have their tasks.
    pub done_until: DateTime<Utc>,
}

/// All schedules by name, and the database's time. One that this version cannot parse (written by a
/// newer version) is logged and left out.
pub async fn read_schedules(
    connection: &mut PgConnection,
) -> Result<(Vec<StoredSchedule>, DateTime<Utc>)> {
    let rows: Vec<(String, Json, String, DateTime<Utc>)> = store::statement(
        "read_schedules",
        "SELECT name, definition, owner, done_until FROM task_schedules ORDER BY name",
    )
    .fetch_all(&mut *connection)
    .await?;
    let now = store::statement("schedules_clock", "SELECT clock_timestamp()")
        .fetch_value(connection)
        .await?;
    let stored = rows.into_iter().filter_map(|(name, definition, owner, done_until)| {
        let scheduled = serde_json::from_value(definition).map_err(|error| error.to_string());
        let owner = ObjectOwner::parse(&owner).ok_or_else(|| format!("unknown owner {owner}"));
        match scheduled.and_then(|scheduled| Ok((scheduled, owner?))) {
            Ok((scheduled, owner)) => {
                Some(StoredSchedule { definition: scheduled, owner, done_until })
            }
            Err(reason) => {
                tracing::error!(
                    schedule = name,
                    reason,
                    code = "CONSISTENCY_ERROR",
                    "a stored schedule is left out"
                );
                None
            }
        }
    });
    Ok((stored.collect(), now))
}

/// Upserts a schedule. A changed cron expression moves the watermark to now; other changes keep it.
pub(super) async fn put_schedule_in_tx(
    connection: &mut PgConnection,
    scheduled: &TaskSchedule,
    owner: ObjectOwner,
) -> Result<()> {
    store::statement(
        "put_schedule",
        "INSERT INTO task_schedules AS s (name, definition, owner) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE
             SET definition = excluded.definition, owner = excluded.owner, changed_at = now(),
                 done_until = CASE WHEN s.definition -> 'schedule' = excluded.definition -> 'schedule'
                                   THEN s.done_until ELSE greatest(s.done_until, now()) END",
    )
    .bind(&scheduled.name)
    .bind(Jsonb(scheduled.to_json()))
    .bind(owner.name())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn delete_schedule_in_tx(connection: &mut PgConnection, name: &str) -> Result<()> {
    store::statement("delete_schedule", "DELETE FROM task_schedules WHERE name = $1")
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notifies all schedulers of a change, on commit.
pub(super) async fn notify_schedules_in_tx(connection: &mut PgConnection) -> Result<()> {
    store::statement("tell_schedules", "SELECT pg_notify($1, '')")
        .bind(SCHEDULES_CHANNEL)
        .execute(connection)
        .await?;
    Ok(())
}

/// Moves the watermark from `from` to `until`; returns `false` and changes nothing if it has moved
/// meanwhile.
pub(super) async fn advance_done_until_in_tx(
    connection: &mut PgConnection,
    name: &str,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<bool> {
    let moved = store::statement(
        "done_schedule",
        "UPDATE task_schedules SET done_until = $3 WHERE name = $1 AND done_until = $2",
    )
    .bind(name)
    .bind(from)
    .bind(until)
    .execute(connection)
    .await?;
    Ok(moved == 1)
}
