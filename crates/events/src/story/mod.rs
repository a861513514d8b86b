//! Stories: what an event did, and why configs about it did nothing. Worked out when somebody asks.

mod facts;
mod reasons;

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use store::{Operation, Result, run};

use crate::write::compute;
use crate::{Event, EventId, Events};
use facts::{Link, Produced};

/// What an event did, and what it did not.
#[derive(Debug, Clone)]
pub struct Story {
    /// The event.
    pub event: Event,
    produced: Vec<Produced>,
    not_fired: Vec<(String, String)>,
    chain: Vec<Link>,
}

impl Events {
    /// The story of an event; nothing if there is no such event (any more).
    pub async fn story(&self, id: EventId) -> Result<Option<Story>> {
        let events = self.clone();
        run(&self.pool, Operation::named("event_story").expensive(), move |connection| {
            let events = events.clone();
            Box::pin(async move { events.story_on(connection, id).await })
        })
        .await
    }

    async fn story_on(&self, connection: &mut sqlx::PgConnection, id: EventId) -> Result<Option<Story>> {
        let Some(row) = crate::write::find(connection, &[id.0]).await?.pop() else { return Ok(None) };
        let version = row.config_version;
        let event = row.event();
        let produced = facts::produced(connection, id).await?;
        let chain = facts::chain(connection, &event).await?;
        let configs = crate::configs::stored::as_of(connection, &event.name, version).await?;
        let event = Arc::new(event);
        let set_aside = reasons::is_set_aside(connection, &event).await?;
        let looked = {
            let (event, terms) = (event.clone(), self.terms.clone());
            compute(move || reasons::look(configs, &event, set_aside, &terms)).await?
        };
        let fired: HashSet<&str> = produced.iter().map(|task| task.action_config.as_str()).collect();
        let mut not_fired = Vec::new();
        for (name, looked) in looked.into_iter().filter(|(name, _)| !fired.contains(name.as_str())) {
            let reason = reasons::reason(connection, looked, &event, &chain, &self.terms).await?;
            not_fired.push((name, reason));
        }
        let event = Arc::unwrap_or_clone(event);
        Ok(Some(Story { event, produced, not_fired, chain }))
    }
}

impl Story {
    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        let not_fired = self.not_fired.iter();
        let not_fired = not_fired.map(|(config, reason)| json!({"action_config": config, "reason": reason}));
        json!({
            "event": self.event.to_json(),
            "caused_by": self.chain.iter().map(Link::to_json).collect::<Vec<_>>(),
            "produced_tasks": self.produced.iter().map(Produced::to_json).collect::<Vec<_>>(),
            "not_fired": not_fired.collect::<Vec<_>>(),
        })
    }
}
