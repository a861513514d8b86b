//! Hazard: a schedule of the bundle is not in force, or has ticks from before it was in force.

use std::fs;
use std::time::Duration;

use reconcile::{
    Bundle, BundleSource, ObjectOwner, ReconcileReport, ReconcileRequest, ReconcileRuntime,
};
use store::testing::run_test;
use tasks::schedule::ScheduleReconciler;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::harness::{QUICK, World};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let metadata =
            "$schema: /app/integration-1.yml\nname: schedules\nschemas: [/tasks/task-1.yml]\n";
        fs::create_dir_all(folder.0.path().join("integrations")).unwrap();
        fs::write(folder.0.path().join("integrations/schedules.yaml"), metadata).unwrap();
        folder
    }

    fn put(&self, name: &str, cron: &str) {
        let text = format!(
            "$schema: /tasks/task-1.yml\nname: {name}\nschedule: \"{cron}\"\ntask_type: test.obedient\nparams: {{does: nothing}}\n"
        );
        fs::write(self.0.path().join(format!("{name}.yaml")), text).unwrap();
    }

    async fn reconcile(&self, world: &World, dry_run: bool) -> ReconcileReport {
        let bundle = Bundle::read(BundleSource::Folder(self.0.path().to_owned())).unwrap();
        let runtime = ReconcileRuntime::new(Vec::new())
            .with_reconciler(ScheduleReconciler { pool: world.pool.clone(), usage: () });
        let (integrations, arguments) = (Vec::new(), Vec::new());
        let request = ReconcileRequest {
            reconcilers: integrations,
            arguments,
            dry_run,
            take_over: false,
            allow_delete_all: false,
            owner: ObjectOwner::Bundle,
            actor: audit::AuditActor::of_service("test"),
        };
        runtime.run(&bundle, &request).await.unwrap()
    }
}

#[test]
fn the_bundles_schedules_are_in_force_and_their_ticks_count_from_then() {
    run_test(async {
        let world = World::fresh().await;
        let folder = Folder::new();
        folder.put("each-second", "* * * * * *");
        folder.put("daily", "0 0 * * *");
        let planned = folder.reconcile(&world, true).await.to_string();
        assert!(
            planned.contains("+ create schedule each-second")
                && planned.ends_with("2 to create, 0 to update, 0 to delete"),
            "{planned}"
        );
        let count = || {
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM task_schedules")
                .fetch_one(&world.pool)
        };
        assert_eq!(count().await.unwrap(), 0, "a dry run writes nothing");
        let stop = CancellationToken::new();
        let scheduler = world.scheduler(QUICK, &stop);
        folder.reconcile(&world, false).await;
        assert!(folder.reconcile(&world, false).await.to_string().contains("nothing to do"));
        while world.get("/api/v1/tasks").await.1["result"].as_array().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (_, listed) = world.get("/api/v1/tasks").await;
        assert!(
            listed["result"]
                .as_array()
                .unwrap()
                .iter()
                .all(|task| task["schedule"] == "each-second")
        );

        // The new expression's latest tick is long past: nothing is due before its next one.
        folder.put("each-second", "0 0 1 1 *");
        let changed = folder.reconcile(&world, false).await.to_string();
        assert!(changed.contains("~ update schedule each-second"), "{changed}");
        fs::remove_file(folder.0.path().join("daily.yaml")).unwrap();
        assert!(
            folder.reconcile(&world, false).await.to_string().contains("- delete schedule daily")
        );
        stop.cancel();
        scheduler.await.unwrap();
        let left: Vec<(String, bool)> = sqlx::query_as(
            "SELECT name, done_until > now() - interval '1 minute' FROM task_schedules",
        )
        .fetch_all(&world.pool)
        .await
        .unwrap();
        assert_eq!(left, [("each-second".to_owned(), true)]);
    });
}
