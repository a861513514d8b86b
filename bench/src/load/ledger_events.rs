//! Load on `POST /v1/events`: a closed loop per connection, with a fixed number of events per call.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Duration, SecondsFormat, Utc};

use super::http::body_excerpt;
use super::{LoadClient, LoadClientFactory, LoadGenerator, LoadHttpClient, LoadResponse};
use crate::suite::BenchSession;

/// Sleep of a client after the last event.
const IDLE_DELAY: std::time::Duration = std::time::Duration::from_millis(5);

/// Properties of the generated events.
#[derive(Debug, Clone)]
pub struct LedgerEventShape {
    /// The lowest storage id.
    pub first_storage_id: u64,
    /// Number of storages, used in turn.
    pub storage_count: u64,
    /// Percentage of events with an `info`.
    pub info_percent: u64,
    /// Time of the event with number 0.
    pub first_time: DateTime<Utc>,
    /// Time between two events, in microseconds.
    pub step_us: i64,
}

impl LedgerEventShape {
    /// Current events on 1000 accounts over all shards, a fifth of them with an `info`.
    pub fn standard() -> Self {
        Self {
            first_storage_id: 1,
            storage_count: 1000,
            info_percent: 20,
            first_time: Utc::now(),
            step_us: 1,
        }
    }
}

/// Settings and state of the load. Clones share the event numbering.
#[derive(Clone)]
pub struct LedgerEventLoad {
    /// HTTP port of the order service.
    pub port: u16,
    /// Number of events per call.
    pub events_per_call: u64,
    /// Properties of the events.
    pub shape: Arc<LedgerEventShape>,
    /// Number of the next event.
    pub next_number: Arc<AtomicU64>,
    /// End of the event numbers (exclusive); after it, clients are idle.
    pub end_number: u64,
}

impl LedgerEventLoad {
    /// A load that starts with event number `from`.
    pub fn new(port: u16, events_per_call: u64, shape: LedgerEventShape, from: u64) -> Self {
        Self {
            port,
            events_per_call,
            shape: Arc::new(shape),
            next_number: Arc::new(AtomicU64::new(from)),
            end_number: u64::MAX,
        }
    }
}

/// Writes the events from `from` to `end_number` (exclusive), ten thousand per
/// call over four connections.
pub async fn write_ledger_events(
    session: &BenchSession,
    port: u16,
    shape: &LedgerEventShape,
    from: u64,
    until: u64,
) -> anyhow::Result<()> {
    let load = LedgerEventLoad {
        end_number: until,
        ..LedgerEventLoad::new(port, 10_000, shape.clone(), from)
    };
    let generator = LoadGenerator::start(4, session.load_thread_count(), &load)?;
    while generator.counters().units()? < until - from {
        tokio::time::sleep(IDLE_DELAY).await;
    }
    generator.stop().await.map(drop)
}

/// One connection of the load.
pub struct LedgerEventLoadClient {
    http: LoadHttpClient,
    load: LedgerEventLoad,
}

impl LoadClientFactory for LedgerEventLoad {
    type Client = LedgerEventLoadClient;

    async fn connect(&self, _: usize) -> anyhow::Result<LedgerEventLoadClient> {
        Ok(LedgerEventLoadClient {
            http: LoadHttpClient::connect(self.port).await?,
            load: self.clone(),
        })
    }
}

impl LoadClient for LedgerEventLoadClient {
    async fn next(&mut self) -> anyhow::Result<LoadResponse> {
        let events_per_call = self.load.events_per_call;
        let first = self.load.next_number.fetch_add(events_per_call, Ordering::Relaxed);
        let units = events_per_call.min(self.load.end_number.saturating_sub(first));
        if units == 0 {
            tokio::time::sleep(IDLE_DELAY).await;
            return Ok(LoadResponse { units: 0, latency: IDLE_DELAY });
        }
        let body = render_call(&self.load.shape, first..first + units);
        let sent = Instant::now();
        let (status, answer) = self.http.post("/v1/events", body).await?;
        let took = sent.elapsed();
        let created = count_occurrences(&answer, b"\"created\"");
        anyhow::ensure!(
            status == 200 && created == units,
            "{created} of {units} events were created, status {status}: {}",
            body_excerpt(&answer)
        );
        Ok(LoadResponse { units: created, latency: took })
    }
}

/// Request body with the events of these numbers.
pub fn render_call(shape: &LedgerEventShape, numbers: std::ops::Range<u64>) -> String {
    let mut body = String::with_capacity(220 * (numbers.end - numbers.start) as usize + 16);
    body.push_str("{\"events\":[");
    for (index, number) in numbers.enumerate() {
        if index > 0 {
            body.push(',');
        }
        render_event(&mut body, shape, number);
    }
    body.push_str("]}");
    body
}

fn render_event(body: &mut String, shape: &LedgerEventShape, number: u64) {
    let storage = shape.first_storage_id + number % shape.storage_count;
    let (product, pickup) = (number % 20 + 1, number / 20 % 10 + 1);
    let dt = shape.first_time + Duration::microseconds(shape.step_us * number.cast_signed());
    let dt = dt.to_rfc3339_opts(SecondsFormat::Micros, true);
    // Writing to a string cannot fail.
    let _ = write!(
        body,
        "{{\"type\":\"storage_outflow\",\"event_id\":\"bench/{storage}/{number}\",\"dt\":\"{dt}\",\"attributes\":\
         {{\"storage_id\":{storage},\"product_id\":{product},\"pickup_point_id\":{pickup}}},\"debit\":\"1\""
    );
    if number % 100 < shape.info_percent {
        let _ = write!(
            body,
            ",\"info\":{{\"source\":\"bench\",\"order\":{number},\"note\":\"forty bytes more\"}}"
        );
    }
    body.push('}');
}

/// Number of occurrences of `word` in `text`.
fn count_occurrences(text: &[u8], word: &[u8]) -> u64 {
    let (mut found, mut position) = (0, 0);
    while position + word.len() <= text.len() {
        if text[position..].starts_with(word) {
            found += 1;
            position += word.len();
        } else {
            position += 1;
        }
    }
    found
}

/// Number of committed events, from `GET /v1/shards`.
pub async fn read_event_count(http: &mut LoadHttpClient) -> anyhow::Result<u64> {
    let shards = http.get_json("/v1/shards").await?;
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
        let body: serde_json::Value =
            serde_json::from_str(&render_call(&LedgerEventShape::standard(), 19..22)).unwrap();
        let events = body["events"].as_array().unwrap();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0]["event_id"], "bench/20/19");
        assert!(events[0]["info"].is_object() && events[1]["info"].is_null());
    }

    #[test]
    fn events_follow_one_another_at_the_step() {
        let first = DateTime::from_timestamp(0, 0).unwrap();
        let shape = LedgerEventShape {
            first_time: first,
            step_us: 500_000,
            storage_count: 1,
            first_storage_id: 7,
            info_percent: 0,
        };
        let body = render_call(&shape, 3..4);
        assert!(
            body.contains("1970-01-01T00:00:01.500000Z") && body.contains("\"storage_id\":7"),
            "{body}"
        );
    }

    #[test]
    fn words_are_counted() {
        assert_eq!(count_occurrences(b"\"created\",\"created\",\"duplicate\"", b"\"created\""), 2);
        assert_eq!(count_occurrences(b"", b"x"), 0);
    }
}
