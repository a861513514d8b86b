//! The accept loop of every listener of the platform, and what its connections may cost.
//!
//! A connection has a place (`registry`), a task (`connection`), times to keep (`activity`); a request is checked before its
//! body is read (`handler`), and what it makes the process hold is counted until the last byte of its answer is with the
//! socket (`budget`, `in_flight`, `arriving`, `leaving`).

mod activity;
mod arriving;
mod budget;
mod connection;
mod files;
mod framing;
mod handler;
mod in_flight;
mod leaving;
mod limits;
mod registry;
mod watched;

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

pub use budget::{Budget, MAX_BYTES_IN_FLIGHT};
pub use files::raise_file_limit;
pub use handler::Protocol;
pub use limits::{Limits, MAX_HEAD_BYTES, MAX_MESSAGE_BYTES, MAX_TARGET_BYTES};

use crate::grpc;
use crate::http_guard::Hosts;
use crate::listen::Listeners;
use registry::Registry;

/// After an accept that failed for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that is gone without a word is found after this and three probes.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// The same while bytes are under way to it.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a port serves, and how much of it.
#[derive(Debug)]
pub struct Terms {
    /// What is spoken.
    pub protocol: Protocol,
    /// The names it answers to.
    pub hosts: Hosts,
    /// What one client may use.
    pub limits: Limits,
    /// What all together may use; shared by the ports of a process.
    pub budget: Budget,
}

/// What all connections of a port share.
#[derive(Debug)]
struct Listener {
    protocol: Protocol,
    hosts: Hosts,
    limits: Limits,
    budget: Budget,
    /// Paths of the calls whose clients send a stream of messages.
    client_streams: Vec<String>,
}

/// What ends connections: `stop` asks them to finish, `cut` does not ask.
#[derive(Debug, Clone)]
struct Ending {
    stop: CancellationToken,
    cut: CancellationToken,
}

/// A port that is being served.
#[derive(Debug)]
pub struct Serving {
    connections: TaskTracker,
    ending: Ending,
}

impl Serving {
    /// Waits until, after `stop`, the last connection has ended.
    pub async fn ended(&self) {
        self.connections.wait().await;
    }

    /// Ends every connection now, whatever it has begun.
    pub fn cut(&self) {
        self.ending.stop.cancel();
        self.ending.cut.cancel();
    }
}

/// Serves `routes` on all addresses until `stop`: then the port closes, requests in flight are finished, and connections
/// without any end at once.
pub fn serve(listeners: Listeners, routes: Router, terms: Terms, stop: CancellationToken) -> Serving {
    let Terms { protocol, hosts, limits, budget } = terms;
    let name = if protocol == Protocol::Grpc { "grpc" } else { "http" };
    let registry = Registry::new(name, &limits);
    let client_streams = if protocol == Protocol::Grpc { grpc::client_streams() } else { Vec::new() };
    let listener = Arc::new(Listener { protocol, hosts, limits, budget, client_streams });
    let (connections, ending) = (TaskTracker::new(), Ending::new(stop));
    // Without a state of its own the router makes its table once, not for each request.
    let routes: Router = routes.with_state(());
    for socket in listeners.into_inner() {
        let port = Port {
            socket,
            registry: Arc::clone(&registry),
            listener: Arc::clone(&listener),
            routes: routes.clone(),
            connections: connections.clone(),
            ending: ending.clone(),
        };
        connections.spawn(port.accept());
    }
    connections.close();
    Serving { connections, ending }
}

/// One socket that listens.
struct Port {
    socket: TcpListener,
    registry: Arc<Registry>,
    listener: Arc<Listener>,
    routes: Router,
    connections: TaskTracker,
    ending: Ending,
}

impl Port {
    async fn accept(self) {
        let builder = Arc::new(connection::builder(self.listener.protocol, &self.listener.limits));
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = self.ending.stop.cancelled() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, code = "OVERLOADED", "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.registry.place(address.ip()) else { continue };
            let Ok(local) = tune(&stream) else { continue };
            self.connections.spawn(contain_panic(connection::serve(
                stream,
                local,
                place,
                Arc::clone(&self.listener),
                Arc::clone(&builder),
                self.routes.clone(),
                self.ending.clone(),
            )));
        }
    }
}

/// Whether only the connection that was to be accepted is gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// No Nagle's delay; peers that are gone are noticed. Answers the connection's own address; fails only if the connection is
/// gone already.
fn tune(stream: &TcpStream) -> io::Result<IpAddr> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream.local_addr()?.ip())
}
