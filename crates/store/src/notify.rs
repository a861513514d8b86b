//! `NOTIFY` as a wake-up, never as the carrier of a promise: listeners miss notifications while they reconnect, so
//! whoever listens also polls.
//!
//! A connection on which nothing is said looks the same whether its peer is there or not: it is asked every few seconds.

use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{Acquire as _, Connection as _, Executor as _, PgConnection, PgPool};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::connect::reserve;
use crate::listener::{Listener, Notify};
use crate::operation::ACQUIRE_TIMEOUT;
use crate::pool::session_of;
use crate::session;

/// How a listening connection is watched.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    /// Time between questions whether the server is still there.
    pub every: Duration,
    /// Without an answer in this time the connection is given up and made anew.
    pub answer: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), answer: Duration::from_secs(3) }
    }
}

/// The pause before a listener is made anew.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(200);

/// One listening connection of the process, shared by everybody who wants to hear.
#[derive(Clone)]
pub struct Notifications {
    heard: broadcast::Sender<Notify>,
}

impl Notifications {
    /// Starts listening on a connection beside those of `pool`. Lost connections are made anew, and
    /// [`Notify::Missed`] is told.
    pub fn start(pool: PgPool, channels: Vec<&'static str>) -> (Self, JoinHandle<()>) {
        Self::start_watched(pool, channels, Heartbeat::default())
    }

    /// Like [`Notifications::start`], with another heartbeat.
    pub fn start_watched(
        pool: PgPool,
        channels: Vec<&'static str>,
        heartbeat: Heartbeat,
    ) -> (Self, JoinHandle<()>) {
        let (heard, _) = broadcast::channel(4096);
        let notifications = Self { heard: heard.clone() };
        let own = reserve(&pool, "listen", 1);
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&own, &channels, &heard, heartbeat).await {
                    if own.is_closed() {
                        return;
                    }
                    tracing::warn!(%error, code = "UNAVAILABLE", "listening for notifications failed");
                }
                sleep(RECONNECT_INTERVAL).await;
            }
        });
        (notifications, task)
    }

    /// Hears `channel` from now on, with a look at least every so often.
    pub fn listener(&self, channel: &'static str, every: Duration) -> Listener {
        Listener::new(self.heard.subscribe(), channel, every)
    }

    /// Hears everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Notify> {
        self.heard.subscribe()
    }
}

async fn listen(
    pool: &PgPool,
    channels: &[&'static str],
    heard: &broadcast::Sender<Notify>,
    heartbeat: Heartbeat,
) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    // A lost connection is made by the next call, which has a deadline, and not in the one that noticed.
    listener.eager_reconnect(false);
    match timeout(ACQUIRE_TIMEOUT, listener.listen_all(channels.iter().copied())).await {
        Ok(listening) => listening?,
        Err(_) => return part_from(listener, pool).await,
    }
    // Nobody subscribed yet is not an error: sends are simply not heard.
    let _ = heard.send(Notify::Missed);
    let mut answered = Instant::now();
    loop {
        match timeout(heartbeat.every.saturating_sub(answered.elapsed()), listener.try_recv()).await {
            Ok(Ok(Some(said))) => {
                let (channel, payload) = (said.channel().to_owned(), said.payload().to_owned());
                let _ = heard.send(Notify::Heard { channel, payload });
                answered = Instant::now();
                continue;
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        match timeout(heartbeat.answer, listener.execute("SELECT 1 -- heartbeat")).await {
            Ok(beat) => {
                beat?;
            }
            Err(_) => {
                metrics::counter!("store_no_answer_total", "name" => "listen").increment(1);
                tracing::warn!(
                    code = "UNAVAILABLE",
                    "the listening connection gave no answer; it is made anew"
                );
                return part_from(listener, pool).await;
            }
        }
        answered = Instant::now();
    }
}

async fn connect(pool: &PgPool) -> sqlx::Result<PgConnection> {
    let options = pool.connect_options();
    let mut connection = PgConnection::connect_with(&options).await?;
    session::open(&mut connection, &session_of(&options)).await?;
    Ok(connection)
}

/// Lets a listener go whose peer is silent. Left to itself it would say goodbye on its connection, and wait for the answer:
/// it is given a new one to do that on.
async fn part_from(mut listener: PgListener, pool: &PgPool) -> sqlx::Result<()> {
    loop {
        if pool.is_closed() {
            return Err(sqlx::Error::PoolClosed);
        }
        if let Ok(Ok(fresh)) = timeout(ACQUIRE_TIMEOUT, connect(pool)).await {
            let silent = std::mem::replace(listener.acquire().await?, fresh);
            drop(silent);
            return Ok(());
        }
        sleep(RECONNECT_INTERVAL).await;
    }
}
