//! Routes for operators and probes: liveness, readiness, metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use access::{RouteAccess, Scope};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::{StatusCode, header};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::{ApiError, ErrorCode};
use crate::scoped_router::ScopedRouter;

/// Checks whether a dependency is reachable.
pub type DependencyProbe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Timeout of a dependency probe.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Callers share a probe's answer for this time: anybody may ask, as often as they like.
const PROBE_REUSE: Duration = Duration::from_millis(500);

/// Readiness of the server, with the reason if it is not ready.
#[derive(Clone)]
pub struct ServerReadiness(Arc<ReadinessCell>);

struct ReadinessCell {
    state: Mutex<ReadinessState>,
    /// The last probe's answer. Held while a probe runs, so that there is one at a time.
    probed: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
}

struct ReadinessState {
    readiness: Result<(), String>,
    probe: Option<DependencyProbe>,
}

impl ServerReadiness {
    /// Initially not ready, because of `reason`.
    pub fn not_ready(reason: &str) -> Self {
        let state = ReadinessState { readiness: Err(reason.to_owned()), probe: None };
        Self(Arc::new(ReadinessCell { state: Mutex::new(state), probed: Default::default() }))
    }

    /// Sets the readiness.
    pub fn set(&self, ready: Result<(), String>) {
        self.lock_state().readiness = ready;
    }

    /// Sets a probe, which readiness checks call with a timeout of [`PROBE_TIMEOUT`], twice a second
    /// at most.
    pub fn set_probe(&self, probe: DependencyProbe) {
        self.lock_state().probe = Some(probe);
    }

    /// The current readiness, including the probe's result.
    pub async fn get(&self) -> Result<(), String> {
        let probe = {
            let state = self.lock_state();
            state.readiness.clone()?;
            state.probe.clone()
        };
        let Some(probe) = probe else { return Ok(()) };
        // Callers that went away may have left probes that nobody waited for.
        let Ok(mut probed) = tokio::time::timeout(PROBE_TIMEOUT, self.0.probed.lock()).await else {
            return Err("what the service depends on does not answer".to_owned());
        };
        if let Some((at, answer)) = &*probed
            && at.elapsed() < PROBE_REUSE
        {
            return answer.clone();
        }
        let answer = tokio::time::timeout(PROBE_TIMEOUT, probe())
            .await
            .unwrap_or_else(|_| Err("what the service depends on does not answer".to_owned()));
        *probed = Some((Instant::now(), answer.clone()));
        answer
    }

    fn lock_state(&self) -> MutexGuard<'_, ReadinessState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Latency buckets in seconds, from a commit to the timeout of a lost callback.
const LATENCY_BUCKETS: [f64; 14] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Bucket limits of batch sizes in items.
const BATCH_SIZE_BUCKETS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];

/// The Prometheus recorder of this process, installed by the first call.
pub fn install_metrics() -> Result<PrometheusHandle, String> {
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let handle = build_recorder()?;
    *installed = Some(handle.clone());
    Ok(handle)
}

fn build_recorder() -> Result<PrometheusHandle, String> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS)
        .and_then(|builder| {
            builder
                .set_buckets_for_metric(Matcher::Suffix("_items".to_owned()), &BATCH_SIZE_BUCKETS)
        })
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| error.to_string())
}

/// Routes `/healthz`, `/readyz`, `/metrics`.
pub fn ops_routes(readiness: ServerReadiness, metrics: PrometheusHandle) -> ScopedRouter {
    let metrics =
        ScopedRouter::new().get("/metrics", Scope::MetricsRead, get_metrics).with_state(metrics);
    ScopedRouter::new()
        .get("/healthz", RouteAccess::Open, async || "alive\n")
        .get("/readyz", RouteAccess::Open, get_readiness)
        .with_state(readiness)
        .merge(metrics)
}

async fn get_metrics(State(recorder): State<PrometheusHandle>) -> impl IntoResponse {
    metrics::counter!("log_lines_lost_total").absolute(crate::logs::lost_line_count());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], recorder.render())
}

async fn get_readiness(State(readiness): State<ServerReadiness>) -> Response {
    match readiness.get().await {
        Ok(()) => (StatusCode::OK, "ready\n").into_response(),
        Err(reason) => ApiError::new(ErrorCode::Unavailable, reason).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_probe() {
        let (readiness, count) =
            (ServerReadiness::not_ready("starting"), Arc::new(AtomicU32::new(0)));
        assert_eq!(readiness.get().await, Err("starting".to_owned()));
        readiness.set(Ok(()));
        let counted = Arc::clone(&count);
        readiness.set_probe(Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {
                tokio::task::yield_now().await;
                Ok(())
            })
        }));
        let answers = futures::future::join_all((0..100).map(|_| readiness.get())).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        readiness.set(Err("stopping".to_owned()));
        assert_eq!(readiness.get().await, Err("stopping".to_owned()), "at once");
    }
}
