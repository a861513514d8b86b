//! Subscription to one NOTIFY channel, with polling.

use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Events of a [`PgNotificationHub`](crate::PgNotificationHub).
#[derive(Debug, Clone)]
pub enum PgNotification {
    /// A NOTIFY message of any channel.
    Received {
        /// Channel of the notification.
        channel: String,
        /// Payload of the notification.
        payload: String,
    },
    /// The connection was lost for a while: notifications may have been missed.
    Missed,
}

/// Subscriber to one channel of a [`PgNotificationHub`](crate::PgNotificationHub). Notifications,
/// of this channel or others, do not delay the poll.
#[derive(Debug)]
pub struct ChannelSubscriber {
    receiver: Receiver<PgNotification>,
    channel: &'static str,
    poll_interval: Duration,
    poll_at: Instant,
}

/// Reason of a wakeup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelWakeup {
    /// A notification on the channel, with its payload.
    Notified(String),
    /// The poll interval is over or notifications may have been missed: poll.
    PollDue,
}

impl ChannelSubscriber {
    pub(crate) fn new(
        receiver: Receiver<PgNotification>,
        channel: &'static str,
        poll_interval: Duration,
    ) -> Self {
        Self { receiver, channel, poll_interval, poll_at: Instant::now() + poll_interval }
    }

    /// Waits for a notification, at most until the next poll is due.
    pub async fn next(&mut self) -> ChannelWakeup {
        // `timeout_at` alone does not suffice: it is not checked while messages are ready.
        while Instant::now() < self.poll_at {
            match timeout_at(self.poll_at, self.receiver.recv()).await {
                Ok(Ok(PgNotification::Received { channel, payload }))
                    if channel == self.channel =>
                {
                    return ChannelWakeup::Notified(payload);
                }
                Ok(Ok(PgNotification::Received { .. })) => {}
                Ok(Ok(PgNotification::Missed) | Err(RecvError::Lagged(_))) => break,
                Ok(Err(RecvError::Closed)) => sleep_until(self.poll_at).await,
                Err(_) => {}
            }
        }
        self.poll_at = Instant::now() + self.poll_interval;
        ChannelWakeup::PollDue
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    fn heard(channel: &str) -> PgNotification {
        PgNotification::Received { channel: channel.to_owned(), payload: "7".to_owned() }
    }

    #[tokio::test]
    async fn messages_do_not_put_a_look_off() {
        let (said, heard_by) = broadcast::channel(64);
        let mut listener = ChannelSubscriber::new(heard_by, "own", Duration::from_millis(100));
        let flood = tokio::spawn(async move {
            while said.send(heard("other")).is_ok() && said.send(heard("own")).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let mut said = 0;
        for _ in 0..3 {
            let within = async {
                while listener.next().await != ChannelWakeup::PollDue {
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
        let mut listener = ChannelSubscriber::new(heard_by, "own", Duration::from_millis(50));
        said.send(heard("own")).unwrap();
        said.send(PgNotification::Missed).unwrap();
        assert_eq!(listener.next().await, ChannelWakeup::Notified("7".to_owned()));
        assert_eq!(listener.next().await, ChannelWakeup::PollDue);
        for _ in 0..9 {
            said.send(heard("own")).unwrap();
        }
        assert_eq!(listener.next().await, ChannelWakeup::PollDue, "too many to be kept");
        drop(said);
        while listener.next().await != ChannelWakeup::PollDue {}
        let began = Instant::now();
        assert_eq!(listener.next().await, ChannelWakeup::PollDue);
        assert!(began.elapsed() >= Duration::from_millis(40));
    }
}
