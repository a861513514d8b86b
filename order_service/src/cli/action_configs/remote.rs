//! Sync of action configs over a service's HTTP API, one request per config. Each request is
//! atomic; running the command again completes an interrupted sync.

use chrono::{DateTime, Utc};
use events::configs::{ActionConfig, ActionConfigSteps, StoredActionConfig, plan_configs};
use events::history::StartedConfigs;
use events::{Event, EventCause, EventId, EventParams};
use http::Method;
use reconcile::ObjectOwner;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ActionConfigOptions, EventHistory};
use crate::cli::CommandFailure;
use crate::cli::http_client::ServiceHttpClient;

const CONFIGS_PATH: [&str; 3] = ["api", "v1", "action_configs"];
/// Events per page, the API's `limit`.
const EVENTS_PAGE_SIZE: i64 = 1000;

#[derive(Deserialize)]
struct RemoteListResponse<T> {
    result: Vec<T>,
}

#[derive(Deserialize)]
struct RemoteActionConfig {
    owner: String,
    time_changed: DateTime<Utc>,
    #[serde(flatten)]
    config: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct RemoteEvent {
    _id: String,
    name: String,
    params: EventParams,
    author: String,
    time_created: DateTime<Utc>,
}

#[derive(Deserialize)]
struct RemoteTask {
    action_config: Option<String>,
}

pub(super) async fn sync_service(
    service: &ServiceHttpClient,
    desired_configs: &[ActionConfig],
    options: &ActionConfigOptions,
) -> Result<(ActionConfigSteps, Option<EventHistory>), CommandFailure> {
    let response: RemoteListResponse<RemoteActionConfig> =
        fetch_json(service, &CONFIGS_PATH, &[]).await?;
    let stored: Vec<StoredActionConfig> = response
        .result
        .into_iter()
        .map(|shown| to_stored_config(service, shown))
        .collect::<Result<_, _>>()?;
    let past = match options.history {
        Some(count) => Some(fetch_event_history(service, count, stored.clone()).await?),
        None => None,
    };
    let steps = plan_configs(&stored, desired_configs, options.ownership_options());
    if !options.dry_run {
        send_changes(service, &steps, options.ownership.take_over).await?;
    }
    Ok((steps, past))
}

async fn send_changes(
    service: &ServiceHttpClient,
    steps: &ActionConfigSteps,
    take_over: bool,
) -> Result<(), CommandFailure> {
    let query = [("owner", "bundle"), ("take_over", if take_over { "true" } else { "false" })];
    let [api, version, configs] = CONFIGS_PATH;
    for config in &steps.upserts {
        let body = config.to_json().to_string();
        service
            .send(Method::PUT, &[api, version, configs, &config.name], &query, Some(body))
            .await?;
    }
    for name in &steps.deletes {
        service.send(Method::DELETE, &[api, version, configs, name], &query, None).await?;
    }
    Ok(())
}

async fn fetch_event_history(
    service: &ServiceHttpClient,
    count: i64,
    stored: Vec<StoredActionConfig>,
) -> Result<EventHistory, CommandFailure> {
    let (mut events, mut did) = (Vec::new(), StartedConfigs::new());
    while (events.len() as i64) < count {
        let (limit, offset) = (
            EVENTS_PAGE_SIZE.min(count - events.len() as i64).to_string(),
            events.len().to_string(),
        );
        let query = [("sort", "-_id"), ("limit", limit.as_str()), ("offset", offset.as_str())];
        let page: RemoteListResponse<RemoteEvent> =
            fetch_json(service, &["api", "v1", "events"], &query).await?;
        if page.result.is_empty() {
            break;
        }
        let page = page.result.into_iter().map(|shown| to_event(service, shown));
        events.extend(page.collect::<Result<Vec<Event>, _>>()?);
    }
    events.reverse();
    for event in &events {
        let id = event.id.to_string();
        let tasks: RemoteListResponse<RemoteTask> = fetch_json(
            service,
            &["api", "v1", "tasks"],
            &[("event_id", id.as_str()), ("limit", "1000")],
        )
        .await?;
        let configs = tasks.result.into_iter().filter_map(|task| task.action_config);
        did.entry(event.id).or_default().extend(configs);
    }
    Ok(EventHistory { events, started_configs: did, stored_configs: stored })
}

async fn fetch_json<T: DeserializeOwned>(
    service: &ServiceHttpClient,
    path: &[&str],
    query: &[(&str, &str)],
) -> Result<T, CommandFailure> {
    let text = service.get(path, query).await?;
    serde_json::from_str(&text)
        .map_err(|error| service.answer_failure(format!("the answer is not understood: {error}")))
}

fn to_stored_config(
    service: &ServiceHttpClient,
    remote_config: RemoteActionConfig,
) -> Result<StoredActionConfig, CommandFailure> {
    let config = serde_json::from_value(Value::Object(remote_config.config))
        .map_err(|error| service.answer_failure(format!("a config is not understood: {error}")))?;
    let owner = ObjectOwner::parse(&remote_config.owner)
        .ok_or_else(|| service.answer_failure("a config of an unknown owner"))?;
    Ok(StoredActionConfig { config, owner, changed_at: remote_config.time_changed })
}

fn to_event(
    service: &ServiceHttpClient,
    remote_event: RemoteEvent,
) -> Result<Event, CommandFailure> {
    let id = EventId::parse(&remote_event._id)
        .ok_or_else(|| service.answer_failure("an event's id is not understood"))?;
    let RemoteEvent { name, params, author, time_created, .. } = remote_event;
    Ok(Event { id, name, params, author, time_created, cause: EventCause::default() })
}
