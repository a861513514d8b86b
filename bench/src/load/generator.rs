//! Load threads with their clients.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use super::{LoadClient, LoadClientFactory, LoadResponse};
use crate::figures::LatencyHistogram;

/// Acknowledged units, and latencies of the current window.
#[derive(Debug)]
pub struct LoadCounters {
    units: AtomicU64,
    /// One histogram per thread, to avoid lock contention.
    latencies: Vec<Mutex<LatencyHistogram>>,
    failure: Mutex<Option<String>>,
}

impl LoadCounters {
    fn new(threads: usize) -> anyhow::Result<Arc<Self>> {
        let latencies = (0..threads)
            .map(|_| Ok(Mutex::new(LatencyHistogram::new()?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Arc::new(Self { units: AtomicU64::new(0), latencies, failure: Mutex::default() }))
    }

    fn record_response(&self, thread: usize, response: LoadResponse) {
        self.units.fetch_add(response.units, Ordering::Relaxed);
        if response.units == 0 {
            return;
        }
        self.latencies[thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(response.latency);
    }

    fn record_failure(&self, error: &anyhow::Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| format!("{error:#}"));
    }

    /// Units acknowledged since the start; an error if a client has failed.
    pub fn units(&self) -> anyhow::Result<u64> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(failure) => anyhow::bail!("a client failed: {failure}"),
            None => Ok(self.units.load(Ordering::Relaxed)),
        }
    }

    /// Latencies recorded since the last call.
    pub fn take_latencies(&self) -> anyhow::Result<LatencyHistogram> {
        let mut all = LatencyHistogram::new()?;
        for part in &self.latencies {
            let taken = std::mem::replace(
                &mut *part.lock().unwrap_or_else(PoisonError::into_inner),
                LatencyHistogram::new()?,
            );
            all.add(&taken);
        }
        Ok(all)
    }
}

/// Running clients. On drop, each ends after its current request.
pub struct LoadGenerator {
    counters: Arc<LoadCounters>,
    stop_token: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl LoadGenerator {
    /// Starts `clients` clients on `threads` threads.
    pub fn start(
        clients: usize,
        threads: usize,
        factory: &impl LoadClientFactory,
    ) -> anyhow::Result<Self> {
        let threads = threads.clamp(1, clients.max(1));
        let counters = LoadCounters::new(threads)?;
        let stop_token = CancellationToken::new();
        let start = |thread: usize| {
            let (factory, counters, stop_token) =
                (factory.clone(), counters.clone(), stop_token.clone());
            let client_numbers: Vec<usize> = (thread..clients).step_by(threads).collect();
            let name = format!("load-{thread}");
            std::thread::Builder::new().name(name).spawn(move || {
                run_load_thread(thread, &client_numbers, &factory, &counters, &stop_token)
            })
        };
        let threads =
            (0..threads).map(start).collect::<Result<_, _>>().context("a thread for the load")?;
        Ok(Self { counters, stop_token, threads })
    }

    /// Counters of the clients.
    pub fn counters(&self) -> &LoadCounters {
        &self.counters
    }

    /// Stops the clients after their current requests; returns the total of acknowledged units.
    pub async fn stop(mut self) -> anyhow::Result<u64> {
        self.stop_token.cancel();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().all(|thread| thread.join().is_ok())
        });
        anyhow::ensure!(joined.await?, "a thread of the load panicked");
        self.counters.units()
    }
}

impl Drop for LoadGenerator {
    fn drop(&mut self) {
        self.stop_token.cancel();
    }
}

fn run_load_thread(
    thread: usize,
    client_numbers: &[usize],
    factory: &impl LoadClientFactory,
    counters: &Arc<LoadCounters>,
    stop_token: &CancellationToken,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime.context("a runtime for the load") {
        Ok(runtime) => runtime,
        Err(error) => return counters.record_failure(&error),
    };
    LocalSet::new().block_on(&runtime, async {
        let mut clients = JoinSet::new();
        for number in client_numbers.iter().copied() {
            let (factory, counters, stop_token) =
                (factory.clone(), counters.clone(), stop_token.clone());
            clients.spawn_local(async move {
                if let Err(error) =
                    run_client(thread, number, &factory, &counters, &stop_token).await
                {
                    counters.record_failure(&error);
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            if let Err(panic) = ended {
                counters.record_failure(&panic.into());
            }
        }
    });
}

async fn run_client(
    thread: usize,
    number: usize,
    factory: &impl LoadClientFactory,
    counters: &LoadCounters,
    stop_token: &CancellationToken,
) -> anyhow::Result<()> {
    let mut client = factory.connect(number).await?;
    while !stop_token.is_cancelled() {
        counters.record_response(thread, client.next().await?);
    }
    counters.units.fetch_add(client.finish().await?, Ordering::Relaxed);
    Ok(())
}
