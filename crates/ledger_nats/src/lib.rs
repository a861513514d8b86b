//! The engine `nats`: NATS JetStream, stream `LEDGER`, subject `ledger.events.<shard>`.
//!
//! A group's first message says after which message of its subject it comes (`Nats-Expected-Last-Subject-Sequence`), and
//! each further one that it comes right after the one before it (`Nats-Expected-Last-Msg-Id`, which the server holds
//! against the stream's very last message). So a group is published without waiting for its acknowledgements, and still no
//! message is stored unless the one before it is: neither a crash, a lost acknowledgement nor a zombie can leave a gap,
//! a duplicate or a swap, however long ago the window of the message ids has passed. (Expected *sequences* in advance would
//! not do: other shards share the stream, so a guessed one can be right by accident after a message was refused.)
//!
//! One connection for a process. Groups of its shards go out one after the other; where another process's messages come
//! between, the rest of a group is refused and published again, in smaller groups.

mod append;
mod connection;
mod read;
mod subjects;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use append::Publishing;
use connection::Connection;
use ledger::export::{Alarm, Engine, Entry, Error, Log, Mark, Result};
use subjects::subject;

/// How the server is reached.
#[derive(Clone)]
pub struct NatsSettings {
    /// `nats://host:port` or `tls://…`, several separated by commas; may carry a user and a password, so it is a secret.
    pub url: String,
    /// A file with a user's JWT and key.
    pub credentials: Option<PathBuf>,
    /// How long the server remembers message ids, if this program creates the stream.
    pub duplicate_window: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl NatsSettings {
    /// A server by its URL.
    pub fn at(url: impl Into<String>) -> Self {
        let (duplicate_window, timeout) = (Duration::from_secs(120), Duration::from_secs(5));
        Self { url: url.into(), credentials: None, duplicate_window, timeout }
    }

    /// Says what is wrong with a URL, without repeating it.
    pub fn check(url: &str) -> Result<(), String> {
        connection::servers(url).map(drop)
    }
}

/// Without the URL, which is a secret.
impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = connection::servers(&self.url).map(|servers| connection::named(&servers));
        let credentials = &self.credentials;
        f.debug_struct("NatsSettings")
            .field("servers", &servers)
            .field("credentials", credentials)
            .finish_non_exhaustive()
    }
}

/// Exports to NATS JetStream.
pub struct Nats {
    connection: Connection,
}

impl Nats {
    /// Connects when it is first needed.
    pub fn new(settings: NatsSettings) -> Self {
        Self { connection: Connection::new(settings) }
    }
}

/// A stored message: where in the stream, and what.
struct Stored {
    sequence: u64,
    entry: Entry,
}

impl Stored {
    /// What the subject ends with, as the stream's leader knows it.
    async fn last(stream: &Stream, shard: &str) -> Result<Option<Self>> {
        match stream.get_last_raw_message_by_subject(&subject(shard)).await {
            Ok(message) => Self::parse(shard, message.sequence, message.payload).map(Some),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(Error::Unavailable(format!("the last message of {}: {error}", subject(shard)))),
        }
    }

    fn parse(shard: &str, sequence: u64, payload: bytes::Bytes) -> Result<Self> {
        let entry = Entry::parse(shard, payload);
        let entry = entry.map_err(|what| {
            Error::Alarm(Alarm::Damaged(format!(
                "message {sequence} of the stream {}: {what}",
                connection::STREAM
            )))
        })?;
        Ok(Self { sequence, entry })
    }
}

impl Engine for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn open<'a>(&'a self, shard: &'a str, begins: bool) -> BoxFuture<'a, Result<Box<dyn Log>>> {
        Box::pin(async move {
            let context = self.connection.context().await?;
            let last = match self.connection.stream_for(shard, begins).await? {
                Some(stream) => Stored::last(&stream, shard).await?,
                None => None,
            };
            Ok(Box::new(Publishing::new(context, shard, last, self.connection.sending())) as Box<dyn Log>)
        })
    }

    fn last<'a>(&'a self, shard: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        Box::pin(async move {
            let Some(stream) = self.connection.stream_for(shard, false).await? else { return Ok(None) };
            Ok(Stored::last(&stream, shard).await?.map(|stored| stored.entry))
        })
    }

    fn read<'a>(&'a self, shard: &'a str, from: Option<Mark>) -> BoxStream<'a, Result<Vec<Entry>>> {
        read::read(&self.connection, shard, from)
    }
}
