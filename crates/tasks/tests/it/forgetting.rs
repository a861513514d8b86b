//! Hazard: tasks end faster than retention deletes them, and the tables grow forever.

use std::time::Duration;

use store::testing::run_test;

use crate::harness::World;

const HOUR: Duration = Duration::from_secs(3600);

async fn count(world: &World, what: &str) -> i64 {
    let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {what}"));
    sqlx::query_scalar(statement).fetch_one(&world.pool).await.unwrap()
}

#[test]
fn a_pass_forgets_as_many_tasks_as_there_are_with_their_dead_jobs() {
    run_test(async {
        let world = World::fresh().await;
        let statements = "
            INSERT INTO tasks (task_type, params, status, ended_at, action_config, event_id)
            SELECT 'noop', '{}', 'failed', now() - interval '2 hours', 'config', n FROM generate_series(1, 3500) AS n;
            INSERT INTO tasks (task_type, params) VALUES ('noop', '{}');
            INSERT INTO task_effects SELECT 'order', task_id::text, task_id FROM tasks WHERE ended_at IS NOT NULL;
            INSERT INTO dead_jobs (job_id, queue, priority, job_key, attempts, payload, reason, enqueued_at)
            SELECT task_id, 'actions', 0, 'task/' || task_id || '/0', 1, '', 'r', now() FROM tasks";
        sqlx::raw_sql(statements).execute(&world.pool).await.unwrap();
        let mut passes = 0;
        while tasks::forget_old_tasks(&world.pool, HOUR).await.unwrap().has_more {
            passes += 1;
        }
        // On a slow machine a pass may exhaust its time budget.
        assert!(passes <= 3, "{passes}");
        assert_eq!((count(&world, "tasks").await, count(&world, "task_effects").await), (1, 0));
        assert_eq!(count(&world, "dead_jobs").await, 1, "that of the task that is still there");
    });
}

#[test]
fn old_dead_letters_are_forgotten_and_younger_ones_of_their_group_come_first() {
    run_test(async {
        let world = World::fresh().await;
        let statements = "
            INSERT INTO fifo_queues (name, visibility_ms) VALUES ('a-dead.fifo', 1000), ('a.fifo', 1000);
            INSERT INTO fifo_messages
                (sequence, queue_id, message_id, group_id, dedup_id, head, body, attributes, sent_at, visible_at)
            SELECT nextval('fifo_sequence'), q.queue_id, gen_random_uuid(), 'g' || n % 2, q.name || n, n <= 2, n::text, '{}', at.at, at.at
            FROM fifo_queues q, generate_series(1, 3000) AS n,
                 LATERAL (SELECT now() - interval '1 day' * CASE WHEN n <= 2900 THEN 15 ELSE 13 END AS at) at
            WHERE q.name LIKE 'a%' ORDER BY n";
        sqlx::raw_sql(statements).execute(&world.pool).await.unwrap();
        while tasks::forget_old_tasks(&world.pool, HOUR).await.unwrap().has_more {}
        let of = |queue: &str| {
            format!("fifo_messages JOIN fifo_queues q USING (queue_id) WHERE q.name = '{queue}'")
        };
        assert_eq!(count(&world, &of("a-dead.fifo")).await, 100);
        assert_eq!(count(&world, &of("a.fifo")).await, 3000, "who waits to be worked on waits");
        let heads: Vec<String> = sqlx::query_scalar(
            "SELECT body FROM fifo_messages JOIN fifo_queues q USING (queue_id) WHERE q.name = 'a-dead.fifo' AND head ORDER BY sequence",
        )
        .fetch_all(&world.pool)
        .await
        .unwrap();
        assert_eq!(heads, ["2901", "2902"]);
    });
}
