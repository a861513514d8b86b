//! Log of the embedded server: at most two rotated files of [`MAX_LOG_BYTES`] in the data
//! directory, and the latest lines in memory for the error message of a failed start.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::EmbeddedError;
use crate::data_dir::{file_error, own_file_options};

/// Size at which the log is rotated; one older file is kept.
const MAX_LOG_BYTES: u64 = 16 << 20;
/// Longer lines are written in pieces.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// Number of lines kept in memory.
const MAX_RECENT_LINES: usize = 30;
/// Timeout for the last output of an ended server: a remaining child process may
/// hold the pipe open.
const LAST_LINES_TIMEOUT: Duration = Duration::from_millis(500);

/// Paths of the current and the previous log file.
pub(super) fn log_paths(data_dir: &Path) -> [PathBuf; 2] {
    ["postgres.log", "postgres.log.1"].map(|name| data_dir.join(name))
}

/// Log of a running server, written by a thread that ends with the server's last process.
pub(super) struct ServerLog {
    recent_lines: Arc<Mutex<VecDeque<String>>>,
    writer: JoinHandle<()>,
}

impl ServerLog {
    /// Starts writing the output read from `pipe`.
    pub(super) fn start(data_dir: &Path, pipe: PipeReader) -> Result<Self, EmbeddedError> {
        let mut log = ServerLogFile::open(data_dir, MAX_LOG_BYTES)?;
        let recent_lines = Arc::new(Mutex::new(VecDeque::new()));
        let lines = recent_lines.clone();
        let writer = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe
                .by_ref()
                .take(MAX_LINE_BYTES)
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                // A full disk must not block the server on its log pipe.
                let _ = log.write(&line);
                push_recent_line(&lines, &line);
                line.clear();
            }
        });
        Ok(Self { recent_lines, writer })
    }

    /// Waits until the output of an ended server is written.
    pub(super) fn finish(&self) {
        let deadline = Instant::now() + LAST_LINES_TIMEOUT;
        while !self.writer.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The last 30 lines of output.
    pub(super) fn last_lines(&self) -> String {
        self.finish();
        let recent = self.recent_lines.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().fold(String::new(), |text, line| text + line)
    }
}

fn push_recent_line(recent: &Mutex<VecDeque<String>>, line: &[u8]) {
    let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
    if recent.len() == MAX_RECENT_LINES {
        recent.pop_front();
    }
    recent.push_back(String::from_utf8_lossy(&line[..line.len().min(1000)]).into_owned());
}

/// Log file and its size.
struct ServerLogFile {
    paths: [PathBuf; 2],
    file: File,
    bytes: u64,
    max_bytes: u64,
}

impl ServerLogFile {
    fn open(data_dir: &Path, max_bytes: u64) -> Result<Self, EmbeddedError> {
        let paths = log_paths(data_dir);
        let opened = own_file_options().create(true).append(true).open(&paths[0]);
        let sized = opened.and_then(|file| Ok((file.metadata()?.len(), file)));
        let (bytes, file) = sized.map_err(file_error(&paths[0]))?;
        Ok(Self { paths, file, bytes, max_bytes })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.max_bytes {
            std::fs::rename(&self.paths[0], &self.paths[1])?;
            self.file = own_file_options().create(true).append(true).open(&self.paths[0])?;
            self.bytes = 0;
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_and_the_one_before_it_stay_within_their_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let [now, before] = log_paths(folder.path());
        std::fs::write(&now, "left by an earlier start\n").unwrap();
        let mut log = ServerLogFile::open(folder.path(), 1000).unwrap();
        for number in 0..500 {
            log.write(format!("line {number}\n").as_bytes()).unwrap();
            let size = |path: &PathBuf| path.metadata().map_or(0, |file| file.len());
            assert!(size(&now) <= 1000 && size(&before) <= 1000);
        }
        let kept =
            std::fs::read_to_string(&before).unwrap() + &std::fs::read_to_string(&now).unwrap();
        let numbers: Vec<usize> =
            kept.lines().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect();
        assert!(numbers.len() > 100 && numbers.windows(2).all(|two| two[1] == two[0] + 1));
        assert_eq!(numbers.last(), Some(&499));
    }

    #[test]
    fn the_last_words_are_those_of_this_start() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(&log_paths(folder.path())[0], "FATAL:  of yesterday\n").unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let log = ServerLog::start(folder.path(), reader).unwrap();
        writer.write_all("y".repeat(200_000).as_bytes()).unwrap();
        writer.write_all(b"\nFATAL:  of today\nno end").unwrap();
        drop(writer);
        let said = log.last_lines();
        assert!(
            said.ends_with("FATAL:  of today\nno end") && !said.contains("yesterday"),
            "{said}"
        );
        let written = std::fs::read_to_string(&log_paths(folder.path())[0]).unwrap();
        assert!(written.starts_with("FATAL:  of yesterday\nyyy") && written.ends_with("no end"));
        assert_eq!(written.len(), 21 + 200_000 + 24);
    }
}
