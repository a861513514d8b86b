//! Hazard: an unreachable shard blocks the partitions of other shards, or goes unnoticed.

use futures::future::join_all;
use ledger::sharding::{Shard, ShardMap};
use order_service::reconcilers::bundle::{
    ReconcileTargets, ShardOpener, ShardSet, reconcile_runtime,
};
use reconcile::{
    Bundle, BundleSource, ObjectOwner, ReconcileDecision, ReconcileNarrowing, ReconcileOptions,
    ReconcileRequest,
};
use store::testing::{create_control_database, create_shard_database};

use super::world::World;

#[test]
fn a_shard_that_is_away_is_reported_and_counted_and_the_others_are_done() {
    store::testing::run_test(async {
        let range = ShardMap::with_equal_ranges(vec![None; 4]).unwrap().shards()[0].range;
        let pools = join_all((0..10).map(|_| create_shard_database())).await;
        let open_pools = pools.clone();
        let open: ShardOpener = Box::new(move |name| {
            let place: usize = name[1..].parse().unwrap();
            let shard = match place {
                3 => Err("shard s3 does not answer".to_owned()),
                place => Ok(Some(Shard { name, range, pool: open_pools[place].clone() })),
            };
            Box::pin(std::future::ready(shard))
        });
        let names = (0..10).map(|n| format!("s{n}")).collect();
        let control = create_control_database().await;
        let runtime =
            reconcile_runtime(&ReconcileTargets::new(control.clone(), ShardSet::new(names, open)));
        let bundle = Bundle::read(BundleSource::Builtin).unwrap();
        let request = |dry_run| ReconcileRequest {
            reconcilers: vec!["partitions".to_owned()],
            arguments: Vec::new(),
            dry_run,
            take_over: false,
            allow_delete_all: false,
            owner: ObjectOwner::Bundle,
            actor: audit::AuditActor::of_service("test"),
        };
        let whole = runtime.run(&bundle, &request(false)).await.unwrap();
        assert_eq!(whole.failure_summary().unwrap(), "1 of 1 integrations failed, 1 shard failed");
        assert_eq!(whole.to_json()["integrations"][0]["failed_shards"], 1);
        assert!(
            whole.to_string().contains("  failed shard s3: shard s3 does not answer\n"),
            "{whole}"
        );
        assert_eq!(whole.outcomes[0].plan.changes.len(), 9 * 4);
        let recorded: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM audit WHERE action = 'reconcile.apply' AND object LIKE 'partition/s%'",
        )
        .fetch_one(&control)
        .await
        .unwrap();
        assert_eq!(recorded, 9 * 4, "in the audit trail of the control database");
        for (n, pool) in pools.iter().enumerate() {
            let months: i64 = sqlx::query_scalar("SELECT count(*) FROM event_ranges()")
                .fetch_one(pool)
                .await
                .unwrap();
            assert_eq!(months, if n == 3 { 0 } else { 4 });
        }

        // Reported per shard: all ten differ from a bundle with fewer months.
        let folder = crate::bundles::copy();
        let other = Bundle::read(BundleSource::Folder(folder.path().to_owned())).unwrap();
        crate::bundles::edit(
            &folder,
            "tasks/ledger-partitions.yaml",
            "task_type: ledger.partitions",
            "task_type: ledger.partitions\nparams: {ahead: 5}",
        );
        let bundle = Bundle::read(BundleSource::Folder(folder.path().to_owned())).unwrap();
        let narrowing = ReconcileNarrowing {
            compare: Some(Ok(&other)),
            only_affected: true,
            ..ReconcileNarrowing::default()
        };
        let decided = runtime.decide_runs(&bundle, &request(true), &narrowing).await.unwrap();
        let report = runtime
            .execute(&bundle, &request(true), &decided, &ReconcileOptions::default())
            .await
            .unwrap();
        let json = report.to_json();
        assert_eq!(
            (&json["integrations"][0]["run"], &json["summary"]["failed_shards"]),
            (&"shards".into(), &1.into())
        );
        assert_eq!(json["integrations"][0]["error"], "1 of 10 shards failed: s3");
        assert_eq!(json["summary"]["create"], 18);
    });
}

#[test]
fn a_bundle_that_wants_more_months_is_noticed_where_the_shards_are_not_known() {
    store::testing::run_test(async {
        let open: ShardOpener =
            Box::new(|name| Box::pin(std::future::ready(Err(format!("{name} is not known")))));
        let shards = ShardSet::new(Vec::new(), open);
        let runtime =
            reconcile_runtime(&ReconcileTargets::new(create_control_database().await, shards));
        let folder = crate::bundles::copy();
        let other = Bundle::read(BundleSource::Folder(folder.path().to_owned())).unwrap();
        let request = ReconcileRequest {
            reconcilers: vec!["partitions".to_owned()],
            arguments: Vec::new(),
            dry_run: true,
            take_over: false,
            allow_delete_all: false,
            owner: ObjectOwner::Bundle,
            actor: audit::AuditActor::of_service("test"),
        };
        let narrowing =
            || ReconcileNarrowing { compare: Some(Ok(&other)), ..ReconcileNarrowing::default() };
        let decided = runtime.decide_runs(&other, &request, &narrowing()).await.unwrap();
        assert_eq!(decided.works[0].decision, ReconcileDecision::EarlyExit);
        crate::bundles::edit(
            &folder,
            "tasks/ledger-partitions.yaml",
            "task_type: ledger.partitions",
            "task_type: ledger.partitions\nparams: {ahead: 5}",
        );
        let bundle = Bundle::read(BundleSource::Folder(folder.path().to_owned())).unwrap();
        let decided = runtime.decide_runs(&bundle, &request, &narrowing()).await.unwrap();
        assert_eq!(decided.works[0].decision, ReconcileDecision::Full, "{:?}", decided.warnings);
    });
}

#[test]
fn one_shard_can_be_asked_for() {
    store::testing::run_test(async {
        let world = World::new().await;
        let [created, ..] = world.run(&["partitions", "--shard", "s1"]).await.planned();
        assert_eq!(created, 4);
        let months = async |n: usize| -> i64 {
            sqlx::query_scalar("SELECT count(*) FROM event_ranges()")
                .fetch_one(&world.shards[n])
                .await
                .unwrap()
        };
        assert_eq!((months(0).await, months(1).await), (0, 4));
        let nobody = world.run(&["partitions", "--shard", "s7"]).await;
        assert_eq!(nobody.code, Some(2));
        assert!(nobody.complaint.contains("has no shard `s7`"), "{}", nobody.complaint);
        assert!(nobody.complaint.contains("(known: s0, s1)"), "{}", nobody.complaint);
        world.edit("tasks/ledger-partitions.yaml", "schedule:", "params: {ahead: 4}\nschedule:");
        assert_eq!(world.run(&["partitions"]).await.planned(), [6, 0, 0]);
        assert_eq!(world.run(&["partitions"]).await.planned(), [0, 0, 0]);
    });
}
