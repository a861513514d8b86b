//! TLS of servers, and of clients that call them: rustls with `ring`, versions 1.2 and 1.3.
//!
//! - Shape: each side has its files ([`TlsPaths`]), which are followed while the program runs. A
//!   connection begins with the configuration in force; those that are open keep theirs.
//! - Cost: the files are read every two seconds and parsed only when they have changed.
//! - Promise: files that are broken or do not fit together never replace good ones.

mod certificate;
mod client;
mod files;
mod followed;
mod identity;
mod server;
mod settings;
mod stream;

pub use self::settings::{TLS_SETTINGS, TlsSettings, open_command_tls};
pub use client::ClientTls;
pub use files::{TlsFileError, TlsFileKind, TlsPaths};
pub use server::ServerTls;
pub use stream::TransportStream;

pub(crate) use certificate::read_client_certificate;

/// The TLS error behind an error of a connection, if it is one.
pub fn find_tls_error<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> Option<&'e rustls::Error> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error does not name the error that it holds as its source.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        source = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}
