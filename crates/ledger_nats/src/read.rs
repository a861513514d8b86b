//! Reading a shard's messages with an ordered consumer.

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::Stream;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::connection::NatsConnection;
use super::{ExportEntry, ExportError, ExportMark, NatsStoredMessage, Result, shard_subject};

/// Maximum number of entries per chunk.
const MAX_ENTRIES_PER_CHUNK: usize = 1_000;

pub(super) fn read_shard_entries<'a>(
    connection: &'a NatsConnection,
    shard: &'a str,
    from: Option<ExportMark>,
) -> BoxStream<'a, Result<Vec<ExportEntry>>> {
    let reader = open_reader(connection, shard, from);
    stream::once(reader).map_ok(|reading| stream::try_unfold(reading, next)).try_flatten().boxed()
}

struct NatsReader {
    shard: String,
    messages: Option<Ordered>,
    /// Stream sequence of the subject's last message when reading began.
    last_sequence: u64,
}

async fn open_reader(
    connection: &NatsConnection,
    shard: &str,
    from: Option<ExportMark>,
) -> Result<NatsReader> {
    let stream = connection.get_shard_stream(shard, false).await?;
    let shard = shard.to_owned();
    let nothing = NatsReader { shard: shard.clone(), messages: None, last_sequence: 0 };
    let Some(stream) = stream else { return Ok(nothing) };
    let Some(last) = NatsStoredMessage::read_last(&stream, &shard).await? else {
        return Ok(nothing);
    };
    let deliver_policy = match from {
        None => DeliverPolicy::All,
        Some(from) => DeliverPolicy::ByStartSequence {
            start_sequence: find_start_sequence(&stream, &shard, from, &last).await?,
        },
    };
    let consumer = OrderedConfig {
        filter_subject: shard_subject(&shard),
        deliver_policy,
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(consumer).await.map_err(read_error)?;
    let messages = consumer.messages().await.map_err(read_error)?;
    Ok(NatsReader { shard, messages: Some(messages), last_sequence: last.sequence })
}

fn read_error(error: impl std::fmt::Display) -> ExportError {
    ExportError::Unavailable(format!("reading the stream: {error}"))
}

/// A stream sequence at or before `from`, but not far before it. Messages of other shards lie in
/// between, so the search goes backwards in growing steps.
async fn find_start_sequence(
    stream: &Stream,
    shard: &str,
    from: ExportMark,
    last_message: &NatsStoredMessage,
) -> Result<u64> {
    let missing = last_message.entry.mark.seq.distance_from(from.seq).unsigned_abs() + 1;
    let mut distance = missing.saturating_mul(4);
    loop {
        let sequence = last_message.sequence.saturating_sub(distance).max(1);
        if sequence == 1 {
            return Ok(sequence);
        }
        let first = stream
            .get_first_raw_message_by_subject(shard_subject(shard), sequence)
            .await
            .map_err(read_error)?;
        if NatsStoredMessage::parse_message(shard, first.sequence, first.payload)?.entry.mark
            <= from
        {
            return Ok(sequence);
        }
        distance = distance.saturating_mul(4);
    }
}

async fn next(mut reader: NatsReader) -> Result<Option<(Vec<ExportEntry>, NatsReader)>> {
    let Some(messages) = &mut reader.messages else { return Ok(None) };
    let mut entries = Vec::new();
    while entries.len() < MAX_ENTRIES_PER_CHUNK {
        let message =
            messages.next().await.ok_or_else(|| read_error("it ended"))?.map_err(read_error)?;
        let sequence = message.info().map_err(read_error)?.stream_sequence;
        entries.push(
            NatsStoredMessage::parse_message(&reader.shard, sequence, message.message.payload)?
                .entry,
        );
        if sequence >= reader.last_sequence {
            reader.messages = None;
            break;
        }
    }
    Ok(Some((entries, reader)))
}
