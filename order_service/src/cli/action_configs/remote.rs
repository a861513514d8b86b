//! Over a service's HTTP API, config by config: each change is whole, and running the command again makes up for what was not
//! done.

use chrono::{DateTime, Utc};
use clap::ArgMatches;
use events::configs::{ActionConfig, Steps, Stored, plan};
use events::history::Did;
use events::{Cause, Event, EventId, Params};
use http::Method;
use reconcile::Owner;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use settings::Resolved;

use super::{Asked, Past};
use crate::cli::Failure;
use crate::cli::service::Service;

const CONFIGS: [&str; 3] = ["api", "v1", "action_configs"];
/// Events of a page.
const PAGE: i64 = 1000;

#[derive(Deserialize)]
struct Listed<T> {
    result: Vec<T>,
}

#[derive(Deserialize)]
struct Shown {
    owner: String,
    time_changed: DateTime<Utc>,
    #[serde(flatten)]
    config: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct ShownEvent {
    _id: String,
    name: String,
    params: Params,
    author: String,
    time_created: DateTime<Utc>,
}

#[derive(Deserialize)]
struct ShownTask {
    action_config: Option<String>,
}

pub(super) async fn run(
    args: &ArgMatches,
    resolved: &Resolved,
    wanted: &[ActionConfig],
    asked: &Asked,
) -> Result<(Steps, Option<Past>), Failure> {
    let service = Service::named(args, resolved)?.with_token(std::env::var("EVENTS_TOKEN").ok());
    let listed: Listed<Shown> = read(&service, &CONFIGS, &[]).await?;
    let stored: Vec<Stored> =
        listed.result.into_iter().map(|shown| stored(&service, shown)).collect::<Result<_, _>>()?;
    let past = match asked.history {
        Some(count) => Some(past(&service, count, stored.clone()).await?),
        None => None,
    };
    let steps = plan(&stored, wanted, asked.terms());
    if !asked.dry_run {
        apply(&service, &steps, asked.take_over).await?;
    }
    Ok((steps, past))
}

async fn apply(service: &Service, steps: &Steps, take_over: bool) -> Result<(), Failure> {
    let query = [("owner", "bundle"), ("take_over", if take_over { "true" } else { "false" })];
    let [api, version, configs] = CONFIGS;
    for config in &steps.put {
        let body = config.to_json().to_string();
        service.send(Method::PUT, &[api, version, configs, &config.name], &query, Some(body)).await?;
    }
    for name in &steps.delete {
        service.send(Method::DELETE, &[api, version, configs, name], &query, None).await?;
    }
    Ok(())
}

async fn past(service: &Service, count: i64, stored: Vec<Stored>) -> Result<Past, Failure> {
    let (mut events, mut did) = (Vec::new(), Did::new());
    while (events.len() as i64) < count {
        let (limit, offset) = (PAGE.min(count - events.len() as i64).to_string(), events.len().to_string());
        let query = [("sort", "-_id"), ("limit", limit.as_str()), ("offset", offset.as_str())];
        let page: Listed<ShownEvent> = read(service, &["api", "v1", "events"], &query).await?;
        if page.result.is_empty() {
            break;
        }
        let page = page.result.into_iter().map(|shown| event(service, shown));
        events.extend(page.collect::<Result<Vec<Event>, _>>()?);
    }
    events.reverse();
    for event in &events {
        let id = event.id.to_string();
        let tasks: Listed<ShownTask> =
            read(service, &["api", "v1", "tasks"], &[("event_id", id.as_str()), ("limit", "1000")]).await?;
        let configs = tasks.result.into_iter().filter_map(|task| task.action_config);
        did.entry(event.id).or_default().extend(configs);
    }
    Ok(Past { events, did, stored })
}

async fn read<T: DeserializeOwned>(
    service: &Service,
    path: &[&str],
    query: &[(&str, &str)],
) -> Result<T, Failure> {
    let text = service.get(path, query).await?;
    serde_json::from_str(&text)
        .map_err(|error| service.failed(format!("the answer is not understood: {error}")))
}

fn stored(service: &Service, shown: Shown) -> Result<Stored, Failure> {
    let config = serde_json::from_value(Value::Object(shown.config))
        .map_err(|error| service.failed(format!("a config is not understood: {error}")))?;
    let owner = Owner::parse(&shown.owner).ok_or_else(|| service.failed("a config of an unknown owner"))?;
    Ok(Stored { config, owner, changed_at: shown.time_changed })
}

fn event(service: &Service, shown: ShownEvent) -> Result<Event, Failure> {
    let id = EventId::parse(&shown._id).ok_or_else(|| service.failed("an event's id is not understood"))?;
    let ShownEvent { name, params, author, time_created, .. } = shown;
    Ok(Event { id, name, params, author, time_created, cause: Cause::default() })
}
