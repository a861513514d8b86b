//! Balances at random dates, asked for at a fixed rate. What counts is the time at the server; and, where the previous answer
//! was still awaited when a question was due, the time until it could be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rand::RngExt as _;
use tokio::time::Instant;

use super::http::excerpt;
use super::{Answered, Client, Connect, Http};

/// The load.
#[derive(Clone)]
pub struct Balances {
    /// The order service's HTTP port.
    pub port: u16,
    /// Whose balance.
    pub storage: u64,
    /// From when on.
    pub first: DateTime<Utc>,
    /// Within so many seconds after `first`.
    pub seconds: i64,
    /// Questions per second, of all clients together.
    pub rate: u64,
    /// Questions so far.
    pub asked: Arc<AtomicU64>,
    /// When the first question was due.
    pub since: Instant,
}

impl Balances {
    fn question(&self) -> String {
        let at = self.first + chrono::Duration::seconds(rand::rng().random_range(0..self.seconds));
        let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
        format!("/v1/balances/storage_outflow?storage_id={}&at={at}", self.storage)
    }

    /// How long a question takes on the average when nobody else asks.
    pub async fn alone(&self, questions: u32) -> anyhow::Result<Duration> {
        let mut http = Http::connect(self.port).await?;
        let begun = Instant::now();
        for _ in 0..questions {
            http.json(&self.question()).await?;
        }
        Ok(begun.elapsed() / questions)
    }
}

/// One of its connections.
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
