//! Load on `POST /v1/events`: a closed loop per connection, with a fixed number of events per call.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Duration, SecondsFormat, Utc};

use super::http::excerpt;
use super::{Answered, Client, Connect, Crowd, Http};
use crate::suite::Session;

/// Sleep of a client after the last event.
const IDLE: std::time::Duration = std::time::Duration::from_millis(5);

/// Properties of the generated events.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The lowest storage id.
    pub first_account: u64,
    /// Number of storages, used in turn.
    pub accounts: u64,
    /// Percentage of events with an `info`.
    pub with_info: u64,
    /// Time of the event with number 0.
    pub first: DateTime<Utc>,
    /// Time between two events, in microseconds.
    pub step_us: i64,
}

impl Shape {
    /// Current events on 1000 accounts over all shards, a fifth of them with an `info`.
    pub fn usual() -> Self {
        Self { first_account: 1, accounts: 1000, with_info: 20, first: Utc::now(), step_us: 1 }
    }
}

/// Settings and state of the load. Clones share the event numbering.
#[derive(Clone)]
pub struct EventLoad {
    /// HTTP port of the order service.
    pub port: u16,
    /// Number of events per call.
    pub together: u64,
    /// Properties of the events.
    pub shape: Arc<Shape>,
    /// Number of the next event.
    pub next: Arc<AtomicU64>,
    /// End of the event numbers (exclusive); after it, clients are idle.
    pub until: u64,
}

impl EventLoad {
    /// A load that starts with event number `from`.
    pub fn new(port: u16, together: u64, shape: Shape, from: u64) -> Self {
        Self {
            port,
            together,
            shape: Arc::new(shape),
            next: Arc::new(AtomicU64::new(from)),
            until: u64::MAX,
        }
    }
}

/// Writes the events from `from` to `until` (exclusive), ten thousand per
/// call over four connections.
pub async fn fill(
    session: &Session,
    port: u16,
    shape: &Shape,
    from: u64,
    until: u64,
) -> anyhow::Result<()> {
    let load = EventLoad { until, ..EventLoad::new(port, 10_000, shape.clone(), from) };
    let crowd = Crowd::start(4, session.load_threads(), &load)?;
    while crowd.tally().units()? < until - from {
        tokio::time::sleep(IDLE).await;
    }
    crowd.stop().await.map(drop)
}

/// One connection of the load.
pub struct EventClient {
    http: Http,
    load: EventLoad,
}

impl Connect for EventLoad {
    type Client = EventClient;

    async fn connect(&self, _: usize) -> anyhow::Result<EventClient> {
        Ok(EventClient { http: Http::connect(self.port).await?, load: self.clone() })
    }
}

impl Client for EventClient {
    async fn next(&mut self) -> anyhow::Result<Answered> {
        let together = self.load.together;
        let first = self.load.next.fetch_add(together, Ordering::Relaxed);
        let together = together.min(self.load.until.saturating_sub(first));
        if together == 0 {
            tokio::time::sleep(IDLE).await;
            return Ok(Answered { units: 0, took: IDLE });
        }
        let body = call(&self.load.shape, first..first + together);
        let sent = Instant::now();
        let (status, answer) = self.http.post("/v1/events", body).await?;
        let took = sent.elapsed();
        let created = count(&answer, b"\"created\"");
        anyhow::ensure!(
            status == 200 && created == together,
            "{created} of {together} events were created, status {status}: {}",
            excerpt(&answer)
        );
        Ok(Answered { units: created, took })
    }
}

/// Request body with the events of these numbers.
pub fn call(shape: &Shape, numbers: std::ops::Range<u64>) -> String {
    let mut body = String::with_capacity(220 * (numbers.end - numbers.start) as usize + 16);
    body.push_str("{\"events\":[");
    for (place, number) in numbers.enumerate() {
        if place > 0 {
            body.push(',');
        }
        event(&mut body, shape, number);
    }
    body.push_str("]}");
    body
}

fn event(body: &mut String, shape: &Shape, number: u64) {
    let storage = shape.first_account + number % shape.accounts;
    let (product, pickup) = (number % 20 + 1, number / 20 % 10 + 1);
    let dt = shape.first + Duration::microseconds(shape.step_us * number.cast_signed());
    let dt = dt.to_rfc3339_opts(SecondsFormat::Micros, true);
    // Writing to a string cannot fail.
    let _ = write!(
        body,
        "{{\"type\":\"storage_outflow\",\"event_id\":\"bench/{storage}/{number}\",\"dt\":\"{dt}\",\"attributes\":\
         {{\"storage_id\":{storage},\"product_id\":{product},\"pickup_point_id\":{pickup}}},\"debit\":\"1\""
    );
    if number % 100 < shape.with_info {
        let _ = write!(
            body,
            ",\"info\":{{\"source\":\"bench\",\"order\":{number},\"note\":\"forty bytes more\"}}"
        );
    }
    body.push('}');
}

/// Number of occurrences of `word` in `text`.
fn count(text: &[u8], word: &[u8]) -> u64 {
    let (mut found, mut place) = (0, 0);
    while place + word.len() <= text.len() {
        if text[place..].starts_with(word) {
            found += 1;
            place += word.len();
        } else {
            place += 1;
        }
    }
    found
}

/// Number of committed events, from `GET /v1/shards`.
pub async fn event_count(http: &mut Http) -> anyhow::Result<u64> {
    let shards = http.json("/v1/shards").await?;
    let shards = shards["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counts: Option<Vec<u64>> = shards.iter().map(|shard| shard["events"].as_u64()).collect();
    counts
        .map(|counts| counts.iter().sum())
        .ok_or_else(|| anyhow::anyhow!("a shard says nothing of its events"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_json_with_its_events() {
        let body: serde_json::Value = serde_json::from_str(&call(&Shape::usual(), 19..22)).unwrap();
        let events = body["events"].as_array().unwrap();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0]["event_id"], "bench/20/19");
        assert!(events[0]["info"].is_object() && events[1]["info"].is_null());
    }

    #[test]
    fn events_follow_one_another_at_the_step() {
        let first = DateTime::from_timestamp(0, 0).unwrap();
        let shape = Shape { first, step_us: 500_000, accounts: 1, first_account: 7, with_info: 0 };
        let body = call(&shape, 3..4);
        assert!(
            body.contains("1970-01-01T00:00:01.500000Z") && body.contains("\"storage_id\":7"),
            "{body}"
        );
    }

    #[test]
    fn words_are_counted() {
        assert_eq!(count(b"\"created\",\"created\",\"duplicate\"", b"\"created\""), 2);
        assert_eq!(count(b"", b"x"), 0);
    }
}
