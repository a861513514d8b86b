//! Runs, also of a single shard, whose target is one transaction.
//!
//! - Shape: lock, read, plan, check the approval, write, record the changes in the audit trail. A dry
//!   run uses a read-only transaction.
//! - Lock order: advisory locks in the order of `exclusive_names`, then the writers' lock.
//! - Promise: all changes or none. A refusal after a lost commit answer is
//!   reported as outcome unknown.

use audit::AuditActor;
use futures::future::BoxFuture;
use sqlx::PgPool;
use store::{LONG_OPERATION_TIMEOUT, PgConnection, PgOperation, Result};

use crate::audited::audit_entries;
use crate::error::ReconcileError;
use crate::exclusion::{exclude_other_runs_in_tx, set_read_only_in_tx};
use crate::plan::{PlanApproval, ReconcilePlan};

/// Result of a step. The outer error aborts the transaction, which may be retried. The inner error
/// is final, and nothing is written.
pub type ReconcileTxResult<T> = Result<Result<T, ReconcileError>>;

/// A plan and its writes in one transaction. The transaction may be retried from the start.
pub trait ReconcileTransaction: Send + Sync + 'static {
    /// The writes that result from planning.
    type PlannedWrites: Send + Sync + 'static;

    /// Names of the advisory locks of a real run, in acquisition order.
    fn exclusive_names(&self) -> Vec<String>;

    /// Locks out other writers in a real run, after the advisory locks.
    fn lock_writers_in_tx<'a>(&'a self, _: &'a mut PgConnection) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Reads and plans; writes nothing. Binds the plan to the state
    /// that was read ([`ReconcilePlan::bind_target`]).
    fn plan_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<(ReconcilePlan, Self::PlannedWrites)>>;

    /// Writes the planned and approved changes.
    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        writes: &'a Self::PlannedWrites,
    ) -> BoxFuture<'a, Result<()>>;

    /// Records the changes of the plan in the audit trail, before they are written. By default in
    /// the same transaction, on a control database.
    fn record_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        plan: &'a ReconcilePlan,
        actor: &'a AuditActor,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(
            async move { audit::record_entries(connection, actor, &audit_entries(plan)).await },
        )
    }
}

/// Runs the transaction; `name` labels the operation. A real run has an approval, a
/// dry run has none.
pub async fn run_transaction<T: ReconcileTransaction>(
    pool: &PgPool,
    name: &'static str,
    transaction: T,
    approval: Option<PlanApproval>,
) -> Result<(ReconcilePlan, T::PlannedWrites), ReconcileError> {
    let operation = PgOperation::named(name).with_timeout(LONG_OPERATION_TIMEOUT);
    // After a lost commit answer, the retry finds its own changes and would refuse the plan as
    // stale, as if nothing had been written: this becomes `OutcomeUnknown`.
    store::transaction(operation, (transaction, approval))
        .run_refusable(pool, Result::is_err, |connection, (transaction, approval)| {
            Box::pin(plan_and_write_in_tx(transaction, connection, approval.as_ref()))
        })
        .await?
}

async fn plan_and_write_in_tx<T: ReconcileTransaction>(
    transaction: &T,
    connection: &mut PgConnection,
    approval: Option<&PlanApproval>,
) -> ReconcileTxResult<(ReconcilePlan, T::PlannedWrites)> {
    if approval.is_some() {
        for name in transaction.exclusive_names() {
            exclude_other_runs_in_tx(connection, &name).await?;
        }
        transaction.lock_writers_in_tx(connection).await?;
    } else {
        set_read_only_in_tx(connection).await?;
    }
    let (plan, writes) = match transaction.plan_in_tx(connection).await? {
        Ok(planned) => planned,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(approval) = approval {
        if let Err(moved) = approval.check(&plan) {
            return Ok(Err(moved));
        }
        store::fail_point("reconcile_planned");
        // First: what is written may hold locks that nobody should wait for.
        transaction.record_in_tx(connection, &plan, approval.actor()).await?;
        transaction.write_in_tx(connection, &writes).await?;
        store::fail_point("reconcile_applied");
    }
    Ok(Ok((plan, writes)))
}
