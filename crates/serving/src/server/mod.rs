//! Accept loop and connection limits of all listeners.
//!
//! - Shape: each connection has a slot (`registry`), a task (`connection`) and timeouts
//!   (`activity`). A request is checked before its body is read (`handler`).
//! - Cost: all memory held for requests is counted against one byte budget until the response is
//!   written to the socket (`budget`, `in_flight`, `request_body`, `response_body`).

mod activity;
mod authorization;
mod budget;
mod client_limits;
mod connection;
mod files;
mod framing;
mod handler;
mod handshake;
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

use access::AccessControl;
use axum::Router;
use socket2::{SockRef, TcpKeepalive};
use store::panics::contain_panic;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::listen::ListenerProtocol;
pub use budget::{ByteBudget, MAX_BYTES_IN_FLIGHT};
pub use client_limits::{ClientLimiter, ClientLimits};
pub use files::raise_file_limit;
pub use limits::{ConnectionLimits, MAX_MESSAGE_BYTES};

use crate::grpc;
use crate::http_guard::AllowedHosts;
use crate::listen::PortListeners;
use crate::scoped_rpcs::{RouteDemands, ServedRoutes};
use crate::tls::ServerTls;
use registry::ConnectionRegistry;

/// Wait after a failed accept for lack of file descriptors or memory.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Idle time before the TCP keepalive probes that detect a lost peer.
const KEEPALIVE_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBE_COUNT: u32 = 3;
/// Time to detect a lost peer while sent data is unacknowledged.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Protocol, limits and budget of a port.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// HTTP or gRPC.
    pub protocol: ListenerProtocol,
    /// Accepted host names.
    pub hosts: AllowedHosts,
    /// Limits per connection and client address.
    pub limits: ConnectionLimits,
    /// Byte budget, shared by all ports of a process.
    pub budget: ByteBudget,
    /// Limits of each client, shared by all ports of a process.
    pub client_limiter: ClientLimiter,
    /// Who may call; `None` if no clients are configured.
    pub access: Option<AccessControl>,
    /// TLS; `None` serves without.
    pub tls: Option<ServerTls>,
}

/// State shared by all connections of a port.
#[derive(Debug)]
struct ListenerContext {
    /// Label of metrics.
    name: &'static str,
    protocol: ListenerProtocol,
    hosts: AllowedHosts,
    limits: ConnectionLimits,
    budget: ByteBudget,
    client_limiter: ClientLimiter,
    /// Paths of client-streaming methods.
    client_streams: Vec<String>,
    access: Option<AccessControl>,
    demands: RouteDemands,
    tls: Option<ServerTls>,
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
struct ConnectionAddresses {
    /// The address that the client connected to.
    local: IpAddr,
    /// The client's address.
    remote: IpAddr,
}

/// Tokens that end connections: `stop` gracefully, `close` immediately.
#[derive(Debug, Clone)]
struct ShutdownTokens {
    stop: CancellationToken,
    close: CancellationToken,
}

/// A running server on one port.
#[derive(Debug)]
pub struct RunningServer {
    connections: TaskTracker,
    shutdown: ShutdownTokens,
}

impl RunningServer {
    /// Waits until the last connection has ended, after `stop` was cancelled.
    pub async fn wait_until_closed(&self) {
        self.connections.wait().await;
    }

    /// Closes all connections immediately, including those with requests in flight.
    pub fn close_connections(&self) {
        self.shutdown.stop.cancel();
        self.shutdown.close.cancel();
    }
}

/// Serves `routes` on all addresses until `stop` is cancelled: then the port is closed, requests in
/// flight finish, and idle connections close after a short grace period.
pub fn serve_routes(
    listeners: PortListeners,
    routes: impl Into<ServedRoutes>,
    options: ServerOptions,
    stop: CancellationToken,
) -> RunningServer {
    let ServerOptions { protocol, hosts, limits, budget, client_limiter, access, tls } = options;
    let ServedRoutes { router, demands } = routes.into();
    let name = if protocol == ListenerProtocol::Grpc { "grpc" } else { "http" };
    let registry = ConnectionRegistry::new(name, &limits);
    let client_streams =
        if protocol == ListenerProtocol::Grpc { grpc::client_stream_paths() } else { Vec::new() };
    let listener = Arc::new(ListenerContext {
        name,
        protocol,
        hosts,
        limits,
        budget,
        client_limiter,
        client_streams,
        access,
        demands,
        tls,
    });
    let (connections, shutdown) = (TaskTracker::new(), ShutdownTokens::new(stop));
    // With its state set, the router builds its routing table once, not per request.
    let routes: Router = router.with_state(());
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

/// Accept loop of one listening socket.
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
            let addresses = ConnectionAddresses { local, remote: address.ip() };
            self.connections.spawn(contain_panic(connection::open_and_serve(
                stream,
                addresses,
                place,
                Arc::clone(&self.listener),
                Arc::clone(&builder),
                self.routes.clone(),
                self.shutdown.clone(),
            )));
        }
    }
}

/// Whether the error concerns only the connection to be accepted.
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Disables Nagle's algorithm and enables detection of lost peers. Returns the connection's local
/// address; fails only if the connection is already closed.
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
