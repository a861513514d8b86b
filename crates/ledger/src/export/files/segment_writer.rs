//! Appends to a shard's segments under the file lock.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use store::data_dir::{create_folder, own_file_options};
use store::fail_point;

use super::damage::locate_damage;
use super::segments::{ExportSegment, list_segments};
use super::{ExportEntry, ExportError, Result, io_error_at, tail};
use crate::ids::SequenceNumber;

/// Holds the file lock until dropped. All methods block.
pub(super) struct ExportSegmentWriter {
    /// Last entry of the log when it was opened.
    pub(super) last_entry: Option<ExportEntry>,
    folder: PathBuf,
    open_segment: Option<ExportOpenSegment>,
    max_segment_bytes: u64,
    /// Released by the operating system on close, also when the process dies.
    _lock: File,
}

/// The segment being written.
struct ExportOpenSegment {
    segment: ExportSegment,
    file: File,
    /// Length of the file, whole lines only.
    bytes: u64,
}

impl ExportSegmentWriter {
    /// Acquires the lock, truncates a torn line, and makes the existing entries durable.
    pub(super) fn open(
        shard: &str,
        folder: PathBuf,
        lock: &Path,
        max_segment_bytes: u64,
    ) -> Result<Self> {
        let lock = acquire_file_lock(lock)?;
        for folder in folder.parent().into_iter().chain([folder.as_path()]) {
            create_folder(folder).map_err(io_error_at(folder))?;
        }
        let mut writer =
            Self { last_entry: None, folder, open_segment: None, max_segment_bytes, _lock: lock };
        let mut remaining = list_segments(&writer.folder)?;
        while let Some(segment) = remaining.pop() {
            let file = own_file_options().read(true).append(true).open(&segment.path);
            let file = file.map_err(io_error_at(&segment.path))?;
            let end = tail::find_last_line(&file).map_err(io_error_at(&segment.path))?;
            if let Some(line) = end.last_line {
                writer.last_entry = Some(
                    ExportEntry::parse(shard, line).map_err(|_| locate_damage(shard, &segment))?,
                );
                file.set_len(end.whole_bytes).map_err(io_error_at(&segment.path))?;
                file.sync_data().map_err(io_error_at(&segment.path))?;
                writer.open_segment =
                    Some(ExportOpenSegment { segment, file, bytes: end.whole_bytes });
                break;
            }
            // Created, but contains no whole line.
            fs::remove_file(&segment.path).map_err(io_error_at(&segment.path))?;
        }
        sync_folder(&writer.folder)?;
        Ok(writer)
    }

    /// One write and one fdatasync; a new segment adds a file creation and a folder fsync.
    pub(super) fn append(&mut self, entries: &[ExportEntry]) -> Result<()> {
        let Some(first) = entries.first().map(|entry| entry.mark.seq) else { return Ok(()) };
        let mut lines = Vec::with_capacity(entries.iter().map(|entry| entry.body.len() + 1).sum());
        for entry in entries {
            lines.extend_from_slice(&entry.body);
            lines.push(b'\n');
        }
        let mut open = self.open_segment_for(first)?;
        open.check_in_place()?;
        if let Err(error) = open.write(&lines) {
            // Truncate: the lines may be partly on disk and are written again later.
            let _ = open.file.set_len(open.bytes);
            return Err(io_error_at(&open.segment.path)(error));
        }
        open.bytes += lines.len() as u64;
        self.open_segment = Some(open);
        Ok(())
    }

    /// The current segment, or a new one if it is full. Numbers of a
    /// later epoch may be lower than the segment's name; they stay in
    /// the current segment, so that segments remain ordered by name.
    fn open_segment_for(&mut self, first_seq: SequenceNumber) -> Result<ExportOpenSegment> {
        if let Some(open) = self.open_segment.take()
            && (open.bytes < self.max_segment_bytes || first_seq <= open.segment.first_seq)
        {
            return Ok(open);
        }
        let segment = ExportSegment::in_folder(&self.folder, first_seq);
        let file = own_file_options().append(true).create_new(true).open(&segment.path);
        let file = file.map_err(io_error_at(&segment.path))?;
        fail_point("export_segment_begun");
        sync_folder(&self.folder)?;
        Ok(ExportOpenSegment { segment, file, bytes: 0 })
    }
}

impl ExportOpenSegment {
    /// Whether the path still refers to this file with the expected length: the folder may have
    /// been restored from a backup.
    fn check_in_place(&self) -> Result<()> {
        let present = fs::metadata(&self.segment.path);
        let ours = self.file.metadata().map_err(io_error_at(&self.segment.path))?;
        match present {
            Ok(there)
                if (there.dev(), there.ino(), there.len())
                    == (ours.dev(), ours.ino(), self.bytes) =>
            {
                Ok(())
            }
            _ => Err(ExportError::Moved(format!(
                "{} is another file now",
                self.segment.path.display()
            ))),
        }
    }

    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        #[cfg(debug_assertions)]
        let lines = {
            // Two writes, so that tests can crash in the middle of a line.
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

fn acquire_file_lock(lock: &Path) -> Result<File> {
    if let Some(folder) = lock.parent() {
        create_folder(folder).map_err(io_error_at(folder))?;
    }
    let file = own_file_options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock)
        .map_err(io_error_at(lock))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(ExportError::Unavailable(format!("another process holds {}", lock.display())))
        }
        Err(TryLockError::Error(error)) => Err(io_error_at(lock)(error)),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(io_error_at(folder))
}
