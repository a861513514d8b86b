//! Starting tasks: rendered and written in chunks, which bounds memory and lets other work run in
//! between.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::PgConnection;
use store::Result;

use super::joins::{complete_joins_in_tx, find_join_chunk_end, load_join_events};
use super::matching::{EventMatch, EventTaskOptions};
use super::render::{TaskToStart, render_chunk_ahead, render_task_chunk};
use super::renderings::{EventIdentity, RenderingPermission};
use crate::compute_pool::compute_on_pool;
use crate::configs::template::EventTemplateBudget;
use crate::{Event, EventId};

/// The new events' matches, each a task to start or a part of a join.
pub(super) struct MatchedTasks {
    single_event: Vec<TaskToStart>,
    joining: Vec<EventMatch>,
}

impl MatchedTasks {
    pub(super) fn new<'m>(matches: impl Iterator<Item = &'m EventMatch>) -> Self {
        let mut matched = Self { single_event: Vec::new(), joining: Vec::new() };
        for event_match in matches {
            if event_match.config.definition.is_join() {
                matched.joining.push(event_match.clone());
            } else {
                matched.single_event.push(TaskToStart::of_event(event_match.clone()));
            }
        }
        matched
    }

    fn is_empty(&self) -> bool {
        self.single_event.is_empty() && self.joining.is_empty()
    }

    fn event_identities(&self) -> HashMap<EventId, EventIdentity> {
        let single_event = self.single_event.iter().map(|wanted| &wanted.event_match.event);
        let events = single_event.chain(self.joining.iter().map(|joining| &joining.event));
        let mut identities = HashMap::new();
        for event in events {
            identities.entry(event.id).or_insert_with(|| event.identity_fingerprint());
        }
        identities
    }

    /// Locks and completes the joins; returns all tasks to start, grouped by event.
    async fn complete_in_tx(
        self,
        connection: &mut PgConnection,
        options: &EventTaskOptions,
    ) -> Result<Vec<TaskToStart>> {
        let mut to_start = self.single_event;
        // Joins are locked before groups and jobs, which the start of tasks locks.
        to_start.extend(complete_joins_in_tx(connection, &self.joining, options).await?);
        // Stable: within an event the tasks of single-event configs stay before those of joins.
        to_start.sort_by_key(|wanted| wanted.event_match.event.id);
        Ok(to_start)
    }
}

/// Completes joins, renders and starts all tasks; returns the number of new ones.
pub(super) async fn start_tasks_in_tx(
    connection: &mut PgConnection,
    matched: MatchedTasks,
    options: &EventTaskOptions,
) -> Result<usize> {
    if matched.is_empty() {
        return Ok(0);
    }
    if !options.renderings.is_active() {
        return start_together(connection, matched, options).await;
    }
    let (matched, identities) = compute_on_pool(move || {
        let identities = matched.event_identities();
        (matched, identities)
    })
    .await?;
    let noted: Vec<EventIdentity> = identities.values().copied().collect();
    let started = match options.renderings.begin_batch(noted.clone()).await {
        false => start_together(connection, matched, options).await,
        true => start_event_by_event(connection, matched, &identities, options).await,
    };
    options.renderings.end_batch(noted).await;
    started
}

/// Renders what a chunk holds of the single-event tasks before it locks the joins: other writers wait
/// for these locks.
async fn start_together(
    connection: &mut PgConnection,
    mut matched: MatchedTasks,
    options: &EventTaskOptions,
) -> Result<usize> {
    if !matched.joining.is_empty() && !matched.single_event.is_empty() {
        let options = options.clone();
        matched = compute_on_pool(move || {
            render_chunk_ahead(&mut matched.single_event, &options);
            matched
        })
        .await?;
    }
    let to_start = matched.complete_in_tx(connection, options).await?;
    render_and_start_tasks(connection, to_start, options).await
}

async fn render_and_start_tasks(
    connection: &mut PgConnection,
    mut to_start: Vec<TaskToStart>,
    options: &EventTaskOptions,
) -> Result<usize> {
    let (mut done, mut started) = (0, 0);
    let mut budget = EventTemplateBudget::of_event();
    while done < to_start.len() {
        let end = find_join_chunk_end(&to_start, done);
        let join_events = Arc::new(load_join_events(connection, &to_start[done..end]).await?);
        while done < end {
            let (loaded, options) = (join_events.clone(), options.clone());
            let (rest, some) = compute_on_pool(move || {
                let some = render_task_chunk(&mut to_start[..end], done, &loaded, budget, &options);
                (to_start, some)
            })
            .await?;
            to_start = rest;
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
    matched: MatchedTasks,
    identities: &HashMap<EventId, EventIdentity>,
    options: &EventTaskOptions,
) -> Result<usize> {
    let mut started = 0;
    let mut rest = matched.complete_in_tx(connection, options).await?;
    while let Some(first) = rest.first() {
        let event = first.event_match.event.clone();
        let end = rest.iter().position(|wanted| wanted.event_match.event.id != event.id);
        let later = rest.split_off(end.unwrap_or(rest.len()));
        let identity = identities.get(&event.id).copied();
        let identity = identity.unwrap_or_else(|| event.identity_fingerprint());
        match options.renderings.begin_event(identity).await {
            RenderingPermission::Granted => {
                let done = render_and_start_tasks(connection, rest, options).await;
                options.renderings.end_event(identity).await;
                started += done?;
            }
            RenderingPermission::SetAside => set_event_aside_in_tx(connection, &event).await?,
        }
        rest = later;
    }
    Ok(started)
}

async fn set_event_aside_in_tx(connection: &mut PgConnection, event: &Event) -> Result<()> {
    metrics::counter!("events_set_aside_total").increment(1);
    let code = "LOGIC_ERROR";
    tracing::error!(event = %event.id, name = event.name, code, "an event that ends the process starts nothing");
    store::statement(
        "set_aside_event",
        "INSERT INTO set_aside_events (event_id) VALUES ($1) ON CONFLICT DO NOTHING",
    )
    .bind(event.id)
    .execute(connection)
    .await?;
    Ok(())
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
            set_config(
                &pool,
                "c".to_owned(),
                Some(config),
                reconcile::ObjectOwner::Api,
                &audit::AuditActor::of_service("test"),
            )
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
            set_config(
                &pool,
                "c".to_owned(),
                Some(config),
                reconcile::ObjectOwner::Api,
                &audit::AuditActor::of_service("test"),
            )
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
