//! Export engine `files`: NDJSON segments `<dir>/<shard>/<first seq>.ndjson` on one machine.
//!
//! - Shape: a new segment begins when the last one is full; it is durable in its folder before it
//!   is written.
//! - Cost: one write and one `fdatasync` per group.
//! - Promise: one process appends at a time, under a file lock in a separate folder. A process that
//!   lost its lease but holds the lock makes the next exporter wait, and never writes beside it.
//!   The next exporter truncates a torn last line.

mod damage;
mod segment_writer;
mod segments;
mod tail;

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use store::data_dir::{DataDirError, file_error, restrict_to_owner};

use super::{ExportAlarm, ExportEngine, ExportEntry, ExportError, ExportLog, ExportMark, Result};
use damage::locate_damage;
use segment_writer::ExportSegmentWriter;
use segments::{ExportSegment, list_segments};

/// Default size at which a segment is full, in bytes.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;
/// Maximum entries read per step.
const MAX_ENTRIES_PER_CHUNK: usize = 1_000;

/// Exports into folders of this machine.
#[derive(Debug, Clone)]
pub struct ExportFileEngine {
    dir: PathBuf,
    lock_dir: PathBuf,
    max_segment_bytes: u64,
}

impl ExportFileEngine {
    /// Exports into `export` in the data directory; locks lie in `export-locks`.
    pub fn in_data_dir(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.join("export"),
            lock_dir: data_dir.join("export-locks"),
            max_segment_bytes: DEFAULT_SEGMENT_BYTES,
        }
    }

    /// With another segment size than [`DEFAULT_SEGMENT_BYTES`].
    pub fn with_max_segment_bytes(self, max_segment_bytes: u64) -> Self {
        Self { max_segment_bytes, ..self }
    }

    /// Refuses symlinks and files of other users in the export folders, and revokes other users'
    /// access to folders and files created by an earlier version. Blocking.
    pub fn restrict_access(&self) -> Result<(), DataDirError> {
        for folder in [&self.lock_dir, &self.dir] {
            restrict_folder_access(folder, 1)?;
        }
        Ok(())
    }

    fn shard_folder(&self, shard: &str) -> PathBuf {
        self.dir.join(shard)
    }
}

/// Restricts the folder first, so that other users cannot change its content during the scan; then
/// its files and subfolders.
fn restrict_folder_access(folder: &Path, depth: u32) -> Result<(), DataDirError> {
    restrict_to_owner(folder)?;
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(file_error(folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(file_error(folder))?;
        let is_folder = entry.file_type().map_err(file_error(folder))?.is_dir();
        match is_folder && depth > 0 {
            true => restrict_folder_access(&entry.path(), depth - 1)?,
            false => restrict_to_owner(&entry.path())?,
        }
    }
    Ok(())
}

/// File system errors are transient.
fn io_error_at(path: &Path) -> impl Fn(std::io::Error) -> ExportError + '_ {
    move |error| ExportError::Unavailable(format!("{}: {error}", path.display()))
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    store::panics::spawn_blocking_contained(work)
        .await
        .map_err(|_| ExportError::Unavailable("the work on files was abandoned".to_owned()))?
}

impl ExportEngine for ExportFileEngine {
    fn name(&self) -> &'static str {
        "files"
    }

    fn open_log<'a>(
        &'a self,
        shard: &'a str,
        _begins: bool,
    ) -> BoxFuture<'a, Result<Box<dyn ExportLog>>> {
        let (folder, lock) =
            (self.shard_folder(shard), self.lock_dir.join(format!("{shard}.lock")));
        let (shard, segment_bytes) = (shard.to_owned(), self.max_segment_bytes);
        Box::pin(async move {
            let writer = run_blocking(move || {
                ExportSegmentWriter::open(&shard, folder, &lock, segment_bytes)
            })
            .await?;
            Ok(Box::new(ExportFileLog {
                last_entry: writer.last_entry.clone(),
                writer: Some(writer),
            }) as Box<dyn ExportLog>)
        })
    }

    fn last_entry<'a>(&'a self, shard: &'a str) -> BoxFuture<'a, Result<Option<ExportEntry>>> {
        let (folder, shard) = (self.shard_folder(shard), shard.to_owned());
        Box::pin(run_blocking(move || {
            for segment in list_segments(&folder)?.iter().rev() {
                let file = fs::File::open(&segment.path).map_err(io_error_at(&segment.path))?;
                if let Some(line) =
                    tail::find_last_line(&file).map_err(io_error_at(&segment.path))?.last_line
                {
                    return ExportEntry::parse(&shard, line)
                        .map(Some)
                        .map_err(|_| locate_damage(&shard, segment));
                }
            }
            Ok(None)
        }))
    }

    fn read_entries<'a>(
        &'a self,
        shard: &'a str,
        from: Option<ExportMark>,
    ) -> BoxStream<'a, Result<Vec<ExportEntry>>> {
        let (folder, shard) = (self.shard_folder(shard), shard.to_owned());
        let reader = run_blocking(move || ExportSegmentReader::open_from(shard, &folder, from));
        stream::once(reader)
            .map_ok(|reading| stream::try_unfold(reading, next))
            .try_flatten()
            .boxed()
    }
}

