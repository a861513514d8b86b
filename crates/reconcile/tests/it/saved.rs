//! Hazard: the applied plan differs from the approved one.

use reconcile::{
    Bundle, ObjectOwner, ReconcileNarrowing, ReconcileOptions, ReconcileRequestError, SavedPlan,
};

use crate::folder::Folder;
use crate::world::{Things, dry, real, teams, thing};

async fn planned(things: &Things, bundle: &Bundle) -> SavedPlan {
    let runtime = things.runtime();
    let decided =
        runtime.decide_runs(bundle, &dry(), &ReconcileNarrowing::default()).await.unwrap();
    let report =
        runtime.execute(bundle, &dry(), &decided, &ReconcileOptions::default()).await.unwrap();
    let saved = SavedPlan::from_report(bundle, &dry(), &decided, &report);
    // After a round trip through the file format.
    let read = SavedPlan::parse(&serde_json::to_string(&saved).unwrap()).unwrap();
    assert_eq!((read.plans.clone(), &read.bundle), (saved.plans, &saved.bundle));
    read
}

/// The refusal, or the changes made.
async fn applied(things: &Things, folder: &Folder, plan: &SavedPlan) -> String {
    let before = things.stored.lock().unwrap().clone();
    match things
        .runtime()
        .apply(
            &folder.bundle(),
            plan,
            ObjectOwner::Bundle,
            audit::AuditActor::of_service("test"),
            &ReconcileOptions::default(),
        )
        .await
    {
        Ok(report) => report.to_string(),
        Err(ReconcileRequestError::StalePlan(reason)) => {
            assert_eq!(*things.stored.lock().unwrap(), before, "something was applied");
            reason
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_plan_is_applied_as_it_is_or_not_at_all() {
    store::testing::run_test(async {
        let (folder, things) = (teams(2), Things::default());
        things.runtime().run(&folder.bundle(), &real()).await.unwrap();
        folder.put("things/n0.yaml", thing("n0", "t0", 2));
        let plan = planned(&things, &folder.bundle()).await;

        // The bundle changes after planning.
        folder.put("things/n5.yaml", thing("n5", "t5", 1));
        let told = applied(&things, &folder, &plan).await;
        assert!(told.contains("is not the one that the plan was made from"), "{told}");
        std::fs::remove_file(folder.path().join("things/n5.yaml")).unwrap();

        // The target changes after planning: an object that the plan would change, or another one.
        for (name, team) in [("n0", "t0"), ("n1", "t1"), ("elsewhere", "t9")] {
            let moved = serde_json::json!({"team": team, "size": 7});
            let before = things.stored.lock().unwrap().insert(name.to_owned(), moved);
            let told = applied(&things, &folder, &plan).await;
            assert_eq!(told, "the target of postings has moved since the plan was made");
            let mut stored = things.stored.lock().unwrap();
            match before {
                Some(before) => drop(stored.insert(name.to_owned(), before)),
                None => drop(stored.remove(name)),
            }
        }

        let done = applied(&things, &folder, &plan).await;
        assert!(done.ends_with("Plan: 0 to create, 1 to update, 0 to delete"), "{done}");
        assert_eq!(things.stored.lock().unwrap()["n0"]["size"], 2);
        // A plan applies only once.
        assert_eq!(
            applied(&things, &folder, &plan).await,
            "the target of postings has moved since the plan was made"
        );
    });
}

#[test]
fn what_is_no_plan_is_said() {
    for (text, reason) in [("", "it is no plan"), ("{}", "it is no plan"), ("[]", "it is no plan")]
    {
        assert!(SavedPlan::parse(text).unwrap_err().contains(reason));
    }
    let newer = r#"{"version": 2, "bundle": "", "arguments": [], "take_over": false,
                    "decided": {"works": [], "warnings": []}, "plans": []}"#;
    assert!(SavedPlan::parse(newer).unwrap_err().contains("of the version 2"));
}
