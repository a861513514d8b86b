//! Framing of the Postgres wire protocol: type byte, length (including itself), body.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Postgres' maximum message size.
const MAX_MESSAGE_BYTES: usize = 1 << 30;

/// One message. The start-up message has type 0, which is not on the wire.
#[derive(Debug)]
pub(crate) struct WireMessage {
    pub(crate) kind: u8,
    /// The complete wire bytes.
    pub(crate) bytes: Vec<u8>,
    body_start: usize,
}

impl WireMessage {
    pub(crate) fn body(&self) -> &[u8] {
        self.bytes.get(self.body_start..).unwrap_or_default()
    }

    /// Whether the server processes the message only after a Sync or Flush: Parse,
    /// Bind, Describe, Execute, Close.
    pub(crate) fn is_part_of_query(&self) -> bool {
        matches!(self.kind, b'P' | b'B' | b'D' | b'E' | b'C')
    }

    /// The NUL-terminated strings at the start of the body: at most `count`.
    pub(crate) fn c_strings(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        self.body().split(|byte| *byte == 0).take(count)
    }
}

/// Reads one message; `None` at the end of the stream.
pub(crate) async fn read_message(
    reader: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<WireMessage>> {
    let mut kind = [0];
    if reader.read(&mut kind).await? == 0 {
        return Ok(None);
    }
    read_body(reader, kind.to_vec()).await.map(Some)
}

/// Reads the start-up message, which has no type byte.
pub(crate) async fn read_startup(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<WireMessage> {
    read_body(reader, Vec::new()).await
}

async fn read_body(
    reader: &mut (impl AsyncRead + Unpin),
    mut bytes: Vec<u8>,
) -> io::Result<WireMessage> {
    let kind = bytes.first().copied().unwrap_or_default();
    let length = reader.read_u32().await?;
    bytes.extend(length.to_be_bytes());
    let body_start = bytes.len();
    let rest = (length as usize).checked_sub(4).filter(|rest| *rest <= MAX_MESSAGE_BYTES);
    let rest =
        rest.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not Postgres' protocol"))?;
    bytes.resize(body_start + rest, 0);
    reader.read_exact(bytes.get_mut(body_start..).unwrap_or_default()).await?;
    Ok(WireMessage { kind, bytes, body_start })
}
