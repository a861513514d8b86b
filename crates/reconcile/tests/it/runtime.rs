//! Hazard: an integration depends on undeclared inputs, or the report does not match the run.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use reconcile::plan::PlanAction;
use reconcile::{
    Bundle, NoArguments, ObjectOwner, ReconcileContext, ReconcileError, ReconcilePlan,
    ReconcileReport, ReconcileRequest, ReconcileRequestError, ReconcileRuntime, Reconciler,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::folder::Folder;

type Behaviour =
    Box<dyn Fn(&ReconcileContext<'_>, bool) -> Result<ReconcilePlan, ReconcileError> + Send + Sync>;

/// An integration that behaves as configured.
struct Fake(&'static str, Behaviour);

fn fake(
    name: &'static str,
    behaviour: impl Fn(&ReconcileContext<'_>, bool) -> Result<ReconcilePlan, ReconcileError>
    + Send
    + Sync
    + 'static,
) -> Fake {
    Fake(name, Box::new(behaviour))
}

fn idle(name: &'static str) -> Fake {
    fake(name, |_, _| Ok(ReconcilePlan::default()))
}

impl Reconciler for Fake {
    type Arguments = NoArguments;

    fn name(&self) -> &'static str {
        self.0
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        _: NoArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>> {
        Box::pin(std::future::ready((self.1)(context, dry_run)))
    }
}

fn request(integrations: &[&str], dry_run: bool) -> ReconcileRequest {
    let integrations = integrations.iter().map(|name| (*name).to_owned()).collect();
    ReconcileRequest {
        reconcilers: integrations,
        arguments: Vec::new(),
        dry_run,
        take_over: false,
        allow_delete_all: false,
        owner: ObjectOwner::Bundle,
        actor: audit::AuditActor::of_service("test"),
    }
}

/// A folder with metadata of these two integrations and the built-in schemas.
fn folder() -> Folder {
    let metadata = |name: &str, schemas: &str| {
        format!("$schema: /app/integration-1.yml\nname: {name}\nschemas: [{schemas}]\n")
    };
    let types = "/ledger/account-type-1.yml, /ledger/lock-type-1.yml, /ledger/state-type-1.yml";
    Folder::new(&[
        ("integrations/ledger-types.yaml", &metadata("ledger-types", types)),
        ("integrations/postings.yaml", &metadata("postings", "/postings/posting-rule-1.yml")),
    ])
}

fn bundle() -> Bundle {
    folder().bundle()
}

async fn run(runtime: &ReconcileRuntime, request: &ReconcileRequest) -> ReconcileReport {
    runtime.run(&bundle(), request).await.unwrap()
}

/// A runtime whose `ledger-types` behaves as configured and whose `postings` has nothing to do.
fn with(
    types: impl Fn(&ReconcileContext<'_>, bool) -> Result<ReconcilePlan, ReconcileError>
    + Send
    + Sync
    + 'static,
) -> ReconcileRuntime {
    ReconcileRuntime::new(Vec::new())
        .with_reconciler(fake("ledger-types", types))
        .with_reconciler(idle("postings"))
}

#[test]
fn a_schema_that_is_not_listed_cannot_be_asked_for() {
    store::testing::run_test(async {
        let runtime = with(|context, _| {
            context.query_documents::<Json>("/ledger/lock-type-1.yml")?;
            context.query_documents::<Json>("/postings/posting-rule-1.yml")?;
            Ok(ReconcilePlan::default())
        });
        let report = run(&runtime, &request(&["ledger-types"], false)).await;
        assert!(!report.has_succeeded());
        assert_eq!(
            report.outcomes[0].error.as_ref().unwrap().to_string(),
            "the integration ledger-types asked for the schema /postings/posting-rule-1.yml, which its metadata does \
             not list (/ledger/account-type-1.yml, /ledger/lock-type-1.yml, /ledger/state-type-1.yml)"
        );
    });
}

#[test]
fn one_failure_leaves_the_others_alone() {
    store::testing::run_test(async {
        let report =
            run(&with(|_, _| Err(ReconcileError::Failed("no".to_owned()))), &request(&[], false))
                .await;
        assert_eq!(report.failure_summary().unwrap(), "1 of 2 integrations failed");
        assert!(report.outcomes[1].has_succeeded());
    });
}

#[test]
fn an_unknown_integration_is_wrong_usage() {
    store::testing::run_test(async {
        let runtime = with(|_, _| Ok(ReconcilePlan::default()));
        let refused = runtime.run(&bundle(), &request(&["ledger-type"], false)).await;
        let Err(ReconcileRequestError::InvalidUsage(line)) = refused else { panic!("{refused:?}") };
        assert_eq!(
            line,
            "there is no integration `ledger-type`, did you mean `ledger-types`? (known: ledger-types, postings)"
        );
    });
}

#[test]
fn nothing_runs_over_a_bundle_that_is_not_sound() {
    store::testing::run_test(async {
        let runtime = with(|_, _| panic!("ran"));
        let folder = folder();
        folder.put("a.yaml", "x: 1\n");
        let refused = runtime.run(&folder.bundle(), &request(&[], false)).await;
        assert!(
            matches!(refused, Err(ReconcileRequestError::InvalidBundle(problems)) if problems.len() == 1)
        );
    });
}

#[test]
fn an_integration_without_metadata_fails() {
    store::testing::run_test(async {
        let folder = Folder::new(&[(
            "integrations/a.yaml",
            "$schema: /app/integration-1.yml\nname: postings\nschemas: []\n",
        )]);
        let report =
            with(|_, _| panic!("ran")).run(&folder.bundle(), &request(&[], false)).await.unwrap();
        let error = report.outcomes[0].error.as_ref().unwrap().to_string();
        assert!(error.ends_with("has no metadata for the integration ledger-types"), "{error}");
        assert!(report.outcomes[1].has_succeeded());
    });
}

#[test]
fn arguments_are_typed() {
    struct Typed;
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Arguments {
        depth: u8,
        name: String,
    }
    impl Reconciler for Typed {
        type Arguments = Arguments;
        fn name(&self) -> &'static str {
            "postings"
        }
        fn run<'a>(
            &'a self,
            _: &'a ReconcileContext<'a>,
            arguments: Arguments,
            _: bool,
        ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>> {
            Box::pin(async move {
                Err(ReconcileError::Failed(format!("{} {}", arguments.depth, arguments.name)))
            })
        }
    }
    store::testing::run_test(async {
        let runtime = with(|_, _| Ok(ReconcilePlan::default())).with_reconciler(Typed);
        let runtime_of_one = ReconcileRuntime::new(Vec::new())
            .with_reconciler(Typed)
            .with_reconciler(idle("ledger-types"));
        let asked = |pairs: &[(&str, &str)], integrations: &[&str]| ReconcileRequest {
            arguments: pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..request(integrations, true)
        };
        let good = runtime_of_one
            .run(&bundle(), &asked(&[("depth", "3"), ("name", "x")], &["postings"]))
            .await;
        assert_eq!(good.unwrap().outcomes[0].error.as_ref().unwrap().to_string(), "3 x");
        for bad in [asked(&[("dept", "3")], &["ledger-types"]), asked(&[("depth", "3")], &[])] {
            assert!(matches!(
                runtime.run(&bundle(), &bad).await,
                Err(ReconcileRequestError::InvalidUsage(_))
            ));
        }
    });
}

#[test]
fn what_a_later_integration_makes_possible_is_done_in_the_same_run() {
    store::testing::run_test(async {
        let rounds = std::sync::Arc::new(AtomicUsize::new(0));
        let counted = rounds.clone();
        let types = fake("ledger-types", move |context, _| {
            let mut plan = ReconcilePlan::default();
            match counted.fetch_add(1, Ordering::SeqCst) {
                0 => {
                    assert_eq!(context.remaining_reconcilers(), ["postings"]);
                    plan.add_create("t", "new", &json!({}));
                    plan.add_refusal(PlanAction::Delete, "t", "old", "a rule refers to it");
                }
                _ => {
                    assert!(
                        context.earlier_outcome("postings").is_some()
                            && context.remaining_reconcilers().is_empty()
                    );
                    plan.add_delete("t", "old", &json!({}));
                }
            }
            Ok(plan)
        });
        let rules = fake("postings", |_, _| {
            let mut plan = ReconcilePlan::default();
            plan.add_update("r", "rule", Vec::new());
            Ok(plan)
        });
        let runtime =
            ReconcileRuntime::new(Vec::new()).with_reconciler(types).with_reconciler(rules);
        let report = run(&runtime, &request(&[], false)).await;
        assert!(report.has_succeeded() && rounds.load(Ordering::SeqCst) == 2);
        assert!(
            report.to_string().ends_with("Plan: 1 to create, 1 to update, 1 to delete"),
            "{report}"
        );
    });
}

#[test]
fn the_plan_reads_the_same_for_people_and_programs() {
    store::testing::run_test(async {
        let runtime = with(|_, _| {
            let mut plan = ReconcilePlan { adopted: 2, ..ReconcilePlan::default() };
            plan.add_create("account_type", "a", &json!({"name": "a", "key": [1]}));
            let (before, after) = (json!({"d": "old", "l": [1]}), json!({"d": "new", "l": [1, 2]}));
            plan.add_update("account_type", "b", reconcile::plan::diff_fields(&before, &after));
            plan.add_delete("lock_type", "c", &json!({"name": "c"}));
            plan.add_refusal(PlanAction::Update, "account_type", "d", "not so");
            Ok(plan)
        });
        let report = run(&runtime, &request(&[], true)).await;
        let text = "\
ledger-types
  + create account_type a
      key: [1]
  ~ update account_type b
      d: \"old\" -> \"new\"
      l: + 2
  - delete lock_type c
  ! refused to update account_type d: not so
  2 unchanged and nobody's, would now belong to the bundle
postings
  nothing to do
Plan: 1 to create, 1 to update, 1 to delete";
        assert_eq!(report.to_string(), text);
        assert_eq!(report.failure_summary().unwrap(), "1 change refused");
        let json = report.to_json();
        assert_eq!(
            json["summary"],
            json!({"create": 1, "update": 1, "delete": 1, "refused": 1, "failed": 1, "failed_shards": 0, "skipped_shards": 0})
        );
        let changes = json["integrations"][0]["changes"].as_array().unwrap();
        let actions: Vec<_> =
            changes.iter().map(|change| change["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["create", "update", "delete"]);
        assert_eq!(changes[1]["fields"][0], json!({"field": "d", "before": "old", "after": "new"}));
    });
}
