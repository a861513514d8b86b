//! Hazard: a shard that differs is not run, or uncertainty is treated as equality.

use std::time::Duration;

use reconcile::{
    Bundle, ReconcileDecision, ReconcileNarrowing, ReconcileOptions, ReconcileReport,
    ReconcileRequest, ReconcileShardStatus,
};

use crate::world::{Things, dry, real, teams, thing};

/// A dry run of the affected shards only, compared with another folder.
async fn narrowed(
    things: &Things,
    old: &Bundle,
    new: &Bundle,
    change: impl FnOnce(&mut ReconcileNarrowing<'_>),
) -> ReconcileReport {
    let mut narrowing = ReconcileNarrowing {
        compare: Some(Ok(old)),
        only_affected: true,
        ..ReconcileNarrowing::default()
    };
    change(&mut narrowing);
    let runtime = things.runtime();
    let decided = runtime.decide_runs(new, &dry(), &narrowing).await.unwrap();
    runtime
        .execute(new, &dry(), &decided, &ReconcileOptions { pool_size: 3, progress: None })
        .await
        .unwrap()
}

#[test]
fn one_changed_of_fifty_is_one_shard() {
    store::testing::run_test(async {
        let (folder, things) = (teams(50), Things::default());
        let old = folder.bundle();
        things.runtime().run(&old, &real()).await.unwrap();
        assert_eq!(things.ran(), ["*"]);
        folder.put("things/n17.yaml", thing("n17", "t17", 5));
        let report = narrowed(&things, &old, &folder.bundle(), |_| {}).await;
        assert_eq!(things.ran(), ["t17"]);
        let json = report.to_json();
        let one = &json["integrations"][0];
        assert_eq!(
            (&one["run"], &json["summary"]["skipped_shards"]),
            (&"shards".into(), &49.into())
        );
        let shards = one["shards"].as_array().unwrap();
        assert_eq!(shards[0]["shard"], "t17");
        assert_eq!(shards[0]["why"], serde_json::json!(["~ n17.size"]));
        assert_eq!(shards[0]["update"], 1);
        for skipped in &shards[1..] {
            assert_eq!(skipped["status"], "skipped");
            assert_eq!(skipped["evidence"]["sha256"], skipped["evidence"]["compared_sha256"]);
        }
        assert!(
            report
                .to_string()
                .starts_with("postings: only the shards that differ: t17 (49 skipped)\n"),
            "{report}"
        );
    });
}

#[test]
fn new_and_gone_shards_are_affected_and_a_move_touches_both() {
    store::testing::run_test(async {
        let (folder, things) = (teams(5), Things::default());
        let old = folder.bundle();
        folder.put("things/n9.yaml", thing("n9", "t9", 1));
        folder.put("things/n1.yaml", thing("n1", "t2", 1));
        std::fs::remove_file(folder.path().join("things/n0.yaml")).unwrap();
        narrowed(&things, &old, &folder.bundle(), |_| {}).await;
        assert_eq!(things.ran(), ["t0", "t1", "t2", "t9"]);
    });
}

#[test]
fn any_doubt_is_the_full_run() {
    store::testing::run_test(async {
        let folder = teams(5);
        let old = folder.bundle();
        folder.put("things/n1.yaml", thing("n1", "t1", 2));
        let new = folder.bundle();
        let cases: [(&'static [&'static str], &str); 5] = [
            (&["$.*.nobody"], "matches nothing"),
            (&["$.*.team", "$.nobody.*.team"], "matches nothing"),
            (&["$.n0.team"], "belongs to no shard"),
            (&["$.["], "is no JSONPath"),
            (&["$.*"], "finds what is no name"),
        ];
        for (selectors, reason) in cases {
            let things = Things { selectors, ..Things::default() };
            let report = narrowed(&things, &old, &new, |_| {}).await;
            assert_eq!(
                (report.outcomes[0].decision, things.ran()),
                (ReconcileDecision::Full, vec!["*".to_owned()])
            );
            assert!(report.warnings[0].contains(reason), "{:?}", report.warnings);
        }
        let declining = Things { review: |shards| shards.len() > 1, ..Things::default() };
        let report = narrowed(&declining, &old, &new, |_| {}).await;
        assert_eq!(declining.ran(), ["*"]);
        assert!(
            report.warnings[0].contains("its review wants all of it run"),
            "{:?}",
            report.warnings
        );
    });
}

/// The end-to-end tests cover the real limit with a diff that blocks.
#[test]
fn a_diff_that_takes_too_long_is_the_full_run() {
    store::testing::run_test(async {
        let (folder, things) = (teams(400), Things::default());
        let old = folder.bundle();
        folder.put("things/n1.yaml", thing("n1", "t1", 2));
        let report = narrowed(&things, &old, &folder.bundle(), |narrowing| {
            narrowing.diff_timeout = Duration::ZERO
        })
        .await;
        assert_eq!(
            (report.outcomes[0].decision, things.ran()),
            (ReconcileDecision::Full, vec!["*".to_owned()])
        );
        assert!(report.warnings[0].contains("takes longer than"), "{:?}", report.warnings);
        assert_eq!(reconcile::DIFF_TIMEOUT, Duration::from_secs(10));
    });
}

