//! Hazard: a commit answer is lost, the transaction is retried, and its effect is doubled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use queue::fifo::{FifoTxSender, NewFifoMessage, SentMessage, UnsentMessage};
use serde_json::json;
use store::testing::run_test;
use store::{Error, PgConnection};
use tasks::{NewTask, TaskControlOutcome, TaskEnqueueOutcome, TaskId, TaskStore};

use crate::harness::World;

/// Sender that can lose a commit answer: commits the transaction immediately and reports a
/// connection error.
struct LosesAnswer {
    sender: Arc<dyn FifoTxSender>,
    loses: AtomicBool,
}

impl FifoTxSender for LosesAnswer {
    fn send_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        queue: &'a str,
        messages: &'a [NewFifoMessage],
    ) -> BoxFuture<'a, store::Result<Vec<SentMessage>>> {
        Box::pin(async move {
            let sent = self.sender.send_in_tx(connection, queue, messages).await?;
            if self.loses.swap(false, Ordering::SeqCst) {
                sqlx::query("COMMIT").execute(connection).await?;
                return Err(Error::from(sqlx::Error::PoolTimedOut));
            }
            Ok(sent)
        })
    }

    fn send_all_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        messages: &'a [(&'a str, &'a NewFifoMessage)],
    ) -> BoxFuture<'a, store::Result<Vec<SentMessage>>> {
        self.sender.send_all_in_tx(connection, messages)
    }

    fn take_back_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        deduplications: &'a [String],
    ) -> BoxFuture<'a, store::Result<Vec<UnsentMessage>>> {
        self.sender.take_back_in_tx(connection, deduplications)
    }
}

fn losing(world: &World) -> (TaskStore, Arc<LosesAnswer>) {
    let engine = queue::fifo::PgFifo::new(world.pool.clone(), world.notifications.clone());
    let sender = Arc::new(LosesAnswer { sender: Arc::new(engine), loses: AtomicBool::new(true) });
    (TaskStore::new(world.pool.clone(), world.tasks.types.clone(), sender.clone()), sender)
}

#[test]
fn a_task_without_a_key_is_there_once() {
    run_test(async {
        let world = World::fresh().await;
        let (tasks, sender) = losing(&world);
        let new = NewTask {
            task_type: "test.parent".to_owned(),
            params: json!({}),
            key: None,
            tick: None,
        };
        let first = tasks.enqueue(new.clone()).await.unwrap();
        assert!(!sender.loses.load(Ordering::SeqCst), "an answer was lost");
        let second = tasks.enqueue(new).await.unwrap();
        let (TaskEnqueueOutcome::Added(first), TaskEnqueueOutcome::Added(second)) = (first, second)
        else {
            panic!("each call has added its task: {first:?}, {second:?}");
        };
        assert_ne!(first, second);
        let counts: (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM fifo_messages)",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!(counts, (2, 2));
        assert_eq!(
            world.task(first.get()).await.get("task_key"),
            None,
            "it has none of its caller's"
        );
    });
}

#[test]
fn a_retry_that_was_followed_is_not_told_that_it_cannot_be() {
    run_test(async {
        let world = World::fresh().await;
        let task = world.begin("nothing").await;
        assert_eq!(
            world.tasks.cancel(TaskId(task), &actor()).await.unwrap(),
            TaskControlOutcome::Applied
        );
        let (tasks, sender) = losing(&world);
        // As if a worker began the task before the retry.
        sqlx::query(
            "CREATE FUNCTION begin_at_once() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN IF new.status = 'waiting' THEN new.status := 'running'; END IF; RETURN new; END $$",
        )
        .execute(&world.pool)
        .await
        .unwrap();
        sqlx::query(
            "CREATE TRIGGER t BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION begin_at_once()",
        )
        .execute(&world.pool)
        .await
        .unwrap();
        assert_eq!(tasks.retry(TaskId(task), &actor()).await.unwrap(), TaskControlOutcome::Applied);
        assert!(!sender.loses.load(Ordering::SeqCst), "an answer was lost");
        let retries: i32 =
            sqlx::query_scalar("SELECT retries FROM tasks").fetch_one(&world.pool).await.unwrap();
        assert_eq!(retries, 1);
    });
}

fn actor() -> audit::AuditActor {
    audit::AuditActor::of_service("test")
}
