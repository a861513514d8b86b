//! Hazard: a join fires twice or never when its events arrive concurrently, reordered or repeated.

use std::time::Duration;

use events::{EventCause, NewEvent};
use serde_json::{Value, json};
use store::testing::run_test;

use crate::harness::World;

fn join() -> Value {
    json!({
        "name": "matching", "join": ["date"],
        "on": [
            {"event": "soup", "params": {"status": "SUCCESS"}},
            {"event": "ids", "params": {"status": "SUCCESS"}},
        ],
        "action": {"task": "noop", "params": {"note": {
            "date": "{{ event.params.date }}", "by": "{{ event.name }}",
            "soup": "{{ events.soup.params.n }}", "ids": "{{ events.ids.params.n }}",
        }}},
    })
}

async fn fired(world: &World) -> i64 {
    world.count("SELECT count(*) FROM tasks").await
}

fn params(date: &str, n: i64) -> Value {
    json!({"status": "SUCCESS", "date": date, "n": n})
}

#[test]
fn it_fires_once_for_its_values_in_either_order_and_tells_what_it_waits_for() {
    run_test(async {
        let world = World::fresh().await;
        world.config(join()).await;
        for (n, names) in [["soup", "ids"], ["ids", "soup"]].into_iter().enumerate() {
            let date = format!("2026-11-0{}", n + 1);
            let first = world.event(names[0], params(&date, 1)).await;
            assert_eq!(fired(&world).await, n as i64);
            let reason = world.reason(&first, "matching").await;
            assert!(reason.starts_with(&format!("waiting for event {}", names[1])), "{reason}");
            assert!(reason.contains(&format!("date=\"{date}\"")), "{reason}");
            // Sent twice: the later event counts.
            let again = world.event(names[0], params(&date, 2)).await;
            let other = world.event(names[0], params("2026-12-24", 3)).await;
            let last = world.event(names[1], params(&date, 4)).await;
            assert_eq!(fired(&world).await, n as i64 + 1);
            let task = world.only(&last).await;
            let shown = world.task(task).await;
            let note = json!({"date": date, "by": names[1],
                "soup": if n == 0 { 2 } else { 4 }, "ids": if n == 0 { 4 } else { 2 }});
            assert_eq!(shown["params"]["note"], note, "{shown}");
            assert_eq!(shown["join_events"].as_array().unwrap().len(), 2);
            let reason = world.reason(&again, "matching").await;
            assert!(
                reason.starts_with("joined") && reason.contains(&format!("task {task}")),
                "{reason}"
            );
            assert!(world.reason(&first, "matching").await.starts_with("duplicate"));
            let late = world.event(names[1], params(&date, 5)).await;
            let reason = world.reason(&late, "matching").await;
            assert!(reason.starts_with("duplicate") && reason.contains(&last), "{reason}");
            assert_eq!(fired(&world).await, n as i64 + 1);
            assert!(world.reason(&other, "matching").await.starts_with("waiting for"));
            sqlx::query("TRUNCATE action_joins").execute(&world.pool).await.unwrap();
        }
    });
}

#[test]
fn it_fires_once_when_its_events_come_at_the_same_moment_to_two_replicas() {
    run_test(async {
        let one = World::fresh().await;
        one.config(join()).await;
        let two = World::on(one.pool.clone(), events::EventSettings::default()).await;
        let sending: Vec<_> = (0..160)
            .map(|n| {
                let world = if n % 2 == 0 { one.clone() } else { two.clone() };
                let name = if n / 40 % 2 == 0 { "soup" } else { "ids" };
                let date = format!("day {}", n % 40);
                tokio::spawn(async move { world.event(name, params(&date, n)).await })
            })
            .collect();
        for sent in sending {
            sent.await.unwrap();
        }
        assert_eq!(fired(&one).await, 40);
        let distinct =
            one.count("SELECT count(DISTINCT params::jsonb -> 'note' ->> 'date') FROM tasks").await;
        assert_eq!(distinct, 40);
    });
}

