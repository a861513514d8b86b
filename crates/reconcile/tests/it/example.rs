//! Hazard: the example in the documentation does not compile, does not work, or differs
//! from the tested one.

use reconcile::{
    Bundle, ReconcileDecision, ReconcileNarrowing, ReconcileOptions, ReconcileRuntime,
};
use sqlx::PgPool;

use crate::folder::Folder;
use crate::world::{at, commit, dry, real};

#[path = "../../examples/banners.rs"]
mod banners;

fn folder() -> Folder {
    let app = include_str!("../../../../configs/schemas/app/integration-1.yml");
    let folder = Folder::new(&[
        ("schemas/app/integration-1.yml", app),
        ("schemas/banners/banner-1.yml", documented("schemas/banners/banner-1.yml", "yaml")),
        ("integrations/banners.yaml", documented("integrations/banners.yaml", "yaml")),
    ]);
    ["home", "help", "about"].iter().for_each(|page| put(&folder, page, "hello"));
    folder
}

fn put(folder: &Folder, page: &str, text: &str) {
    let banner = format!("$schema: /banners/banner-1.yml\npage: {page}\ntext: {text}\n");
    folder.put(&format!("banners/{page}.yaml"), banner);
}

/// The first block of a language after a name in the documentation.
fn documented(name: &str, language: &str) -> &'static str {
    let page = include_str!("../../../../docs/reconcile.md");
    let after = page
        .split_once(&format!("`{name}`"))
        .unwrap_or_else(|| panic!("{name} is not documented"))
        .1;
    let block = after.split_once(&format!("```{language}\n")).unwrap().1;
    block.split_once("```").unwrap().0
}

#[test]
fn the_documentation_shows_the_example_that_is_run() {
    let example = include_str!("../../examples/banners.rs");
    let page = include_str!("../../../../docs/reconcile.md");
    let blocks: Vec<&str> =
        page.split("```rust\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        // A block may contain several parts of the example.
        for part in block.split("\n\n").map(str::trim_end) {
            assert!(example.contains(part), "this is not in examples/banners.rs:\n{part}");
        }
    }
}

#[test]
fn the_documentation_shows_the_job_that_checks_merge_requests() {
    let page = include_str!("../../../../docs/reconcile.md");
    let job = page.split_once("```yaml\nreconcile:\n").unwrap().1.split_once("```").unwrap().0;
    assert!(include_str!("../../../../.gitlab-ci.yml").contains(job), "{job}");
}

async fn table() -> PgPool {
    let pool = store::testing::create_control_database().await;
    sqlx::query(
        "CREATE TABLE banners (page text PRIMARY KEY, text text NOT NULL, owner text NOT NULL)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool
}

async fn stored(pool: &PgPool) -> Vec<String> {
    let asked = "SELECT page || ' ' || text || ' ' || owner FROM banners ORDER BY page";
    sqlx::query_scalar(asked).fetch_all(pool).await.unwrap()
}

#[test]
fn the_example_creates_changes_and_deletes() {
    store::testing::run_test(async {
        let (folder, pool) = (folder(), table().await);
        let runtime = ReconcileRuntime::new(Vec::new())
            .with_reconciler(banners::BannerReconciler { pool: pool.clone() });
        let dry_run = runtime.run(&folder.bundle(), &dry()).await.unwrap();
        assert!(
            dry_run.to_string().ends_with("Plan: 3 to create, 0 to update, 0 to delete"),
            "{dry_run}"
        );
        assert!(stored(&pool).await.is_empty());
        runtime.run(&folder.bundle(), &real()).await.unwrap();
        put(&folder, "home", "welcome");
        std::fs::remove_file(folder.path().join("banners/help.yaml")).unwrap();
        let again = runtime.run(&folder.bundle(), &real()).await.unwrap();
        assert!(
            again.to_string().ends_with("Plan: 0 to create, 1 to update, 1 to delete"),
            "{again}"
        );
        assert_eq!(stored(&pool).await, ["about hello bundle", "home welcome bundle"]);
        let nothing = runtime.run(&folder.bundle(), &real()).await.unwrap();
        assert!(
            nothing.to_string().ends_with("Plan: 0 to create, 0 to update, 0 to delete"),
            "{nothing}"
        );
    });
}

#[test]
fn the_example_is_checked_by_its_affected_shards() {
    store::testing::run_test(async {
        let (folder, pool) = (folder(), table().await);
        let runtime =
            ReconcileRuntime::new(Vec::new()).with_reconciler(banners::BannerReconciler { pool });
        runtime.run(&folder.bundle(), &real()).await.unwrap();
        commit(folder.path());
        put(&folder, "home", "welcome");
        let bundle: Bundle = folder.bundle();
        let other = at(&bundle, "HEAD").unwrap();
        let narrowing = ReconcileNarrowing {
            compare: Some(Ok(&other)),
            only_affected: true,
            sample_ratio: 1.0,
            ..ReconcileNarrowing::default()
        };
        let decided = runtime.decide_runs(&bundle, &dry(), &narrowing).await.unwrap();
        let report =
            runtime.execute(&bundle, &dry(), &decided, &ReconcileOptions::default()).await.unwrap();
        assert!(report.has_succeeded(), "{report}");
        assert_eq!(report.outcomes[0].decision, ReconcileDecision::Shards);
        assert_eq!(report.outcomes[0].plan.changes.len(), 1);
    });
}
