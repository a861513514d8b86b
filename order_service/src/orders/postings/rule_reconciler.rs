//! Reconciler `postings`: reconciles the bundle's posting rules as a new version
//! in the control database.

use futures::future::BoxFuture;
use ledger::types::{AccountType, LEDGER_TYPES_RECONCILER, LedgerTypeDefinition, LedgerTypeKind};
use reconcile::{
    Bundle, BundleDiagnostic, NoArguments, ObjectOwner, OwnershipOptions, ReconcileContext,
    ReconcileError, ReconcilePlan, ReconcileTransaction, ReconcileTxResult, Reconciler,
};
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};

use super::check::{KnownAccountType, KnownAccountTypes, POSTING_RULE_SCHEMA};
use super::plan::plan_posting_rules;
use super::{PostingRule, put_posting_rules_in_tx, read_posting_rules};

/// Name of the reconciler.
pub const POSTINGS_RECONCILER: &str = "postings";

/// Reconciler of the posting rules.
pub struct PostingRuleReconciler {
    /// Connection pool of the control database.
    pub pool: PgPool,
}

/// Inputs of one run, taken from the bundle.
struct PostingReconcileRun {
    desired_rules: Vec<PostingRule>,
    /// Account types planned earlier in the same dry run.
    planned_types: Vec<AccountType>,
    options: OwnershipOptions,
}

/// The rules of a bundle, sorted by name.
pub fn read_bundle_rules(bundle: &Bundle) -> Result<Vec<PostingRule>, BundleDiagnostic> {
    let rules: Result<Vec<PostingRule>, _> = bundle
        .documents_of_schema(POSTING_RULE_SCHEMA)
        .map(reconcile::BundleDocument::parse)
        .collect();
    rules.map(sort_rules)
}

fn read_desired_rules(context: &ReconcileContext<'_>) -> Result<Vec<PostingRule>, ReconcileError> {
    context.query_documents(POSTING_RULE_SCHEMA).map(sort_rules)
}

fn sort_rules(mut rules: Vec<PostingRule>) -> Vec<PostingRule> {
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    rules
}

/// In a dry run: the account types that a real run would have applied by now.
fn planned_account_types(
    context: &ReconcileContext<'_>,
) -> Result<Vec<AccountType>, ReconcileError> {
    let Some(types) =
        context.earlier_outcome(LEDGER_TYPES_RECONCILER).filter(|types| types.error.is_none())
    else {
        return Ok(Vec::new());
    };
    let mut planned: Vec<AccountType> =
        context.query_documents(LedgerTypeKind::Account.schema())?;
    planned
        .retain(|account| !types.plan.refused.iter().any(|refusal| refusal.name == account.name));
    Ok(planned)
}

impl Reconciler for PostingRuleReconciler {
    type Arguments = NoArguments;

    fn name(&self) -> &'static str {
        POSTINGS_RECONCILER
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        _: NoArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>> {
        Box::pin(async move {
            let planned = if dry_run { planned_account_types(context)? } else { Vec::new() };
            let run = PostingReconcileRun {
                desired_rules: read_desired_rules(context)?,
                planned_types: planned,
                options: context.ownership_options(),
            };
            let approval = context.approval_for_run(dry_run);
            Ok(reconcile::run_transaction(&self.pool, "reconcile_postings", run, approval).await?.0)
        })
    }

    fn early_exit_desired_state(
        &self,
        context: &ReconcileContext<'_>,
    ) -> Result<Option<Json>, ReconcileError> {
        Ok(Some(json!(read_desired_rules(context)?)))
    }
}

impl ReconcileTransaction for PostingReconcileRun {
    /// The plan itself: writing needs nothing else.
    type PlannedWrites = ReconcilePlan;

    fn exclusive_names(&self) -> Vec<String> {
        // Account types must not change between reading them and the commit.
        [LEDGER_TYPES_RECONCILER, POSTINGS_RECONCILER].map(str::to_owned).into()
    }

    fn plan_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<(ReconcilePlan, ReconcilePlan)>> {
        Box::pin(async move {
            let current = read_posting_rules(connection).await?;
            let types = read_known_types(connection, &self.planned_types).await?;
            let mut plan =
                plan_posting_rules(current.as_ref(), &self.desired_rules, &types, self.options);
            plan.bind_target(&current.map(|set| json!([set.version, set.rules, set.owner.name()])));
            Ok(Ok((plan.clone(), plan)))
        })
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        plan: &'a ReconcilePlan,
    ) -> BoxFuture<'a, store::Result<()>> {
        Box::pin(apply_plan_in_tx(connection, plan, &self.desired_rules, self.options.owner))
    }
}

/// The account types in force plus the planned ones.
pub(crate) async fn read_known_types(
    connection: &mut PgConnection,
    planned_types: &[AccountType],
) -> store::Result<KnownAccountTypes> {
    let mut accounts = Vec::new();
    for stored in ledger::types::read_types(connection).await? {
        if let LedgerTypeDefinition::Account(account) = stored.definition {
            accounts.push(account);
        }
    }
    accounts.extend_from_slice(planned_types);
    let known_types = accounts
        .into_iter()
        .map(|account| (account.name.clone(), KnownAccountType::Type(Box::new(account))));
    Ok(known_types.collect())
}

/// Applies the plan: writes the desired rules if anything changes, and
/// records the reconciled state.
pub async fn apply_plan_in_tx(
    connection: &mut PgConnection,
    plan: &ReconcilePlan,
    desired_rules: &[PostingRule],
    owner: ObjectOwner,
) -> store::Result<()> {
    if !plan.changes.is_empty() {
        put_posting_rules_in_tx(connection, desired_rules, owner).await?;
    }
    reconcile::record_reconciled_in_tx(connection, POSTINGS_RECONCILER, owner).await
}
