//! Starting tasks: rendered and written in chunks, which bounds memory and lets other work run in
//! between.

use std::sync::Arc;

use sqlx::PgConnection;
use store::Result;

use super::joins::{find_join_chunk_end, load_join_events};
use super::matching::{self, EventTaskOptions, TaskToStart};
use super::renderings::{EventIdentity, RenderingPermission};
use crate::compute_pool::compute_on_pool;
use crate::configs::template::EventTemplateBudget;

/// Renders and starts tasks; returns the number of new ones. `to_start` is grouped by event.
pub(super) async fn start_tasks_in_tx(
    connection: &mut PgConnection,
    to_start: Vec<TaskToStart>,
    options: &EventTaskOptions,
) -> Result<usize> {
    if to_start.is_empty() || !options.renderings.is_active() {
        return render_and_start_tasks(connection, to_start, options).await;
    }
    let (tasks_to_start, identities) = compute_on_pool(move || {
        let identities: Vec<EventIdentity> =
            to_start.iter().map(|wanted| wanted.event_match.event.identity_fingerprint()).collect();
        (to_start, identities)
    })
    .await?;
    let one_by_one = options.renderings.begin_batch(identities.clone()).await;
    let started = match one_by_one {
        false => render_and_start_tasks(connection, tasks_to_start, options).await,
        true => start_event_by_event(connection, tasks_to_start, &identities, options).await,
    };
    options.renderings.end_batch(identities).await;
    started
}

async fn render_and_start_tasks(
    connection: &mut PgConnection,
    to_start: Vec<TaskToStart>,
    options: &EventTaskOptions,
) -> Result<usize> {
    let (wanted, mut done, mut started) = (Arc::new(to_start), 0, 0);
    let mut budget = EventTemplateBudget::of_event();
    while done < wanted.len() {
        let end = find_join_chunk_end(&wanted, done);
        let join_events = Arc::new(load_join_events(connection, &wanted[done..end]).await?);
        while done < end {
            let (all, loaded, terms) = (wanted.clone(), join_events.clone(), options.clone());
            let some = compute_on_pool(move || {
                matching::render_task_chunk(&all[..end], done, &loaded, budget, &terms)
            })
            .await?;
            started += tasks::start_action_tasks_in_tx(connection, &some.tasks).await?.len();
            (done, budget) = (some.done_count, some.budget);
        }
    }
    Ok(started)
}

