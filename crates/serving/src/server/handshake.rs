//! The TLS handshake of a connection: in the connection's own task, so that a slow one holds up
//! nobody else.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use access::{ClientCertificate, Denial, DenialReason};
use rustls::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::activity::ConnectionActivity;
use super::{ListenerContext, ShutdownTokens};
use crate::tls::{ServerTls, TransportStream, find_tls_error, read_client_certificate};

/// A connection that can be served.
pub(super) struct OpenedConnection {
    pub(super) stream: TransportStream,
    /// The client's certificate, which was verified.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
}

/// Opens a connection: with TLS after the handshake. `None` if there is nothing to serve: the
/// handshake failed, took longer than a request's head may, or the connection's place was given
/// away.
pub(super) async fn open_connection(
    stream: TcpStream,
    address: IpAddr,
    activity: &ConnectionActivity,
    listener: &ListenerContext,
    shutdown: &ShutdownTokens,
) -> Option<OpenedConnection> {
    let Some(tls) = &listener.tls else {
        return Some(OpenedConnection {
            stream: TransportStream::Plain(stream),
            certificate: None,
        });
    };
    let stop = shutdown.stop.child_token();
    let handshake = timeout(listener.limits.header_timeout, shake_hands(stream, tls, listener));
    let reason = tokio::select! {
        handshake = handshake => match handshake {
            Ok(Ok(opened)) => return Some(opened),
            Ok(Err(error)) => {
                tracing::debug!(%error, %address, "a TLS handshake failed");
                failure_reason(&error)
            }
            Err(_) => "timeout",
        },
        () = activity.evicted.notified() => return None,
        () = stop.cancelled() => return None,
    };
    metrics::counter!(
        "tls_handshakes_failed_total", "listener" => listener.name, "reason" => reason
    )
    .increment(1);
    if reason == "wrong_certificate" {
        Denial::of_stranger(DenialReason::WrongCertificate, address).record();
    }
    None
}

async fn shake_hands(
    stream: TcpStream,
    tls: &ServerTls,
    listener: &ListenerContext,
) -> io::Result<OpenedConnection> {
    let acceptor = TlsAcceptor::from(tls.config(listener.protocol));
    let stream = acceptor.accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = match certificates.and_then(<[_]>::first) {
        Some(leaf) => {
            let read = read_client_certificate(leaf);
            Some(Arc::new(read.ok_or_else(|| io::Error::other("the certificate cannot be read"))?))
        }
        None => None,
    };
    Ok(OpenedConnection { stream: TransportStream::Tls(Box::new(stream.into())), certificate })
}

/// Value of the label `reason`.
fn failure_reason(error: &io::Error) -> &'static str {
    match find_tls_error(error) {
        Some(Error::InvalidCertificate(_)) => "wrong_certificate",
        Some(Error::InvalidMessage(_)) => "no_tls",
        Some(Error::PeerIncompatible(_)) => "incompatible",
        Some(Error::NoApplicationProtocol) => "no_protocol",
        Some(Error::AlertReceived(_)) => "refused_by_client",
        Some(_) => "misbehaved",
        None => "closed",
    }
}
