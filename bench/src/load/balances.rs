//! Balance queries at random dates with a fixed rate. The latency is the server's processing time,
//! plus the delay after the due time if the previous response on the connection was late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rand::RngExt as _;
use tokio::time::Instant;

use super::http::body_excerpt;
use super::{LoadClient, LoadClientFactory, LoadHttpClient, LoadResponse};

/// Settings and state of the load.
#[derive(Clone)]
pub struct BalanceLoad {
    /// HTTP port of the order service.
    pub port: u16,
    /// Storage whose balance is queried.
    pub storage_id: u64,
    /// Earliest date of a query.
    pub first_date: DateTime<Utc>,
    /// Range of query dates in seconds after `first_date`.
    pub range_seconds: i64,
    /// Queries per second of all clients together.
    pub rate: u64,
    /// Number of queries so far.
    pub query_count: Arc<AtomicU64>,
    /// Due time of the first query.
    pub started_at: Instant,
}

impl BalanceLoad {
    fn random_query_path(&self) -> String {
        let at = self.first_date
            + chrono::Duration::seconds(rand::rng().random_range(0..self.range_seconds));
        let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
        format!("/v1/balances/storage_outflow?storage_id={}&at={at}", self.storage_id)
    }

    /// Average client-side latency of sequential queries without other load.
    pub async fn measure_unloaded_latency(&self, query_count: u32) -> anyhow::Result<Duration> {
        let mut http = LoadHttpClient::connect(self.port).await?;
        let begun = Instant::now();
        for _ in 0..query_count {
            http.get_json(&self.random_query_path()).await?;
        }
        Ok(begun.elapsed() / query_count)
    }
}

/// One connection of the load.
pub struct BalanceLoadClient {
    http: LoadHttpClient,
    load: BalanceLoad,
}

impl LoadClientFactory for BalanceLoad {
    type Client = BalanceLoadClient;

    async fn connect(&self, _: usize) -> anyhow::Result<BalanceLoadClient> {
        Ok(BalanceLoadClient {
            http: LoadHttpClient::connect(self.port).await?,
            load: self.clone(),
        })
    }
}

impl LoadClient for BalanceLoadClient {
    async fn next(&mut self) -> anyhow::Result<LoadResponse> {
        let load = &self.load;
        let path = load.random_query_path();
        let number = load.query_count.fetch_add(1, Ordering::Relaxed);
        let due = load.started_at + Duration::from_secs(number) / u32::try_from(load.rate)?;
        let delay = due.elapsed();
        tokio::time::sleep_until(due).await;
        let (status, body, took) = self.http.get_timed(&path).await?;
        anyhow::ensure!(status == 200, "GET {path} answered {status}: {}", body_excerpt(&body));
        Ok(LoadResponse { units: 1, latency: delay + took })
    }
}
