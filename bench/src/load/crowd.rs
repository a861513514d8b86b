//! Load threads with their clients.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use super::{Answered, Client, Connect};
use crate::figures::Latency;

/// Acknowledged units, and latencies of the current window.
#[derive(Debug)]
pub struct Tally {
    units: AtomicU64,
    /// One histogram per thread, to avoid lock contention.
    latency: Vec<Mutex<Latency>>,
    failure: Mutex<Option<String>>,
}

impl Tally {
    fn new(threads: usize) -> anyhow::Result<Arc<Self>> {
        let latency =
            (0..threads).map(|_| Ok(Mutex::new(Latency::new()?))).collect::<anyhow::Result<_>>()?;
        Ok(Arc::new(Self { units: AtomicU64::new(0), latency, failure: Mutex::default() }))
    }

    fn record(&self, thread: usize, answered: Answered) {
        self.units.fetch_add(answered.units, Ordering::Relaxed);
        if answered.units == 0 {
            return;
        }
        self.latency[thread].lock().unwrap_or_else(PoisonError::into_inner).record(answered.took);
    }

    fn fail(&self, error: &anyhow::Error) {
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
    pub fn take_latency(&self) -> anyhow::Result<Latency> {
        let mut all = Latency::new()?;
        for part in &self.latency {
            let taken = std::mem::replace(
                &mut *part.lock().unwrap_or_else(PoisonError::into_inner),
                Latency::new()?,
            );
            all.add(&taken);
        }
        Ok(all)
    }
}

/// Running clients. On drop, each ends after its current request.
pub struct Crowd {
    tally: Arc<Tally>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Starts `clients` clients on `threads` threads.
    pub fn start(clients: usize, threads: usize, connect: &impl Connect) -> anyhow::Result<Self> {
        let threads = threads.clamp(1, clients.max(1));
        let tally = Tally::new(threads)?;
        let stop = CancellationToken::new();
        let start = |thread: usize| {
            let (connect, tally, stop) = (connect.clone(), tally.clone(), stop.clone());
            let numbers: Vec<usize> = (thread..clients).step_by(threads).collect();
            let name = format!("load-{thread}");
            std::thread::Builder::new()
                .name(name)
                .spawn(move || work(thread, &numbers, &connect, &tally, &stop))
        };
        let threads =
            (0..threads).map(start).collect::<Result<_, _>>().context("a thread for the load")?;
        Ok(Self { tally, stop, threads })
    }

    /// Counters of the clients.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Stops the clients after their current requests; returns the total of acknowledged units.
    pub async fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.cancel();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().all(|thread| thread.join().is_ok())
        });
        anyhow::ensure!(joined.await?, "a thread of the load panicked");
        self.tally.units()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn work(
    thread: usize,
    numbers: &[usize],
    connect: &impl Connect,
    tally: &Arc<Tally>,
    stop: &CancellationToken,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime.context("a runtime for the load") {
        Ok(runtime) => runtime,
        Err(error) => return tally.fail(&error),
    };
    LocalSet::new().block_on(&runtime, async {
        let mut clients = JoinSet::new();
        for number in numbers.iter().copied() {
            let (connect, tally, stop) = (connect.clone(), tally.clone(), stop.clone());
            clients.spawn_local(async move {
                if let Err(error) = repeat(thread, number, &connect, &tally, &stop).await {
                    tally.fail(&error);
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            if let Err(panic) = ended {
                tally.fail(&panic.into());
            }
        }
    });
}

async fn repeat(
    thread: usize,
    number: usize,
    connect: &impl Connect,
    tally: &Tally,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut client = connect.connect(number).await?;
    while !stop.is_cancelled() {
        tally.record(thread, client.next().await?);
    }
    tally.units.fetch_add(client.finish().await?, Ordering::Relaxed);
    Ok(())
}