#[test]
fn both_in_one_batch_and_conditions_and_missing_params_and_expiry() {
    run_test(async {
        let world = World::fresh().await;
        world.config(join()).await;
        let batch = json!([
            {"name": "soup", "params": params("d", 1)}, {"name": "ids", "params": params("d", 2)},
            {"name": "soup", "params": params("d", 3)},
        ]);
        world.send("POST", "/api/v1/events", &batch).await;
        assert_eq!(fired(&world).await, 1);
        let failed = world.event("soup", json!({"status": "FAILURE", "date": "e"})).await;
        let reason = world.reason(&failed, "matching").await;
        assert_eq!(
            reason,
            r#"condition failed: params.status: expected "SUCCESS", actual "FAILURE""#
        );
        let undated = world.event("soup", json!({"status": "SUCCESS"})).await;
        assert!(world.reason(&undated, "matching").await.contains("params.date, which is missing"));
        world.event("soup", params("e", 1)).await;
        sqlx::query("UPDATE action_joins SET expires_at = now() - interval '1 second'")
            .execute(&world.pool)
            .await
            .unwrap();
        world.event("ids", params("e", 1)).await;
        assert_eq!(fired(&world).await, 1, "the first event's time is over");
        world.event("soup", params("e", 2)).await;
        assert_eq!(fired(&world).await, 2);
        // A join without values fires in each round.
        let mut rounds = join();
        rounds["name"] = "rounds".into();
        rounds["join"] = json!([]);
        world.config(rounds).await;
        for round in 1..=2 {
            world.event("soup", params("round", round)).await;
            world.event("ids", params("other", round)).await;
        }
        let of_rounds =
            world.count("SELECT count(*) FROM tasks WHERE action_config = 'rounds'").await;
        assert_eq!(of_rounds, 2);
    });
}

fn new_event(name: &str, status: &str) -> NewEvent {
    let params = json!({"status": status, "date": "d", "n": 1}).as_object().unwrap().clone();
    let (name, author) = (name.to_owned(), "me".to_owned());
    NewEvent { name, params, author, key: None, cause: EventCause::default() }
}

#[test]
fn a_batch_completes_more_joins_than_are_rendered_together() {
    run_test(async {
        const DATES: i64 = 250;
        let world = World::fresh().await;
        world.config(join()).await;
        let action = json!({"task": "noop", "params": {"note": "{{ event.params.date }}"}});
        world.config(json!({"name": "single", "on": [{"event": "ids"}], "action": action})).await;
        let mut new = Vec::new();
        for (name, sign) in [("soup", 1), ("ids", -1)] {
            for date in 1..=DATES {
                let mut event = new_event(name, "SUCCESS");
                event.params.insert("date".to_owned(), date.to_string().into());
                event.params.insert("n".to_owned(), (sign * date).into());
                new.push(event);
            }
        }
        let mut tx = world.pool.begin().await.unwrap();
        world.events.write_in_tx(&mut tx, new).await.unwrap();
        tx.commit().await.unwrap();
        // Each has the values of its own events.
        let joined = "SELECT count(DISTINCT note ->> 'date') FROM
            (SELECT params::jsonb -> 'note' AS note FROM tasks WHERE action_config = 'matching') t
            WHERE note ->> 'soup' = note ->> 'date' AND note ->> 'ids' = '-' || (note ->> 'date')";
        assert_eq!(world.count(joined).await, DATES);
        let single = "SELECT count(DISTINCT params::jsonb ->> 'note') FROM tasks WHERE action_config = 'single'";
        assert_eq!(world.count(single).await, DATES);
        assert_eq!(fired(&world).await, 2 * DATES);
    });
}

#[test]
fn a_writer_that_waits_for_a_join_holds_no_group() {
    run_test(async {
        let world = World::fresh().await;
        world.config(join()).await;
        let action = json!({"task": "noop", "concurrency_key": "k"});
        world.config(json!({"name": "keyed", "on": [{"event": "soup"}], "action": action})).await;
        let mut holder = world.pool.begin().await.unwrap();
        world.events.write_in_tx(&mut holder, vec![new_event("ids", "SUCCESS")]).await.unwrap();
        let other = world.clone();
        let waiting = tokio::spawn(async move {
            let mut waiter = other.pool.begin().await.unwrap();
            let event = new_event("soup", "SUCCESS");
            other.events.write_in_tx(&mut waiter, vec![event]).await.unwrap();
            waiter.commit().await.unwrap();
        });
        loop {
            let is_waited_for: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))",
            )
            .fetch_one(&mut *holder)
            .await
            .unwrap();
            if is_waited_for {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Matches `keyed` only, with the waiter's group.
        world.events.write_in_tx(&mut holder, vec![new_event("soup", "FAILURE")]).await.unwrap();
        holder.commit().await.unwrap();
        waiting.await.unwrap();
        assert_eq!(fired(&world).await, 3);
    });
}
