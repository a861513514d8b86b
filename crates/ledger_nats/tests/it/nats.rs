//! Hazard: the server is down for longer than its duplicate window; two exporters publish
//! concurrently; processes of other shards publish between a group's messages.

use std::sync::Arc;
use std::time::Duration;

use ledger::SequenceNumber;
use ledger::export::{ExportEngine, ExportEntry, ExportError, ExportMark};
use serde_json::json;

use super::nats_server::{NatsServer, WINDOW};
use super::world::{PAUSED, QUICK, World, stream};
use crate::harness::Served;

#[test]
fn the_stream_of_every_shard_is_exact_though_two_processes_export_into_it() {
    store::testing::run_test(async {
        let world = World { served: Served::fresh().await };
        let server = NatsServer::start();
        let engines = [server.engine(), server.engine()];
        let sequencers: Vec<_> = (0..4).map(|place| world.sequencer(place)).collect();
        let exporters: Vec<_> =
            (0..4).map(|place| world.exporter(place, &engines[place % 2], QUICK)).collect();
        let loads = (0..4).map(|place| {
            let world = world.clone();
            tokio::spawn(async move { world.load(place, "a", 1500).await })
        });
        for load in loads.collect::<Vec<_>>() {
            load.await.unwrap();
        }
        for place in 0..4 {
            world.exported(place, 1500).await;
            world.assert_exact(place, &engines[0], 1500).await;
        }
        for process in exporters.into_iter().chain(sequencers) {
            process.end().await;
        }
    });
}

#[test]
fn a_server_that_is_killed_again_and_again_gets_an_exact_stream() {
    store::testing::run_test(async {
        let (world, mut server) = (World::fresh().await, NatsServer::start());
        let engine = server.engine();
        let (sequencer, exporter) = (world.sequencer(0), world.exporter(0, &engine, QUICK));
        let mut events = 0;
        let mut cut_off = 0;
        for round in 0..8 {
            events += 1300;
            let loading = tokio::spawn({
                let world = world.clone();
                async move { world.load(0, &round.to_string(), 1200).await }
            });
            world
                .wait_for(0, "under way", |figures| {
                    figures["exported_seq"].as_i64() > Some(events - 1200)
                })
                .await;
            server.kill();
            // Also events written while it is down.
            world.load(0, &format!("{round} away"), 100).await;
            // Longer than the duplicate window, every other time.
            tokio::time::sleep(if round % 2 == 0 { WINDOW * 2 } else { Duration::from_millis(50) })
                .await;
            loading.await.unwrap();
            cut_off += i64::from(world.figures(0).await["exported_seq"] != json!(events));
            server.start_again();
            world.exported(0, events).await;
        }
        assert!(cut_off > 0, "the kills bit");
        world.assert_exact(0, &engine, events).await;
        exporter.end().await;
        sequencer.end().await;
    });
}

#[test]
fn what_was_stored_and_never_recorded_is_not_sent_again_however_late() {
    store::testing::run_test(async {
        let (world, server) = (World::fresh().await, NatsServer::start());
        let engine = server.engine();
        let sequencer = world.sequencer(0);
        let exporter = world.exporter(0, &engine, QUICK);
        world.load(0, "a", 1000).await;
        world.exported(0, 1000).await;
        exporter.end().await;
        for (recorded, rest) in
            [(1, "all but the first"), (0, "all"), (640, "some"), (1000, "none")]
        {
            sqlx::query("UPDATE export SET exported_seq = $1")
                .bind(recorded)
                .execute(&world.shard(0).pool)
                .await
                .unwrap();
            tokio::time::sleep(WINDOW * 2).await;
            let exporter = world.exporter(0, &engine, QUICK);
            world.exported(0, 1000).await;
            assert_eq!(stream(&engine, "s0").await.len(), 1000, "{rest}");
            exporter.end().await;
        }
        world.assert_exact(0, &engine, 1000).await;
        sequencer.end().await;
    });
}

