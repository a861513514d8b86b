//! Event stories: the tasks an event started, and the reasons why matching configs started none.
//! Computed on request.
//!
//! - Cost: one read operation of several statements; configs are evaluated on the matching threads.

mod facts;
mod reasons;

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use store::{PgOperation, Result, run_statement};

use crate::compute_pool::compute_on_pool;
use crate::{Event, EventId, EventStore};
use facts::{EventChainLink, ProducedTaskRow};

/// Story of one event.
#[derive(Debug, Clone)]
pub struct EventStory {
    /// The event that the story is about.
    pub event: Event,
    produced_tasks: Vec<ProducedTaskRow>,
    not_fired: Vec<(String, String)>,
    chain: Vec<EventChainLink>,
}

impl EventStore {
    /// Story of an event; `None` if the event does not exist (any more).
    pub async fn read_story(&self, id: EventId) -> Result<Option<EventStory>> {
        let events = self.clone();
        run_statement(
            &self.pool,
            PgOperation::named("event_story").expensive(),
            move |connection| {
                let events = events.clone();
                Box::pin(async move { events.read_story_on(connection, id).await })
            },
        )
        .await
    }

    async fn read_story_on(
        &self,
        connection: &mut sqlx::PgConnection,
        id: EventId,
    ) -> Result<Option<EventStory>> {
        let Some(row) = crate::write::find_event_rows(connection, &[id]).await?.pop() else {
            return Ok(None);
        };
        let version = row.config_version;
        let event = row.into_event();
        let produced = facts::read_produced_tasks(connection, id).await?;
        let chain = facts::read_event_chain(connection, &event).await?;
        let configs =
            crate::configs::stored::configs_as_of(connection, &event.name, version).await?;
        let event = Arc::new(event);
        let set_aside = reasons::is_set_aside(connection, &event).await?;
        let assessments = {
            let (event, options) = (event.clone(), self.task_options.clone());
            compute_on_pool(move || reasons::assess_configs(configs, &event, set_aside, &options))
                .await?
        };
        let fired: HashSet<&str> =
            produced.iter().map(|task| task.action_config.as_str()).collect();
        let mut not_fired = Vec::new();
        for (name, assessment) in
            assessments.into_iter().filter(|(name, _)| !fired.contains(name.as_str()))
        {
            let reason = reasons::explain_not_fired(
                connection,
                assessment,
                &event,
                &chain,
                &self.task_options,
            )
            .await?;
            not_fired.push((name, reason));
        }
        let event = Arc::unwrap_or_clone(event);
        Ok(Some(EventStory { event, produced_tasks: produced, not_fired, chain }))
    }
}

impl EventStory {
    /// JSON object that the API returns.
    pub fn to_json(&self) -> Value {
        let not_fired = self.not_fired.iter();
        let not_fired =
            not_fired.map(|(config, reason)| json!({"action_config": config, "reason": reason}));
        json!({
            "event": self.event.to_json(),
            "caused_by": self.chain.iter().map(EventChainLink::to_json).collect::<Vec<_>>(),
            "produced_tasks": self.produced_tasks.iter().map(ProducedTaskRow::to_json).collect::<Vec<_>>(),
            "not_fired": not_fired.collect::<Vec<_>>(),
        })
    }
}
