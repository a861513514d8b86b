//! Socket addresses of Postgres and the proxy: TCP or a Unix socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// `127.0.0.1:5432`, or the path of a Unix socket (`…/.s.PGSQL.5432`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointAddress {
    /// IP address and port.
    Tcp(SocketAddr),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for EndpointAddress {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('/') { Ok(Self::Unix(text.into())) } else { text.parse().map(Self::Tcp) }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

pub(crate) type BoxedReader = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type BoxedWriter = Box<dyn AsyncWrite + Send + Unpin>;

impl EndpointAddress {
    pub(crate) async fn connect(&self) -> io::Result<(BoxedReader, BoxedWriter)> {
        match self {
            Self::Tcp(address) => split_tcp(TcpStream::connect(address).await?),
            Self::Unix(path) => Ok(split_unix(UnixStream::connect(path).await?)),
        }
    }
}

fn split_tcp(stream: TcpStream) -> io::Result<(BoxedReader, BoxedWriter)> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok((Box::new(reader), Box::new(writer)))
}

fn split_unix(stream: UnixStream) -> (BoxedReader, BoxedWriter) {
    let (reader, writer) = stream.into_split();
    (Box::new(reader), Box::new(writer))
}

pub(crate) enum SocketListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl SocketListener {
    /// Listens and returns the actual address: TCP port 0 means any free port.
    pub(crate) async fn bind(address: EndpointAddress) -> io::Result<(Self, EndpointAddress)> {
        match address {
            EndpointAddress::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let address = EndpointAddress::Tcp(listener.local_addr()?);
                Ok((Self::Tcp(listener), address))
            }
            EndpointAddress::Unix(path) => {
                Ok((Self::Unix(UnixListener::bind(&path)?), EndpointAddress::Unix(path)))
            }
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<(BoxedReader, BoxedWriter)> {
        match self {
            Self::Tcp(listener) => split_tcp(listener.accept().await?.0),
            Self::Unix(listener) => Ok(split_unix(listener.accept().await?.0)),
        }
    }
}