#[test]
fn a_zombie_and_its_successor_publish_at_once_and_the_stream_is_exact() {
    store::testing::run_test(async {
        let (world, server) = (World::fresh().await, NatsServer::start());
        let sequencer = world.sequencer(0);
        // The zombie's lease expires immediately, again and again; each time another exporter
        // starts beside it.
        let mut processes = Vec::new();
        let loading = tokio::spawn({
            let world = world.clone();
            async move { world.load(0, "a", 2000).await }
        });
        for _ in 0..6 {
            processes.push(world.exporter(0, &server.engine(), PAUSED));
            tokio::time::sleep(Duration::from_millis(350)).await;
        }
        loading.await.unwrap();
        processes.push(world.exporter(0, &server.engine(), QUICK));
        world.exported(0, 2000).await;
        world.assert_exact(0, &server.engine(), 2000).await;
        let epoch: i64 =
            sqlx::query_scalar("SELECT epoch FROM leases WHERE class = 'duty/exporter'")
                .fetch_one(&world.shard(0).pool)
                .await
                .unwrap();
        assert!(epoch > 2, "leases were lost");
        for process in processes {
            process.end().await;
        }
        sequencer.end().await;
    });
}

#[test]
fn a_zombie_that_wakes_records_nothing_and_ends() {
    store::testing::run_test(async {
        let (world, server) = (World::fresh().await, NatsServer::start());
        let sequencer = world.sequencer(0);
        let zombie = world.exporter(0, &server.engine(), PAUSED);
        world.write(0, (0..10).map(|n| format!("a/{n}"))).await;
        world.exported(0, 10).await;
        // Another owner takes the lease over and releases it.
        let epoch = || async {
            let epoch = sqlx::query_scalar::<_, i64>(
                "SELECT epoch FROM leases WHERE class = 'duty/exporter'",
            );
            epoch.fetch_one(&world.shard(0).pool).await.unwrap()
        };
        let before = epoch().await;
        let standby = world.exporter(0, &server.engine(), QUICK);
        while epoch().await == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        standby.end().await;
        // The first group finds out; its message is the correct next one, whichever exporter sends
        // it.
        world.write(0, (10..20).map(|n| format!("a/{n}"))).await;
        world.wait_for(0, "numbered", |figures| figures["last_seq"] == json!(20)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.figures(0).await["exported_seq"], json!(10));
        let sent = stream(&server.engine(), "s0").await.len();
        world.write(0, (20..30).map(|n| format!("a/{n}"))).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(stream(&server.engine(), "s0").await.len(), sent, "it has ended");
        let exporter = world.exporter(0, &server.engine(), QUICK);
        world.exported(0, 30).await;
        world.assert_exact(0, &server.engine(), 30).await;
        for process in [zombie, exporter, sequencer] {
            process.end().await;
        }
    });
}

/// A small body, different for every number.
fn entry(seq: i64) -> ExportEntry {
    let body = json!({"shard": "s0", "epoch": 1, "seq": seq}).to_string();
    ExportEntry::parse("s0", body.into()).unwrap()
}

