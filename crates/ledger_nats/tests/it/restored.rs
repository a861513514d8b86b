//! Hazard: the broker's store or the ledger is restored from an older copy. The exporter must stop,
//! report why, and send nothing until an operator decides.

use std::time::Duration;

use ledger::SequenceNumber;
use ledger::export::{ExportMark, ExportRealignment, begin_epoch, resume_export};
use serde_json::json;

use super::nats_server::NatsServer;
use super::put_back::{go_on, ledger_put_back, mark, marks, range, run_of};
use super::world::{QUICK, World};

#[test]
fn a_broker_put_back_to_an_older_copy_stops_the_exporter_until_it_may_send_again() {
    store::testing::run_test(async {
        let (world, mut server) = (World::fresh().await, NatsServer::start());
        let engine = server.engine();
        go_on(&world, &engine, "a", 300, 300).await;
        server.kill();
        let older = server.copy_store();
        server.start_again();
        let (sequencer, exporter) = (world.sequencer(0), world.exporter(0, &engine, QUICK));
        world.write(0, (0..200).map(|n| format!("b/{n}"))).await;
        world.exported(0, 500).await;
        // Under a running exporter.
        server.kill();
        let newest = server.copy_store();
        server.put_back(&older);
        server.start_again();
        world.write(0, (0..50).map(|n| format!("c/{n}"))).await;
        let alarm = world.alarm(0).await;
        assert!(
            alarm.contains("ends with number 300 of epoch 1, and held number 500 of epoch 1"),
            "{alarm}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(marks(&engine).await.len(), 300, "nothing is sent");
        let proof = world.verify(0, &engine).await;
        assert!(
            !proof.is_consistent() && proof.alarm.is_some() && proof.difference_count == 0,
            "{proof:?}"
        );
        let refused = begin_epoch(&world.verifier(0, &engine), false, |_, _| {})
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("it is the broker that is behind"), "{refused}");

        // The newest store comes back: the alarm clears without a decision.
        server.kill();
        server.put_back(&newest);
        server.start_again();
        world.exported(0, 550).await;
        world.assert_exact(0, &engine, 550).await;
        let refused = resume_export(&world.verifier(0, &engine), false, |_, _| {})
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("not behind"), "{refused}");

        // It is lost for good: the missing entries are sent again.
        server.kill();
        server.put_back(&older);
        server.start_again();
        world.write(0, (0..1).map(|n| format!("d/{n}"))).await;
        world.alarm(0).await;
        let verifier = world.verifier(0, &engine);
        let planned = resume_export(&verifier, true, |_, _| {}).await.unwrap();
        assert_eq!(world.figures(0).await["exported_seq"], json!(550), "a dry run decides nothing");
        let decided = resume_export(&verifier, false, |_, _| {}).await.unwrap();
        assert_eq!(planned, decided);
        let (broker_end, resend_range) = (Some(mark(1, 300)), range(301, 550));
        assert_eq!(
            decided,
            ExportRealignment {
                epoch: 1,
                next_seq: SequenceNumber(301),
                last_seq: SequenceNumber(551),
                broker_end,
                void_range: None,
                resend_range
            }
        );
        world.exported(0, 551).await;
        world.assert_exact(0, &engine, 551).await;
        exporter.end().await;
        sequencer.end().await;
    });
}

#[test]
fn a_broker_that_lost_everything_is_not_even_given_a_stream_before_somebody_decides() {
    store::testing::run_test(async {
        let (world, mut server) = (World::fresh().await, NatsServer::start());
        server.kill();
        let empty = server.copy_store();
        server.start_again();
        let engine = server.engine();
        go_on(&world, &engine, "a", 100, 100).await;
        server.kill();
        server.put_back(&empty);
        server.start_again();
        let (sequencer, exporter) = (world.sequencer(0), world.exporter(0, &engine, QUICK));
        let alarm = world.alarm(0).await;
        assert!(alarm.contains("holds nothing, and held number 100"), "{alarm}");
        let client = async_nats::connect(server.url()).await.unwrap();
        let found = async_nats::jetstream::new(client).get_stream("LEDGER").await;
        assert!(found.is_err(), "a backup could still be restored under this name");
        let decided = resume_export(&world.verifier(0, &engine), false, |_, _| {}).await.unwrap();
        assert_eq!(
            (decided.epoch, decided.next_seq.get(), decided.resend_range),
            (1, 1, range(1, 100))
        );
        world.wait_for(0, "no alarm", |figures| figures["export_alarm"].is_null()).await;
        world.exported(0, 100).await;
        world.assert_exact(0, &engine, 100).await;
        exporter.end().await;
        sequencer.end().await;
    });
}

#[test]
fn a_ledger_put_back_behind_its_stream_stops_the_exporter_until_a_new_epoch() {
    store::testing::run_test(async {
        let server = NatsServer::start();
        ledger_put_back(server.engine()).await;
    });
}

#[test]
fn a_broker_put_back_to_before_an_epoch_began_gets_that_epoch_anew() {
    store::testing::run_test(async {
        let mut server = NatsServer::start();
        let engine = server.engine();
        let first = World::fresh().await;
        go_on(&first, &engine, "a", 100, 100).await;
        let second = first.copy().await;
        go_on(&first, &engine, "b", 50, 150).await;
        server.kill();
        let older = server.copy_store();
        server.start_again();
        let (sequencer, exporter) = (second.sequencer(0), second.exporter(0, &engine, QUICK));
        second.alarm(0).await;
        begin_epoch(&second.verifier(0, &engine), false, |_, _| {}).await.unwrap();
        second.write(0, (0..20).map(|n| format!("c/{n}"))).await;
        second.exported(0, 120).await;
        server.kill();
        server.put_back(&older);
        server.start_again();
        second.write(0, (0..10).map(|n| format!("d/{n}"))).await;
        let alarm = second.alarm(0).await;
        assert!(
            alarm.contains("ends with number 150 of epoch 1, and held number 120 of epoch 2"),
            "{alarm}"
        );
        let decided = resume_export(&second.verifier(0, &engine), false, |_, _| {}).await.unwrap();
        assert_eq!(
            (decided.epoch, decided.next_seq.get(), decided.resend_range),
            (2, 101, range(101, 120))
        );
        second.exported(0, 130).await;
        let expected: Vec<ExportMark> = run_of(1, 1..=150).chain(run_of(2, 101..=130)).collect();
        assert_eq!(marks(&engine).await, expected);
        assert!(second.verify(0, &engine).await.is_consistent());
        exporter.end().await;
        sequencer.end().await;
    });
}