#[test]
fn a_failing_shard_among_ten_is_reported_and_counted() {
    store::testing::run_test(async {
        let (folder, things) = (teams(10), Things::default());
        let old = folder.bundle();
        (0..10).for_each(|n| {
            folder.put(&format!("things/n{n}.yaml"), thing(&format!("n{n}"), &format!("t{n}"), 2))
        });
        things.broken.lock().unwrap().insert("t4".to_owned());
        let report = narrowed(&things, &old, &folder.bundle(), |_| {}).await;
        assert_eq!(things.ran().len(), 10);
        assert_eq!(report.failure_summary().unwrap(), "1 of 1 integrations failed, 1 shard failed");
        let json = report.to_json();
        let one = &json["integrations"][0];
        assert_eq!(
            (&one["failed_shards"], &json["summary"]["failed_shards"]),
            (&1.into(), &1.into())
        );
        assert_eq!(one["error"], "1 of 10 shards failed: t4");
        assert_eq!(json["summary"]["create"], 9);
        let failed: Vec<_> = report.outcomes[0]
            .shards
            .iter()
            .filter(|shard| shard.status == ReconcileShardStatus::Failed)
            .collect();
        assert_eq!((failed.len(), failed[0].error.as_deref()), (1, Some("t4 is away")));
        assert!(report.to_string().contains("  failed shard t4: t4 is away\n"), "{report}");
    });
}

#[test]
fn one_shard_can_be_asked_for_also_in_a_real_run() {
    store::testing::run_test(async {
        let (folder, things) = (teams(3), Things::default());
        let (bundle, runtime) = (folder.bundle(), things.runtime());
        let narrowing =
            ReconcileNarrowing { shard: Some("t1".to_owned()), ..ReconcileNarrowing::default() };
        let decided = runtime.decide_runs(&bundle, &real(), &narrowing).await.unwrap();
        let report = runtime
            .execute(&bundle, &real(), &decided, &ReconcileOptions::default())
            .await
            .unwrap();
        assert!(report.has_succeeded());
        assert_eq!(things.ran(), ["t1"]);
        assert_eq!(things.stored.lock().unwrap().keys().collect::<Vec<_>>(), ["n1"]);
    });
}

#[test]
fn a_sample_of_the_skipped_finds_a_wrong_selector() {
    store::testing::run_test(async {
        let folder = teams(40);
        let old = folder.bundle();
        // An object belongs to its team, but the selector takes its size for the team's name.
        let wrong = Things { selectors: &["$.*.size"], ..Things::default() };
        wrong.runtime().run(&old, &real()).await.unwrap();
        let right = Things { stored: wrong.stored.clone(), ..Things::default() };
        folder.put("things/n7.yaml", thing("n7", "t7", 7));
        let new = folder.bundle();
        // With correct selectors, skipped shards have no changes.
        let report = narrowed(&right, &old, &new, |narrowing| narrowing.sample_ratio = 0.05).await;
        assert!(report.has_succeeded(), "{report}");
        let sampled = report.outcomes[0].shards.iter().filter(|shard| shard.sampled).count();
        assert_eq!((sampled, right.ran().len()), (2, 3));
        // An object of another shard has drifted, and the wrong selector hides it: the shard is
        // `1` and is skipped.
        let seeded = Things { selectors: &["$.*.team"], ..right.clone() };
        seeded
            .stored
            .lock()
            .unwrap()
            .insert("n3".to_owned(), serde_json::json!({"team": "t3", "size": 99}));
        let report = narrowed(&seeded, &old, &new, |narrowing| narrowing.sample_ratio = 1.0).await;
        let told = report.to_string();
        assert!(
            told.contains(
                "failed shard t3: it was skipped and would have changed something (update thing n3)"
            ),
            "{told}"
        );
        assert_eq!(report.outcomes[0].failed_shard_count(), 1);
        // A sample's changes are in no plan: only those of affected shards are.
        assert!(told.ends_with("Plan: 0 to create, 1 to update, 0 to delete"), "{told}");
    });
}

#[test]
fn a_shard_that_is_nowhere_is_wrong_usage_and_those_there_are_named() {
    store::testing::run_test(async {
        let (folder, things) = (teams(3), Things::default());
        let (bundle, runtime) = (folder.bundle(), things.runtime());
        let narrowing =
            ReconcileNarrowing { shard: Some("t7".to_owned()), ..ReconcileNarrowing::default() };
        let by_argument =
            ReconcileRequest { arguments: vec![("team".to_owned(), "t7".to_owned())], ..real() };
        for (request, narrowing) in [
            (real(), narrowing.clone()),
            (dry(), narrowing),
            (by_argument, ReconcileNarrowing::default()),
        ] {
            let decided = runtime.decide_runs(&bundle, &request, &narrowing).await.unwrap();
            let refused = runtime
                .execute(&bundle, &request, &decided, &ReconcileOptions::default())
                .await
                .unwrap_err();
            let said = refused.to_string();
            assert!(
                said.contains("postings has no shard `t7`") && said.contains("(known: t0, t1, t2)"),
                "{said}"
            );
        }
        assert_eq!(things.ran(), Vec::<String>::new());
    });
}
