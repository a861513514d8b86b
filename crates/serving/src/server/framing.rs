//! Message framing of a gRPC body: a five-byte header before each message, with the length in
//! the last four bytes.

use crate::error::{ApiError, ErrorCode};

/// Maximum compression ratio of Deflate (zlib, "Technical Details").
const MAX_DEFLATE_RATIO: usize = 1032;

/// Incremental parser of message boundaries.
#[derive(Debug)]
pub(super) struct GrpcFraming {
    head: [u8; 5],
    /// Bytes of the header received.
    head_length: usize,
    /// Bytes of the message still to come.
    missing_bytes: usize,
    max_message_bytes: usize,
    /// Upper bound of the decompressed size of the largest compressed message so far.
    unpacked_bytes: usize,
    /// Whether the method is client-streaming.
    is_stream: bool,
}

impl GrpcFraming {
    pub(super) fn new(max_message_bytes: usize, is_stream: bool) -> Self {
        Self {
            head: [0; 5],
            head_length: 0,
            missing_bytes: 0,
            max_message_bytes,
            unpacked_bytes: 0,
            is_stream,
        }
    }

    /// Whether the last message is complete and the next has not begun.
    pub(super) fn is_between_messages(&self) -> bool {
        self.head_length == 0 && self.missing_bytes == 0
    }

    /// Whether the client may pause here: between two messages of a stream.
    pub(super) fn can_wait(&self) -> bool {
        self.is_stream && self.is_between_messages()
    }

    /// Upper bound of the decompressed size of a compressed message so far: the decoder allocates
    /// this much and keeps the buffer.
    pub(super) fn unpacked_bytes(&self) -> usize {
        self.unpacked_bytes
    }

    /// Parses the next bytes; true if a message ended in them. A message that is too large is
    /// rejected at its header.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) -> Result<bool, ApiError> {
        let mut ended = false;
        while !bytes.is_empty() {
            let taken = if self.missing_bytes > 0 {
                let taken = self.missing_bytes.min(bytes.len());
                self.missing_bytes -= taken;
                ended |= self.missing_bytes == 0;
                taken
            } else {
                let taken = bytes.len().min(self.head.len() - self.head_length);
                self.head[self.head_length..self.head_length + taken]
                    .copy_from_slice(&bytes[..taken]);
                self.head_length += taken;
                if self.head_length == self.head.len() {
                    ended |= self.begin_message()?;
                }
                taken
            };
            bytes = &bytes[taken..];
        }
        Ok(ended)
    }

    /// Parses a complete header; true if its message is empty.
    fn begin_message(&mut self) -> Result<bool, ApiError> {
        let [is_compressed, length @ ..] = self.head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.max_message_bytes {
            let message = format!(
                "the message has {length} bytes; at most {} are allowed",
                self.max_message_bytes
            );
            return Err(ApiError::new(ErrorCode::TooLarge, message));
        }
        if is_compressed != 0 {
            self.unpacked_bytes = self
                .unpacked_bytes
                .max(length.saturating_mul(MAX_DEFLATE_RATIO).min(self.max_message_bytes));
        }
        (self.head_length, self.missing_bytes) = (0, length);
        Ok(length == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed_message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes.resize(5 + length as usize, 7);
        bytes
    }

    #[test]
    fn a_compressed_message_may_have_a_thousand_times_its_bytes_and_no_more_than_any_may() {
        let mut framing = GrpcFraming::new(100_000, true);
        framing.advance(&framed_message(50)).unwrap();
        assert_eq!(framing.unpacked_bytes(), 0);
        for (length, unpacked) in [(50, 51_600), (10, 51_600), (200, 100_000)] {
            let mut compressed = framed_message(length);
            compressed[0] = 1;
            framing.advance(&compressed).unwrap();
            assert_eq!(framing.unpacked_bytes(), unpacked, "of {length}");
        }
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let bytes: Vec<u8> = [framed_message(0), framed_message(3), framed_message(300)].concat();
        for size in [1, 2, 3, 5, 7, 400] {
            let mut framing = GrpcFraming::new(300, true);
            let ends = bytes.chunks(size).filter(|part| framing.advance(part).unwrap()).count();
            assert!(framing.can_wait(), "{size}");
            assert!((1..=3).contains(&ends), "{size}");
            framing.advance(&[0, 0]).unwrap();
            assert!(!framing.can_wait(), "{size}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_by_its_head() {
        let error = GrpcFraming::new(10, false).advance(&framed_message(11)[..5]).unwrap_err();
        assert_eq!(error.code, ErrorCode::TooLarge);
        assert!(!GrpcFraming::new(10, false).can_wait());
    }
}
