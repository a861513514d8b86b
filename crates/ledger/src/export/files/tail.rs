//! Tail of a segment.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;

/// Size of the pieces that are read backwards.
const TAIL_PIECE_BYTES: u64 = 64 << 10;

/// End of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExportSegmentTail {
    /// Last whole line, without its newline.
    pub(super) last_line: Option<Bytes>,
    /// Length up to the end of the last whole line.
    pub(super) whole_bytes: u64,
}

/// Finds the last whole line; bytes after it are a torn line.
pub(super) fn find_last_line(file: &File) -> std::io::Result<ExportSegmentTail> {
    let length = file.metadata()?.len();
    let Some(end) = find_last_newline(file, length)? else {
        return Ok(ExportSegmentTail { last_line: None, whole_bytes: 0 });
    };
    let begin = find_last_newline(file, end)?.map_or(0, |newline| newline + 1);
    let mut line = vec![0; usize::try_from(end - begin).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut line, begin)?;
    Ok(ExportSegmentTail { last_line: Some(line.into()), whole_bytes: end + 1 })
}

/// Position of the last newline before `before`.
fn find_last_newline(file: &File, before: u64) -> std::io::Result<Option<u64>> {
    let mut end = before;
    let mut piece = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(TAIL_PIECE_BYTES);
        piece.resize(usize::try_from(end - begin).map_err(std::io::Error::other)?, 0);
        file.read_exact_at(&mut piece, begin)?;
        if let Some(place) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(Some(begin + place as u64));
        }
        end = begin;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn write_and_find_tail(content: &[u8]) -> (Option<Vec<u8>>, u64) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let tail = find_last_line(&file).unwrap();
        (tail.last_line.map(|line| line.to_vec()), tail.whole_bytes)
    }

    #[test]
    fn the_last_whole_line_is_found_wherever_it_lies() {
        let long = [vec![b'x'; 3 * TAIL_PIECE_BYTES as usize], vec![b'\n']].concat();
        let whole = long.len() as u64;
        assert_eq!(write_and_find_tail(b""), (None, 0));
        assert_eq!(write_and_find_tail(b"torn"), (None, 0));
        assert_eq!(write_and_find_tail(b"a\n"), (Some(b"a".to_vec()), 2));
        assert_eq!(write_and_find_tail(b"a\nbc\ntorn"), (Some(b"bc".to_vec()), 5));
        assert_eq!(write_and_find_tail(b"a\n\n"), (Some(Vec::new()), 3));
        assert_eq!(write_and_find_tail(&long), (Some(long[..long.len() - 1].to_vec()), whole));
        assert_eq!(
            write_and_find_tail(&[b"a\n", &long[..]].concat()),
            (Some(long[..long.len() - 1].to_vec()), whole + 2)
        );
        // A torn line of zeros, as a file system may leave it after a crash.
        assert_eq!(
            write_and_find_tail(&[b"ab\n", &vec![0; 2 * TAIL_PIECE_BYTES as usize][..]].concat()),
            (Some(b"ab".to_vec()), 3)
        );
        for torn in TAIL_PIECE_BYTES - 3..TAIL_PIECE_BYTES + 3 {
            assert_eq!(
                write_and_find_tail(&[b"ab\n", &vec![b't'; torn as usize][..]].concat()),
                (Some(b"ab".to_vec()), 3)
            );
        }
    }
}
