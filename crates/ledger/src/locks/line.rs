//! What one process knows of a shard's lines: which of its callers wait, and when something expires.
//!
//! Callers are woken by who grants them the lock: a call of the same process tells them directly, one of another
//! process by `NOTIFY` (see [`super::keeping`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use store::Result;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::answers::{Event, Grant, Outcome};
use super::queries::{self, Answer, Request};

/// The least time between two looks at a key whose lock has expired, but is still written under.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// How long a release tries to end a lock that is written under.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a caller's leaving is tried, a few seconds each, while the database is away.
const LEAVING_TRIES: usize = 20;
const LEAVING_AGAIN: Duration = Duration::from_secs(1);

/// What is heard of a lock id.
struct Heard {
    /// What was granted, or nothing, which means to ask again.
    news: watch::Sender<Option<Grant>>,
    /// Whether it is known to be in line; before, its caller is still asking.
    queued: bool,
}

impl Default for Heard {
    fn default() -> Self {
        Self { news: watch::Sender::new(None), queued: false }
    }
}

/// One shard's lines, as this process knows them.
pub(super) struct Line {
    pub(super) pool: PgPool,
    pub(super) process: Uuid,
    /// Those who hear of a lock id.
    listeners: Mutex<HashMap<Uuid, Heard>>,
    /// When something is to be done about a key.
    timers: Mutex<HashMap<Uuid, Instant>>,
    /// Something was added to the above.
    pub(super) changed: Notify,
    /// Calls at once: a crowd at one lock must not keep all connections from others.
    calls: Semaphore,
    /// Nobody waits any more.
    pub(super) stopping: CancellationToken,
}

impl Line {
    pub(super) fn new(pool: PgPool, process: Uuid) -> Self {
        let calls = usize::try_from(pool.options().get_max_connections().div_ceil(2)).unwrap_or(1).max(1);
        Self {
            pool,
            process,
            listeners: Mutex::default(),
            timers: Mutex::default(),
            changed: Notify::new(),
            calls: Semaphore::new(calls),
            stopping: CancellationToken::new(),
        }
    }

    /// How many callers wait or are about to.
    pub(super) fn len(&self) -> usize {
        lock(&self.listeners).len()
    }

    /// Hears of a lock id from now on.
    pub(super) fn listen(self: &Arc<Self>, lock_id: Uuid) -> Listener {
        let news = lock(&self.listeners).entry(lock_id).or_default().news.subscribe();
        self.changed.notify_one();
        Listener { line: self.clone(), lock_id, news: Some(news) }
    }

    pub(super) async fn take(&self, lock_id: Uuid, request: &Arc<Request>, waits: bool) -> Result<Outcome> {
        let answer = self.admitted(queries::take(&self.pool, lock_id, request, waits)).await;
        let outcome = self.heed(answer)?;
        if let Outcome::Queued(lock_id) = outcome
            && let Some(heard) = lock(&self.listeners).get_mut(&lock_id)
        {
            heard.queued = true;
        }
        Ok(outcome)
    }

    /// Leaves the line, however long the database is away.
    pub(super) async fn leave(&self, lock_id: Uuid, request: &Request) {
        for _ in 0..LEAVING_TRIES {
            match self.admitted(queries::leave(&self.pool, lock_id, request)).await {
                Err(error) if error.is_transient() => tokio::time::sleep(LEAVING_AGAIN).await,
                answer => {
                    let _ = self.heed(answer);
                    // Others may wait for the same request.
                    self.tell(lock_id, None);
                    return;
                }
            }
        }
    }

    pub(super) async fn release(&self, lock_id: Uuid) -> Result<Outcome> {
        let (attempt, started) = (Uuid::new_v4(), Instant::now());
        loop {
            let answer = queries::release(&self.pool, lock_id, attempt, self.process);
            match self.heed(self.admitted(answer).await)? {
                Outcome::Busy if started.elapsed() < PATIENCE => tokio::time::sleep(SHORTEST_WAIT).await,
                outcome => return Ok(outcome),
            }
        }
    }

    pub(super) async fn extend(&self, lock_id: Uuid, ttl: Duration) -> Result<Outcome> {
        let answer = self.admitted(queries::extend(&self.pool, lock_id, ttl, self.process)).await;
        self.heed(answer)
    }

    async fn admitted<T>(&self, call: impl Future<Output = T>) -> T {
        // Never closed.
        let _place = self.calls.acquire().await;
        call.await
    }

    /// Acts on everything that an answer tells beside the caller's own outcome.
    fn heed(&self, answer: Result<Answer>) -> Result<Outcome> {
        let (outcome, events) = answer?;
        for event in events {
            match event {
                Event::Won(grant) => self.tell(grant.lock_id, Some(grant)),
                Event::Look(lock_id) => self.tell(lock_id, None),
                Event::Next { key, after } => self.look_after(key, after),
            }
        }
        // Answers to calls that have no caller have no outcome.
        Ok(outcome.unwrap_or(Outcome::Unknown))
    }

    pub(super) fn tell(&self, lock_id: Uuid, grant: Option<Grant>) {
        if let Some(heard) = lock(&self.listeners).get(&lock_id) {
            heard.news.send_replace(grant);
        }
    }

    fn look_after(&self, key: Uuid, after: Duration) {
        let at = Instant::now() + after.max(SHORTEST_WAIT);
        let mut timers = lock(&self.timers);
        let timer = timers.entry(key).or_insert(at);
        *timer = at.min(*timer);
        self.changed.notify_one();
    }

    /// The keys whose time has come, and when the next one's comes.
    pub(super) fn due(&self) -> (Vec<Uuid>, Option<Instant>) {
        let (mut timers, now) = (lock(&self.timers), Instant::now());
        let due = timers.extract_if(|_, at| *at <= now).map(|(key, _)| key).collect();
        (due, timers.values().min().copied())
    }

    /// Something of a key has expired.
    pub(super) async fn hand_over(&self, key: Uuid) {
        let answer = self.admitted(queries::hand_over(&self.pool, key, self.process)).await;
        if let Err(error) = self.heed(answer) {
            tracing::warn!(%error, code = "UNAVAILABLE", "a lock could not be handed over");
        }
    }

    /// Keeps all callers in their lines, and finds what they missed.
    pub(super) async fn keep(&self, forget: bool) {
        let queued = |(lock_id, heard): (&Uuid, &Heard)| heard.queued.then_some(*lock_id);
        let waiting: Vec<Uuid> = lock(&self.listeners).iter().filter_map(queued).collect();
        if waiting.is_empty() {
            return;
        }
        // Not among the other calls: those may stand in line themselves.
        if let Err(error) = self.heed(queries::keep(&self.pool, self.process, waiting, forget).await) {
            tracing::warn!(%error, code = "UNAVAILABLE", "places in line could not be kept");
        }
    }
}

/// A caller that hears of a lock id as long as this is there.
pub(super) struct Listener {
    line: Arc<Line>,
    lock_id: Uuid,
    news: Option<watch::Receiver<Option<Grant>>>,
}

impl Listener {
    /// Waits for news: a grant, or nothing in particular.
    pub(super) async fn heard(&mut self) -> Option<Grant> {
        let news = self.news.as_mut()?;
        // The sender is there as long as a listener is.
        news.changed().await.ok()?;
        *news.borrow_and_update()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = lock(&self.line.listeners);
        self.news = None;
        if listeners.get(&self.lock_id).is_some_and(|heard| heard.news.receiver_count() == 0) {
            listeners.remove(&self.lock_id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
