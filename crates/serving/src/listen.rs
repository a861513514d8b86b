//! Where a server listens: one port on several addresses, loopback unless told otherwise.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error("port {port} is in use ({address}); choose another with {flag}")]
    InUse {
        /// The port.
        port: u16,
        /// Where it was tried.
        address: SocketAddr,
        /// The flag that sets the port.
        flag: &'static str,
    },
    /// Anything else.
    #[error("listening on {address}: {cause}")]
    Failed {
        /// Where.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// Open to other machines without credentials.
    #[error(
        "listening on {0} without credentials would let anybody on the network place orders; \
         if that is meant (a container, a trusted network), add --allow-unauthenticated"
    )]
    Exposed(IpAddr),
}

/// How long a port in use is tried.
const BIND_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted, as far as the kernel's `somaxconn` allows. The standard library's 128 are less
/// than a client's burst, and whoever finds the line full is only heard a second later.
const LISTEN_BACKLOG: u32 = 4096;

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port whose last connections are still being closed is free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

/// Both loopback addresses.
pub const LOOPBACK_ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Refuses addresses that other machines can reach, unless `is_allowed`.
pub fn check_exposure(addresses: &[IpAddr], is_allowed: bool) -> Result<(), ListenError> {
    match addresses.iter().find(|address| !address.is_loopback()) {
        Some(address) if !is_allowed => Err(ListenError::Exposed(*address)),
        _ => Ok(()),
    }
}

/// Listeners on one port of several addresses.
pub struct PortListeners(Vec<TcpListener>);

impl PortListeners {
    /// Binds `port` on all `addresses`; on machines without IPv6 the loopback `::1` is left out. A port in use gets a
    /// second to become free: the process that is being replaced may not be quite gone.
    pub async fn bind(
        addresses: &[IpAddr],
        port: u16,
        flag: &'static str,
    ) -> Result<Self, ListenError> {
        let deadline = Instant::now() + BIND_TIMEOUT;
        // Of any free port another address may have somebody else's.
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
                    // Asked for any port, they have the same one.
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

    /// Binds the first free port from `port` on that is not `reserved_port` for another listener.
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

    /// Where it really listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The port it really listens on.
    pub fn port(&self) -> u16 {
        self.addresses().first().map_or(0, SocketAddr::port)
    }

    /// One listener for each address.
    pub fn into_inner(self) -> Vec<TcpListener> {
        self.0
    }
}
