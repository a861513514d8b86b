//! Where the messages of a gRPC body begin and end: five bytes before each, the last four of them its length.

use crate::error::{ApiError, Code};

/// Bytes that one byte may be unpacked to: the largest ratio of Deflate (zlib, "Technical Details").
const MOST_UNPACKED_OF_ONE: usize = 1032;

/// Follows a body message by message.
#[derive(Debug)]
pub(super) struct Framing {
    head: [u8; 5],
    /// Bytes of the head that are there.
    filled: usize,
    /// Bytes of the message that are not there.
    missing: usize,
    max_message: usize,
    /// What the largest compressed message so far may have unpacked.
    unpacked: usize,
    /// Whether the client may send messages whenever it likes.
    is_stream: bool,
}

impl Framing {
    pub(super) fn new(max_message: usize, is_stream: bool) -> Self {
        Self { head: [0; 5], filled: 0, missing: 0, max_message, unpacked: 0, is_stream }
    }

    /// Whether the last message is whole and the next has not begun.
    pub(super) fn is_between_messages(&self) -> bool {
        self.filled == 0 && self.missing == 0
    }

    /// Whether nothing needs to come soon.
    pub(super) fn may_wait(&self) -> bool {
        self.is_stream && self.is_between_messages()
    }

    /// The most bytes that a compressed message so far may have unpacked: whoever reads the body has room for them, and keeps it.
    pub(super) fn unpacked(&self) -> usize {
        self.unpacked
    }

    /// Follows the next bytes; true if a message ended in them. A message that is too large is refused by its head.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<bool, ApiError> {
        let mut ended = false;
        while !bytes.is_empty() {
            let taken = if self.missing > 0 {
                let taken = self.missing.min(bytes.len());
                self.missing -= taken;
                ended |= self.missing == 0;
                taken
            } else {
                let taken = bytes.len().min(self.head.len() - self.filled);
                self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                if self.filled == self.head.len() {
                    ended |= self.begin_message()?;
                }
                taken
            };
            bytes = &bytes[taken..];
        }
        Ok(ended)
    }

    /// Reads a whole head; true if its message is empty.
    fn begin_message(&mut self) -> Result<bool, ApiError> {
        let [is_compressed, length @ ..] = self.head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.max_message {
            let message = format!("the message has {length} bytes; at most {} are allowed", self.max_message);
            return Err(ApiError::new(Code::TooLarge, message));
        }
        if is_compressed != 0 {
            self.unpacked =
                self.unpacked.max(length.saturating_mul(MOST_UNPACKED_OF_ONE).min(self.max_message));
        }
        (self.filled, self.missing) = (0, length);
        Ok(length == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        bytes.resize(5 + length as usize, 7);
        bytes
    }

    #[test]
    fn a_compressed_message_may_have_a_thousand_times_its_bytes_and_no_more_than_any_may() {
        let mut framing = Framing::new(100_000, true);
        framing.follow(&message(50)).unwrap();
        assert_eq!(framing.unpacked(), 0);
        for (length, unpacked) in [(50, 51_600), (10, 51_600), (200, 100_000)] {
            let mut compressed = message(length);
            compressed[0] = 1;
            framing.follow(&compressed).unwrap();
            assert_eq!(framing.unpacked(), unpacked, "of {length}");
        }
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let bytes: Vec<u8> = [message(0), message(3), message(300)].concat();
        for size in [1, 2, 3, 5, 7, 400] {
            let mut framing = Framing::new(300, true);
            let ends = bytes.chunks(size).filter(|part| framing.follow(part).unwrap()).count();
            assert!(framing.may_wait(), "{size}");
            assert!((1..=3).contains(&ends), "{size}");
            framing.follow(&[0, 0]).unwrap();
            assert!(!framing.may_wait(), "{size}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_by_its_head() {
        let error = Framing::new(10, false).follow(&message(11)[..5]).unwrap_err();
        assert_eq!(error.code, Code::TooLarge);
        assert!(!Framing::new(10, false).may_wait());
    }
}
