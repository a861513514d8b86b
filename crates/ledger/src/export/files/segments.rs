//! Segments of a shard's folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Result, io_error_at};
use crate::ids::SequenceNumber;

/// A segment file, named after its first sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExportSegment {
    pub(super) first_seq: SequenceNumber,
    pub(super) path: PathBuf,
}

impl ExportSegment {
    pub(super) fn in_folder(folder: &Path, first: SequenceNumber) -> Self {
        Self { first_seq: first, path: folder.join(format!("{first}.ndjson")) }
    }
}

/// Segments in the order of their first numbers, which is
/// the order of writing. A missing folder has none.
pub(super) fn list_segments(folder: &Path) -> Result<Vec<ExportSegment>> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error_at(folder)(error)),
    };
    let mut found = Vec::new();
    for file in listed {
        let name = file.map_err(io_error_at(folder))?.file_name();
        let first =
            name.to_str().and_then(|name| name.strip_suffix(".ndjson")?.parse::<i64>().ok());
        let segment = first.map(|first| ExportSegment::in_folder(folder, SequenceNumber(first)));
        // Ignore other files.
        found.extend(segment.filter(|segment| segment.path.file_name() == Some(&name)));
    }
    found.sort_unstable_by_key(|segment| segment.first_seq);
    Ok(found)
}
