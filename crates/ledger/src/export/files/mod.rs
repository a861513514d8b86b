//! The engine `files`: NDJSON segments `<dir>/<shard>/<first seq>.ndjson`, for one machine.
//!
//! One process at a time appends (a file lock, which lies elsewhere); whoever has lost its lease and still holds the lock
//! keeps the next exporter waiting, and cannot write beside it. A group is one write and one `fdatasync`; a segment is
//! begun when the last one is full, and is in its folder for good before anything in it counts. A torn last line is cut off
//! by the next exporter.

mod damage;
mod held;
mod segments;
mod tail;

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use store::data_dir::{DataDirError, close_to_others, file_error};

use super::{Alarm, Engine, Entry, Error, Log, Mark, Result};
use damage::damage;
use held::Held;
use segments::{Segment, segments};

/// A segment is full at this size.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Entries read at a time.
const CHUNK: usize = 1_000;

/// Exports into folders of this machine.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
    locks: PathBuf,
    segment_bytes: u64,
}

impl Files {
    /// Below a data dir.
    pub fn below(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.join("export"),
            locks: data_dir.join("export-locks"),
            segment_bytes: SEGMENT_BYTES,
        }
    }

    /// With other segments than those of [`SEGMENT_BYTES`].
    pub fn with_segments_of(self, segment_bytes: u64) -> Self {
        Self { segment_bytes, ..self }
    }

    /// Refuses links, and what belongs to somebody else, in what is written to; takes the rights of others away from folders and
    /// files that an earlier version made. Blocks.
    pub fn close_to_others(&self) -> Result<(), DataDirError> {
        for folder in [&self.locks, &self.dir] {
            close_all(folder, 1)?;
        }
        Ok(())
    }

    fn folder(&self, shard: &str) -> PathBuf {
        self.dir.join(shard)
    }
}

/// A folder first, so that what is in it cannot be changed by others while it is looked at; and the folders in it.
fn close_all(folder: &Path, deeper: u32) -> Result<(), DataDirError> {
    close_to_others(folder)?;
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(file_error(folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(file_error(folder))?;
        let is_folder = entry.file_type().map_err(file_error(folder))?.is_dir();
        match is_folder && deeper > 0 {
            true => close_all(&entry.path(), deeper - 1)?,
            false => close_to_others(&entry.path())?,
        }
    }
    Ok(())
}

/// What the file system said.
fn trouble(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::Unavailable(format!("{}: {error}", path.display()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    store::panics::told_blocking(work)
        .await
        .map_err(|_| Error::Unavailable("the work on files was abandoned".to_owned()))?
}

impl Engine for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    fn open<'a>(&'a self, shard: &'a str, _begins: bool) -> BoxFuture<'a, Result<Box<dyn Log>>> {
        let (folder, lock) = (self.folder(shard), self.locks.join(format!("{shard}.lock")));
        let (shard, segment_bytes) = (shard.to_owned(), self.segment_bytes);
        Box::pin(async move {
            let held = blocking(move || Held::open(&shard, folder, &lock, segment_bytes)).await?;
            Ok(Box::new(Appending { last: held.last.clone(), held: Some(held) }) as Box<dyn Log>)
        })
    }

    fn last<'a>(&'a self, shard: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        let (folder, shard) = (self.folder(shard), shard.to_owned());
        Box::pin(blocking(move || {
            for segment in segments(&folder)?.iter().rev() {
                let file = fs::File::open(&segment.path).map_err(trouble(&segment.path))?;
                if let Some(line) = tail::last_line(&file).map_err(trouble(&segment.path))?.line {
                    return Entry::parse(&shard, line).map(Some).map_err(|_| damage(&shard, segment));
                }
            }
            Ok(None)
        }))
    }

    fn read<'a>(&'a self, shard: &'a str, from: Option<Mark>) -> BoxStream<'a, Result<Vec<Entry>>> {
        let (folder, shard) = (self.folder(shard), shard.to_owned());
        let begun = blocking(move || Reading::begin(shard, &folder, from));
        stream::once(begun).map_ok(|reading| stream::try_unfold(reading, next)).try_flatten().boxed()
    }
}

async fn next(mut reading: Reading) -> Result<Option<(Vec<Entry>, Reading)>> {
    blocking(move || {
        let entries = reading.chunk()?;
        Ok((!entries.is_empty()).then_some((entries, reading)))
    })
    .await
}

/// Segments being read.
struct Reading {
    shard: String,
    /// Those not yet begun, the next one last.
    ahead: Vec<Segment>,
    now: Option<(Segment, BufReader<fs::File>)>,
}

impl Reading {
    fn begin(shard: String, folder: &Path, from: Option<Mark>) -> Result<Self> {
        let mut ahead = segments(folder)?;
        if let Some(from) = from {
            // The last segment that begins with it or before it; an empty one says nothing.
            let mut first = 0;
            for (place, segment) in ahead.iter().enumerate().skip(1).rev() {
                let mut opened =
                    BufReader::new(fs::File::open(&segment.path).map_err(trouble(&segment.path))?);
                let begins = next_entry(&shard, segment, &mut opened, true)?;
                if begins.is_some_and(|entry| entry.mark <= from) {
                    first = place;
                    break;
                }
            }
            ahead.drain(..first);
        }
        ahead.reverse();
        Ok(Self { shard, ahead, now: None })
    }

    /// Empty at the end.
    fn chunk(&mut self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        while entries.len() < CHUNK {
            if self.now.is_none() {
                let Some(segment) = self.ahead.pop() else { break };
                let file = fs::File::open(&segment.path).map_err(trouble(&segment.path))?;
                self.now = Some((segment, BufReader::with_capacity(1 << 20, file)));
            }
            let Some((segment, opened)) = &mut self.now else { break };
            match next_entry(&self.shard, segment, opened, self.ahead.is_empty())? {
                Some(entry) => entries.push(entry),
                None => self.now = None,
            }
        }
        Ok(entries)
    }
}

/// The entry of the next line. Only the last segment may end with a torn one, which is not there.
fn next_entry(
    shard: &str,
    segment: &Segment,
    from: &mut BufReader<fs::File>,
    may_be_torn: bool,
) -> Result<Option<Entry>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).map_err(trouble(&segment.path))?;
    match line.pop() {
        Some(b'\n') => Entry::parse(shard, line.into()).map(Some).map_err(|_| damage(shard, segment)),
        Some(_) if !may_be_torn => Err(damage(shard, segment)),
        _ => Ok(None),
    }
}

/// The log of a shard; while a group is being written, its files belong to the thread that writes.
struct Appending {
    held: Option<Held>,
    last: Option<Entry>,
}

impl Log for Appending {
    fn last(&mut self) -> Option<&Entry> {
        self.last.as_ref()
    }

    fn append<'a>(&'a mut self, entries: &'a [Entry]) -> BoxFuture<'a, Result<()>> {
        let held = self.held.take();
        let entries = entries.to_vec();
        Box::pin(async move {
            let mut held = held.ok_or_else(|| Error::Moved("an earlier write failed".to_owned()))?;
            let (held, last) = blocking(move || {
                held.append(&entries)?;
                Ok((held, entries.last().cloned()))
            })
            .await?;
            (self.held, self.last) = (Some(held), last.or(self.last.take()));
            Ok(())
        })
    }
}
