//! A shard's segments, held for appending under the file lock.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use store::data_dir::{create_folder, own_file};
use store::fail_point;

use super::damage::damage;
use super::segments::{Segment, segments};
use super::{Entry, Error, Result, tail, trouble};

/// Held as long as it exists; everything here blocks.
pub(super) struct Held {
    /// What the log ended with when it was opened.
    pub(super) last: Option<Entry>,
    folder: PathBuf,
    segment: Option<Open>,
    segment_bytes: u64,
    /// Given back by the system when it is closed, whatever becomes of the process.
    _lock: File,
}

/// The segment that is written to.
struct Open {
    segment: Segment,
    file: File,
    /// All of it whole lines.
    bytes: u64,
}

impl Held {
    /// Takes the lock, cuts off a torn line, and makes sure that what is there is there for good.
    pub(super) fn open(shard: &str, folder: PathBuf, lock: &Path, segment_bytes: u64) -> Result<Self> {
        let lock = take(lock)?;
        for folder in folder.parent().into_iter().chain([folder.as_path()]) {
            create_folder(folder).map_err(trouble(folder))?;
        }
        let mut held = Self { last: None, folder, segment: None, segment_bytes, _lock: lock };
        let mut known = segments(&held.folder)?;
        while let Some(segment) = known.pop() {
            let file = own_file().read(true).append(true).open(&segment.path);
            let file = file.map_err(trouble(&segment.path))?;
            let end = tail::last_line(&file).map_err(trouble(&segment.path))?;
            if let Some(line) = end.line {
                held.last = Some(Entry::parse(shard, line).map_err(|_| damage(shard, &segment))?);
                file.set_len(end.whole).map_err(trouble(&segment.path))?;
                file.sync_data().map_err(trouble(&segment.path))?;
                held.segment = Some(Open { segment, file, bytes: end.whole });
                break;
            }
            // Begun, and nothing whole in it yet.
            fs::remove_file(&segment.path).map_err(trouble(&segment.path))?;
        }
        sync_folder(&held.folder)?;
        Ok(held)
    }

    /// One write and one sync; beginning a segment costs two more.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<()> {
        let Some(first) = entries.first().map(|entry| entry.mark.seq) else { return Ok(()) };
        let mut lines = Vec::with_capacity(entries.iter().map(|entry| entry.body.len() + 1).sum());
        for entry in entries {
            lines.extend_from_slice(&entry.body);
            lines.push(b'\n');
        }
        let mut open = self.open_for(first)?;
        open.is_in_place()?;
        if let Err(error) = open.write(&lines) {
            // What may or may not have reached the disk must be written anew.
            let _ = open.file.set_len(open.bytes);
            return Err(trouble(&open.segment.path)(error));
        }
        open.bytes += lines.len() as u64;
        self.segment = Some(open);
        Ok(())
    }

    /// The present segment, or the next one if it is full. Numbers of a later epoch may be lower than a segment's name;
    /// they stay where they are, so that the names' order is that of the segments.
    fn open_for(&mut self, first: i64) -> Result<Open> {
        if let Some(open) = self.segment.take()
            && (open.bytes < self.segment_bytes || first <= open.segment.first)
        {
            return Ok(open);
        }
        let segment = Segment::named(&self.folder, first);
        let file = own_file().append(true).create_new(true).open(&segment.path);
        let file = file.map_err(trouble(&segment.path))?;
        fail_point("export_segment_begun");
        sync_folder(&self.folder)?;
        Ok(Open { segment, file, bytes: 0 })
    }
}

impl Open {
    /// Whether its path still leads to it, and nobody else has written to it: a folder may be put back under us.
    fn is_in_place(&self) -> Result<()> {
        let there = fs::metadata(&self.segment.path);
        let ours = self.file.metadata().map_err(trouble(&self.segment.path))?;
        match there {
            Ok(there) if (there.dev(), there.ino(), there.len()) == (ours.dev(), ours.ino(), self.bytes) => {
                Ok(())
            }
            _ => Err(Error::Moved(format!("{} is another file now", self.segment.path.display()))),
        }
    }

    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        #[cfg(debug_assertions)]
        let lines = {
            // So that a process can die in the midst of a line.
            let (begin, rest) = lines.split_at(lines.len() / 2);
            self.file.write_all(begin)?;
            fail_point("export_line_torn");
            rest
        };
        self.file.write_all(lines)?;
        fail_point("export_written");
        self.file.sync_data()
    }
}

fn take(lock: &Path) -> Result<File> {
    if let Some(folder) = lock.parent() {
        create_folder(folder).map_err(trouble(folder))?;
    }
    let file = own_file().write(true).create(true).truncate(false).open(lock).map_err(trouble(lock))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::Unavailable(format!("another process holds {}", lock.display())))
        }
        Err(TryLockError::Error(error)) => Err(trouble(lock)(error)),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(trouble(folder))
}
