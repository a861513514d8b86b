//! Balance queries at random dates with a fixed rate. The latency is the server's processing time,
//! plus the delay after the due time if the previous response on the connection was late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rand::RngExt as _;
use tokio::time::Instant;

use super::http::excerpt;
use super::{Answered, Client, Connect, Http};

/// Settings and state of the load.
#[derive(Clone)]
pub struct Balances {
    /// HTTP port of the order service.
    pub port: u16,
    /// Storage whose balance is queried.
    pub storage: u64,
    /// Earliest date of a query.
    pub first: DateTime<Utc>,
    /// Range of query dates in seconds after `first`.
    pub seconds: i64,
    /// Queries per second of all clients together.
    pub rate: u64,
    /// Number of queries so far.
    pub asked: Arc<AtomicU64>,
    /// Due time of the first query.
    pub since: Instant,
}

impl Balances {
    fn question(&self) -> String {
        let at = self.first + chrono::Duration::seconds(rand::rng().random_range(0..self.seconds));
        let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
        format!("/v1/balances/storage_outflow?storage_id={}&at={at}", self.storage)
    }

    /// Average client-side latency of sequential queries without other load.
    pub async fn alone(&self, questions: u32) -> anyhow::Result<Duration> {
        let mut http = Http::connect(self.port).await?;
        let begun = Instant::now();
        for _ in 0..questions {
            http.json(&self.question()).await?;
        }
        Ok(begun.elapsed() / questions)
    }
}

/// One connection of the load.
pub struct BalanceClient {
    http: Http,
    load: Balances,
}

impl Connect for Balances {
    type Client = BalanceClient;

    async fn connect(&self, _: usize) -> anyhow::Result<BalanceClient> {
        Ok(BalanceClient { http: Http::connect(self.port).await?, load: self.clone() })
    }
}

impl Client for BalanceClient {
    async fn next(&mut self) -> anyhow::Result<Answered> {
        let load = &self.load;
        let question = load.question();
        let number = load.asked.fetch_add(1, Ordering::Relaxed);
        let due = load.since + Duration::from_secs(number) / u32::try_from(load.rate)?;
        let late = due.elapsed();
        tokio::time::sleep_until(due).await;
        let (status, body, took) = self.http.timed_get(&question).await?;
        anyhow::ensure!(status == 200, "GET {question} answered {status}: {}", excerpt(&body));
        Ok(Answered { units: 1, took: late + took })
    }
}
