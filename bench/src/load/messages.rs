//! Load on `POST /api/v1/events`: a closed loop with single events or batches.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use super::http::excerpt;
use super::{Answered, Client, Connect, Crowd, Http};
use crate::suite::Session;

/// Event name used by the load.
pub const NAME: &str = "benchEvent";

/// Settings and state of the load. Clones share the event numbering.
#[derive(Clone)]
pub struct Messages {
    /// HTTP port of the order service.
    pub port: u16,
    /// Events per call; 1 sends no array.
    pub together: u64,
    next: Arc<AtomicU64>,
}

impl Messages {
    /// A load with `together` events per call.
    pub fn new(port: u16, together: u64) -> Self {
        Self { port, together, next: Arc::default() }
    }
}

/// One connection of the load.
pub struct MessageClient {
    http: Http,
    load: Messages,
}

impl Connect for Messages {
    type Client = MessageClient;

    async fn connect(&self, _: usize) -> anyhow::Result<MessageClient> {
        Ok(MessageClient { http: Http::connect(self.port).await?, load: self.clone() })
    }
}

impl Client for MessageClient {
    async fn next(&mut self) -> anyhow::Result<Answered> {
        let together = self.load.together;
        let first = self.load.next.fetch_add(together, Ordering::Relaxed);
        let mut body = String::new();
        if together > 1 {
            body.push('[');
        }
        for number in first..first + together {
            if number > first {
                body.push(',');
            }
            // Writing to a string cannot fail.
            let _ = write!(
                body,
                "{{\"name\":\"{NAME}\",\"params\":{{\"taskType\":\"T{}\",\"taskStatus\":\"SUCCESS\",\"number\":{number}}}}}",
                number % 100
            );
        }
        if together > 1 {
            body.push(']');
        }
        let sent = Instant::now();
        let (status, answer) = self.http.post("/api/v1/events", body).await?;
        anyhow::ensure!(status == 201, "status {status}: {}", excerpt(&answer));
        Ok(Answered { units: together, took: sent.elapsed() })
    }
}

/// Creates action configs in a closed loop, each for a different event name.
#[derive(Clone)]
struct Configs {
    port: u16,
    next: Arc<AtomicU64>,
    until: u64,
}

struct ConfigClient {
    http: Http,
    load: Configs,
}

impl Connect for Configs {
    type Client = ConfigClient;

    async fn connect(&self, _: usize) -> anyhow::Result<ConfigClient> {
        Ok(ConfigClient { http: Http::connect(self.port).await?, load: self.clone() })
    }
}

impl Client for ConfigClient {
    async fn next(&mut self) -> anyhow::Result<Answered> {
        let begun = Instant::now();
        let number = self.load.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.load.until {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            return Ok(Answered { units: 0, took: begun.elapsed() });
        }
        let on = json!([{"event": format!("other{number}"), "params": {"taskStatus": "SUCCESS"}}]);
        let config =
            json!({"name": format!("config{number}"), "on": on, "action": {"task": "noop"}});
        let (status, answer) = self.http.post("/api/v1/action_configs", config.to_string()).await?;
        anyhow::ensure!(status == 201, "status {status}: {}", excerpt(&answer));
        Ok(Answered { units: 1, took: begun.elapsed() })
    }
}

/// Creates the action configs from `from` to `until` (exclusive), for events that the
/// load does not send.
pub async fn create_configs(
    session: &Session,
    port: u16,
    from: u64,
    until: u64,
) -> anyhow::Result<()> {
    let crowd = Crowd::start(
        4,
        session.load_threads(),
        &Configs { port, next: Arc::new(from.into()), until },
    )?;
    while crowd.tally().units()? < until - from {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    crowd.stop().await.map(drop)
}
