//! Hazard: a worker is killed or paused, or a task always fails. A task must end once, by its
//! latest attempt.

use std::sync::atomic::Ordering;
use std::time::Duration;

use queue::fifo::REASON_ATTRIBUTE;
use serde_json::json;
use store::testing::{run_counting_panics, run_test};
use tokio_util::sync::CancellationToken;

use crate::harness::{TERMS, World, told};

#[test]
fn tasks_end_as_their_handlers_say() {
    let panics = run_counting_panics(async {
        let world = World::fresh().await;
        let ((obedient, _heard), stop) = (told(), CancellationToken::new());
        let worker = world.worker(&obedient, &stop);
        let table = [
            ("nothing", "succeeded", 1, json!(null)),
            ("succeed at the third", "succeeded", 3, json!(null)),
            ("its turn at the eighth", "succeeded", 1, json!(null)),
            ("give up", "failed", 1, json!("this never works")),
            ("fail", "failed", 3, json!("not now: fail")),
            ("panic", "failed", 1, json!("LOGIC_ERROR: the handler panicked; see the log")),
        ];
        let mut ids = Vec::new();
        for (does, ..) in &table {
            ids.push(world.begin(does).await);
        }
        for ((does, status, attempts, error), id) in table.into_iter().zip(ids) {
            let task = world.until(id, status).await;
            assert_eq!((&task["attempts"], &task["error"]), (&json!(attempts), &error), "{does}");
            assert!(!task["started_at"].is_null() && !task["ended_at"].is_null());
        }
        let mut letters = Vec::new();
        while letters.len() < 3 {
            for letter in
                world.queues.dead_letters.receive(10, Duration::from_secs(10), None).await.unwrap()
            {
                letters.push(letter.attributes[REASON_ATTRIBUTE].clone());
            }
        }
        letters.sort_unstable();
        assert!(
            letters[0].starts_with("LOGIC_ERROR")
                && letters[1] == "not now: fail"
                && letters[2] == "this never works"
        );
        stop.cancel();
        worker.await.unwrap();
        let left: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM fifo_messages m JOIN fifo_queues q USING (queue_id) WHERE q.name = 'tasks.fifo'",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!(left, 0);
    });
    assert_eq!(panics, 1, "the one that was told to");
}

#[test]
fn a_killed_workers_task_is_done_by_another() {
    run_test(async {
        let world = World::fresh().await;
        let ((obedient, mut heard), stop) = (told(), CancellationToken::new());
        let dying = world.worker(&obedient, &CancellationToken::new());
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(world.begin("wait").await);
        }
        for _ in 0..3 {
            assert_eq!(heard.recv().await.unwrap().1, 1);
        }
        dying.abort();
        let _ = dying.await;
        let living = world.worker(&obedient, &stop);
        // The permits come only now: the dead worker's attempts can no longer take them.
        for _ in 0..3 {
            assert_eq!(heard.recv().await.unwrap().1, 2);
        }
        obedient.go_on.add_permits(3);
        for id in ids {
            let task = world.until(id, "succeeded").await;
            assert_eq!(
                (&task["attempts"], &task["outcome"]),
                (&json!(2), &json!({"waited": true}))
            );
        }
        stop.cancel();
        living.await.unwrap();
    });
}

#[test]
fn a_task_that_kills_its_workers_is_given_up() {
    run_test(async {
        let world = World::fresh().await;
        let ((obedient, mut heard), stop) = (told(), CancellationToken::new());
        let id = world.begin("kill").await;
        for attempt in 1..=TERMS.max_attempts {
            let dying = world.worker(&obedient, &CancellationToken::new());
            assert_eq!(heard.recv().await.unwrap(), (id, attempt));
            dying.abort();
            let _ = dying.await;
        }
        let living = world.worker(&obedient, &stop);
        let task = world.until(id, "failed").await;
        assert_eq!(task["error"], "its worker was lost in attempt 3");
        assert!(heard.try_recv().is_err(), "not begun once more");
        stop.cancel();
        living.await.unwrap();
    });
}

#[test]
fn a_paused_attempt_changes_nothing_any_more() {
    run_test(async {
        let world = World::fresh().await;
        let ((paused, mut heard), stop) = (told(), CancellationToken::new());
        let worker = world.worker(&paused, &stop);
        let id = world.begin("wait").await;
        assert_eq!(heard.recv().await.unwrap(), (id, 1));
        // As if the process had been paused beyond the visibility timeout: another attempt has
        // begun and ended.
        sqlx::query(
            "UPDATE tasks SET attempts = 2, status = 'failed', error = 'by the other', ended_at = now()",
        )
        .execute(&world.pool)
        .await
        .unwrap();
        paused.go_on.add_permits(1);
        while paused.dropped.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        worker.await.unwrap();
        let task = world.task(id).await;
        assert_eq!((&task["status"], &task["error"]), (&json!("failed"), &json!("by the other")));
    });
}

#[test]
fn messages_of_others_do_not_put_off_the_look_for_cancelled_tasks() {
    run_test(async {
        let world = World::fresh().await;
        let ((waiting, mut heard), stop) = (told(), CancellationToken::new());
        let worker = world.worker(&waiting, &stop);
        let id = world.begin("wait").await;
        assert_eq!(heard.recv().await.unwrap(), (id, 1));
        let pool = world.pool.clone();
        let flood = tokio::spawn(async move {
            loop {
                let say = sqlx::query("SELECT pg_notify($1, '0'), pg_notify($2, '0')");
                say.bind(queue::fifo::FIFO_CHANNEL)
                    .bind(tasks::CANCELLED_CHANNEL)
                    .execute(&pool)
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        // As if the notification had been lost.
        sqlx::query("UPDATE tasks SET status = 'cancelled', ended_at = now()")
            .execute(&world.pool)
            .await
            .unwrap();
        let dropped = async {
            while waiting.dropped.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), dropped).await.unwrap();
        flood.abort();
        stop.cancel();
        worker.await.unwrap();
    });
}

#[test]
fn a_worker_that_stops_gives_its_tasks_back() {
    run_test(async {
        let world = World::fresh().await;
        let ((obedient, mut heard), stop) = (told(), CancellationToken::new());
        let worker = world.worker(&obedient, &stop);
        let id = world.begin("wait").await;
        heard.recv().await.unwrap();
        stop.cancel();
        worker.await.unwrap();
        assert_eq!(obedient.dropped.load(Ordering::SeqCst), 1);
        let stop = CancellationToken::new();
        let next = world.worker(&obedient, &stop);
        assert_eq!(heard.recv().await.unwrap(), (id, 2));
        obedient.go_on.add_permits(1);
        world.until(id, "succeeded").await;
        stop.cancel();
        next.await.unwrap();
    });
}

#[test]
fn handlers_enqueue_tasks() {
    run_test(async {
        let world = World::fresh().await;
        let ((obedient, mut heard), stop) = (told(), CancellationToken::new());
        let worker = world.worker(&obedient, &stop);
        let (_, parent) = world.post(json!({"task_type": "test.parent"})).await;
        let (child, _) = heard.recv().await.unwrap();
        let task = world.until(child, "succeeded").await;
        assert_eq!(task["task_key"], format!("child of {}", parent["id"]));
        world.until(parent["id"].as_i64().unwrap(), "succeeded").await;
        assert!(heard.try_recv().is_err(), "one child");
        stop.cancel();
        worker.await.unwrap();
    });
}
