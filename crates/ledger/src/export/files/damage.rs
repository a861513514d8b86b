//! Location of damage in a segment: reads it again from its beginning after an error.

use std::fs::File;
use std::io::{BufRead as _, BufReader};

use super::segments::ExportSegment;
use super::{ExportAlarm, ExportEntry, ExportError, io_error_at};
use crate::export::ExportMark;

/// An alarm with the first line that is not an entry of `shard`, and the mark before it.
pub(super) fn locate_damage(shard: &str, segment: &ExportSegment) -> ExportError {
    let found = File::open(&segment.path)
        .and_then(|file| find_first_damage(shard, BufReader::with_capacity(1 << 20, file)));
    match found {
        Err(error) => io_error_at(&segment.path)(error),
        Ok(Some(ExportFileDamage { line, after, problem: what })) => {
            let after = after.map(|mark| format!(", after {mark}")).unwrap_or_default();
            let place = format!("{}, line {line}{after}", segment.path.display());
            ExportError::Alarm(ExportAlarm::Damaged(format!("{place}: {what}")))
        }
        Ok(None) => ExportError::Moved(format!("{} is another file now", segment.path.display())),
    }
}

struct ExportFileDamage {
    line: u64,
    after: Option<ExportMark>,
    problem: String,
}

fn find_first_damage(
    shard: &str,
    mut from: BufReader<File>,
) -> std::io::Result<Option<ExportFileDamage>> {
    let (mut line, mut after) = (1, None);
    let mut bytes = Vec::new();
    while from.read_until(b'\n', &mut bytes)? > 0 {
        let parsed = match bytes.pop() {
            Some(b'\n') => ExportEntry::parse(shard, std::mem::take(&mut bytes).into()),
            _ => Err("the file ends in the midst of the line".to_owned()),
        };
        match parsed {
            Ok(entry) => after = Some(entry.mark),
            Err(what) => return Ok(Some(ExportFileDamage { line, after, problem: what })),
        }
        line += 1;
    }
    Ok(None)
}
