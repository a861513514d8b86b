//! Hazard: a task posted twice runs twice, or one that no handler can run is accepted.

use serde_json::json;
use store::testing::run_test;

use crate::harness::World;

#[test]
fn a_key_is_one_task() {
    run_test(async {
        let world = World::fresh().await;
        let body =
            json!({"task_type": "test.obedient", "params": {"does": "nothing"}, "task_key": "k"});
        let (created, first) = world.post(body.clone()).await;
        assert_eq!(created, 201);
        let (repeated, second) = world.post(body.clone()).await;
        assert_eq!((repeated, &second), (200, &first));
        let mut other = body;
        other["params"]["does"] = "wait".into();
        let (conflict, told) = world.post(other).await;
        assert_eq!((conflict, &told["error"]["code"]), (409, &json!("CONFLICT")));
        let sent: i64 = sqlx::query_scalar("SELECT count(*) FROM fifo_messages")
            .fetch_one(&world.pool)
            .await
            .unwrap();
        assert_eq!(sent, 1);
    });
}

#[test]
fn a_key_posted_at_the_same_moment_is_one_task() {
    run_test(async {
        let world = std::sync::Arc::new(World::fresh().await);
        let posting: Vec<_> = (0..16)
            .map(|_| {
                let world = world.clone();
                let body =
                    json!({"task_type": "test.obedient", "params": {"does": "nothing"}, "task_key": "k"});
                tokio::spawn(async move { world.post(body).await })
            })
            .collect();
        let mut answers = Vec::new();
        for posting in posting {
            answers.push(posting.await.unwrap());
        }
        assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 15, "{answers:?}");
        assert!(answers.windows(2).all(|pair| pair[0].1 == pair[1].1), "{answers:?}");
    });
}

#[test]
fn what_is_wrong_is_said_with_what_is_allowed() {
    run_test(async {
        let world = World::fresh().await;
        let table = [
            (
                json!({"task_type": "test.obedeint", "params": {}}),
                "task_type",
                "did you mean `test.obedient`? (allowed are test.obedient, test.parent)",
            ),
            (
                json!({"task_type": "test.obedient", "params": {"dos": "x"}}),
                "params.dos",
                "expected `does`",
            ),
            (json!({"task_type": "test.obedient"}), "params", "missing field `does`"),
            (
                json!({"task_type": "test.parent", "params": {"x": 1}}),
                "params.x",
                "there are no fields",
            ),
            (json!({"task_type": "test.parent", "params": []}), "params", "expected a map"),
            (json!({"params": {}}), "task_type", "missing field `task_type`"),
            (json!(["test.parent", {}]), "body", "must be an object"),
            (json!({"task_type": "test.parent", "task_key": ""}), "task_key", "1 to 256 bytes"),
            (
                json!({"task_type": "test.parent", "x": 1}),
                "x",
                "expected one of `task_type`, `params`, `task_key`",
            ),
        ];
        for (body, field, words) in table {
            let (status, told) = world.post(body).await;
            assert_eq!(
                (status, &told["error"]["code"]),
                (400, &json!("VALIDATION_ERROR")),
                "{told}"
            );
            let said = told["error"]["args"][field].as_str().unwrap_or_default();
            assert!(said.contains(words), "{field}: {told}");
        }
        for missing in ["0", "-1", "x", "99999999999999999999"] {
            let (status, told) = world.get(&format!("/api/v1/tasks/{missing}")).await;
            assert_eq!((status, &told["error"]["code"]), (404, &json!("NOT_FOUND")));
        }
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM tasks").fetch_one(&world.pool).await.unwrap();
        assert_eq!(count, 0);
    });
}

#[test]
fn tasks_are_listed_the_newest_first() {
    run_test(async {
        let world = World::fresh().await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.insert(0, world.begin("nothing").await);
        }
        world.post(json!({"task_type": "test.parent"})).await;
        let listed = async |query: &str| {
            let (status, answer) = world.get(&format!("/api/v1/tasks{query}")).await;
            assert_eq!(status, 200, "{answer}");
            answer["result"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["id"].as_i64().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(listed("?task_type=test.obedient").await, ids);
        assert_eq!(listed("?task_type=test.obedient&limit=2").await, ids[..2]);
        assert_eq!(listed(&format!("?status=waiting&before={}", ids[0])).await, ids[1..]);
        assert_eq!(listed("?status=failed").await, [0; 0]);
        for bad in ["?status=done", "?limit=0", "?limit=1001", "?x=1"] {
            assert_eq!(world.get(&format!("/api/v1/tasks{bad}")).await.0, 400, "{bad}");
        }
    });
}
