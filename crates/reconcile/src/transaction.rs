//! A run, or the run of a shard, whose target is one transaction: others out, read, plan, approval, write. A dry run does
//! the same in a transaction that cannot write.

use std::sync::Arc;

use futures::future::BoxFuture;
use sqlx::PgPool;
use store::{LONG_OPERATION_TIMEOUT, PgConnection, PgOperation, Result};

use crate::plan::PlanApproval;
use crate::{ReconcileError, ReconcilePlan, exclude_other_runs_in_tx, set_read_only_in_tx};

/// What came of a part of a transaction. The outer error ends the transaction, which may be repeated; with the inner one
/// there is nothing to repeat, and nothing has been written.
pub type ReconcileTxResult<T> = Result<Result<T, ReconcileError>>;

/// What is planned and written in one transaction. It may be begun again from the start.
pub trait ReconcileTransaction: Send + Sync + 'static {
    /// What is written, once it is planned.
    type PlannedWrites: Send + Sync + 'static;

    /// The names under which other real runs are kept out, in the order in which they are taken.
    fn exclusive_names(&self) -> Vec<String>;

    /// Whoever else is to be kept out of a real run, after its like.
    fn lock_writers_in_tx<'a>(&'a self, _: &'a mut PgConnection) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Reads and plans, and writes nothing. The plan is bound to what it was made from ([`ReconcilePlan::observed_in`]).
    fn plan_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<(ReconcilePlan, Self::PlannedWrites)>>;

    /// Writes what was planned and approved.
    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        writes: &'a Self::PlannedWrites,
    ) -> BoxFuture<'a, Result<()>>;
}

/// Runs it on this database, under this name. A real run has an approval.
pub async fn run_transaction<T: ReconcileTransaction>(
    pool: &PgPool,
    name: &'static str,
    transaction: T,
    approval: Option<PlanApproval>,
) -> Result<(ReconcilePlan, T::PlannedWrites), ReconcileError> {
    let run = Arc::new((transaction, approval));
    let operation = PgOperation::named(name).with_timeout(LONG_OPERATION_TIMEOUT);
    // What was written moves the plan: a repetition would say that nothing was.
    store::run_refusable_tx(pool, operation, Result::is_err, move |connection| {
        let run = run.clone();
        Box::pin(async move { plan_and_write_in_tx(&run.0, connection, run.1.as_ref()).await })
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
        transaction.write_in_tx(connection, &writes).await?;
        store::fail_point("reconcile_applied");
    }
    Ok(Ok((plan, writes)))
}
