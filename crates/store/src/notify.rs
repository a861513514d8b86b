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

use crate::connect::reserve_pool;
use crate::operation::ACQUIRE_TIMEOUT;
use crate::pool::pool_session;
use crate::session;
use crate::subscriber::{ChannelSubscriber, PgNotification};

/// How a listening connection is watched.
#[derive(Debug, Clone, Copy)]
pub struct ListenHeartbeat {
    /// Time between questions whether the server is still there.
    pub interval: Duration,
    /// Without an answer in this time the connection is given up and made anew.
    pub answer_timeout: Duration,
}

impl Default for ListenHeartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), answer_timeout: Duration::from_secs(3) }
    }
}

/// The pause before a listener is made anew.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(200);

/// One listening connection of the process, shared by everybody who wants to hear.
#[derive(Clone)]
pub struct PgNotificationHub {
    sender: broadcast::Sender<PgNotification>,
}

impl PgNotificationHub {
    /// Starts listening on a connection beside those of `pool`. Lost connections are made anew, and
    /// [`PgNotification::Missed`] is told.
    pub fn start(pool: PgPool, channels: Vec<&'static str>) -> (Self, JoinHandle<()>) {
        Self::start_with_heartbeat(pool, channels, ListenHeartbeat::default())
    }

    /// Like [`PgNotificationHub::start`], with another heartbeat.
    pub fn start_with_heartbeat(
        pool: PgPool,
        channels: Vec<&'static str>,
        heartbeat: ListenHeartbeat,
    ) -> (Self, JoinHandle<()>) {
        let (sender, _) = broadcast::channel(4096);
        let notifications = Self { sender: sender.clone() };
        let listen_pool = reserve_pool(&pool, "listen", 1);
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) =
                    forward_notifications(&listen_pool, &channels, &sender, heartbeat).await
                {
                    if listen_pool.is_closed() {
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
    pub fn subscribe_channel(
        &self,
        channel: &'static str,
        poll_interval: Duration,
    ) -> ChannelSubscriber {
        ChannelSubscriber::new(self.sender.subscribe(), channel, poll_interval)
    }

    /// Hears everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<PgNotification> {
        self.sender.subscribe()
    }
}

async fn forward_notifications(
    pool: &PgPool,
    channels: &[&'static str],
    sender: &broadcast::Sender<PgNotification>,
    heartbeat: ListenHeartbeat,
) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    // A lost connection is made by the next call, which has a deadline, and not in the one that noticed.
    listener.eager_reconnect(false);
    match timeout(ACQUIRE_TIMEOUT, listener.listen_all(channels.iter().copied())).await {
        Ok(listening) => listening?,
        Err(_) => return abandon_listener(listener, pool).await,
    }
    // Nobody subscribed yet is not an error: sends are simply not heard.
    let _ = sender.send(PgNotification::Missed);
    let mut answered_at = Instant::now();
    loop {
        match timeout(heartbeat.interval.saturating_sub(answered_at.elapsed()), listener.try_recv())
            .await
        {
            Ok(Ok(Some(notification))) => {
                let (channel, payload) =
                    (notification.channel().to_owned(), notification.payload().to_owned());
                let _ = sender.send(PgNotification::Received { channel, payload });
                answered_at = Instant::now();
                continue;
            }
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        match timeout(heartbeat.answer_timeout, listener.execute("SELECT 1 -- heartbeat")).await {
            Ok(beat) => {
                beat?;
            }
            Err(_) => {
                metrics::counter!("store_no_answer_total", "name" => "listen").increment(1);
                tracing::warn!(
                    code = "UNAVAILABLE",
                    "the listening connection gave no answer; it is made anew"
                );
                return abandon_listener(listener, pool).await;
            }
        }
        answered_at = Instant::now();
    }
}

async fn open_connection(pool: &PgPool) -> sqlx::Result<PgConnection> {
    let options = pool.connect_options();
    let mut connection = PgConnection::connect_with(&options).await?;
    session::open_session(&mut connection, &pool_session(&options)).await?;
    Ok(connection)
}

/// Lets a listener go whose peer is silent. Left to itself it would say goodbye on its connection, and wait for the answer:
/// it is given a new one to do that on.
async fn abandon_listener(mut listener: PgListener, pool: &PgPool) -> sqlx::Result<()> {
    loop {
        if pool.is_closed() {
            return Err(sqlx::Error::PoolClosed);
        }
        if let Ok(Ok(fresh)) = timeout(ACQUIRE_TIMEOUT, open_connection(pool)).await {
            let silent = std::mem::replace(listener.acquire().await?, fresh);
            drop(silent);
            return Ok(());
        }
        sleep(RECONNECT_INTERVAL).await;
    }
}
