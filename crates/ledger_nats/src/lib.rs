//! Export engine `nats`: NATS JetStream, stream `LEDGER`, subject `ledger.events.<shard>`.
//!
//! - Shape: groups of messages, pipelined. A group's first message carries
//!   `Nats-Expected-Last-Subject-Sequence`, each further one `Nats-Expected-Last-Msg-Id` of its
//!   predecessor, which the server compares with the stream's very last message. (Expected
//!   *sequences* in advance would not do: shards share the stream, so a guessed sequence can match
//!   by accident after a message was refused.)
//! - Cost: one connection per process; its shards' groups are sent one after the other. When
//!   another process's messages interleave, the rest of the group is refused and published again in
//!   smaller groups.
//! - Promise: a message is stored only right after its predecessor. A crash, a lost acknowledgement
//!   or a zombie exporter cannot cause a gap, a duplicate or a reordering, even after the message
//!   ids' duplicate window has passed.

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

/// Connection settings of the NATS server.
#[derive(Clone)]
pub struct NatsSettings {
    /// `nats://host:port` or `tls://…`, several separated by commas. A secret: it may contain a
    /// user and a password.
    pub url: String,
    /// Path of a credentials file (a user's JWT and key).
    pub credentials: Option<PathBuf>,
    /// Duplicate window of the stream, if this program creates it.
    pub duplicate_window: Duration,
    /// Timeout of connecting and of each answer.
    pub timeout: Duration,
}

impl NatsSettings {
    /// Settings for a server URL: a duplicate window of 120 s, a timeout of 5 s.
    pub fn from_url(url: impl Into<String>) -> Self {
        let (duplicate_window, timeout) = (Duration::from_secs(120), Duration::from_secs(5));
        Self { url: url.into(), credentials: None, duplicate_window, timeout }
    }

    /// Validates a URL; errors never contain it.
    pub fn check_url(url: &str) -> Result<(), String> {
        connection::parse_servers(url).map(drop)
    }
}

/// Omits the URL, which is a secret.
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

/// Export engine that publishes to NATS JetStream.
pub struct NatsEngine {
    connection: NatsConnection,
}

impl NatsEngine {
    /// An engine that connects on first use.
    pub fn new(settings: NatsSettings) -> Self {
        Self { connection: NatsConnection::new(settings) }
    }
}

/// A stored message and its stream sequence.
struct NatsStoredMessage {
    sequence: u64,
    entry: ExportEntry,
}

impl NatsStoredMessage {
    /// Last message of the shard's subject, as read from the stream leader.
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
