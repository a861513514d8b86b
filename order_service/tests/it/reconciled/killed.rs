//! Hazard: a run that is killed leaves something half that no later run repairs.

use super::world::{World, ended};

/// Where it dies, and the most often that a point is passed: integrations, and in two of them shards and queues.
const POINTS: [(&str, usize); 3] =
    [("reconcile_planned", 8), ("reconcile_applied", 8), ("reconcile_done", 6)];

#[test]
fn the_next_run_repairs_whatever_a_killed_one_left() {
    store::testing::run_test(async {
        let world = World::new().await;
        world.run(&[]).await.planned();
        let mut killed = 0;
        for (point, most) in POINTS {
            for passed in 1..=most {
                // Another round for each: everything has to be changed again.
                world.change(killed + 1);
                let mut dying = world.command(&[]);
                dying.env("FAIL_POINT", format!("{point}:{passed}"));
                let ended = ended(dying).await;
                assert_eq!(ended.code, None, "{point}:{passed} was not reached: {}", ended.said);
                killed += 1;
                world.run(&[]).await.planned();
                assert_eq!(world.run(&[]).await.planned(), [0, 0, 0], "{point}:{passed}");
            }
        }
        assert_eq!(killed, 22);
        // Whatever was interrupted: it is there once, and as the bundle says.
        let there: (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM ledger_types WHERE name = 'changed' AND definition ->> 'description' = '22'),
                    (SELECT count(*) FROM fifo_queues WHERE name LIKE 'changed-dev%' AND visibility_ms = 52000)",
        )
        .fetch_one(&world.control)
        .await
        .unwrap();
        assert_eq!(there, (1, 2));
    });
}

#[test]
fn a_plan_whose_application_was_killed_is_not_applied_by_halves_later() {
    store::testing::run_test(async {
        let world = World::new().await;
        let plan = world.bundle.path().join("plan.json");
        let plan = plan.to_str().unwrap();
        world.run(&["--plan-out", plan]).await;
        for point in ["reconcile_approved", "reconcile_planned"] {
            let before = world.contents().await;
            let mut dying = world.command(&["--apply", plan]);
            dying.env("FAIL_POINT", point);
            assert_eq!(ended(dying).await.code, None, "{point}");
            assert_eq!(world.contents().await, before, "{point}");
        }
        // Nothing was done, so it can be.
        assert_eq!(
            world.run(&["--apply", plan]).await.planned(),
            world.run(&["--apply", plan]).await.again()
        );
    });
}

impl super::world::Ended {
    /// What was done by a plan that cannot be applied once more.
    fn again(&self) -> [usize; 3] {
        assert_eq!(self.code, Some(1), "{}", self.said);
        assert!(
            self.complaint.contains("has moved since the plan was made; nothing was applied"),
            "{}",
            self.complaint
        );
        // Types, a rule, a schedule, the months of two shards, queues.
        [6 + 8 + 12, 0, 0]
    }
}
