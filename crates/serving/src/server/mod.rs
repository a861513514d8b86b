//! The accept loop of every listener of the platform, and what its connections may cost.
//!
//! A connection has a place (`registry`), a task (`connection`), times to keep (`activity`); a request is checked before its
//! body is read (`handler`), and what it makes the process hold is counted until the last byte of its answer is with the
//! socket (`budget`, `in_flight`, `request_body`, `response_body`).

mod activity;
mod budget;
mod connection;
mod files;
mod framing;
mod handler;
mod in_flight;
mod limits;
mod registry;
mod request_body;
mod response_body;
mod watched_stream;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::{SockRef, TcpKeepalive};
use store::panics::contain_panic;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use budget::{ByteBudget, MAX_BYTES_IN_FLIGHT};
pub use files::raise_file_limit;
pub use handler::ListenerProtocol;
pub use limits::{ConnectionLimits, MAX_HEAD_BYTES, MAX_MESSAGE_BYTES, MAX_TARGET_BYTES};

use crate::grpc;
use crate::http_guard::AllowedHosts;
use crate::listen::PortListeners;
use registry::ConnectionRegistry;

/// After an accept that failed for want of files or memory.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// A peer that is gone without a word is found after this and three probes.
const KEEPALIVE_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBE_COUNT: u32 = 3;
/// The same while bytes are under way to it.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a port serves, and how much of it.
#[derive(Debug)]
pub struct ServerOptions {
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// The names it answers to.
    pub hosts: AllowedHosts,
    /// What one client may use.
    pub limits: ConnectionLimits,
    /// What all together may use; shared by the ports of a process.
    pub budget: ByteBudget,
}

/// What all connections of a port share.
#[derive(Debug)]
struct ListenerContext {
    protocol: ListenerProtocol,
    hosts: AllowedHosts,
    limits: ConnectionLimits,
    budget: ByteBudget,
    /// Paths of the calls whose clients send a stream of messages.
    client_streams: Vec<String>,
}

/// What ends connections: `stop` asks them to finish, `cut` does not ask.
#[derive(Debug, Clone)]
struct ShutdownTokens {
    stop: CancellationToken,
    close: CancellationToken,
}

/// A port that is being served.
#[derive(Debug)]
pub struct RunningServer {
    connections: TaskTracker,
    shutdown: ShutdownTokens,
}

impl RunningServer {
    /// Waits until, after `stop`, the last connection has ended.
    pub async fn wait_until_closed(&self) {
        self.connections.wait().await;
    }

    /// Ends every connection now, whatever it has begun.
    pub fn close_connections(&self) {
        self.shutdown.stop.cancel();
        self.shutdown.close.cancel();
    }
}

/// Serves `routes` on all addresses until `stop`: then the port closes, requests in flight are finished, and connections
/// without any end at once.
pub fn serve_routes(
    listeners: PortListeners,
    routes: Router,
    options: ServerOptions,
    stop: CancellationToken,
) -> RunningServer {
    let ServerOptions { protocol, hosts, limits, budget } = options;
    let name = if protocol == ListenerProtocol::Grpc { "grpc" } else { "http" };
    let registry = ConnectionRegistry::new(name, &limits);
    let client_streams =
        if protocol == ListenerProtocol::Grpc { grpc::client_stream_paths() } else { Vec::new() };
    let listener = Arc::new(ListenerContext { protocol, hosts, limits, budget, client_streams });
    let (connections, shutdown) = (TaskTracker::new(), ShutdownTokens::new(stop));
    // Without a state of its own the router makes its table once, not for each request.
    let routes: Router = routes.with_state(());
    for socket in listeners.into_inner() {
        let port = PortAcceptor {
            socket,
            registry: Arc::clone(&registry),
            listener: Arc::clone(&listener),
            routes: routes.clone(),
            connections: connections.clone(),
            shutdown: shutdown.clone(),
        };
        connections.spawn(port.accept_connections());
    }
    connections.close();
    RunningServer { connections, shutdown }
}

/// One socket that listens.
struct PortAcceptor {
    socket: TcpListener,
    registry: Arc<ConnectionRegistry>,
    listener: Arc<ListenerContext>,
    routes: Router,
    connections: TaskTracker,
    shutdown: ShutdownTokens,
}

impl PortAcceptor {
    async fn accept_connections(self) {
        let builder =
            Arc::new(connection::connection_builder(self.listener.protocol, &self.listener.limits));
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = self.shutdown.stop.cancelled() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_connection_error(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, code = "OVERLOADED", "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
                    continue;
                }
            };
            let Some(place) = self.registry.acquire_slot(address.ip()) else { continue };
            let Ok(local) = configure_socket(&stream) else { continue };
            self.connections.spawn(contain_panic(connection::serve_connection(
                stream,
                local,
                place,
                Arc::clone(&self.listener),
                Arc::clone(&builder),
                self.routes.clone(),
                self.shutdown.clone(),
            )));
        }
    }
}

/// Whether only the connection that was to be accepted is gone.
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// No Nagle's delay; peers that are gone are noticed. Answers the connection's own address; fails only if the connection is
/// gone already.
fn configure_socket(stream: &TcpStream) -> io::Result<IpAddr> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE_TIMEOUT)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBE_COUNT);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(stream.local_addr()?.ip())
}
