//! Hearing one channel, and looking all the same.

use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until, timeout_at};

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

/// Hears what is said on one channel of [`Notifications`](crate::Notifications). A look is due every so often: messages,
/// of this channel or another, do not put it off.
#[derive(Debug)]
pub struct Listener {
    heard: Receiver<Notify>,
    channel: &'static str,
    every: Duration,
    look_at: Instant,
}

/// What there is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// This was said on the channel.
    Said(String),
    /// Something may have been missed, or has not been looked at for long: look.
    Look,
}

impl Listener {
    pub(crate) fn new(heard: Receiver<Notify>, channel: &'static str, every: Duration) -> Self {
        Self { heard, channel, every, look_at: Instant::now() + every }
    }

    /// Waits for what is said, at most until a look is due.
    pub async fn next(&mut self) -> Told {
        // A time-out alone would not do: it is not asked while messages are there.
        while Instant::now() < self.look_at {
            match timeout_at(self.look_at, self.heard.recv()).await {
                Ok(Ok(Notify::Heard { channel, payload })) if channel == self.channel => {
                    return Told::Said(payload);
                }
                Ok(Ok(Notify::Heard { .. })) => {}
                Ok(Ok(Notify::Missed) | Err(RecvError::Lagged(_))) => break,
                Ok(Err(RecvError::Closed)) => sleep_until(self.look_at).await,
                Err(_) => {}
            }
        }
        self.look_at = Instant::now() + self.every;
        Told::Look
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    fn heard(channel: &str) -> Notify {
        Notify::Heard { channel: channel.to_owned(), payload: "7".to_owned() }
    }

    #[tokio::test]
    async fn messages_do_not_put_a_look_off() {
        let (said, heard_by) = broadcast::channel(64);
        let mut listener = Listener::new(heard_by, "own", Duration::from_millis(100));
        let flood = tokio::spawn(async move {
            while said.send(heard("other")).is_ok() && said.send(heard("own")).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let mut said = 0;
        for _ in 0..3 {
            let within = async {
                while listener.next().await != Told::Look {
                    said += 1;
                }
            };
            tokio::time::timeout(Duration::from_secs(5), within).await.unwrap();
        }
        assert!(said > 0, "what was said is told, too");
        flood.abort();
    }

    #[tokio::test]
    async fn what_was_missed_is_looked_at_at_once_and_a_closed_channel_in_time() {
        let (said, heard_by) = broadcast::channel(4);
        let mut listener = Listener::new(heard_by, "own", Duration::from_millis(50));
        said.send(heard("own")).unwrap();
        said.send(Notify::Missed).unwrap();
        assert_eq!(listener.next().await, Told::Said("7".to_owned()));
        assert_eq!(listener.next().await, Told::Look);
        for _ in 0..9 {
            said.send(heard("own")).unwrap();
        }
        assert_eq!(listener.next().await, Told::Look, "too many to be kept");
        drop(said);
        while listener.next().await != Told::Look {}
        let began = Instant::now();
        assert_eq!(listener.next().await, Told::Look);
        assert!(began.elapsed() >= Duration::from_millis(40));
    }
}
