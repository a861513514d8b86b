//! Audit entries of targets outside the control database.

use audit::AuditActor;
use reconcile::{ReconcilePlan, audit_entries};
use sqlx::PgPool;

/// Records the changes of a plan in a transaction of its own, which commits before the target is
/// changed or its transaction commits: a change without entries is impossible, entries whose change
/// failed are not.
pub(super) async fn record_plan(
    pool: &PgPool,
    plan: &ReconcilePlan,
    actor: &AuditActor,
) -> store::Result<()> {
    let entries = audit_entries(plan);
    if entries.is_empty() {
        return Ok(());
    }
    store::transaction("record_plan", (entries, actor.clone()))
        .run(pool, |connection, (entries, actor)| {
            Box::pin(audit::record_entries(connection, actor, entries))
        })
        .await
}
