//! TCP listeners: one port on several addresses, loopback by default.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};

/// Protocol of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2, for REST and pages.
    Http,
    /// gRPC, over HTTP/2 only.
    Grpc,
}

/// Error of opening a listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port is in use by another socket.
    #[error("port {port} is in use ({address}); choose another with {flag}")]
    InUse {
        /// The requested port.
        port: u16,
        /// Address and port that failed.
        address: SocketAddr,
        /// Command-line flag that sets the port.
        flag: &'static str,
    },
    /// Any other I/O error.
    #[error("listening on {address}: {cause}")]
    Failed {
        /// The address that failed.
        address: SocketAddr,
        /// The operating system's error.
        cause: io::Error,
    },
    /// The address is reachable from other machines, and authentication is off.
    #[error(
        "listening on {0} without credentials would let anybody on the network place orders: \
         name the clients by --clients FILE; if that is meant (a container, a trusted network), add \
         --allow-unauthenticated"
    )]
    Exposed(IpAddr),
    /// The address is reachable from other machines, and there is no TLS.
    #[error(
        "listening on {0} without TLS would show tokens and data to anybody on the network: give a \
         certificate by --tls-cert and --tls-key; if another program ends TLS, or the network is \
         trusted, add --allow-plaintext"
    )]
    Plaintext(IpAddr),
}

/// How long binding is retried while the port is in use.
const BIND_TIMEOUT: Duration = Duration::from_secs(1);

/// Backlog of connections to be accepted, limited by the kernel's `somaxconn`. The standard
/// library's 128 is less than a client's burst; a dropped SYN is only retransmitted after a second.
const LISTEN_BACKLOG: u32 = 4096;

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Allows binding while earlier connections are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

/// IPv4 and IPv6 loopback addresses.
pub const LOOPBACK_ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// What allows listening on addresses that other machines can reach.
#[derive(Debug, Clone, Copy)]
pub struct ExposurePermits {
    /// Clients are configured, or `--allow-unauthenticated` is given.
    pub authentication: bool,
    /// The listeners speak TLS, or `--allow-plaintext` is given.
    pub plaintext: bool,
}

/// Rejects addresses that are not loopback, unless credentials and TLS are settled.
pub fn check_exposure(addresses: &[IpAddr], permits: ExposurePermits) -> Result<(), ListenError> {
    match addresses.iter().find(|address| !address.is_loopback()) {
        Some(address) if !permits.authentication => Err(ListenError::Exposed(*address)),
        Some(address) if !permits.plaintext => Err(ListenError::Plaintext(*address)),
        _ => Ok(()),
    }
}

impl ListenError {
    /// Whether the settings cause the error, rather than the environment.
    pub fn is_usage_error(&self) -> bool {
        matches!(self, Self::Exposed(_) | Self::Plaintext(_))
    }
}

/// Listening sockets on one port of several addresses.
pub struct PortListeners(Vec<TcpListener>);

impl PortListeners {
    /// Binds `port` on all `addresses`; skips `::1` on machines without IPv6. Retries for a second
    /// if the port is in use: the previous process may still be exiting.
    pub async fn bind(
        addresses: &[IpAddr],
        port: u16,
        flag: &'static str,
    ) -> Result<Self, ListenError> {
        let deadline = Instant::now() + BIND_TIMEOUT;
        // With port 0, the port chosen for one address may be in use on another.
        loop {
            match Self::bind_once(addresses, port, flag) {
                Err(ListenError::InUse { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                bound => return bound,
            }
        }
    }

    fn bind_once(
        addresses: &[IpAddr],
        mut port: u16,
        flag: &'static str,
    ) -> Result<Self, ListenError> {
        let mut listeners = Vec::new();
        for &ip in addresses {
            let address = SocketAddr::new(ip, port);
            match listen_on(address) {
                Ok(listener) => {
                    // With port 0, all addresses use the port chosen for the first.
                    port = listener.local_addr().map_or(port, |bound| bound.port());
                    listeners.push(listener);
                }
                Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                    return Err(ListenError::InUse { port, address, flag });
                }
                Err(source)
                    if source.kind() == io::ErrorKind::AddrNotAvailable
                        && ip == LOOPBACK_ADDRESSES[1] => {}
                Err(cause) => return Err(ListenError::Failed { address, cause }),
            }
        }
        Ok(Self(listeners))
    }

    /// Binds the first free port from `port` upwards, skipping `reserved_port`, which another
    /// listener needs; at most 100 further ports.
    pub async fn bind_first_free(
        addresses: &[IpAddr],
        port: u16,
        reserved_port: u16,
        flag: &'static str,
    ) -> Result<Self, ListenError> {
        let mut candidate = port;
        loop {
            if candidate == reserved_port {
                candidate = candidate.saturating_add(1);
            }
            match Self::bind_once(addresses, candidate, flag) {
                Err(ListenError::InUse { .. })
                    if candidate < port.saturating_add(100) && candidate < u16::MAX =>
                {
                    candidate += 1;
                }
                bound => return bound,
            }
        }
    }

    /// The bound addresses with their actual port.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The actual port, for a requested port 0.
    pub fn port(&self) -> u16 {
        self.addresses().first().map_or(0, SocketAddr::port)
    }

    /// The sockets, one per address.
    pub fn into_inner(self) -> Vec<TcpListener> {
        self.0
    }
}
