//! Hazard: a killed run leaves partial changes that no later run repairs.

use super::world::{World, ended};

/// Fail points, and how often each is passed at most: once per integration, in two of them
/// per shard and queue.
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
                // New changes each time, so that every integration has work.
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
        // Every interrupted change is stored once, with the bundle's content.
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
        // Nothing was applied: the plan is still valid.
        assert_eq!(
            world.run(&["--apply", plan]).await.planned(),
            world.run(&["--apply", plan]).await.again()
        );
    });
}

impl super::world::Ended {
    /// The number of creations of a plan that is stale after its application.
    fn again(&self) -> [usize; 3] {
        assert_eq!(self.code, Some(1), "{}", self.said);
        assert!(
            self.complaint.contains("has moved since the plan was made; nothing was applied"),
            "{}",
            self.complaint
        );
        // Types, a rule, a schedule, the partitions of two shards, queues.
        [6 + 8 + 12, 0, 0]
    }
}