/// For a batch that crashed processes before: renders event by event, and sets crashing events
/// aside.
async fn start_event_by_event(
    connection: &mut PgConnection,
    to_start: Vec<TaskToStart>,
    identities: &[EventIdentity],
    options: &EventTaskOptions,
) -> Result<usize> {
    let (mut started, mut rest, mut at) = (0, to_start, 0);
    while let Some(first) = rest.first() {
        let event = first.event_match.event.clone();
        let end = rest
            .iter()
            .position(|wanted| wanted.event_match.event.id != event.id)
            .unwrap_or(rest.len());
        let later = rest.split_off(end);
        let identity = identities[at];
        at += end;
        match options.renderings.begin_event(identity).await {
            RenderingPermission::Granted => {
                let done = render_and_start_tasks(connection, rest, options).await;
                options.renderings.end_event(identity).await;
                started += done?;
            }
            RenderingPermission::SetAside => {
                metrics::counter!("events_set_aside_total").increment(1);
                let code = "LOGIC_ERROR";
                tracing::error!(event = %event.id, name = event.name, code, "an event that ends the process starts nothing");
                store::statement(
                    "set_aside_event",
                    "INSERT INTO set_aside_events (event_id) VALUES ($1) ON CONFLICT DO NOTHING",
                )
                .bind(event.id)
                .execute(&mut *connection)
                .await?;
            }
        }
        rest = later;
    }
    Ok(started)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sqlx::PgPool;
    use tasks::TaskType;

    use crate::configs::{ActionConfig, set_config};
    use crate::task_types::NoopTask;
    use crate::{Event, EventCause, EventId, EventSettings, EventStore, NewEvent};

    fn new(n: i64) -> NewEvent {
        let params = json!({"n": n}).as_object().unwrap().clone();
        let (name, author) = ("e".to_owned(), "me".to_owned());
        NewEvent { name, params, author, key: None, cause: EventCause::default() }
    }

    /// Writes events together; returns whether each has started its task.
    async fn write_and_check_started(
        events: &EventStore,
        new: Vec<NewEvent>,
    ) -> (Vec<EventId>, Vec<bool>) {
        let mut tx = events.pool.begin().await.unwrap();
        let ids = events.write_in_tx(&mut tx, new).await.unwrap();
        tx.commit().await.unwrap();
        let (mut all, mut started) = (Vec::new(), Vec::new());
        for (id, _) in ids {
            let asked = sqlx::query_scalar("SELECT EXISTS (SELECT FROM tasks WHERE event_id = $1)");
            started.push(asked.bind(id).fetch_one(&events.pool).await.unwrap());
            all.push(id);
        }
        (all, started)
    }

    /// Notes of processes that crashed while rendering the event in a batch, and `alone` times
    /// alone.
    async fn insert_crash_notes(pool: &PgPool, of: &NewEvent, alone: i32) {
        let NewEvent { name, params, author, cause, .. } = of.clone();
        let time_created = chrono::Utc::now();
        let event = Event { id: EventId(0), name, params, author, time_created, cause };
        sqlx::query("INSERT INTO event_renderings (identity, begun, begun_by, alone) VALUES ($1, 5, gen_random_uuid(), $2)")
            .bind(event.identity_fingerprint().to_vec())
            .bind(alone)
            .execute(pool)
            .await
            .unwrap();
    }

    async fn count_notes(pool: &PgPool) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM event_renderings").fetch_one(pool).await.unwrap()
    }

    #[test]
    fn what_ends_the_process_each_time_starts_nothing_and_its_story_says_so() {
        store::testing::run_test(async {
            let pool = store::testing::create_control_database().await;
            crate::retention::create_event_weeks(&pool).await.unwrap();
            let events = EventStore::new(
                pool.clone(),
                [TaskType::of_handler::<NoopTask>()].into(),
                EventSettings::default(),
            );
            let config: ActionConfig = serde_json::from_value(
                json!({"name": "c", "on": [{"event": "e"}], "action": {"task": "noop"}}),
            )
            .unwrap();
            set_config(&pool, "c".to_owned(), Some(config), reconcile::ObjectOwner::Api)
                .await
                .unwrap();
            assert_eq!(
                write_and_check_started(&events, vec![new(1), new(2)]).await.1,
                [true, true]
            );
            assert_eq!(count_notes(&pool).await, 0, "what has ended leaves nothing behind");
            for (n, alone) in [(1, 0), (2, 2), (3, 3)] {
                insert_crash_notes(&pool, &new(n), alone).await;
            }
            let (ids, of_batch) =
                write_and_check_started(&events, vec![new(1), new(2), new(3), new(4)]).await;
            assert_eq!(
                of_batch,
                [true, true, false, true],
                "the others of the batch do not suffer"
            );
            let story = events.read_story(ids[2]).await.unwrap().unwrap().to_json();
            let reason = story["not_fired"][0]["reason"].as_str().unwrap();
            assert!(reason.starts_with("set aside"), "{story}");
            // The same event is set aside again immediately, and no other.
            assert_eq!(
                write_and_check_started(&events, vec![new(3), new(5)]).await.1,
                [false, true]
            );
            assert_eq!(
                write_and_check_started(&events, vec![new(1), new(2)]).await.1,
                [true, true]
            );
        });
    }

    #[test]
    fn what_was_set_aside_is_tried_again_after_a_day_though_it_was_sent_meanwhile() {
        store::testing::run_test(async {
            let pool = store::testing::create_control_database().await;
            crate::retention::create_event_weeks(&pool).await.unwrap();
            let events = EventStore::new(
                pool.clone(),
                [TaskType::of_handler::<NoopTask>()].into(),
                EventSettings::default(),
            );
            let config = json!({"name": "c", "on": [{"event": "e"}], "action": {"task": "noop"}});
            let config: ActionConfig = serde_json::from_value(config).unwrap();
            set_config(&pool, "c".to_owned(), Some(config), reconcile::ObjectOwner::Api)
                .await
                .unwrap();
            insert_crash_notes(&pool, &new(1), 3).await;
            sqlx::query("UPDATE event_renderings SET begun_at = now() - interval '25 hours'")
                .execute(&pool)
                .await
                .unwrap();
            assert_eq!(write_and_check_started(&events, vec![new(1)]).await.1, [false]);
            crate::retention::maintain_events(
                &pool,
                std::time::Duration::from_secs(90 * 24 * 3600),
            )
            .await
            .unwrap();
            assert_eq!(count_notes(&pool).await, 0);
            assert_eq!(write_and_check_started(&events, vec![new(1)]).await.1, [true]);
        });
    }
}
