//! Hazard: types and rules that do not fit each other, or are applied
//! twice, partially or separately.

use std::path::Path;

use futures::future::join_all;
use ledger::sharding::{Shard, ShardMap};
use order_service::orders::postings::load_posting_rules;
use order_service::reconcilers::bundle::{
    ReconcileTargets, ShardOpener, ShardSet, ensure_builtin_bundle, ensure_initial_bundle,
    find_bundle_problems, reconcile_runtime,
};
use reconcile::plan::PlanAction;
use reconcile::{Bundle, BundleSource, ObjectOwner, ReconcileReport, ReconcileRequest};
use sqlx::PgPool;
use store::testing::{create_control_database, create_shard_database, run_test};

/// A modifiable copy of the built-in bundle.
pub fn copy() -> tempfile::TempDir {
    fn all(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            match from.is_dir() {
                true => all(&from, &to),
                false => drop(std::fs::copy(&from, &to).unwrap()),
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    all(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs")), folder.path());
    folder
}

pub fn edit(folder: &tempfile::TempDir, file: &str, from: &str, to: &str) {
    let path = folder.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no `{from}`");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

fn read(folder: &tempfile::TempDir) -> Bundle {
    Bundle::read(BundleSource::Folder(folder.path().to_owned())).unwrap()
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

/// Integrations that write to the control database only.
const CONTROL: [&str; 3] = ["ledger-types", "postings", "schedules"];

async fn reconcile(
    pool: &PgPool,
    shards: &[Shard],
    bundle: &Bundle,
    request: &ReconcileRequest,
) -> ReconcileReport {
    let runtime =
        reconcile_runtime(&ReconcileTargets::new(pool.clone(), ShardSet::from_open_shards(shards)));
    runtime.run(bundle, request).await.unwrap()
}

/// Numbers of created, updated, deleted and refused objects over all integrations.
fn counts(report: &ReconcileReport) -> [usize; 4] {
    let refused = report.outcomes.iter().map(|outcome| outcome.plan.refused.len()).sum();
    let [create, update, delete] = [PlanAction::Create, PlanAction::Update, PlanAction::Delete]
        .map(|action| report.count_changes(action));
    [create, update, delete, refused]
}

async fn names(pool: &PgPool) -> Vec<String> {
    let names = "SELECT name || ' ' || owner FROM ledger_types ORDER BY name";
    sqlx::query_scalar(names).fetch_all(pool).await.unwrap()
}

const BUILTIN: [&str; 4] = [
    "pickup_point_inflow builtin",
    "storage_lock builtin",
    "storage_outflow builtin",
    "storage_state builtin",
];

#[test]
fn a_new_database_gets_the_built_in_bundle_once() {
    run_test(async {
        let pool = create_control_database().await;
        // Several services start concurrently.
        for done in join_all((0..8).map(|_| ensure_builtin_bundle(&pool))).await {
            done.unwrap();
        }
        assert_eq!(names(&pool).await, BUILTIN);
        let rules = load_posting_rules(&pool).await.unwrap().unwrap();
        assert_eq!((rules.version, rules.owner, rules.rules.len()), (1, ObjectOwner::Builtin, 1));
        // Later starts change nothing, even if objects were deleted since.
        sqlx::query("DELETE FROM ledger_types WHERE kind = 'lock'").execute(&pool).await.unwrap();
        ensure_builtin_bundle(&pool).await.unwrap();
        assert_eq!(names(&pool).await.len(), 3);
        assert_eq!(load_posting_rules(&pool).await.unwrap().unwrap().version, 1);
    });
}

#[test]
fn a_database_that_was_reconciled_gets_nothing_by_itself() {
    run_test(async {
        let pool = create_control_database().await;
        let without = tempfile::tempdir().unwrap();
        let queue = "$schema: /queues/queue-1.yml\nname: q\nenvs: [dev]\n";
        std::fs::write(without.path().join("q.yaml"), queue).unwrap();
        let report =
            reconcile(&pool, &[], &read(&without), &request(&["ledger-types"], false)).await;
        assert_eq!((counts(&report), report.has_succeeded()), ([0; 4], true), "{report}");
        ensure_builtin_bundle(&pool).await.unwrap();
        assert_eq!(names(&pool).await, Vec::<String>::new());
        assert!(load_posting_rules(&pool).await.unwrap().is_none());
    });
}

#[test]
fn the_same_bundle_changes_nothing_and_another_is_the_next_version() {
    run_test(async {
        let pool = create_control_database().await;
        ensure_builtin_bundle(&pool).await.unwrap();
        let folder = copy();
        let all = request(&CONTROL, false);
        for _ in 0..2 {
            let report = reconcile(&pool, &[], &read(&folder), &all).await;
            assert_eq!((counts(&report), report.has_succeeded()), ([0; 4], true), "{report}");
        }
        assert_eq!(load_posting_rules(&pool).await.unwrap().unwrap().version, 1);
        edit(&folder, "postings/order_processed.yaml", "debit: \"1\"", "debit: \"2\"");
        let report = reconcile(&pool, &[], &read(&folder), &all).await;
        assert!(
            report.to_string().contains(
                "~ update posting_rule order_processed\n      events[0].debit: \"1\" -> \"2\"\n"
            ),
            "{report}"
        );
        let rules = load_posting_rules(&pool).await.unwrap().unwrap();
        assert_eq!((rules.version, rules.owner), (2, ObjectOwner::Bundle));
        for change in [
            "UPDATE posting_rules SET rules = '[]'",
            "DELETE FROM posting_rules",
            "TRUNCATE posting_rules",
        ] {
            let refused = sqlx::query(change).execute(&pool).await.unwrap_err().to_string();
            assert!(refused.contains("never changed or deleted"), "{refused}");
        }
    });
}

#[test]
fn references_that_lead_nowhere_are_told_with_file_line_and_field() {
    let folder = copy();
    let rule = "postings/order_processed.yaml";
    edit(&folder, rule, "type: storage_outflow", "type: storage_outflw");
    edit(
        &folder,
        rule,
        "      product_id: {from: product_id}\n      storage_id",
        "      product: {from: product_id}\n      storage_id",
    );
    edit(&folder, rule, "credit: \"1\"", "credit: \"1\"\n    debit: \"1\"");
    edit(&folder, "ledger/storage_lock.yaml", "shard_key: [storage_id]", "shard_key: [storage]");
    // A type with an invalid file is not also reported as missing.
    edit(&folder, "ledger/pickup_point_inflow.yaml", "aggregate: day", "aggregate: week");
    let told: Vec<String> =
        find_bundle_problems(&read(&folder)).iter().map(ToString::to_string).collect();
    let expected = [
        "ledger/pickup_point_inflow.yaml:13: aggregate: `week` is not allowed (allowed: hour, day, month)",
        "ledger/storage_lock.yaml:6: shard_key[0]: `storage` is no attribute of this type, did you mean `storage_id`? (allowed: storage_id)",
        "postings/order_processed.yaml:6: events[0].type: there is no account type `storage_outflw`, did you mean `storage_outflow`? (known: pickup_point_inflow, storage_outflow)",
        "postings/order_processed.yaml:17: events[1].credit: an event has either debit or credit, not both",
    ];
    let expected = expected.map(|line| format!("{}/{line}", folder.path().display()));
    assert_eq!(told, expected);
    edit(&folder, "ledger/pickup_point_inflow.yaml", "aggregate: week", "aggregate: day");
    let told: Vec<String> =
        find_bundle_problems(&read(&folder)).iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|line| line.contains("order_processed.yaml:15: events[1].attributes.product: pickup_point_inflow has no attribute `product`")), "{told:#?}");
}

#[test]
fn rules_wait_for_the_types_they_refer_to() {
    run_test(async {
        let pool = create_control_database().await;
        let folder = copy();
        for dry_run in [true, false] {
            let report =
                reconcile(&pool, &[], &read(&folder), &request(&["postings"], dry_run)).await;
            assert_eq!(counts(&report), [0, 0, 0, 1], "{report}");
            assert!(report.to_string().contains("reconcile ledger-types first"), "{report}");
        }
        // In one run they fit, in a dry run too.
        for dry_run in [true, false] {
            let report = reconcile(&pool, &[], &read(&folder), &request(&CONTROL, dry_run)).await;
            assert_eq!(counts(&report), [6, 0, 0, 0], "{report}");
        }
    });
}

/// A bundle whose rule refers to types of other names.
fn other_types() -> tempfile::TempDir {
    let folder = copy();
    for (file, from, to) in [
        ("ledger/storage_outflow.yaml", "name: storage_outflow", "name: outflow"),
        ("ledger/pickup_point_inflow.yaml", "name: pickup_point_inflow", "name: inflow"),
        ("postings/order_processed.yaml", "storage_outflow", "outflow"),
        ("postings/order_processed.yaml", "pickup_point_inflow", "inflow"),
    ] {
        edit(&folder, file, from, to);
    }
    folder
}

#[test]
fn types_and_the_rules_that_refer_to_them_are_replaced_in_one_run() {
    run_test(async {
        let pool = create_control_database().await;
        ensure_builtin_bundle(&pool).await.unwrap();
        let folder = other_types();
        for dry_run in [true, false] {
            let report = reconcile(&pool, &[], &read(&folder), &request(&CONTROL, dry_run)).await;
            assert_eq!((counts(&report), report.has_succeeded()), ([2, 1, 2, 0], true), "{report}");
        }
        let report = reconcile(&pool, &[], &read(&folder), &request(&CONTROL, false)).await;
        assert_eq!(counts(&report), [0; 4]);
        let expected =
            ["inflow bundle", "outflow bundle", "storage_lock bundle", "storage_state bundle"];
        assert_eq!(names(&pool).await, expected);
    });
}

#[test]
fn a_type_is_in_use_by_rules_by_what_is_on_the_shards_and_by_orders_to_be_posted() {
    run_test(async {
        let pool = create_control_database().await;
        ensure_builtin_bundle(&pool).await.unwrap();
        let folder = other_types();
        let refusal = async |shards: &[Shard], integrations: &[&str]| {
            let report =
                reconcile(&pool, shards, &read(&folder), &request(integrations, true)).await;
            report.outcomes[0]
                .plan
                .refused
                .first()
                .map(|refusal| refusal.reason.clone())
                .unwrap_or_default()
        };
        let rule = refusal(&[], &["ledger-types"]).await;
        assert!(
            rule.starts_with("it is in use (the posting rule order_processed refers to it)"),
            "{rule}"
        );

        let map = ShardMap::with_equal_ranges(vec![None; 4]).unwrap();
        let shards: Vec<Shard> = join_all(map.shards().iter().map(async |place| {
            let (name, range) = (place.name.clone(), place.range);
            Shard { name, range, pool: create_shard_database().await }
        }))
        .await;
        assert_eq!(refusal(&shards, &CONTROL).await, "");
        let account = "INSERT INTO accounts VALUES (1, 'storage_outflow', 'storage_id=1')";
        sqlx::query(account).execute(&shards[2].pool).await.unwrap();
        let used = refusal(&shards, &CONTROL).await;
        assert!(used.starts_with("it is in use (there are accounts of it on shard s2)"), "{used}");
        sqlx::query("DELETE FROM accounts").execute(&shards[2].pool).await.unwrap();

        let order = "INSERT INTO orders (order_id, product_id, state, accepted_at, storage_id, pickup_point_id, data_at, posting_rules)
                     VALUES (1, 1, 3, now(), 1, 1, now(), 1)";
        sqlx::query(order).execute(&pool).await.unwrap();
        let waiting = refusal(&shards, &CONTROL).await;
        assert!(
            waiting.starts_with("it is in use (orders that are still to be posted refer to it)"),
            "{waiting}"
        );
        sqlx::query("UPDATE orders SET state = 4").execute(&pool).await.unwrap();
        assert_eq!(refusal(&shards, &CONTROL).await, "");
    });
}

#[test]
fn a_shard_that_is_away_leaves_types_alone_only_where_it_matters() {
    run_test(async {
        let pool = create_control_database().await;
        ensure_builtin_bundle(&pool).await.unwrap();
        let folder = copy();
        let run = async || {
            let open: ShardOpener =
                Box::new(|_| Box::pin(std::future::ready(Err("shard s1 is away".to_owned()))));
            let shards = ShardSet::new(vec!["s1".to_owned()], open);
            let runtime = reconcile_runtime(&ReconcileTargets::new(pool.clone(), shards));
            runtime.run(&read(&folder), &request(&["ledger-types"], false)).await.unwrap()
        };
        edit(&folder, "ledger/storage_lock.yaml", "description: Guards", "description: It guards");
        assert!(run().await.has_succeeded());
        std::fs::remove_file(folder.path().join("ledger/storage_lock.yaml")).unwrap();
        let report = run().await;
        assert_eq!(report.outcomes[0].error.as_ref().unwrap().to_string(), "shard s1 is away");
        assert_eq!(names(&pool).await.len(), 4);
    });
}

#[test]
fn a_service_may_begin_with_a_bundle_of_its_own_but_only_with_a_sound_one() {
    run_test(async {
        let pool = create_control_database().await;
        let folder = copy();
        edit(&folder, "ledger/storage_lock.yaml", "shard_key: [storage_id]", "shard_key: []");
        let place = BundleSource::Folder(folder.path().to_owned());
        let refused = ensure_initial_bundle(&pool, &place).await.unwrap_err().to_string();
        assert!(refused.contains("storage_lock.yaml:6: shard_key: "), "{refused}");
        assert_eq!(names(&pool).await, Vec::<String>::new());
        std::fs::remove_file(folder.path().join("ledger/storage_lock.yaml")).unwrap();
        ensure_initial_bundle(&pool, &place).await.unwrap();
        let expected =
            ["pickup_point_inflow bundle", "storage_outflow bundle", "storage_state bundle"];
        assert_eq!(names(&pool).await, expected);
        // The second start does not read the bundle.
        ensure_initial_bundle(&pool, &BundleSource::Folder("/nowhere".into())).await.unwrap();
    });
}
