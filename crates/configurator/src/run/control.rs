//! Cancelling a run, and resuming a failed or cancelled one.

use std::sync::Arc;

use audit::{AuditAction, AuditActor, AuditDifference, AuditEntry, record_entry};
use queue::fifo::FifoTxSender;
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::begin::wake_instance;
use super::given_up::mark_sends_settled;
use super::status::RunStatus;
use super::write::{end_run, notify_run_end, touch_instance};
use crate::ids::{BlockId, InstanceId, RunId};
use crate::protocol::{block_id_from_deduplication, deduplication_id};

/// The outcome of a cancel or resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunControlOutcome {
    /// Done; cancelling a cancelled run changes nothing and is done, too.
    Done,
    /// The run does not exist.
    RunNotFound,
    /// The run's status does not allow it.
    StatusConflict(RunStatus),
    /// This later run of the instance has superseded it.
    Superseded(RunId),
}

/// Locks the row of the run's instance. Returns the instance and the run's status.
async fn lock_run_instance(
    connection: &mut PgConnection,
    run_id: RunId,
) -> Result<Option<(InstanceId, RunStatus)>> {
    let instance_id: Option<InstanceId> = store::statement(
        "lock_controlled_instance",
        "SELECT i.instance_id FROM configurator_instances i JOIN configurator_runs r USING (instance_id)
         WHERE r.run_id = $1 FOR NO KEY UPDATE OF i",
    )
    .bind(run_id)
    .fetch_optional_value(&mut *connection)
    .await?;
    let Some(instance_id) = instance_id else { return Ok(None) };
    // Read under the lock: the run may have ended while this transaction waited for it.
    let status: Option<String> =
        store::statement("run_status", "SELECT status FROM configurator_runs WHERE run_id = $1")
            .bind(run_id)
            .fetch_optional_value(connection)
            .await?;
    Ok(status.as_deref().and_then(RunStatus::parse).map(|status| (instance_id, status)))
}

/// Every other outcome is a refusal, which an earlier attempt with an unknown commit
/// outcome may have caused.
fn is_refused(control: &RunControlOutcome) -> bool {
    *control != RunControlOutcome::Done
}

/// Cancels a run. Pending blocks are skipped, and unsent messages taken back. A sent block may
/// still be answered, and its success is stored.
pub async fn cancel_run(
    pool: &PgPool,
    run_id: RunId,
    sender: Arc<dyn FifoTxSender>,
    actor: &AuditActor,
) -> Result<RunControlOutcome> {
    store::transaction("cancel_run", (run_id, sender, actor.clone()))
        .run_refusable(pool, is_refused, |connection, (run_id, sender, actor)| {
            Box::pin(cancel_in_tx(connection, *run_id, sender.as_ref(), actor))
        })
        .await
}

async fn cancel_in_tx(
    connection: &mut PgConnection,
    run_id: RunId,
    sender: &dyn FifoTxSender,
    actor: &AuditActor,
) -> Result<RunControlOutcome> {
    let Some((instance_id, status)) = lock_run_instance(connection, run_id).await? else {
        return Ok(RunControlOutcome::RunNotFound);
    };
    match status {
        RunStatus::Running => {}
        RunStatus::Cancelled => return Ok(RunControlOutcome::Done),
        status => return Ok(RunControlOutcome::StatusConflict(status)),
    }
    store::statement(
        "skip_blocks",
        "UPDATE configurator_run_blocks SET status = 'skipped', ended_at = now()
         WHERE run_id = $1 AND status = 'pending'",
    )
    .bind(run_id)
    .execute(&mut *connection)
    .await?;
    let sent_ids: Vec<BlockId> = store::statement(
        "sent_blocks",
        "SELECT block_id FROM configurator_run_blocks WHERE run_id = $1 AND status = 'sent'",
    )
    .bind(run_id)
    .fetch_values(&mut *connection)
    .await?;
    let deduplication_ids: Vec<String> = sent_ids.into_iter().map(deduplication_id).collect();
    let unsent = sender.take_back_in_tx(connection, &deduplication_ids).await?;
    let unsent: Vec<BlockId> = unsent
        .iter()
        .filter_map(|unsent| block_id_from_deduplication(&unsent.deduplication))
        .collect();
    mark_sends_settled(connection, &unsent).await?;
    end_run(connection, run_id, RunStatus::Cancelled, None).await?;
    touch_instance(connection, instance_id, None, None).await?;
    notify_run_end(connection, run_id).await?;
    record_control_in_tx(connection, run_id, actor, AuditAction::RunCancel, status).await?;
    Ok(RunControlOutcome::Done)
}

/// Resumes a failed or cancelled run: failed and skipped blocks are pending again. Only the latest
/// run of an instance can be resumed, as later runs have superseded it.
pub async fn resume_run(
    pool: &PgPool,
    run_id: RunId,
    actor: &AuditActor,
) -> Result<RunControlOutcome> {
    store::transaction("resume_run", (run_id, actor.clone()))
        .run_refusable(pool, is_refused, |connection, (run_id, actor)| {
            Box::pin(resume_in_tx(connection, *run_id, actor))
        })
        .await
}

/// Records the act of an operator on a run that had this status.
async fn record_control_in_tx(
    connection: &mut PgConnection,
    run_id: RunId,
    actor: &AuditActor,
    action: AuditAction,
    old: RunStatus,
) -> Result<()> {
    let new = match action {
        AuditAction::RunCancel => RunStatus::Cancelled,
        _ => RunStatus::Running,
    };
    let difference = AuditDifference::default().with_field(
        "status",
        Some(old.name().into()),
        Some(new.name().into()),
    );
    record_entry(connection, actor, &AuditEntry::new(action, "run", run_id, &difference)).await
}

async fn resume_in_tx(
    connection: &mut PgConnection,
    run_id: RunId,
    actor: &AuditActor,
) -> Result<RunControlOutcome> {
    let Some((instance_id, status)) = lock_run_instance(connection, run_id).await? else {
        return Ok(RunControlOutcome::RunNotFound);
    };
    if !matches!(status, RunStatus::Failed | RunStatus::Cancelled) {
        return Ok(RunControlOutcome::StatusConflict(status));
    }
    let latest: RunId = store::statement(
        "latest_run",
        "SELECT max(run_id) FROM configurator_runs WHERE instance_id = $1",
    )
    .bind(instance_id)
    .fetch_value(&mut *connection)
    .await?;
    if latest != run_id {
        return Ok(RunControlOutcome::Superseded(latest));
    }
    store::statement(
        "resume_blocks",
        "UPDATE configurator_run_blocks
         SET status = 'pending', error_code = NULL, error_args = NULL, ended_at = NULL, state = NULL
         WHERE run_id = $1 AND status IN ('failed', 'skipped')",
    )
    .bind(run_id)
    .execute(&mut *connection)
    .await?;
    store::statement(
        "resume_run",
        "UPDATE configurator_runs SET status = 'running', ended_at = NULL, outputs = NULL
         WHERE run_id = $1",
    )
    .bind(run_id)
    .execute(&mut *connection)
    .await?;
    wake_instance(connection, instance_id).await?;
    record_control_in_tx(connection, run_id, actor, AuditAction::RunResume, status).await?;
    Ok(RunControlOutcome::Done)
}
