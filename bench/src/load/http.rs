//! HTTP/1.1 client on one keep-alive connection.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::response::Parts;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use serving::timing;
use tokio::net::TcpStream;

/// A connection to a loopback port.
pub struct LoadHttpClient {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl LoadHttpClient {
    /// Connects to a loopback port.
    pub async fn connect(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let stream = stream.with_context(|| format!("connecting to port {port}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the sender is dropped; errors also reach the pending request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, host: format!("localhost:{port}") })
    }

    /// Sends a GET; returns status and body.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<(u16, Bytes)> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// Sends a POST with JSON; returns status and body.
    pub async fn post(
        &mut self,
        path: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<(u16, Bytes)> {
        self.send(Method::POST, path, body.into()).await
    }

    /// Sends a GET; returns status, body and the server's `Server-Timing`.
    pub async fn get_timed(&mut self, path: &str) -> anyhow::Result<(u16, Bytes, Duration)> {
        let (head, body) = self.send_request(Method::GET, path, Bytes::new()).await?;
        let took = timing::parse_server_timing(&head.headers)
            .context("the answer does not say how long it took")?;
        Ok((head.status.as_u16(), body, took))
    }

    /// Sends a GET; returns the JSON body of a response with status 200.
    pub async fn get_json(&mut self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.get(path).await?;
        anyhow::ensure!(status == 200, "GET {path} answered {status}: {}", body_excerpt(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(u16, Bytes)> {
        let (head, body) = self.send_request(method, path, body).await?;
        Ok((head.status.as_u16(), body))
    }

    async fn send_request(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(Parts, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        Ok((head, body.collect().await?.to_bytes()))
    }
}

/// At most 300 bytes of a body, for error messages.
pub fn body_excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned()
}
