//! Load on `POST /api/v1/events`: a closed loop with single events or batches.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use super::http::body_excerpt;
use super::{LoadClient, LoadClientFactory, LoadGenerator, LoadHttpClient, LoadResponse};
use crate::suite::BenchSession;

/// Event name used by the load.
pub const LOAD_EVENT_NAME: &str = "benchEvent";

/// Settings and state of the load. Clones share the event numbering.
#[derive(Clone)]
pub struct EventIngestLoad {
    /// HTTP port of the order service.
    pub port: u16,
    /// Events per call; 1 sends no array.
    pub events_per_call: u64,
    next_number: Arc<AtomicU64>,
}

impl EventIngestLoad {
    /// A load with `events_per_call` events per call.
    pub fn new(port: u16, events_per_call: u64) -> Self {
        Self { port, events_per_call, next_number: Arc::default() }
    }
}

/// One connection of the load.
pub struct EventIngestLoadClient {
    http: LoadHttpClient,
    load: EventIngestLoad,
}

impl LoadClientFactory for EventIngestLoad {
    type Client = EventIngestLoadClient;

    async fn connect(&self, _: usize) -> anyhow::Result<EventIngestLoadClient> {
        Ok(EventIngestLoadClient {
            http: LoadHttpClient::connect(self.port).await?,
            load: self.clone(),
        })
    }
}

impl LoadClient for EventIngestLoadClient {
    async fn next(&mut self) -> anyhow::Result<LoadResponse> {
        let events_per_call = self.load.events_per_call;
        let first = self.load.next_number.fetch_add(events_per_call, Ordering::Relaxed);
        let mut body = String::new();
        if events_per_call > 1 {
            body.push('[');
        }
        for number in first..first + events_per_call {
            if number > first {
                body.push(',');
            }
            // Writing to a string cannot fail.
            let _ = write!(
                body,
                "{{\"name\":\"{LOAD_EVENT_NAME}\",\"params\":{{\"taskType\":\"T{}\",\"taskStatus\":\"SUCCESS\",\"number\":{number}}}}}",
                number % 100
            );
        }
        if events_per_call > 1 {
            body.push(']');
        }
        let sent = Instant::now();
        let (status, answer) = self.http.post("/api/v1/events", body).await?;
        anyhow::ensure!(status == 201, "status {status}: {}", body_excerpt(&answer));
        Ok(LoadResponse { units: events_per_call, latency: sent.elapsed() })
    }
}

/// Creates action configs in a closed loop, each for a different event name.
#[derive(Clone)]
struct ActionConfigLoad {
    port: u16,
    next_number: Arc<AtomicU64>,
    end_number: u64,
}

struct ActionConfigLoadClient {
    http: LoadHttpClient,
    load: ActionConfigLoad,
}

impl LoadClientFactory for ActionConfigLoad {
    type Client = ActionConfigLoadClient;

    async fn connect(&self, _: usize) -> anyhow::Result<ActionConfigLoadClient> {
        Ok(ActionConfigLoadClient {
            http: LoadHttpClient::connect(self.port).await?,
            load: self.clone(),
        })
    }
}

impl LoadClient for ActionConfigLoadClient {
    async fn next(&mut self) -> anyhow::Result<LoadResponse> {
        let begun = Instant::now();
        let number = self.load.next_number.fetch_add(1, Ordering::Relaxed);
        if number >= self.load.end_number {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            return Ok(LoadResponse { units: 0, latency: begun.elapsed() });
        }
        let triggers =
            json!([{"event": format!("other{number}"), "params": {"taskStatus": "SUCCESS"}}]);
        let config =
            json!({"name": format!("config{number}"), "on": triggers, "action": {"task": "noop"}});
        let (status, answer) = self.http.post("/api/v1/action_configs", config.to_string()).await?;
        anyhow::ensure!(status == 201, "status {status}: {}", body_excerpt(&answer));
        Ok(LoadResponse { units: 1, latency: begun.elapsed() })
    }
}

/// Creates the action configs from `from` to `end_number` (exclusive), for events that the
/// load does not send.
pub async fn create_action_configs(
    session: &BenchSession,
    port: u16,
    from: u64,
    until: u64,
) -> anyhow::Result<()> {
    let generator = LoadGenerator::start(
        4,
        session.load_thread_count(),
        &ActionConfigLoad { port, next_number: Arc::new(from.into()), end_number: until },
    )?;
    while generator.counters().units()? < until - from {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    generator.stop().await.map(drop)
}
