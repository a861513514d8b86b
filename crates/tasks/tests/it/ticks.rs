//! Hazard: several schedulers (killed or paused ones) or none at a tick: each tick has one task,
//! and a missed tick has it late.

use std::time::Duration;

use chrono::{DateTime, Utc};
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use crate::harness::{PAUSED, QUICK, World};

/// Ticks with tasks, in order. A unique constraint allows one task per tick, so this also counts
/// tasks.
async fn ticks(world: &World, schedule: &str) -> Vec<DateTime<Utc>> {
    sqlx::query_scalar("SELECT tick FROM tasks WHERE schedule = $1 ORDER BY tick")
        .bind(schedule)
        .fetch_all(&world.pool)
        .await
        .unwrap()
}

async fn until_ticks(world: &World, schedule: &str, count: usize) -> Vec<DateTime<Utc>> {
    loop {
        let ticks = ticks(world, schedule).await;
        if ticks.len() >= count {
            return ticks;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn messages(world: &World) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM fifo_messages");
    count.fetch_one(&world.pool).await.unwrap()
}

#[test]
fn each_tick_has_one_task_whoever_schedules_and_however_they_die() {
    run_test(async {
        let world = World::fresh().await;
        world.schedule("each-second", "* * * * * *", 0.0).await;
        // One scheduler that is paused forever after it got its lease, and two that alternate.
        let (zombies, stop) = (CancellationToken::new(), CancellationToken::new());
        let zombie = world.scheduler(PAUSED, &zombies);
        until_ticks(&world, "each-second", 1).await;
        let living = [world.scheduler(QUICK, &stop), world.scheduler(QUICK, &stop)];
        for deaths in 1..=2 {
            until_ticks(&world, "each-second", 4 * deaths).await;
            // As if the active scheduler had died: its lease has a new epoch, so its writes are
            // fenced.
            sqlx::query("UPDATE leases SET epoch = epoch + 1, owner = gen_random_uuid(), expires_at = now() + interval '600 ms'")
                .execute(&world.pool)
                .await
                .unwrap();
        }
        let seen = until_ticks(&world, "each-second", 14).await;
        stop.cancel();
        zombies.cancel();
        for task in living.into_iter().chain([zombie]) {
            task.await.unwrap();
        }
        assert!(
            seen.windows(2).all(|pair| pair[1] - pair[0] == chrono::TimeDelta::seconds(1)),
            "{seen:?}"
        );
        assert_eq!(messages(&world).await, ticks(&world, "each-second").await.len() as i64);
        let taken_over: i64 =
            sqlx::query_scalar("SELECT epoch FROM leases WHERE class = 'duty/scheduler'")
                .fetch_one(&world.pool)
                .await
                .unwrap();
        assert!(taken_over >= 6, "nobody ever took over");
    });
}

#[test]
fn a_tick_missed_while_all_were_down_is_run_once_and_late() {
    run_test(async {
        let world = World::fresh().await;
        // Due at noon, yesterday or today; down for two days.
        world.schedule("daily", "0 12 * * *", 2.0 * 86_400.0).await;
        world.schedule("never-due", "0 0 1 1 *", 0.0).await;
        for _ in 0..3 {
            // Repeated restarts change nothing.
            let stop = CancellationToken::new();
            let schedulers = [world.scheduler(QUICK, &stop), world.scheduler(QUICK, &stop)];
            let seen = until_ticks(&world, "daily", 1).await;
            assert_eq!(seen.len(), 1);
            assert!(seen[0] <= Utc::now() && Utc::now() - seen[0] <= chrono::TimeDelta::days(1));
            stop.cancel();
            for scheduler in schedulers {
                scheduler.await.unwrap();
            }
        }
        assert_eq!((messages(&world).await, ticks(&world, "never-due").await.len()), (1, 0));
    });
}

#[test]
fn a_zombie_enqueues_nothing() {
    run_test(async {
        let world = World::fresh().await;
        let (zombies, stop) = (CancellationToken::new(), CancellationToken::new());
        let zombie = world.scheduler(PAUSED, &zombies);
        let epoch = || {
            let epoch = "SELECT coalesce(max(epoch), 0) FROM leases WHERE class LIKE 'duty/%'";
            sqlx::query_scalar::<_, i64>(epoch).fetch_one(&world.pool)
        };
        while epoch().await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
        let before = epoch().await.unwrap();
        let other = world.scheduler(QUICK, &stop);
        while epoch().await.unwrap() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        other.await.unwrap();
        // Only the paused scheduler is left; it polls once a second and is fenced.
        world.schedule("each-second", "* * * * * *", 5.0).await;
        tokio::time::timeout(Duration::from_millis(2500), until_ticks(&world, "each-second", 1))
            .await
            .unwrap_err();
        zombies.cancel();
        zombie.await.unwrap();
    });
}

#[test]
fn a_change_is_picked_up_within_a_second() {
    run_test(async {
        let world = World::fresh().await;
        let stop = CancellationToken::new();
        let scheduler = world.scheduler(QUICK, &stop);
        world.schedule("first", "* * * * * *", 0.0).await;
        until_ticks(&world, "first", 1).await;
        let changed = tokio::time::Instant::now();
        world.schedule("second", "* * * * * *", 0.0).await;
        let ticks = until_ticks(&world, "second", 1).await;
        // The first tick is due within a second, and enqueued within another.
        assert!(
            changed.elapsed() < Duration::from_millis(2500),
            "{:?} {ticks:?}",
            changed.elapsed()
        );
        stop.cancel();
        scheduler.await.unwrap();
    });
}

#[test]
fn ended_tasks_are_forgotten_and_others_are_not() {
    run_test(async {
        let world = World::fresh().await;
        for _ in 0..3 {
            world.begin("nothing").await;
        }
        let ended = "UPDATE tasks SET status = 'succeeded', ended_at = now() - interval '2 hours' WHERE task_id <= 2";
        sqlx::query(ended).execute(&world.pool).await.unwrap();
        assert_eq!(
            tasks::forget_old_tasks(&world.pool, Duration::from_secs(3 * 3600))
                .await
                .unwrap()
                .tasks,
            0
        );
        assert_eq!(
            tasks::forget_old_tasks(&world.pool, Duration::from_secs(3600)).await.unwrap().tasks,
            2
        );
        assert_eq!(tasks::forget_old_tasks(&world.pool, Duration::ZERO).await.unwrap().tasks, 0);
    });
}
