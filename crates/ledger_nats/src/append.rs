//! Publishing of a shard's events, in pipelined groups.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use futures::future::BoxFuture;
use store::fail_point;
use tokio::sync::Mutex;

use super::connection::STREAM_NAME;
use super::{
    ExportEntry, ExportError, ExportLog, ExportMark, NatsStoredMessage, Result, shard_subject,
};

/// Initial and maximum number of messages published before their acknowledgements are awaited.
const WINDOW_RANGE: (usize, usize) = (64, 1_000);
/// Target duration of a group: shards share the server, and acknowledgements must arrive within the
/// timeout.
const GROUP_DURATION_RANGE: (Duration, Duration) =
    (Duration::from_millis(250), Duration::from_secs(1));

/// Export log on a shard's subject, with its last message.
pub(super) struct NatsExportLog {
    context: Context,
    shard: String,
    last_message: Option<NatsStoredMessage>,
    send_lock: Arc<Mutex<()>>,
    /// Messages per group; halved while the server is slow or other processes interleave.
    window: usize,
}

impl NatsExportLog {
    pub(super) fn new(
        context: Context,
        shard: &str,
        last_message: Option<NatsStoredMessage>,
        send_lock: Arc<Mutex<()>>,
    ) -> Self {
        Self { context, shard: shard.to_owned(), last_message, send_lock, window: WINDOW_RANGE.0 }
    }

    /// Publishes a group in order; returns how many messages, from the first on, are stored: at
    /// least one unless it fails.
    async fn publish_group(&mut self, group: &[ExportEntry]) -> Result<usize> {
        let started = Instant::now();
        let mut acks = Vec::with_capacity(group.len());
        let send_guard = self.send_lock.clone().lock_owned().await;
        let mut previous: Option<ExportMark> = None;
        for entry in group {
            let message = self.build_message(entry, previous);
            let sent = self.context.send_publish(shard_subject(&self.shard), message).await;
            acks.push(sent.map_err(|error| self.publish_error(entry, &error))?);
            previous = Some(entry.mark);
        }
        drop(send_guard);
        fail_point("export_published");
        let (stored, interrupted) = self.await_acks(group, acks).await?;
        self.window = next_window(self.window, interrupted, started.elapsed());
        Ok(stored)
    }

    fn build_message(&self, entry: &ExportEntry, previous: Option<ExportMark>) -> PublishMessage {
        let message = PublishMessage::build()
            .payload(entry.body.clone())
            .message_id(self.message_id(entry.mark))
            .expected_stream(STREAM_NAME);
        match previous {
            Some(before) => message.expected_last_message_id(self.message_id(before)),
            None => {
                let last = self.last_message.as_ref().map_or(0, |last| last.sequence);
                message.expected_last_subject_sequence(last)
            }
        }
    }

    fn message_id(&self, mark: ExportMark) -> String {
        format!("{}-{}-{}", self.shard, mark.epoch, mark.seq)
    }

    /// Awaits the acknowledgements in order; returns the number of stored messages and whether the
    /// group was interrupted. A duplicate, or a message stored after an interruption, means that
    /// the subject has moved ([`ExportError::Moved`]).
    async fn await_acks(
        &mut self,
        group: &[ExportEntry],
        acks: Vec<PublishAckFuture>,
    ) -> Result<(usize, bool)> {
        let mut stored = 0;
        let mut interrupted = false;
        for (entry, ack) in group.iter().zip(acks) {
            match ack.await {
                Ok(ack) if ack.duplicate => {
                    return Err(ExportError::Moved(format!(
                        "{} is a duplicate",
                        self.message_id(entry.mark)
                    )));
                }
                Ok(_) if interrupted => {
                    return Err(ExportError::Moved(format!(
                        "{} was stored by another exporter's help",
                        self.message_id(entry.mark)
                    )));
                }
                Ok(ack) => {
                    self.last_message =
                        Some(NatsStoredMessage { sequence: ack.sequence, entry: entry.clone() });
                    stored += 1;
                }
                // Another process's message interleaved; the rest of the group is refused as well.
                Err(error) if error.kind() == PublishErrorKind::WrongLastMessageId => {
                    interrupted = true
                }
                Err(error) => return Err(self.publish_error(entry, &error)),
            }
        }
        if stored == 0 {
            return Err(ExportError::Moved("not even the first message was stored".to_owned()));
        }
        Ok((stored, interrupted))
    }

    fn publish_error(&self, entry: &ExportEntry, error: &PublishError) -> ExportError {
        let id = self.message_id(entry.mark);
        match error.kind() {
            PublishErrorKind::WrongLastSequence => ExportError::Moved(format!("{id}: {error}")),
            PublishErrorKind::MaxPayloadExceeded => {
                let bytes = entry.body.len();
                ExportError::Refused(format!(
                    "{id} has {bytes} bytes: {error}; raise the server's max_payload"
                ))
            }
            PublishErrorKind::Other => ExportError::Refused(format!("{id}: {error}")),
            _ => ExportError::Unavailable(format!("{id}: {error}")),
        }
    }
}

fn next_window(window: usize, interrupted: bool, elapsed: Duration) -> usize {
    if interrupted || elapsed > GROUP_DURATION_RANGE.1 {
        (window / 2).max(1)
    } else if elapsed < GROUP_DURATION_RANGE.0 {
        (window * 2).min(WINDOW_RANGE.1)
    } else {
        window
    }
}

impl ExportLog for NatsExportLog {
    fn last_entry(&mut self) -> Option<&ExportEntry> {
        self.last_message.as_ref().map(|last| &last.entry)
    }

    fn append<'a>(&'a mut self, entries: &'a [ExportEntry]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut rest = entries;
            while !rest.is_empty() {
                let stored = self.publish_group(&rest[..rest.len().min(self.window)]).await?;
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
