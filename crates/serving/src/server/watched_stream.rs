//! A connection's bytes, watched: what is spoken, whether anything comes, and one thing said better than the HTTP library
//! does: its answers to what is no request have no body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::{ConnectionActivity, WireProtocol};
use crate::error::{ApiError, ErrorCode};

const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Every answer of ours has it, so an answer without it is the library's own.
const OWN_RESPONSE_HEADER: &[u8] = b"x-content-type-options";

/// A watched connection.
pub(super) struct WatchedStream<S> {
    stream: S,
    activity: Arc<ConnectionActivity>,
    /// Bytes of the HTTP/2 preface seen.
    preface_bytes: usize,
    /// Whether the last write was taken in part only, so that the next one is the rest of it.
    is_partial_write: bool,
    /// What is sent in the place of what the library says last.
    replacement: Option<Bytes>,
}

impl<S> WatchedStream<S> {
    pub(super) fn new(stream: S, activity: Arc<ConnectionActivity>) -> Self {
        Self { stream, activity, preface_bytes: 0, is_partial_write: false, replacement: None }
    }

    fn watch_bytes(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.activity.mark_received();
        if self.activity.protocol() == WireProtocol::Unknown {
            let expected = &HTTP2_PREFACE[self.preface_bytes..];
            let seen = expected.len().min(bytes.len());
            if expected[..seen] != bytes[..seen] {
                return self.activity.set_protocol(WireProtocol::Http1);
            }
            self.preface_bytes += seen;
            if self.preface_bytes == HTTP2_PREFACE.len() {
                self.activity.set_protocol(WireProtocol::Http2);
            }
        }
    }

    /// Whether what is to be written is replaced: a head of the library's own, while no request is being answered.
    fn replace_response(&mut self, bytes: &[u8]) -> bool {
        let may_be = !self.is_partial_write
            && self.replacement.is_none()
            && self.activity.protocol() == WireProtocol::Http1;
        if may_be && self.activity.idle_since().is_some() {
            self.replacement = replacement_response(bytes);
        }
        self.replacement.is_some()
    }
}

/// What is said in the place of an answer that the library made by itself.
fn replacement_response(answer: &[u8]) -> Option<Bytes> {
    let status = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let (status, error) = match status {
        b"400" => (
            "400 Bad Request",
            ApiError::new(ErrorCode::ValidationError, "this is no HTTP request"),
        ),
        b"414" => (
            "414 URI Too Long",
            ApiError::new(ErrorCode::TooLarge, "the request's target is too long"),
        ),
        b"431" => (
            "431 Request Header Fields Too Large",
            ApiError::new(ErrorCode::TooLarge, "the request's head is too large"),
        ),
        _ => return None,
    };
    let head_ends = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(answer.len());
    if answer[..head_ends]
        .windows(OWN_RESPONSE_HEADER.len())
        .any(|name| name.eq_ignore_ascii_case(OWN_RESPONSE_HEADER))
    {
        return None;
    }
    let body = error.into_rest_body().to_string();
    let length = body.len();
    Some(Bytes::from(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n\r\n{body}"
    )))
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.watch_bytes(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> WatchedStream<S> {
    fn poll_replacement(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(words) = self.replacement.as_mut().filter(|words| !words.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, words))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            words.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.replace_response(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.is_partial_write = written < bytes.len();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter().find(|part| !part.is_empty()).map_or(&b""[..], |part| &part[..]);
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.replace_response(first) {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts))?;
        self.is_partial_write = written < length;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_own_answers_get_a_body_and_ours_stay() {
        let theirs = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
        let said = replacement_response(theirs).unwrap();
        let said = std::str::from_utf8(&said).unwrap();
        assert!(said.starts_with("HTTP/1.1 431 ") && said.contains("\"TOO_LARGE\""), "{said}");
        assert!(
            replacement_response(
                b"HTTP/1.1 400 Bad Request\r\nx-content-type-options: nosniff\r\n\r\n"
            )
            .is_none()
        );
        assert!(replacement_response(b"HTTP/1.1 200 OK\r\n\r\n").is_none());
        assert!(replacement_response(b"HTTP/1.1 4").is_none());
    }
}
