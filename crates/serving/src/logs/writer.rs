//! Asynchronous writer of log lines to stderr.
//!
//! - Shape: callers append to a bounded queue, and one thread writes it. Callers
//!   never block or fail.
//! - Cost: at most 8 MiB of queued lines; more lines, and lines whose write fails,
//!   are lost and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Maximum bytes of queued lines.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Wait before retrying a write that would block.
const WRITE_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Handle for writing lines; clones share the queue and thread.
#[derive(Clone)]
pub(super) struct LogWriter(Arc<LogQueue>);

struct LogQueue {
    state: Mutex<LogQueueState>,
    /// Signalled when a line is queued.
    line_added: Condvar,
    /// Signalled when all lines are written or lost.
    drained: Condvar,
}

#[derive(Default)]
struct LogQueueState {
    waiting_lines: VecDeque<Vec<u8>>,
    /// Bytes of queued lines, and of those being written.
    waiting_bytes: usize,
    is_writing: bool,
    lost_count: u64,
}

impl LogWriter {
    /// Starts the thread that writes to `out`.
    pub(super) fn spawn(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = LogQueue {
            state: Mutex::default(),
            line_added: Condvar::new(),
            drained: Condvar::new(),
        };
        let shared = Arc::new(shared);
        let queue = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || queue.write_lines(out))?;
        Ok(Self(shared))
    }

    /// Number of lines lost so far.
    pub(super) fn lost_count(&self) -> u64 {
        self.0.lock_state().lost_count
    }

    /// Waits until all queued lines are written or lost, at most `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let state = self.0.lock_state();
        drop(self.0.drained.wait_timeout_while(state, timeout, |state| state.is_busy()));
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.0.lock_state();
        if state.waiting_bytes + line.len() > MAX_WAITING_BYTES {
            state.lost_count += 1;
            return;
        }
        state.waiting_bytes += line.len();
        state.waiting_lines.push_back(line.to_vec());
        drop(state);
        self.0.line_added.notify_one();
    }
}

impl LogQueueState {
    fn is_busy(&self) -> bool {
        self.is_writing || !self.waiting_lines.is_empty()
    }
}

impl LogQueue {
    fn lock_state(&self) -> MutexGuard<'_, LogQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lines(&self, mut out: impl Write) {
        loop {
            let waiting = {
                let mut state = self.lock_state();
                state.is_writing = false;
                if state.waiting_lines.is_empty() {
                    self.drained.notify_all();
                }
                let state =
                    self.line_added.wait_while(state, |state| state.waiting_lines.is_empty());
                let mut state = state.unwrap_or_else(PoisonError::into_inner);
                state.is_writing = true;
                std::mem::take(&mut state.waiting_lines)
            };
            for line in waiting {
                let written = write_line(&mut out, &line);
                let mut state = self.lock_state();
                state.waiting_bytes -= line.len();
                state.lost_count += u64::from(written.is_err());
            }
        }
    }
}

/// Writes a whole line. Stderr may be shared with a process that made it non-blocking.
fn write_line(out: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(WRITE_RETRY_INTERVAL)
            }
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

/// Each call receives one whole line.
impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Accepts one write per message on `may`.
    struct SlowWriter {
        may: mpsc::Receiver<io::Result<()>>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for SlowWriter {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.may.recv().unwrap_or(Ok(()))?;
            self.taken.send(line.to_vec()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow_writer() -> (LogWriter, mpsc::Sender<io::Result<()>>, mpsc::Receiver<Vec<u8>>) {
        let ((let_it, may), (taken, lines)) = (mpsc::channel(), mpsc::channel());
        (LogWriter::spawn(SlowWriter { may, taken }).unwrap(), let_it, lines)
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_there_is_no_room_for_is_counted() {
        let (mut lines, let_it, taken) = slow_writer();
        let line = vec![b'x'; MAX_WAITING_BYTES / 4];
        (0..7).for_each(|_| lines.write_all(&line).unwrap());
        assert_eq!(lines.lost_count(), 3, "four fit in, also the one that is being written");
        lines.flush(Duration::from_millis(20));
        (0..4).for_each(|_| let_it.send(Ok(())).unwrap());
        lines.flush(Duration::from_secs(10));
        assert_eq!(taken.try_iter().count(), 4);
        lines.write_all(b"later").unwrap();
        let_it.send(Ok(())).unwrap();
        assert_eq!(taken.recv().unwrap(), b"later");
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_the_next_is_tried() {
        let (mut lines, let_it, taken) = slow_writer();
        for kind in [ErrorKind::BrokenPipe, ErrorKind::StorageFull] {
            lines.write_all(b"lost").unwrap();
            let_it.send(Err(kind.into())).unwrap();
        }
        lines.write_all(b"kept").unwrap();
        let_it.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        let_it.send(Ok(())).unwrap();
        assert_eq!(taken.recv().unwrap(), b"kept");
        lines.flush(Duration::from_secs(10));
        assert_eq!(lines.lost_count(), 2);
    }
}
