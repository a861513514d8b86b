//! How commands reach a running service: with TLS or without.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use serving::tls::ClientTls;
use settings::ResolvedSettings;

/// HTTP client with and without TLS.
pub(super) type HttpServiceClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Whether a service is called with TLS: at `https://…`, and at an address that does not say it if
/// `--tls-ca` is given.
pub(super) fn is_tls_address(address: &str, resolved: &ResolvedSettings) -> bool {
    match address.split_once("://") {
        Some((scheme, _)) => scheme.eq_ignore_ascii_case("https"),
        None => resolved.get_value("tls-ca").is_some(),
    }
}

/// Client of services; without `tls` only `http://` addresses are reached.
pub(super) fn build_http_client(
    tls: Option<&ClientTls>,
    connect_timeout: Duration,
) -> Result<HttpServiceClient, rustls::Error> {
    let config = match tls {
        Some(tls) => (*tls.config()).clone(),
        None => {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        }
    };
    let mut plain = HttpConnector::new();
    plain.enforce_http(false);
    plain.set_nodelay(true);
    plain.set_connect_timeout(Some(connect_timeout));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(plain);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}