/// A misbehaving exporter without a lease: publishes up to `last`, in groups of another size, with
/// ids that may be outside the duplicate window; reads the stream again only after a refusal.
async fn publish_all(engine: Arc<dyn ExportEngine>, last: i64, group: usize) -> i64 {
    let mut refused = 0;
    loop {
        let mut log = engine.open_log("s0", true).await.unwrap();
        let next = log.last_entry().map_or(0, |entry| entry.mark.seq.get()) + 1;
        if next > last {
            return refused;
        }
        let rest: Vec<ExportEntry> = (next..=last).map(entry).collect();
        for group in rest.chunks(group) {
            match log.append(group).await {
                Ok(()) => {}
                Err(ExportError::Moved(_)) => {
                    refused += 1;
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn publishers_that_know_nothing_of_each_other_make_one_exact_stream() {
    store::testing::run_test(async {
        let server = NatsServer::start();
        let engines: Vec<_> = (0..4).map(|_| server.engine()).collect();
        engines[0].open_log("s0", true).await.unwrap();
        let (mut last, mut refused) = (0, 0);
        // A quick one may be done before the others begin.
        while refused == 0 {
            last += 5000;
            assert!(last <= 100_000, "they were never in each other's way");
            let publishing = engines.iter().zip([1, 7, 100, 1000]);
            let publishing: Vec<_> = publishing
                .map(|(engine, group)| tokio::spawn(publish_all(engine.clone(), last, group)))
                .collect();
            for publisher in publishing {
                refused += publisher.await.unwrap();
            }
        }
        let expected: Vec<ExportMark> =
            (1..=last).map(|seq| ExportMark { epoch: 1, seq: SequenceNumber(seq) }).collect();
        let marks: Vec<ExportMark> =
            stream(&engines[0], "s0").await.iter().map(|entry| entry.mark).collect();
        assert_eq!(marks, expected);
    });
}

#[test]
fn a_publisher_that_slept_while_others_went_on_stores_nothing_however_late_it_wakes() {
    store::testing::run_test(async {
        let server = NatsServer::start();
        let (slow, quick) = (server.engine(), server.engine());
        let entries: Vec<ExportEntry> = (1..=1000).map(entry).collect();
        slow.open_log("s0", true).await.unwrap().append(&entries[..300]).await.unwrap();
        let mut log = quick.open_log("s0", true).await.unwrap();
        for (from, to) in [(300, 301), (301, 420), (420, 1000)] {
            let mut slept = slow.open_log("s0", true).await.unwrap();
            log.append(&entries[from..to]).await.unwrap();
            // Within the duplicate window, and long after it.
            for wait in [Duration::ZERO, WINDOW * 2] {
                tokio::time::sleep(wait).await;
                let refused = slept.append(&entries[from..to]).await.unwrap_err();
                assert!(matches!(refused, ExportError::Moved(_)), "{refused}");
            }
        }
        assert_eq!(stream(&quick, "s0").await, entries);
    });
}

#[test]
fn what_the_server_remembers_and_no_longer_has_does_not_count_as_stored() {
    store::testing::run_test(async {
        let server = NatsServer::start();
        let engine = server.engine();
        let entries: Vec<ExportEntry> = (1..=100).map(entry).collect();
        engine.open_log("s0", true).await.unwrap().append(&entries).await.unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        let ledger = async_nats::jetstream::new(client).get_stream("LEDGER").await.unwrap();
        ledger.purge().await.unwrap();
        // The ids are known, the messages are deleted.
        let begun = std::time::Instant::now();
        let mut refused = 0;
        loop {
            let mut log = engine.open_log("s0", false).await.unwrap();
            let stored =
                log.last_entry().map_or(0, |entry| usize::try_from(entry.mark.seq.get()).unwrap());
            match log.append(&entries[stored..]).await {
                Ok(()) => break,
                Err(ExportError::Moved(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(begun.elapsed() < WINDOW * 20, "ids are forgotten after a while");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(refused > 0, "the ids were remembered");
        assert_eq!(stream(&engine, "s0").await, entries);
    });
}

#[test]
fn a_stream_that_does_not_fit_is_refused_and_says_why() {
    store::testing::run_test(async {
        let (world, server) = (World::fresh().await, NatsServer::start());
        let client = async_nats::connect(server.url()).await.unwrap();
        let jetstream = async_nats::jetstream::new(client);
        let config = async_nats::jetstream::stream::Config {
            name: "LEDGER".to_owned(),
            subjects: vec!["ledger.events.other".to_owned()],
            ..Default::default()
        };
        jetstream.create_stream(config.clone()).await.unwrap();
        let Err(refused) = server.engine().open_log("s0", true).await else {
            panic!("it does not fit")
        };
        assert!(refused.to_string().contains("do not cover ledger.events.s0"), "{refused}");
        // A stream that was created by others and fits is used as it is.
        let config = async_nats::jetstream::stream::Config {
            subjects: vec!["ledger.>".to_owned()],
            description: Some("ours".to_owned()),
            ..config
        };
        jetstream.update_stream(config).await.unwrap();
        let engine = server.engine();
        let (sequencer, exporter) = (world.sequencer(0), world.exporter(0, &engine, QUICK));
        world.load(0, "a", 100).await;
        world.exported(0, 100).await;
        world.assert_exact(0, &engine, 100).await;
        let stream = jetstream.get_stream("LEDGER").await.unwrap();
        assert_eq!(stream.cached_info().config.description.as_deref(), Some("ours"));
        // As seen by a consumer.
        let message = stream.get_last_raw_message_by_subject("ledger.events.s0").await.unwrap();
        assert_eq!(message.headers.get("Nats-Msg-Id").unwrap().as_str(), "s0-1-100");
        exporter.end().await;
        sequencer.end().await;
    });
}
