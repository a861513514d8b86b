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

use append::NatsExportLog;
use connection::NatsConnection;
use ledger::export::{
    ExportAlarm, ExportEngine, ExportEntry, ExportError, ExportLog, ExportMark, Result,
};
use subjects::shard_subject;

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
    pub fn from_url(url: impl Into<String>) -> Self {
        let (duplicate_window, timeout) = (Duration::from_secs(120), Duration::from_secs(5));
        Self { url: url.into(), credentials: None, duplicate_window, timeout }
    }

    /// Says what is wrong with a URL, without repeating it.
    pub fn check_url(url: &str) -> Result<(), String> {
        connection::parse_servers(url).map(drop)
    }
}

/// Without the URL, which is a secret.
impl fmt::Debug for NatsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = connection::parse_servers(&self.url)
            .map(|servers| connection::format_servers(&servers));
        let credentials = &self.credentials;
        f.debug_struct("NatsSettings")
            .field("servers", &servers)
            .field("credentials", credentials)
            .finish_non_exhaustive()
    }
}

/// Exports to NATS JetStream.
pub struct NatsEngine {
    connection: NatsConnection,
}

impl NatsEngine {
    /// Connects when it is first needed.
    pub fn new(settings: NatsSettings) -> Self {
        Self { connection: NatsConnection::new(settings) }
    }
}

/// A stored message: where in the stream, and what.
struct NatsStoredMessage {
    sequence: u64,
    entry: ExportEntry,
}

impl NatsStoredMessage {
    /// What the subject ends with, as the stream's leader knows it.
    async fn read_last(stream: &Stream, shard: &str) -> Result<Option<Self>> {
        match stream.get_last_raw_message_by_subject(&shard_subject(shard)).await {
            Ok(message) => Self::parse_message(shard, message.sequence, message.payload).map(Some),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                Ok(None)
            }
            Err(error) => Err(ExportError::Unavailable(format!(
                "the last message of {}: {error}",
                shard_subject(shard)
            ))),
        }
    }

    fn parse_message(shard: &str, sequence: u64, payload: bytes::Bytes) -> Result<Self> {
        let entry = ExportEntry::parse(shard, payload);
        let entry = entry.map_err(|what| {
            ExportError::Alarm(ExportAlarm::Damaged(format!(
                "message {sequence} of the stream {}: {what}",
                connection::STREAM_NAME
            )))
        })?;
        Ok(Self { sequence, entry })
    }
}

impl ExportEngine for NatsEngine {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn open_log<'a>(
        &'a self,
        shard: &'a str,
        begins: bool,
    ) -> BoxFuture<'a, Result<Box<dyn ExportLog>>> {
        Box::pin(async move {
            let context = self.connection.get_context().await?;
            let last = match self.connection.get_shard_stream(shard, begins).await? {
                Some(stream) => NatsStoredMessage::read_last(&stream, shard).await?,
                None => None,
            };
            Ok(Box::new(NatsExportLog::new(context, shard, last, self.connection.send_lock()))
                as Box<dyn ExportLog>)
        })
    }

    fn last_entry<'a>(&'a self, shard: &'a str) -> BoxFuture<'a, Result<Option<ExportEntry>>> {
        Box::pin(async move {
            let Some(stream) = self.connection.get_shard_stream(shard, false).await? else {
                return Ok(None);
            };
            Ok(NatsStoredMessage::read_last(&stream, shard).await?.map(|stored| stored.entry))
        })
    }

    fn read_entries<'a>(
        &'a self,
        shard: &'a str,
        from: Option<ExportMark>,
    ) -> BoxStream<'a, Result<Vec<ExportEntry>>> {
        read::read_shard_entries(&self.connection, shard, from)
    }
}
