//! Limit: `fdatasync` per second, an upper bound for commits without group commit.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant};

use crate::figures::{Figure, Unit};
use crate::suite::Session;

/// The size of a WAL page.
const PAGE: [u8; 8192] = [7; 8192];
/// Pages of the file, which is overwritten cyclically like recycled WAL segments.
const PAGES: u64 = 2048;

/// Measures in the folder that also holds the rows' data.
pub async fn syncs(session: &Session) -> anyhow::Result<Figure> {
    session.progress.note("limit: fdatasync");
    let folder = session.folder("disk")?;
    let path = folder.path().join("log");
    let (runs, length) = (session.effort.windows, Duration::from_secs(1));
    let rates = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::create(path)?;
        for _ in 0..PAGES {
            file.write_all(&PAGE)?;
        }
        file.sync_all()?;
        (0..runs).map(|_| rate(&mut file, length)).collect::<std::io::Result<Vec<f64>>>()
    });
    Ok(Figure::of("fdatasync", Unit::PerSecond, &rates.await??))
}

fn rate(file: &mut std::fs::File, length: Duration) -> std::io::Result<f64> {
    let (begun, mut syncs) = (Instant::now(), 0_u64);
    while begun.elapsed() < length {
        file.seek(SeekFrom::Start(syncs % PAGES * PAGE.len() as u64))?;
        file.write_all(&PAGE)?;
        file.sync_data()?;
        syncs += 1;
    }
    Ok(syncs as f64 / begun.elapsed().as_secs_f64())
}
