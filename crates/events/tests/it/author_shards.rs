//! Hazard: a run for one author's configs changes another author's, or deletes a config that only
//! moves between authors.

use events::configs::ActionConfigReconciler;
use reconcile::{
    Bundle, BundleSource, ObjectOwner, ReconcileNarrowing, ReconcileOptions, ReconcileReport,
    ReconcileRequest, ReconcileRuntime, SentFile,
};
use sqlx::PgPool;

fn bundle(configs: &[(&str, &str, bool)]) -> Bundle {
    let file = |(name, author, enabled): &(&str, &str, bool)| SentFile {
        path: format!("events/{name}.yaml"),
        text: format!(
            "$schema: /events/action-config-1.yml\nname: {name}\nauthor: {author}\nenabled: {enabled}\non: [{{event: e}}]\naction: {{task: noop}}\n"
        ),
    };
    let metadata = SentFile {
        path: "integrations/a.yaml".to_owned(),
        text:
            "$schema: /app/integration-1.yml\nname: action-configs\nschemas: [/events/action-config-1.yml]\n"
                .to_owned(),
    };
    Bundle::read(BundleSource::Sent(configs.iter().map(file).chain([metadata]).collect())).unwrap()
}

async fn run(
    pool: &PgPool,
    bundle: &Bundle,
    dry_run: bool,
    narrowing: ReconcileNarrowing<'_>,
) -> ReconcileReport {
    let runtime = ReconcileRuntime::new(Vec::new())
        .with_reconciler(ActionConfigReconciler { pool: pool.clone(), usage: () });
    let request = ReconcileRequest {
        reconcilers: Vec::new(),
        arguments: Vec::new(),
        dry_run,
        take_over: false,
        allow_delete_all: false,
        owner: ObjectOwner::Bundle,
        actor: audit::AuditActor::of_service("test"),
    };
    let decided = runtime.decide_runs(bundle, &request, &narrowing).await.unwrap();
    runtime.execute(bundle, &request, &decided, &ReconcileOptions::default()).await.unwrap()
}

async fn stored(pool: &PgPool) -> Vec<String> {
    let asked = "SELECT name FROM action_configs ORDER BY name";
    sqlx::query_scalar(asked).fetch_all(pool).await.unwrap()
}

fn last(report: &ReconcileReport) -> String {
    report.to_string().lines().last().unwrap().to_owned()
}

#[test]
fn only_the_authors_whose_configs_differ_are_run() {
    store::testing::run_test(async {
        let pool = store::testing::create_control_database().await;
        let old = bundle(&[
            ("a1", "ann", true),
            ("a2", "ann", true),
            ("b1", "bob", true),
            ("c1", "cy", true),
        ]);
        run(&pool, &old, false, ReconcileNarrowing::default()).await;
        // c1 changes, b1 moves from bob to cy, d1 is new.
        let new = bundle(&[
            ("a1", "ann", true),
            ("a2", "ann", true),
            ("b1", "cy", true),
            ("c1", "cy", false),
            ("d1", "dee", true),
        ]);
        let only = || ReconcileNarrowing {
            compare: Some(Ok(&old)),
            only_affected: true,
            sample_ratio: 1.0,
            ..ReconcileNarrowing::default()
        };
        let report = run(&pool, &new, true, only()).await;
        assert!(report.has_succeeded(), "{report}");
        let head = report.to_string().lines().next().unwrap().to_owned();
        assert_eq!(head, "action-configs: only the shards that differ: bob, cy, dee (1 skipped)");
        assert_eq!(last(&report), "Plan: 1 to create, 2 to update, 0 to delete");
    });
}

#[test]
fn a_real_run_of_one_author_leaves_the_others_alone() {
    store::testing::run_test(async {
        let pool = store::testing::create_control_database().await;
        run(
            &pool,
            &bundle(&[("a1", "ann", true), ("b1", "bob", true), ("b2", "bob", true)]),
            false,
            ReconcileNarrowing::default(),
        )
        .await;
        let new = bundle(&[("a1", "ann", false), ("b1", "ann", true)]);
        let of = |author: &str| ReconcileNarrowing {
            shard: Some(author.to_owned()),
            ..ReconcileNarrowing::default()
        };
        // b2 is bob's and is deleted; b1 moves to ann and stays; a1 is not in bob's shard.
        let bob = run(&pool, &new, false, of("bob")).await;
        assert_eq!(last(&bob), "Plan: 0 to create, 1 to update, 1 to delete");
        assert_eq!(stored(&pool).await, ["a1", "b1"]);
        let ann = run(&pool, &new, false, of("ann")).await;
        assert_eq!(last(&ann), "Plan: 0 to create, 1 to update, 0 to delete");
        let all = run(&pool, &new, false, ReconcileNarrowing::default()).await;
        assert_eq!(last(&all), "Plan: 0 to create, 0 to update, 0 to delete");
    });
}
