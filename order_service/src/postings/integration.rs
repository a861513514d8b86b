//! The integration `postings`: the bundle's rules, as a new version of the rules in the control database.

use futures::future::BoxFuture;
use ledger::types::{AccountType, Definition, Kind, LEDGER_TYPES};
use reconcile::owned::Terms;
use reconcile::{
    Attempt, Bundle, Context, Diagnostic, Integration, NoArguments, Owner, Plan, RunError, Transaction,
};
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};

use super::check::{Known, RULE_SCHEMA, Types};
use super::plan::plan;
use super::{Rule, put_rules_in_tx, read_rules};

/// The integration's name.
pub const POSTINGS: &str = "postings";

/// Brings the rules into the control database.
pub struct PostingRules {
    /// The control database.
    pub pool: PgPool,
}

/// What one run needs to know, without the bundle.
struct Run {
    wanted: Vec<Rule>,
    /// Types that the run has only planned so far.
    planned: Vec<AccountType>,
    terms: Terms,
}

/// The rules of a bundle, by name.
pub fn rules_of(bundle: &Bundle) -> Result<Vec<Rule>, Diagnostic> {
    let rules: Result<Vec<Rule>, _> = bundle.documents(RULE_SCHEMA).map(reconcile::Document::parse).collect();
    rules.map(sorted)
}

fn wanted(context: &Context<'_>) -> Result<Vec<Rule>, RunError> {
    context.query(RULE_SCHEMA).map(sorted)
}

fn sorted(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    rules
}

/// In a dry run, the types that the same run would have brought into force by now.
fn planned(context: &Context<'_>) -> Result<Vec<AccountType>, RunError> {
    let Some(types) = context.earlier(LEDGER_TYPES).filter(|types| types.error.is_none()) else {
        return Ok(Vec::new());
    };
    let mut planned: Vec<AccountType> = context.query(Kind::Account.schema())?;
    planned.retain(|account| !types.plan.refused.iter().any(|refusal| refusal.name == account.name));
    Ok(planned)
}

impl Integration for PostingRules {
    type Arguments = NoArguments;

    fn name(&self) -> &'static str {
        POSTINGS
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        _: NoArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        Box::pin(async move {
            let planned = if dry_run { planned(context)? } else { Vec::new() };
            let run = Run { wanted: wanted(context)?, planned, terms: context.terms() };
            let approval = context.approval_of(dry_run);
            Ok(reconcile::carry_out(&self.pool, "reconcile_postings", run, approval).await?.0)
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        Ok(Some(json!(wanted(context)?)))
    }
}

impl Transaction for Run {
    /// The plan.
    type Steps = Plan;

    fn excludes(&self) -> Vec<String> {
        // Types must not change between the look at them and the commit.
        [LEDGER_TYPES, POSTINGS].map(str::to_owned).into()
    }

    fn plan_in_tx<'a>(&'a self, connection: &'a mut PgConnection) -> BoxFuture<'a, Attempt<(Plan, Plan)>> {
        Box::pin(async move {
            let current = read_rules(connection).await?;
            let types = types_in_force(connection, &self.planned).await?;
            let mut plan = plan(current.as_ref(), &self.wanted, &types, self.terms);
            plan.observed(&current.map(|set| json!([set.version, set.rules, set.owner.name()])));
            Ok(Ok((plan.clone(), plan)))
        })
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        plan: &'a Plan,
    ) -> BoxFuture<'a, store::Result<()>> {
        Box::pin(apply_in_tx(connection, plan, &self.wanted, self.terms.owner))
    }
}

/// The account types in force, and those that are planned.
pub(crate) async fn types_in_force(
    connection: &mut PgConnection,
    planned: &[AccountType],
) -> store::Result<Types> {
    let known = |account: AccountType| (account.name.clone(), Known::Type(Box::new(account)));
    let stored =
        ledger::types::read(connection).await?.into_iter().filter_map(|stored| match stored.definition {
            Definition::Account(account) => Some(known(account)),
            Definition::Lock(_) | Definition::State(_) => None,
        });
    Ok(stored.chain(planned.iter().cloned().map(known)).collect())
}

/// Writes what is planned.
pub async fn apply_in_tx(
    connection: &mut PgConnection,
    plan: &Plan,
    wanted: &[Rule],
    owner: Owner,
) -> store::Result<()> {
    if !plan.changes.is_empty() {
        put_rules_in_tx(connection, wanted, owner).await?;
    }
    reconcile::note_reconciled_in_tx(connection, POSTINGS, owner).await
}
