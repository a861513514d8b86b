//! Recording an act in the transaction of its effect.

use serde_json::Value as Json;
use sqlx::PgConnection;
use sqlx::types::Json as Jsonb;
use store::Result;

use crate::action::AuditAction;
use crate::actor::AuditActor;
use crate::difference::AuditDifference;

/// Longer names of objects are cut: they are in indexes.
const MAX_OBJECT_BYTES: usize = 512;
/// Entries of one statement, at most 16 KiB each.
const MAX_ENTRIES_PER_STATEMENT: usize = 100;

/// An act: what was done to what.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    action: AuditAction,
    object: String,
    difference: Json,
}

impl AuditEntry {
    /// `kind` and `name` of the object are shown as `kind/name`, such as `task/17`.
    pub fn new(
        action: AuditAction,
        kind: &str,
        name: impl std::fmt::Display,
        difference: &AuditDifference,
    ) -> Self {
        let mut object = format!("{kind}/{name}").replace('\0', "\u{fffd}");
        object.truncate(object.floor_char_boundary(MAX_OBJECT_BYTES));
        Self { action, object, difference: difference.to_json() }
    }
}

/// Records an act on the connection of the transaction that does it.
pub async fn record_entry(
    connection: &mut PgConnection,
    actor: &AuditActor,
    entry: &AuditEntry,
) -> Result<()> {
    record_entries(connection, actor, std::slice::from_ref(entry)).await
}

/// Like [`record_entry`], for acts on several objects.
pub async fn record_entries(
    connection: &mut PgConnection,
    actor: &AuditActor,
    entries: &[AuditEntry],
) -> Result<()> {
    if store::mutant("audit_not_recorded") {
        return Ok(());
    }
    for entries in entries.chunks(MAX_ENTRIES_PER_STATEMENT) {
        store::statement("record_audit", RECORD_SQL)
            .bind(actor.name())
            .bind(actor.origin())
            .bind(entries.iter().map(|entry| entry.action.name()).collect::<Vec<_>>())
            .bind(entries.iter().map(|entry| entry.object.as_str()).collect::<Vec<_>>())
            .bind(entries.iter().map(|entry| Jsonb(entry.difference.clone())).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

const RECORD_SQL: &str = "INSERT INTO audit (actor, origin, action, object, difference)
SELECT $1, $2, e.action, e.object, e.difference
FROM unnest($3::text[], $4::text[], $5::jsonb[]) WITH ORDINALITY AS e (action, object, difference, position)
ORDER BY e.position";
