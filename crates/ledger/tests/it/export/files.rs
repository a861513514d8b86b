//! Hazard: a file exporter dies at any step, a line is torn, or two exporters believe that they
//! hold the lease.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ledger::export::files::ExportFileEngine;
use ledger::export::{ExportEngine, ExportEntry};
use serde_json::{Value, json};

use super::world::{PAUSED, QUICK, World, stream};

fn engine(dir: &tempfile::TempDir) -> Arc<dyn ExportEngine> {
    Arc::new(ExportFileEngine::in_data_dir(dir.path()).with_max_segment_bytes(20_000))
}

/// Segments of a shard, found by the folder layout alone.
fn segments(dir: &Path, shard: &str) -> Vec<(i64, PathBuf)> {
    let files = fs::read_dir(dir.join("export").join(shard)).unwrap();
    let mut found: Vec<(i64, PathBuf)> = files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            (name.strip_suffix(".ndjson").expect("nothing else is there").parse().unwrap(), path)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn the_files_hold_each_event_once_in_order_in_segments_named_by_their_first() {
    store::testing::run_test(async {
        let (world, dir) = (World::fresh().await, tempfile::tempdir().unwrap());
        let engine = engine(&dir);
        let (sequencer, exporter) = (world.sequencer(0), world.exporter(0, &engine, QUICK));
        world.load(0, "a", 1200).await;
        world.exported(0, 1200).await;
        world.assert_exact(0, &engine, 1200).await;
        // The same, parsed without this program's code.
        let mut next = 1;
        let segments = segments(dir.path(), "s0");
        for (first, path) in &segments {
            let text = fs::read_to_string(path).unwrap();
            assert!(text.ends_with('\n'));
            for line in text.lines() {
                let body: Value = serde_json::from_str(line).unwrap();
                let first = if body["seq"] == json!(*first) { next } else { *first };
                assert!(first <= next, "the first line names the segment");
                assert_eq!(
                    (&body["shard"], &body["epoch"], &body["seq"]),
                    (&json!("s0"), &json!(1), &json!(next))
                );
                next += 1;
            }
        }
        assert_eq!(next, 1201);
        assert!(segments.len() > 3 && segments[0].0 == 1, "it is rolled: {segments:?}");
        exporter.end().await;
        sequencer.end().await;
    });
}

#[test]
fn exporters_that_are_aborted_anywhere_leave_an_exact_stream() {
    store::testing::run_test(async {
        let (world, dir) = (World::fresh().await, tempfile::tempdir().unwrap());
        let engine = engine(&dir);
        let sequencer = world.sequencer(0);
        let loading = tokio::spawn({
            let world = world.clone();
            async move { world.load(0, "a", 2000).await }
        });
        // Each lives for a moment only; a started write is complete or absent.
        for life in 0..40_u64 {
            let exporter = world.exporter(0, &engine, QUICK);
            tokio::time::sleep(Duration::from_millis(5 + life * 7 % 60)).await;
            exporter.end().await;
        }
        loading.await.unwrap();
        let exporter = world.exporter(0, &engine, QUICK);
        world.exported(0, 2000).await;
        world.assert_exact(0, &engine, 2000).await;
        exporter.end().await;
        sequencer.end().await;
    });
}

/// State after a crash, applied to a folder whose exporter had recorded everything.
#[derive(Debug, Clone, Copy)]
enum Left {
    TornLine,
    TornLineOfZeros,
    LinesNotRecorded,
    LinesNotRecordedAndATornOne,
    EmptySegment,
    SegmentWithATornLine,
    SegmentNotRecorded,
}

#[test]
fn whatever_a_crash_leaves_behind_the_next_exporter_goes_on_exactly() {
    use Left::*;
    store::testing::run_test(async {
        for left in [
            TornLine,
            TornLineOfZeros,
            LinesNotRecorded,
            LinesNotRecordedAndATornOne,
            EmptySegment,
            SegmentWithATornLine,
            SegmentNotRecorded,
        ] {
            let (world, dir) = (World::fresh().await, tempfile::tempdir().unwrap());
            let engine = engine(&dir);
            let sequencer = world.sequencer(0);
            let exporter = world.exporter(0, &engine, QUICK);
            world.write(0, (0..30).map(|n| n.to_string())).await;
            world.exported(0, 30).await;
            exporter.end().await;
            // The lines that the next exporter would append, produced from a copy.
            world.write(0, (30..60).map(|n| n.to_string())).await;
            let elsewhere = tempfile::tempdir().unwrap();
            leave(
                left,
                dir.path(),
                &lines_to_come(&world, &engine, elsewhere.path(), dir.path()).await,
            );
            let exporter = world.exporter(0, &engine, QUICK);
            world.exported(0, 60).await;
            world.assert_exact(0, &engine, 60).await;
            exporter.end().await;
            sequencer.end().await;
        }
    });
}

/// Lines of the numbers 31 to 60.
async fn lines_to_come(
    world: &World,
    engine: &Arc<dyn ExportEngine>,
    copy: &Path,
    dir: &Path,
) -> Vec<Vec<u8>> {
    world.wait_for(0, "numbered", |figures| figures["last_seq"] == json!(60)).await;
    fs::create_dir_all(copy.join("export/s0")).unwrap();
    for (_, path) in segments(dir, "s0") {
        fs::copy(&path, copy.join("export/s0").join(path.file_name().unwrap())).unwrap();
    }
    let there: Arc<dyn ExportEngine> = Arc::new(ExportFileEngine::in_data_dir(copy));
    let before = stream(engine, "s0").await;
    let exporter = world.exporter(0, &there, QUICK);
    world.exported(0, 60).await;
    exporter.end().await;
    let after = stream(&there, "s0").await;
    assert_eq!(after[..30], before[..]);
    // The record is that of a crash before it was updated: these entries are unknown to it.
    sqlx::query("UPDATE export SET exported_seq = 30").execute(&world.shard(0).pool).await.unwrap();
    after[30..].iter().map(|entry| [&entry.body[..], b"\n"].concat()).collect()
}

fn leave(left: Left, dir: &Path, lines: &[Vec<u8>]) {
    let (_, last) = segments(dir, "s0").pop().unwrap();
    let segment = dir.join("export/s0/31.ndjson");
    let add = |path: &Path, bytes: &[u8]| {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
    };
    let torn = &lines[7][..lines[7].len() / 2];
    match left {
        Left::TornLine => add(&last, &lines[0][..20]),
        Left::TornLineOfZeros => add(&last, &[0; 5000]),
        Left::LinesNotRecorded => add(&last, &lines[..7].concat()),
        Left::LinesNotRecordedAndATornOne => add(&last, &[&lines[..7].concat(), torn].concat()),
        Left::EmptySegment => add(&segment, b""),
        Left::SegmentWithATornLine => add(&segment, &lines[0][..20]),
        Left::SegmentNotRecorded => add(&segment, &[&lines[..7].concat(), torn].concat()),
    }
}

#[test]
fn a_line_that_the_ledger_does_not_have_stops_it() {
    store::testing::run_test(async {
        let (world, dir) = (World::fresh().await, tempfile::tempdir().unwrap());
        let engine = engine(&dir);
        let sequencer = world.sequencer(0);
        let exporter = world.exporter(0, &engine, QUICK);
        world.write(0, (0..10).map(|n| n.to_string())).await;
        world.exported(0, 10).await;
        exporter.end().await;
        world.write(0, (10..20).map(|n| n.to_string())).await;
        world.wait_for(0, "numbered", |figures| figures["last_seq"] == json!(20)).await;
        let before = stream(&engine, "s0").await;
        let forged =
            String::from_utf8(before[9].body.to_vec()).unwrap().replace("\"seq\":10", "\"seq\":11");
        let (_, last) = segments(dir.path(), "s0").pop().unwrap();
        OpenOptions::new()
            .append(true)
            .open(last)
            .unwrap()
            .write_all(format!("{forged}\n").as_bytes())
            .unwrap();
        let exporter = world.exporter(0, &engine, QUICK);
        let alarm = world.alarm(0).await;
        assert!(
            alarm.contains("differ at number 11 of epoch 1") && alarm.contains("event_id is \"9\""),
            "{alarm}"
        );
        assert_eq!(stream(&engine, "s0").await.len(), 11, "nothing is sent");
        exporter.end().await;
        sequencer.end().await;
    });
}

#[test]
fn a_damaged_line_is_named_by_its_file_its_line_and_the_number_before_it() {
    store::testing::run_test(async {
        use futures::TryStreamExt as _;
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(&dir);
        let entry = |seq: i64| {
            ExportEntry::parse(
                "s0",
                json!({"shard": "s0", "epoch": 1, "seq": seq, "pad": "x".repeat(999)})
                    .to_string()
                    .into(),
            )
        };
        let mut log = engine.open_log("s0", true).await.unwrap();
        for n in 0..6 {
            let entries: Vec<ExportEntry> =
                (n * 10 + 1..=n * 10 + 10).map(|seq| entry(seq).unwrap()).collect();
            log.append(&entries).await.unwrap();
        }
        drop(log);
        let damage = |place: usize, line: usize, with: &str| {
            let (_, path) = segments(dir.path(), "s0").swap_remove(place);
            let text = fs::read_to_string(&path).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines[line - 1] = with.to_owned();
            fs::write(&path, lines.join("\n") + "\n").unwrap();
            (path.display().to_string(), text)
        };
        let all = async || {
            let read: ledger::export::Result<Vec<ExportEntry>> =
                engine.read_entries("s0", None).try_concat().await;
            read.unwrap_err().to_string()
        };
        let (path, text) = damage(1, 8, "{\"shard\": \"s0\", \"epoch\": 1, \"seq\": 2x}");
        let said = all().await;
        let begins = segments(dir.path(), "s0")[1].0;
        let wanted =
            format!("{path}, line 8, after number {} of epoch 1: no exported event: ", begins + 6);
        assert!(
            said.contains(&wanted) && said.ends_with("at its byte 37") && !said.contains("line 1"),
            "{said}"
        );
        fs::write(&path, text).unwrap();
        // The first line of a segment, and a line of another shard.
        let (path, text) = damage(1, 1, "{\"shard\": \"s1\", \"epoch\": 1, \"seq\": 21}");
        let said = all().await;
        assert!(said.contains(&format!("{path}, line 1: an event of shard s1")), "{said}");
        fs::write(&path, text).unwrap();
        // The last line of all, which is the one that an exporter reads.
        let last = segments(dir.path(), "s0").len() - 1;
        let (path, _) = damage(last, 20, "?");
        let wanted = format!("{path}, line 20, after number 59 of epoch 1: ");
        let Err(refused) = engine.open_log("s0", false).await else { panic!("it was opened") };
        for said in [engine.last_entry("s0").await.unwrap_err().to_string(), refused.to_string()] {
            assert!(said.contains(&wanted), "{said}");
        }
    });
}

#[test]
fn a_second_process_is_kept_out_by_the_file_lock_until_the_first_is_gone() {
    store::testing::run_test(async {
        let (world, dir) = (World::fresh().await, tempfile::tempdir().unwrap());
        let engine = engine(&dir);
        let first = engine.open_log("s0", true).await.unwrap();
        let Err(refused) = engine.open_log("s0", true).await else {
            panic!("the log was opened twice")
        };
        assert!(refused.to_string().contains("another process holds"), "{refused}");
        assert!(engine.open_log("s1", true).await.is_ok(), "shards do not hinder each other");
        let sequencer = world.sequencer(0);
        let exporter = world.exporter(0, &engine, QUICK);
        world.write(0, (0..10).map(|n| n.to_string())).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(world.figures(0).await["exported_seq"], json!(0));
        drop(first);
        world.exported(0, 10).await;
        exporter.end().await;
        sequencer.end().await;
    });
}

#[test]
fn a_zombie_keeps_writing_nothing_that_is_wrong_and_a_standby_takes_over() {
    store::testing::run_test(async {
        let (world, dir) = (World::fresh().await, tempfile::tempdir().unwrap());
        let engine = engine(&dir);
        let sequencer = world.sequencer(0);
        let zombie = world.exporter(0, &engine, PAUSED);
        world.load(0, "a", 200).await;
        world.exported(0, 200).await;
        let shard = world.shard(0);
        let epoch = || sqlx::query_scalar::<_, i64>(EPOCH).fetch_one(&shard.pool);
        let before = epoch().await.unwrap();
        // Its lease has expired; it finds out when it records its progress.
        let standby = world.exporter(0, &engine, QUICK);
        world.load(0, "b", 800).await;
        while epoch().await.unwrap() == before {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        world.load(0, "c", 200).await;
        world.exported(0, 1200).await;
        world.assert_exact(0, &engine, 1200).await;
        zombie.end().await;
        standby.end().await;
        sequencer.end().await;
    });
}

const EPOCH: &str = "SELECT epoch FROM leases WHERE class = 'duty/exporter'";

#[test]
fn who_lost_the_lease_records_nothing() {
    store::testing::run_test(async {
        let (world, dir) = (World::fresh().await, tempfile::tempdir().unwrap());
        let engine = engine(&dir);
        let sequencer = world.sequencer(0);
        let exporter = world.exporter(0, &engine, QUICK);
        world.write(0, (0..10).map(|n| n.to_string())).await;
        world.exported(0, 10).await;
        exporter.end().await;
        sequencer.end().await;
        let pool = world.shard(0).pool.clone();
        // The exporter has ended and released its lease: its epoch is over.
        let late = "SELECT record_export((SELECT lease_id FROM leases WHERE class = 'duty/exporter'), $1, 1, 11)";
        let over = sqlx::query_scalar::<_, i64>(EPOCH).fetch_one(&pool).await.unwrap() - 1;
        let recorded: Option<bool> =
            sqlx::query_scalar(late).bind(over).fetch_one(&pool).await.unwrap();
        assert_eq!((recorded, world.figures(0).await["exported_seq"].clone()), (None, json!(10)));
    });
}

#[test]
fn a_folder_that_is_taken_away_while_it_is_written_to_is_noticed() {
    store::testing::run_test(async {
        let (world, dir) = (World::fresh().await, tempfile::tempdir().unwrap());
        let engine = engine(&dir);
        let sequencer = world.sequencer(0);
        let exporter = world.exporter(0, &engine, QUICK);
        world.write(0, (0..10).map(|n| n.to_string())).await;
        world.exported(0, 10).await;
        fs::rename(dir.path().join("export/s0"), dir.path().join("taken")).unwrap();
        world.write(0, (10..20).map(|n| n.to_string())).await;
        let alarm = world.alarm(0).await;
        assert!(alarm.contains("holds nothing, and held number 10 of epoch 1"), "{alarm}");
        // After the folder is restored the alarm clears by itself.
        fs::remove_dir_all(dir.path().join("export/s0")).unwrap();
        fs::rename(dir.path().join("taken"), dir.path().join("export/s0")).unwrap();
        world.exported(0, 20).await;
        world.wait_for(0, "no alarm", |figures| figures["export_alarm"].is_null()).await;
        world.assert_exact(0, &engine, 20).await;
        exporter.end().await;
        sequencer.end().await;
    });
}

#[test]
fn a_group_is_appended_whole_and_names_of_segments_grow_whatever_the_epoch() {
    store::testing::run_test(async {
        let dir = tempfile::tempdir().unwrap();
        let engine: Arc<dyn ExportEngine> =
            Arc::new(ExportFileEngine::in_data_dir(dir.path()).with_max_segment_bytes(100));
        let entry = |epoch: i64, seq: i64| {
            let body = json!({"shard": "s0", "epoch": epoch, "seq": seq, "pad": "x".repeat(60)})
                .to_string();
            ExportEntry::parse("s0", body.into()).unwrap()
        };
        let mut log = engine.open_log("s0", true).await.unwrap();
        assert!(log.last_entry().is_none());
        let entries: Vec<ExportEntry> =
            (1..=9).map(|seq| entry(1, seq)).chain((5..=12).map(|seq| entry(2, seq))).collect();
        for group in entries.chunks(2) {
            log.append(group).await.unwrap();
            assert_eq!(log.last_entry(), group.last());
        }
        drop(log);
        assert_eq!(stream(&engine, "s0").await, entries);
        // Two entries per segment, until a number is lower than the last segment's name.
        let names: Vec<i64> =
            segments(dir.path(), "s0").into_iter().map(|(first, _)| first).collect();
        assert_eq!(names, [1, 3, 5, 7, 9, 10, 12]);
        let mut log = engine.open_log("s0", true).await.unwrap();
        assert_eq!(log.last_entry(), entries.last());
        for from in &entries {
            use futures::TryStreamExt as _;
            let read: Vec<ExportEntry> =
                engine.read_entries("s0", Some(from.mark)).try_concat().await.unwrap();
            assert!(read.len() <= entries.len() && entries.ends_with(&read) && read.contains(from));
        }
    });
}
