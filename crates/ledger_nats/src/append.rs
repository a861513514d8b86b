//! Publishing a shard's events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use futures::future::BoxFuture;
use store::fail_point;
use tokio::sync::Mutex;

use super::connection::STREAM;
use super::{Entry, Error, Log, Mark, Result, Stored, subject};

/// Messages published before their acknowledgements are awaited: at first, and at most.
const WINDOWS: (usize, usize) = (64, 1_000);
/// A group shall take so long: others wait for the same server, and acknowledgements must come before one gives up.
const GROUP_TIMES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));

/// A shard's subject, of which the last message is known.
pub(super) struct Publishing {
    context: Context,
    shard: String,
    last: Option<Stored>,
    sending: Arc<Mutex<()>>,
    /// Messages published at a time; smaller while the server is slow or other processes publish, too.
    window: usize,
}

impl Publishing {
    pub(super) fn new(context: Context, shard: &str, last: Option<Stored>, sending: Arc<Mutex<()>>) -> Self {
        Self { context, shard: shard.to_owned(), last, sending, window: WINDOWS.0 }
    }

    /// Publishes these in order and answers how many of them are stored: the first ones. At least one, unless it fails.
    async fn publish(&mut self, group: &[Entry]) -> Result<usize> {
        let begun = Instant::now();
        let mut acks = Vec::with_capacity(group.len());
        let sending = self.sending.clone().lock_owned().await;
        let mut before: Option<Mark> = None;
        for entry in group {
            let message = self.message(entry, before);
            let sent = self.context.send_publish(subject(&self.shard), message).await;
            acks.push(sent.map_err(|error| self.trouble(entry, &error))?);
            before = Some(entry.mark);
        }
        drop(sending);
        fail_point("export_published");
        let (stored, interrupted) = self.settle(group, acks).await?;
        self.window = next_window(self.window, interrupted, begun.elapsed());
        Ok(stored)
    }

    fn message(&self, entry: &Entry, before: Option<Mark>) -> PublishMessage {
        let message = PublishMessage::build()
            .payload(entry.body.clone())
            .message_id(self.id(entry.mark))
            .expected_stream(STREAM);
        match before {
            Some(before) => message.expected_last_message_id(self.id(before)),
            None => {
                let last = self.last.as_ref().map_or(0, |last| last.sequence);
                message.expected_last_subject_sequence(last)
            }
        }
    }

    fn id(&self, mark: Mark) -> String {
        format!("{}-{}-{}", self.shard, mark.epoch, mark.seq)
    }

    /// Awaits the acknowledgements in order. Only what is acknowledged as new counts; anything else than an interrupted
    /// group says that the subject is not as it was believed to be. Answers how many are stored, and whether it was
    /// interrupted.
    async fn settle(&mut self, group: &[Entry], acks: Vec<PublishAckFuture>) -> Result<(usize, bool)> {
        let mut stored = 0;
        let mut interrupted = false;
        for (entry, ack) in group.iter().zip(acks) {
            match ack.await {
                Ok(ack) if ack.duplicate => {
                    return Err(Error::Moved(format!("{} is a duplicate", self.id(entry.mark))));
                }
                Ok(_) if interrupted => {
                    return Err(Error::Moved(format!(
                        "{} was stored by another exporter's help",
                        self.id(entry.mark)
                    )));
                }
                Ok(ack) => {
                    self.last = Some(Stored { sequence: ack.sequence, entry: entry.clone() });
                    stored += 1;
                }
                // Somebody else's message came between; the ones after it are refused as well.
                Err(error) if error.kind() == PublishErrorKind::WrongLastMessageId => interrupted = true,
                Err(error) => return Err(self.trouble(entry, &error)),
            }
        }
        if stored == 0 {
            return Err(Error::Moved("not even the first message was stored".to_owned()));
        }
        Ok((stored, interrupted))
    }

    fn trouble(&self, entry: &Entry, error: &PublishError) -> Error {
        let id = self.id(entry.mark);
        match error.kind() {
            PublishErrorKind::WrongLastSequence => Error::Moved(format!("{id}: {error}")),
            PublishErrorKind::MaxPayloadExceeded => {
                let bytes = entry.body.len();
                Error::Refused(format!("{id} has {bytes} bytes: {error}; raise the server's max_payload"))
            }
            PublishErrorKind::Other => Error::Refused(format!("{id}: {error}")),
            _ => Error::Unavailable(format!("{id}: {error}")),
        }
    }
}

fn next_window(window: usize, interrupted: bool, took: Duration) -> usize {
    if interrupted || took > GROUP_TIMES.1 {
        (window / 2).max(1)
    } else if took < GROUP_TIMES.0 {
        (window * 2).min(WINDOWS.1)
    } else {
        window
    }
}

impl Log for Publishing {
    fn last(&mut self) -> Option<&Entry> {
        self.last.as_ref().map(|last| &last.entry)
    }

    fn append<'a>(&'a mut self, entries: &'a [Entry]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut rest = entries;
            while !rest.is_empty() {
                let stored = self.publish(&rest[..rest.len().min(self.window)]).await?;
                rest = &rest[stored..];
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_as_large_as_the_server_is_quick() {
        let ms = Duration::from_millis;
        let cases = [
            (64, false, 10, 128),
            (1000, false, 10, 1000),
            (128, false, 500, 128),
            (128, false, 1500, 64),
            (128, true, 10, 64),
            (1, true, 10, 1),
        ];
        for (window, interrupted, took, next) in cases {
            assert_eq!(next_window(window, interrupted, ms(took)), next);
        }
    }
}
