//! Connection to NATS, one per process, and the stream that all shards share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{ContextBuilder, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{ConnectOptions, ServerAddr};
use tokio::sync::Mutex;

use super::subjects::{pattern_covers, shard_subject};
use super::{ExportError, NatsSettings, Result};

/// Name of the JetStream stream.
pub(super) const STREAM_NAME: &str = "LEDGER";
/// Maximum number of unacknowledged messages, over all shards.
const MAX_ACKS_IN_FLIGHT: usize = 16_384;
/// Maximum message body: a whole call to the ledger (8 MiB) and some overhead.
const MAX_BODY_BYTES: usize = (8 << 20) + 4096;

/// Connects on first use and reconnects indefinitely.
pub(super) struct NatsConnection {
    settings: NatsSettings,
    context: Mutex<Option<Context>>,
    send_lock: Arc<Mutex<()>>,
}

impl NatsConnection {
    pub(super) fn new(settings: NatsSettings) -> Self {
        Self { settings, context: Mutex::default(), send_lock: Arc::default() }
    }

    /// Mutex held while a group is sent, so that groups of other shards do not interleave.
    pub(super) fn send_lock(&self) -> Arc<Mutex<()>> {
        self.send_lock.clone()
    }

    /// The stream, validated for this shard's messages. A missing stream is created if `create`,
    /// else the result is `None`.
    pub(super) async fn get_shard_stream(
        &self,
        shard: &str,
        create: bool,
    ) -> Result<Option<Stream>> {
        let context = self.get_context().await?;
        let stream = match context.get_stream(STREAM_NAME).await {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(cause)
                    if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    if !create {
                        return Ok(None);
                    }
                    let made = context.create_stream(self.stream_config()).await;
                    tracing::info!(
                        stream = STREAM_NAME,
                        made = made.is_ok(),
                        "the stream was not there"
                    );
                    made.map_err(|error| stream_error(&error))?
                }
                _ => return Err(stream_error(&error)),
            },
        };
        let config = &stream.cached_info().config;
        check_stream_config(config, shard)
            .map_err(|why| ExportError::Refused(format!("the stream {STREAM_NAME}: {why}")))?;
        Ok(Some(stream))
    }

    /// The JetStream context while connected; connects on first use.
    pub(super) async fn get_context(&self) -> Result<Context> {
        let mut cached = self.context.lock().await;
        let context = match &*cached {
            Some(context) => context.clone(),
            None => cached.insert(self.connect().await?).clone(),
        };
        match context.client().connection_state() {
            State::Connected => Ok(context),
            // The client reconnects by itself; messages sent meanwhile would only be buffered.
            _ => Err(ExportError::Unavailable("the connection to NATS is lost".to_owned())),
        }
    }

    async fn connect(&self) -> Result<Context> {
        let servers = parse_servers(&self.settings.url)
            .map_err(|why| ExportError::Refused(format!("--nats-url: {why}")))?;
        let mut options = ConnectOptions::new()
            .name("order_service exporter")
            .connection_timeout(self.settings.timeout)
            .request_timeout(Some(self.settings.timeout))
            .reconnect_delay_callback(|attempts| Duration::from_millis(100 << attempts.min(5)));
        if let Some(file) = &self.settings.credentials {
            let credentials =
                tokio::fs::read_to_string(file).await.map_err(|_| credentials_error(file))?;
            options = options.credentials(&credentials).map_err(|_| credentials_error(file))?;
        }
        let names = format_servers(&servers);
        let client = options.connect(servers).await;
        // Only the error kind: the library's message may contain parts of the URL.
        let client = client.map_err(|error| {
            ExportError::Unavailable(format!("NATS at {names}: {}", error.kind()))
        })?;
        let info = client.server_info();
        tracing::info!(servers = names, version = info.version, "connected to NATS");
        if info.max_payload < MAX_BODY_BYTES {
            let (allowed, largest) = (info.max_payload, MAX_BODY_BYTES);
            tracing::warn!(
                allowed,
                largest,
                "NATS takes smaller messages than events can be; raise its max_payload"
            );
        }
        let timeout = self.settings.timeout;
        Ok(ContextBuilder::new()
            .timeout(timeout)
            .ack_timeout(timeout)
            .max_ack_inflight(MAX_ACKS_IN_FLIGHT)
            .build(client))
    }

    fn stream_config(&self) -> Config {
        Config {
            name: STREAM_NAME.to_owned(),
            subjects: vec![shard_subject("*")],
            storage: StorageType::File,
            retention: RetentionPolicy::Limits,
            duplicate_window: self.settings.duplicate_window,
            description: Some(
                "The ledger's events, exactly once and in order per shard".to_owned(),
            ),
            ..Config::default()
        }
    }
}

fn stream_error(error: &dyn std::fmt::Display) -> ExportError {
    ExportError::Unavailable(format!("the stream {STREAM_NAME}: {error}"))
}

fn credentials_error(file: &Path) -> ExportError {
    ExportError::Refused(format!("--nats-credentials {}: cannot be read or used", file.display()))
}

pub(super) fn parse_servers(urls: &str) -> Result<Vec<ServerAddr>, String> {
    urls.split(',').map(parse_server).collect()
}

fn parse_server(url: &str) -> Result<ServerAddr, String> {
    url.trim().parse().map_err(|_| "not a URL such as nats://localhost:4222".to_owned())
}

/// Host and port only: the URL may contain secrets.
pub(super) fn format_servers(servers: &[ServerAddr]) -> String {
    servers
        .iter()
        .map(|server| format!("{}:{}", server.host(), server.port()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Checks that a stream stores a shard's messages as published, in order and without consuming
/// them.
fn check_stream_config(config: &Config, shard: &str) -> Result<(), String> {
    let subject = shard_subject(shard);
    if !config.subjects.iter().any(|pattern| pattern_covers(pattern, &subject)) {
        return Err(format!(
            "its subjects ({}) do not cover {subject}",
            config.subjects.join(", ")
        ));
    }
    if config.retention != RetentionPolicy::Limits {
        return Err("it forgets what is consumed; it must have the retention `limits`".to_owned());
    }
    if config.mirror.is_some() || config.sealed || config.no_ack {
        return Err("it is a mirror, sealed, or without acknowledgements".to_owned());
    }
    if config.subject_transform.is_some() {
        return Err("it changes the subjects of its messages".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_must_take_and_keep_the_messages() {
        let ours = NatsConnection::new(NatsSettings::from_url("")).stream_config();
        assert_eq!(check_stream_config(&ours, "s0"), Ok(()));
        let why = |config: Config| check_stream_config(&config, "s0").unwrap_err();
        assert!(
            why(Config { subjects: vec!["orders.*".to_owned()], ..ours.clone() })
                .contains("do not cover")
        );
        assert!(
            why(Config { retention: RetentionPolicy::WorkQueue, ..ours.clone() })
                .contains("retention")
        );
        assert!(why(Config { sealed: true, ..ours }).contains("sealed"));
    }

    #[test]
    fn no_secret_is_in_a_servers_name() {
        let servers = parse_servers("nats://user:canary@one:4222, tls://two").unwrap();
        assert_eq!(format_servers(&servers), "one:4222, two:4222");
        assert!(!super::parse_servers("nats://user:canary@").unwrap_err().contains("canary"));
        let shown = format!("{:?}", NatsSettings::from_url("nats://user:canary@one"));
        assert!(shown.contains("one:4222") && !shown.contains("canary"), "{shown}");
    }
}
