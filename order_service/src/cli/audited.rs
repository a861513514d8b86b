//! Audit entries of commands whose effect is not a transaction of the control database.

use audit::{AuditActor, AuditEntry};
use sqlx::PgPool;

use super::CommandFailure;

/// Records what a command has done, by this machine's user, after it was done.
pub(super) async fn record_act(pool: &PgPool, entry: AuditEntry) -> Result<(), CommandFailure> {
    store::transaction("record_act", (entry, AuditActor::of_command()))
        .run(pool, |connection, (entry, actor)| {
            Box::pin(audit::record_entry(connection, actor, entry))
        })
        .await
        .map_err(|error| {
            CommandFailure::Failed(format!("it was done, but is not in the audit trail: {error}"))
        })
}
