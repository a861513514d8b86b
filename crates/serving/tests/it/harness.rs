//! A small server on a free port, and raw connections to it.

use std::time::Duration;

use access::{AccessControl, RouteAccess};
use axum::body::Body;
use bytes::Bytes;
use serving::http_guard::AllowedHosts;
use serving::listen::{LOOPBACK_ADDRESSES, PortListeners};
use serving::scoped_router::ScopedRouter;
use serving::scoped_rpcs::ServedRoutes;
use serving::server::{
    ByteBudget, ClientLimiter, ClientLimits, ConnectionLimits, ListenerProtocol, RunningServer,
    ServerOptions, serve_routes,
};
use serving::tls::ServerTls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Timeout of every wait in these tests.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Size in bytes of the response to `GET /large`.
pub const LARGE: usize = 32 << 20;

pub struct Server {
    pub port: u16,
    pub budget: ByteBudget,
    pub serving: RunningServer,
    pub stop: CancellationToken,
}

impl Server {
    pub async fn with(
        protocol: ListenerProtocol,
        limits: ConnectionLimits,
        budget: ByteBudget,
    ) -> Self {
        Self::of(routes(), protocol, limits, budget).await
    }

    pub async fn of(
        routes: impl Into<ServedRoutes>,
        protocol: ListenerProtocol,
        limits: ConnectionLimits,
        budget: ByteBudget,
    ) -> Self {
        Self::guarded(routes, protocol, limits, budget, None).await
    }

    pub async fn guarded(
        routes: impl Into<ServedRoutes>,
        protocol: ListenerProtocol,
        limits: ConnectionLimits,
        budget: ByteBudget,
        access: Option<AccessControl>,
    ) -> Self {
        Self::secured(routes, protocol, limits, budget, access, None).await
    }

    pub async fn secured(
        routes: impl Into<ServedRoutes>,
        protocol: ListenerProtocol,
        limits: ConnectionLimits,
        budget: ByteBudget,
        access: Option<AccessControl>,
        tls: Option<ServerTls>,
    ) -> Self {
        let options = ServerOptions {
            protocol,
            hosts: AllowedHosts::with_loopback([]),
            limits,
            budget,
            client_limiter: ClientLimiter::default(),
            access,
            tls,
        };
        Self::with_options(routes, options).await
    }

    /// A server that limits its clients.
    pub async fn limited(
        routes: impl Into<ServedRoutes>,
        protocol: ListenerProtocol,
        access: Option<AccessControl>,
        client_limits: ClientLimits,
    ) -> Self {
        Self::with_options(
            routes,
            ServerOptions {
                protocol,
                hosts: AllowedHosts::with_loopback([]),
                limits: ConnectionLimits::default(),
                budget: ByteBudget::default(),
                client_limiter: ClientLimiter::new(client_limits),
                access,
                tls: None,
            },
        )
        .await
    }

    async fn with_options(routes: impl Into<ServedRoutes>, options: ServerOptions) -> Self {
        let listeners = PortListeners::bind(&LOOPBACK_ADDRESSES[..1], 0, "--port").await.unwrap();
        let (port, stop) = (listeners.port(), CancellationToken::new());
        let budget = options.budget.clone();
        let serving = serve_routes(listeners, routes, options, stop.clone());
        Self { port, budget, serving, stop }
    }

    pub async fn http(limits: ConnectionLimits) -> Self {
        Self::with(ListenerProtocol::Http, limits, ByteBudget::default()).await
    }

    pub async fn connect(&self) -> Raw {
        Raw(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap())
    }

    /// Waits until the whole budget is released.
    pub async fn is_even(&self) {
        let even = async {
            while self.budget.used_bytes() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, even)
            .await
            .unwrap_or_else(|_| panic!("{} bytes are held", self.budget.used_bytes()));
    }
}

fn routes() -> ScopedRouter {
    let large = async || Body::from(Bytes::from(vec![b'x'; LARGE]));
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(600)).await;
        "slow\n"
    };
    let echo = async |serving::body::JsonBody(body)| body;
    ScopedRouter::new()
        .get("/healthz", RouteAccess::Open, async || "alive\n")
        .get("/quick", RouteAccess::AnyClient, async || "quick\n")
        .get("/slow", RouteAccess::AnyClient, slow)
        .get("/large", RouteAccess::AnyClient, large)
        .post("/echo", RouteAccess::AnyClient, echo)
}

/// A raw TCP connection.
pub struct Raw(pub TcpStream);

impl Raw {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    pub async fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    }

    pub async fn post(&mut self, path: &str, length: usize, part: &[u8]) {
        let head = "Content-Type: application/json\r\nHost: localhost\r\n";
        self.send(format!("POST {path} HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n")).await;
        self.send(part).await;
    }

    /// Reads until `until` has been received, or to the end.
    pub async fn read_until(&mut self, until: &str) -> String {
        let mut read = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&read).contains(until) {
                // A reset connection counts as its end.
                if self.0.read_buf(&mut read).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        };
        timeout(PATIENCE, reading).await.unwrap();
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads until the server closes the connection; returns the data and the duration.
    pub async fn read_to_end(&mut self) -> (String, Duration) {
        let began = Instant::now();
        let read = self.read_until("\0never\0").await;
        (read, began.elapsed())
    }

    /// Whether the server has not closed the connection.
    pub async fn is_open(&mut self) -> bool {
        let mut byte = [0];
        match timeout(Duration::from_millis(20), self.0.peek(&mut byte)).await {
            Ok(read) => read.is_ok_and(|read| read > 0),
            Err(_) => true,
        }
    }
}
