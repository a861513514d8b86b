//! Limit: `fdatasync` per second, an upper bound for commits without group commit.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant};

use crate::figures::{Figure, FigureUnit};
use crate::suite::BenchSession;

/// The size of a WAL page.
const WAL_PAGE: [u8; 8192] = [7; 8192];
/// Pages of the file, which is overwritten cyclically like recycled WAL segments.
const FILE_PAGE_COUNT: u64 = 2048;

/// Measures in the folder that also holds the rows' data.
pub async fn measure_sync_rate(session: &BenchSession) -> anyhow::Result<Figure> {
    session.progress.show_step("limit: fdatasync");
    let folder = session.create_folder("disk")?;
    let path = folder.path().join("log");
    let (runs, length) = (session.effort.window_count, Duration::from_secs(1));
    let rates = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::create(path)?;
        for _ in 0..FILE_PAGE_COUNT {
            file.write_all(&WAL_PAGE)?;
        }
        file.sync_all()?;
        (0..runs).map(|_| sync_rate(&mut file, length)).collect::<std::io::Result<Vec<f64>>>()
    });
    Ok(Figure::from_values("fdatasync", FigureUnit::PerSecond, &rates.await??))
}

fn sync_rate(file: &mut std::fs::File, length: Duration) -> std::io::Result<f64> {
    let (begun, mut sync_count) = (Instant::now(), 0_u64);
    while begun.elapsed() < length {
        file.seek(SeekFrom::Start(sync_count % FILE_PAGE_COUNT * WAL_PAGE.len() as u64))?;
        file.write_all(&WAL_PAGE)?;
        file.sync_data()?;
        sync_count += 1;
    }
    Ok(sync_count as f64 / begun.elapsed().as_secs_f64())
}
