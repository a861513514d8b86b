//! Where a segment is damaged: found when it is, by reading it once more from its beginning.

use std::fs::File;
use std::io::{BufRead as _, BufReader};

use super::segments::Segment;
use super::{Alarm, Entry, Error, trouble};
use crate::export::Mark;

/// Names the first line of a segment that is no entry of `shard`, and the number before it.
pub(super) fn damage(shard: &str, segment: &Segment) -> Error {
    let found =
        File::open(&segment.path).and_then(|file| first(shard, BufReader::with_capacity(1 << 20, file)));
    match found {
        Err(error) => trouble(&segment.path)(error),
        Ok(Some(Place { line, after, what })) => {
            let after = after.map(|mark| format!(", after {mark}")).unwrap_or_default();
            let place = format!("{}, line {line}{after}", segment.path.display());
            Error::Alarm(Alarm::Damaged(format!("{place}: {what}")))
        }
        Ok(None) => Error::Moved(format!("{} is another file now", segment.path.display())),
    }
}

struct Place {
    line: u64,
    after: Option<Mark>,
    what: String,
}

fn first(shard: &str, mut from: BufReader<File>) -> std::io::Result<Option<Place>> {
    let (mut line, mut after) = (1, None);
    let mut bytes = Vec::new();
    while from.read_until(b'\n', &mut bytes)? > 0 {
        let parsed = match bytes.pop() {
            Some(b'\n') => Entry::parse(shard, std::mem::take(&mut bytes).into()),
            _ => Err("the file ends in the midst of the line".to_owned()),
        };
        match parsed {
            Ok(entry) => after = Some(entry.mark),
            Err(what) => return Ok(Some(Place { line, after, what })),
        }
        line += 1;
    }
    Ok(None)
}
