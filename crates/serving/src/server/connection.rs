//! The task of one connection, from the first byte to the last.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use store::panics::contain_panic;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::{ConnectionAction, now_millis};
use super::handler::ConnectionHandler;
use super::handshake::{OpenedConnection, open_connection};
use super::limits::ConnectionLimits;
use super::registry::ConnectionSlot;
use super::watched_stream::WatchedStream;
use super::{ConnectionAddresses, ListenerContext, ShutdownTokens};
use crate::grpc::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use crate::http_guard::{MAX_HEAD_BYTES, MAX_TARGET_BYTES};
use crate::listen::ListenerProtocol;
use crate::tls::TransportStream;

/// HTTP/2 connection window of HTTP listeners.
const HTTP_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Buffer of an HTTP/1 connection per direction; must hold a request head.
const HTTP1_BUFFER_BYTES: usize = MAX_HEAD_BYTES + MAX_TARGET_BYTES;

/// Spawns the tasks of HTTP/2 streams. A panic resets the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamExecutor;

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(contain_panic(stream));
    }
}

/// Builds the HTTP settings for a listener's connections.
pub(super) fn connection_builder(
    protocol: ListenerProtocol,
    limits: &ConnectionLimits,
) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(StreamExecutor);
    let window = match protocol {
        ListenerProtocol::Http => HTTP_CONNECTION_WINDOW_BYTES,
        ListenerProtocol::Grpc => CONNECTION_WINDOW_BYTES,
    };
    // No HTTP/2 pings: some gRPC client libraries treat them as a flood. Lost peers are detected by
    // TCP keepalive (see `configure_socket`).
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(window)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(16 << 10)
        .max_pending_accept_reset_streams(Some(200));
    // `ConnectionActivity` enforces the timeouts: it distinguishes an incomplete head
    // from an idle connection.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None::<Duration>)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    match protocol {
        ListenerProtocol::Http => builder,
        ListenerProtocol::Grpc => builder.http2_only(),
    }
}

/// Opens a connection and serves it until it ends.
pub(super) async fn open_and_serve(
    stream: TcpStream,
    addresses: ConnectionAddresses,
    slot: ConnectionSlot,
    listener: Arc<ListenerContext>,
    builder: Arc<Builder<StreamExecutor>>,
    routes: axum::Router,
    shutdown: ShutdownTokens,
) {
    let activity = Arc::clone(&slot.activity);
    // Boxed: it is large, and over before the connection begins.
    let opening =
        Box::pin(open_connection(stream, addresses.remote, &activity, &listener, &shutdown));
    let Some(OpenedConnection { stream, certificate }) = opening.await else { return };
    let handler = ConnectionHandler { listener, routes, activity, addresses, certificate };
    serve_connection(stream, handler, &builder, shutdown).await;
}

async fn serve_connection(
    stream: TransportStream,
    handler: ConnectionHandler,
    builder: &Builder<StreamExecutor>,
    shutdown: ShutdownTokens,
) {
    let (activity, listener) = (Arc::clone(&handler.activity), Arc::clone(&handler.listener));
    let io = TokioIo::new(WatchedStream::new(stream, Arc::clone(&activity)));
    let mut connection = pin!(builder.serve_connection(io, handler));
    let mut check = pin!(tokio::time::sleep(first_check_delay(&listener.limits)));
    // Child tokens: polling the shared token would contend on its lock for all connections.
    let (stop, close) = (shutdown.stop.child_token(), shutdown.close.child_token());
    let mut ending_since = None;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = &mut check => {
                let next_check = match activity.next_action(now_millis(), ending_since, &listener.limits) {
                    ConnectionAction::Keep(time) => time,
                    ConnectionAction::Finish => {
                        ending_since = Some(now_millis());
                        connection.as_mut().graceful_shutdown();
                        Duration::ZERO
                    }
                    ConnectionAction::Close => return,
                };
                // Slightly late, so that one check is enough.
                check.as_mut().reset(Instant::now() + next_check + Duration::from_millis(5));
            }
            () = stop.cancelled(), if ending_since.is_none() => {
                ending_since = Some(now_millis());
                connection.as_mut().graceful_shutdown();
                check.as_mut().reset(Instant::now());
            }
            () = activity.evicted.notified() => return,
            () = close.cancelled() => return,
        }
    }
}

/// The first check is due with the shortest timeout, so that a silent connection is closed on time.
fn first_check_delay(limits: &ConnectionLimits) -> Duration {
    limits.header_timeout.min(limits.idle_timeout)
}

impl ShutdownTokens {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop, close: CancellationToken::new() }
    }
}
