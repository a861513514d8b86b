//! LISTEN/NOTIFY as a wakeup without a delivery guarantee: notifications are lost during a
//! reconnect, so subscribers also poll.
//!
//! A silent connection does not show whether its peer is alive, so a heartbeat query
//! runs every few seconds.

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

/// Heartbeat of a listening connection.
#[derive(Debug, Clone, Copy)]
pub struct ListenHeartbeat {
    /// Interval of heartbeat queries.
    pub interval: Duration,
    /// Timeout of a heartbeat; afterwards the connection is replaced.
    pub answer_timeout: Duration,
}

impl Default for ListenHeartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), answer_timeout: Duration::from_secs(3) }
    }
}

/// Wait before a reconnect.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(200);

/// Shares one listening connection of the process between all subscribers.
#[derive(Clone)]
pub struct PgNotificationHub {
    sender: broadcast::Sender<PgNotification>,
}

impl PgNotificationHub {
    /// Starts listening on a connection outside `pool`. It reconnects when lost
    /// and then sends [`PgNotification::Missed`].
    pub fn start(pool: PgPool, channels: Vec<&'static str>) -> (Self, JoinHandle<()>) {
        Self::start_with_heartbeat(pool, channels, ListenHeartbeat::default())
    }

    /// Like [`PgNotificationHub::start`], with an explicit heartbeat.
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

    /// Subscribes to `channel`, with a wakeup at least every `poll_interval`.
    pub fn subscribe_channel(
        &self,
        channel: &'static str,
        poll_interval: Duration,
    ) -> ChannelSubscriber {
        ChannelSubscriber::new(self.sender.subscribe(), channel, poll_interval)
    }

    /// Subscribes to all channels.
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
    // Reconnect in the next call, which has a timeout, instead of the call that detects the loss.
    listener.eager_reconnect(false);
    match timeout(ACQUIRE_TIMEOUT, listener.listen_all(channels.iter().copied())).await {
        Ok(listening) => listening?,
        Err(_) => return abandon_listener(listener, pool).await,
    }
    // A send without subscribers fails, which is fine.
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

/// Drops a listener whose peer is silent. sqlx's drop would run a statement on its connection and
/// wait for the answer, so it gets a fresh connection first.
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
