//! One connection, in a task of its own, from its first byte to its last.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use store::panics::contain_panic;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::{ConnectionAction, now_millis};
use super::handler::{ConnectionHandler, ListenerProtocol};
use super::limits::{ConnectionLimits, MAX_HEAD_BYTES, MAX_TARGET_BYTES};
use super::registry::ConnectionSlot;
use super::watched_stream::WatchedStream;
use super::{ListenerContext, ShutdownTokens};
use crate::grpc::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};

/// The window of a connection that serves pages and REST over HTTP/2.
const HTTP_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What is buffered of one HTTP/1 connection, either way; a head must fit in.
const HTTP1_BUFFER_BYTES: usize = MAX_HEAD_BYTES + MAX_TARGET_BYTES;

/// Where the streams of HTTP/2 connections are worked on. A fault on one's way is told to its client, by a reset.
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

/// How connections of a listener are served.
pub(super) fn connection_builder(
    protocol: ListenerProtocol,
    limits: &ConnectionLimits,
) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(StreamExecutor);
    let window = match protocol {
        ListenerProtocol::Http => HTTP_CONNECTION_WINDOW_BYTES,
        ListenerProtocol::Grpc => CONNECTION_WINDOW_BYTES,
    };
    // No pings: clients of some gRPC libraries take them for a flood, and a peer that is gone is found by TCP's own
    // (see `tune`).
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(window)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(16 << 10)
        .max_pending_accept_reset_streams(Some(200));
    // Times are kept by `Activity`, which knows a half head from a connection that is kept for later.
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

/// Serves a connection until it ends. A TLS handshake belongs here, before the first byte is read: in this task, within the
/// time for a head, and with the place taken.
pub(super) async fn serve_connection<S>(
    stream: S,
    local: IpAddr,
    slot: ConnectionSlot,
    listener: Arc<ListenerContext>,
    builder: Arc<Builder<StreamExecutor>>,
    routes: axum::Router,
    shutdown: ShutdownTokens,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::clone(&slot.activity);
    let io = TokioIo::new(WatchedStream::new(stream, Arc::clone(&activity)));
    let handler = ConnectionHandler {
        listener: Arc::clone(&listener),
        routes,
        activity: Arc::clone(&activity),
        local_address: local,
    };
    let mut connection = pin!(builder.serve_connection(io, handler));
    let mut check = pin!(tokio::time::sleep(first_check_delay(&listener.limits)));
    // Children: what all connections share would be locked at every step of each of them.
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
                // A little later than needed, so that one look is enough.
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

/// A silent connection is to be found at its time, not at twice of it.
fn first_check_delay(limits: &ConnectionLimits) -> Duration {
    limits.header_timeout.min(limits.idle_timeout)
}

impl ShutdownTokens {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop, close: CancellationToken::new() }
    }
}
