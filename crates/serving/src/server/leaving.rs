//! The body of an answer on its way out: in parts of a bounded size, counted until the socket has them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::in_flight::InFlight;
use crate::error::{ApiError, Code};
use crate::grpc;

/// The protocol libraries take as much as this at once, whatever the client takes.
const PART: usize = 128 << 10;
/// A gRPC answer that is larger is given up when the budget has no room; one that is smaller may be of something that
/// was done, and leaves.
const LARGE_MESSAGE: usize = 1 << 20;

/// The body of an answer.
pub(super) struct Leaving {
    body: AxumBody,
    request: Arc<InFlight>,
    is_grpc: bool,
    /// What the body gave last and is not sent.
    rest: Bytes,
    /// Taken of the budget for it.
    held: usize,
    given_up: bool,
}

impl Leaving {
    pub(super) fn new(body: AxumBody, request: Arc<InFlight>, is_grpc: bool) -> Self {
        Self { body, request, is_grpc, rest: Bytes::new(), held: 0, given_up: false }
    }

    fn next_part(&mut self) -> Frame<Bytes> {
        let part = self.rest.split_to(PART.min(self.rest.len()));
        Frame::data(self.request.sending(part))
    }

    /// Takes what the body gives next; the frame that is sent instead, if there is no room for it.
    fn hold(&mut self, data: Bytes) -> Option<Frame<Bytes>> {
        if self.is_grpc && data.len() > LARGE_MESSAGE && !self.request.has_room_for(data.len()) {
            self.given_up = true;
            let message = "the answer is large and the service holds as many bytes as it may: try again soon";
            return Some(Frame::trailers(grpc::trailers(ApiError::new(Code::Overloaded, message))));
        }
        // What is smaller is part of what a request costs by itself.
        if data.len() > PART {
            self.held = data.len();
            self.request.add(self.held);
        }
        self.rest = data;
        None
    }
}

impl Body for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            if !self.rest.is_empty() {
                return Poll::Ready(Some(Ok(self.next_part())));
            }
            if self.given_up {
                return Poll::Ready(None);
            }
            let held = std::mem::take(&mut self.held);
            self.request.give_back(held);
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if let Some(instead) = self.hold(data) {
                        return Poll::Ready(Some(Ok(instead)));
                    }
                }
                Err(mut frame) => {
                    if let Some(trailers) = frame.trailers_mut().filter(|_| self.is_grpc) {
                        grpc::correct_status(trailers);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && (self.given_up || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole.set_lower(hint.lower().saturating_add(rest));
        whole
    }
}
