//! `NOTIFY` as a wake-up, never as the carrier of a promise: listeners miss notifications while they reconnect, so
//! whoever listens also polls.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// What a listener hears.
#[derive(Debug, Clone)]
pub enum Notify {
    /// Somebody notified `channel`.
    Heard {
        /// The channel.
        channel: String,
        /// What they said.
        payload: String,
    },
    /// The connection was lost for a while: anything may have been said meanwhile.
    Missed,
}

/// One listening connection of the process, shared by everybody who wants to hear.
#[derive(Clone)]
pub struct Notifications {
    heard: broadcast::Sender<Notify>,
}

impl Notifications {
    /// Starts listening on `channels`; reconnects for ever.
    pub fn start(pool: PgPool, channels: Vec<&'static str>) -> (Self, JoinHandle<()>) {
        let (heard, _) = broadcast::channel(4096);
        let notifications = Self { heard: heard.clone() };
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&pool, &channels, &heard).await {
                    tracing::warn!(%error, code = "UNAVAILABLE", "listening for notifications failed");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        (notifications, task)
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
) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all(channels.iter().copied()).await?;
    // Nobody subscribed yet is not an error: sends are simply not heard.
    let _ = heard.send(Notify::Missed);
    loop {
        let notify = match listener.try_recv().await? {
            Some(n) => Notify::Heard { channel: n.channel().to_owned(), payload: n.payload().to_owned() },
            None => Notify::Missed,
        };
        let _ = heard.send(notify);
    }
}