async fn next(
    mut reader: ExportSegmentReader,
) -> Result<Option<(Vec<ExportEntry>, ExportSegmentReader)>> {
    run_blocking(move || {
        let entries = reader.read_chunk()?;
        Ok((!entries.is_empty()).then_some((entries, reader)))
    })
    .await
}

/// Reads segments in order.
struct ExportSegmentReader {
    shard: String,
    /// Segments not opened yet, in reverse order.
    remaining: Vec<ExportSegment>,
    current: Option<(ExportSegment, BufReader<fs::File>)>,
}

impl ExportSegmentReader {
    fn open_from(shard: String, folder: &Path, from: Option<ExportMark>) -> Result<Self> {
        let mut remaining = list_segments(folder)?;
        if let Some(from) = from {
            // The last segment that begins at or before `from`; empty segments are skipped.
            let mut first_index = 0;
            for (index, segment) in remaining.iter().enumerate().skip(1).rev() {
                let mut opened = BufReader::new(
                    fs::File::open(&segment.path).map_err(io_error_at(&segment.path))?,
                );
                let begins = read_next_entry(&shard, segment, &mut opened, true)?;
                if begins.is_some_and(|entry| entry.mark <= from) {
                    first_index = index;
                    break;
                }
            }
            remaining.drain(..first_index);
        }
        remaining.reverse();
        Ok(Self { shard, remaining, current: None })
    }

    /// The next entries; empty at the end.
    fn read_chunk(&mut self) -> Result<Vec<ExportEntry>> {
        let mut entries = Vec::new();
        while entries.len() < MAX_ENTRIES_PER_CHUNK {
            if self.current.is_none() {
                let Some(segment) = self.remaining.pop() else { break };
                let file = fs::File::open(&segment.path).map_err(io_error_at(&segment.path))?;
                self.current = Some((segment, BufReader::with_capacity(1 << 20, file)));
            }
            let Some((segment, opened)) = &mut self.current else { break };
            match read_next_entry(&self.shard, segment, opened, self.remaining.is_empty())? {
                Some(entry) => entries.push(entry),
                None => self.current = None,
            }
        }
        Ok(entries)
    }
}

/// Reads the next line's entry. Only the last segment may end with a torn line, which is ignored.
fn read_next_entry(
    shard: &str,
    segment: &ExportSegment,
    from: &mut BufReader<fs::File>,
    may_be_torn: bool,
) -> Result<Option<ExportEntry>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).map_err(io_error_at(&segment.path))?;
    match line.pop() {
        Some(b'\n') => ExportEntry::parse(shard, line.into())
            .map(Some)
            .map_err(|_| locate_damage(shard, segment)),
        Some(_) if !may_be_torn => Err(locate_damage(shard, segment)),
        _ => Ok(None),
    }
}

/// The log of a shard. During an append, the blocking thread owns the writer.
struct ExportFileLog {
    writer: Option<ExportSegmentWriter>,
    last_entry: Option<ExportEntry>,
}

impl ExportLog for ExportFileLog {
    fn last_entry(&mut self) -> Option<&ExportEntry> {
        self.last_entry.as_ref()
    }

    fn append<'a>(&'a mut self, entries: &'a [ExportEntry]) -> BoxFuture<'a, Result<()>> {
        let writer = self.writer.take();
        let entries = entries.to_vec();
        Box::pin(async move {
            let mut writer =
                writer.ok_or_else(|| ExportError::Moved("an earlier write failed".to_owned()))?;
            let (writer, last) = run_blocking(move || {
                writer.append(&entries)?;
                Ok((writer, entries.last().cloned()))
            })
            .await?;
            (self.writer, self.last_entry) = (Some(writer), last.or(self.last_entry.take()));
            Ok(())
        })
    }
}
