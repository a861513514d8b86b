//! `POST /api/v1/events` in a closed loop: one by one, or in batches.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use super::http::excerpt;
use super::{Answered, Client, Connect, Crowd, Http};
use crate::suite::Session;

/// The name of the load's events.
pub const NAME: &str = "benchEvent";

/// The load. Clones share the numbering of events.
#[derive(Clone)]
pub struct Messages {
    /// The order service's HTTP port.
    pub port: u16,
    /// Events in a call; 1: not as a batch.
    pub together: u64,
    next: Arc<AtomicU64>,
}

impl Messages {
    /// A load.
    pub fn new(port: u16, together: u64) -> Self {
        Self { port, together, next: Arc::default() }
    }
}

/// One of its connections.
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

/// Creates the configs with these numbers, each about events of a name of its own.
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

/// Creates configs with the numbers from `from` up to `until`, about events that the load does not send.
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
