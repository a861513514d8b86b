//! Reading a shard's messages.

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::Stream;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::connection::Connection;
use super::{Entry, Error, Mark, Result, Stored, subject};

/// Entries handed on at a time.
const CHUNK: usize = 1_000;

pub(super) fn read<'a>(
    connection: &'a Connection,
    shard: &'a str,
    from: Option<Mark>,
) -> BoxStream<'a, Result<Vec<Entry>>> {
    let begun = begin(connection, shard, from);
    stream::once(begun).map_ok(|reading| stream::try_unfold(reading, next)).try_flatten().boxed()
}

struct Reading {
    shard: String,
    messages: Option<Ordered>,
    /// Where in the stream the subject's last message is.
    last: u64,
}

async fn begin(connection: &Connection, shard: &str, from: Option<Mark>) -> Result<Reading> {
    let stream = connection.stream_for(shard, false).await?;
    let shard = shard.to_owned();
    let nothing = Reading { shard: shard.clone(), messages: None, last: 0 };
    let Some(stream) = stream else { return Ok(nothing) };
    let Some(last) = Stored::last(&stream, &shard).await? else { return Ok(nothing) };
    let deliver_policy = match from {
        None => DeliverPolicy::All,
        Some(from) => {
            DeliverPolicy::ByStartSequence { start_sequence: place(&stream, &shard, from, &last).await? }
        }
    };
    let consumer =
        OrderedConfig { filter_subject: subject(&shard), deliver_policy, ..OrderedConfig::default() };
    let consumer = stream.create_consumer(consumer).await.map_err(trouble)?;
    let messages = consumer.messages().await.map_err(trouble)?;
    Ok(Reading { shard, messages: Some(messages), last: last.sequence })
}

fn trouble(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(format!("reading the stream: {error}"))
}

/// A place in the stream from which on `from` is yet to come, not much before it: other shards' messages lie between, so
/// it is looked for backwards in growing steps.
async fn place(stream: &Stream, shard: &str, from: Mark, last: &Stored) -> Result<u64> {
    let missing = last.entry.mark.seq.saturating_sub(from.seq).unsigned_abs() + 1;
    let mut back = missing.saturating_mul(4);
    loop {
        let place = last.sequence.saturating_sub(back).max(1);
        if place == 1 {
            return Ok(place);
        }
        let first = stream.get_first_raw_message_by_subject(subject(shard), place).await.map_err(trouble)?;
        if Stored::parse(shard, first.sequence, first.payload)?.entry.mark <= from {
            return Ok(place);
        }
        back = back.saturating_mul(4);
    }
}

async fn next(mut reading: Reading) -> Result<Option<(Vec<Entry>, Reading)>> {
    let Some(messages) = &mut reading.messages else { return Ok(None) };
    let mut entries = Vec::new();
    while entries.len() < CHUNK {
        let message = messages.next().await.ok_or_else(|| trouble("it ended"))?.map_err(trouble)?;
        let sequence = message.info().map_err(trouble)?.stream_sequence;
        entries.push(Stored::parse(&reading.shard, sequence, message.message.payload)?.entry);
        if sequence >= reading.last {
            reading.messages = None;
            break;
        }
    }
    Ok(Some((entries, reading)))
}
