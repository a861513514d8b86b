//! Hazard: Amazon SQS queues are not created, are created in another region or account, or block
//! the start of a service.

use std::collections::BTreeMap;
use std::time::Duration;

use configurator::template::Env;
use order_service::reconcilers::bundle::{
    ReconcileTargets, ShardSet, apply_initial_bundle, reconcile_runtime,
};
use order_service::settings::{QueueEngine, SqsAccounts, SqsCompiled};
use queue::fifo::{DeadLetterPolicy, FifoCatalogue as _, FifoQueueOptions, SqsAccount};
use reconcile::{Bundle, BundleSource, ObjectOwner, ReconcileRequest};
use store::testing::create_control_database;

use super::sqs_emulator::{SqsEmulator, loopback_url};
use super::world::World;

/// The desired queues of the built-in bundle.
fn names(envs: &[&str]) -> Vec<String> {
    let of_env = |env: &&str| {
        ["configshop", "platform"]
            .map(|name| [format!("{name}-{env}.fifo"), format!("{name}-{env}-dead.fifo")])
    };
    envs.iter().flat_map(of_env).flatten().collect()
}

fn terms(visibility: u64, dead: Option<&str>) -> FifoQueueOptions {
    let dead_letters =
        dead.map(|queue| DeadLetterPolicy { queue: queue.to_owned(), max_receives: 50 });
    FifoQueueOptions { visibility_timeout: Duration::from_secs(visibility), dead_letters }
}

fn at(url: &str, envs: &[Env]) -> QueueEngine {
    let account = SqsAccount { endpoint_url: Some(url.to_owned()), ..SqsAccount::default() };
    let envs = envs.iter().map(|env| (*env, account.clone())).collect::<BTreeMap<_, _>>();
    QueueEngine::Sqs(SqsAccounts { compiled: SqsCompiled, default: account, envs, file: None })
}

#[test]
fn queues_at_amazons_are_planned_made_kept_and_brought_back() {
    store::testing::run_test(async {
        let (world, emulator) = (World::new().await, SqsEmulator::start().await);
        let (there, url) = (emulator.engine().await, loopback_url(emulator.port));
        let all = names(&["dev", "test", "prod"]);
        let look = async || there.find_queues(&all).await.unwrap();
        let run = async |args: &[&str]| {
            world.run(&[&["queues", "--sqs-endpoint-url", &url][..], args].concat()).await
        };
        assert_eq!(run(&["--dry-run"]).await.planned(), [12, 0, 0]);
        assert!(look().await.is_empty(), "a dry run makes nothing");
        assert_eq!(run(&[]).await.planned(), [12, 0, 0]);
        let made = look().await;
        assert_eq!(made.len(), 12);
        assert_eq!(made["platform-test.fifo"], terms(30, Some("platform-test-dead.fifo")));
        assert_eq!(run(&[]).await.planned(), [0, 0, 0]);
        assert_eq!(run(&["--drift"]).await.code, Some(0));

        // Manual drift in every attribute that can be changed.
        there.ensure_queue("platform-test.fifo", terms(45, None)).await.unwrap();
        let drift = run(&["--drift"]).await;
        assert_eq!(drift.code, Some(3), "{}", drift.said);
        for line in
            ["~ update queue platform-test.fifo", "visibility_seconds: 45 -> 30", "dead_letters"]
        {
            assert!(drift.said.contains(line), "{}", drift.said);
        }
        assert_eq!(run(&["--shard", "dev"]).await.planned(), [0, 0, 0]);
        assert_eq!(run(&[]).await.planned(), [0, 1, 0]);
        assert_eq!(look().await, made);
        let here: i64 = sqlx::query_scalar("SELECT count(*) FROM fifo_queues")
            .fetch_one(&world.control)
            .await
            .unwrap();
        assert_eq!(here, 0);

        drop(emulator);
        let away = run(&[]).await;
        assert_eq!(away.code, Some(1));
        for env in ["dev", "test", "prod"] {
            assert!(
                away.said.contains(&format!("failed shard {env}: the queue does not answer")),
                "{}",
                away.said
            );
        }
    });
}

#[test]
fn an_environment_that_has_no_account_here_is_left_alone() {
    store::testing::run_test(async {
        let emulator = SqsEmulator::start().await;
        let targets =
            ReconcileTargets::new(create_control_database().await, ShardSet::from_open_shards(&[]))
                .with_queues(&at(&loopback_url(emulator.port), &[Env::Test]));
        let request = ReconcileRequest {
            reconcilers: vec!["queues".to_owned()],
            arguments: Vec::new(),
            dry_run: false,
            take_over: false,
            allow_delete_all: false,
            owner: ObjectOwner::Bundle,
            actor: audit::AuditActor::of_service("test"),
        };
        let report = reconcile_runtime(&targets)
            .run(&Bundle::read(BundleSource::Builtin).unwrap(), &request)
            .await
            .unwrap();
        assert_eq!((report.failure_summary(), report.outcomes[0].plan.changes.len()), (None, 4));
        let there =
            emulator.engine().await.find_queues(&names(&["dev", "test", "prod"])).await.unwrap();
        let mut expected = names(&["test"]);
        expected.sort();
        assert_eq!(there.into_keys().collect::<Vec<_>>(), expected);
    });
}

#[test]
fn a_service_begins_while_amazon_does_not_answer() {
    store::testing::run_test(async {
        // A listener that accepts connections and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let pool = create_control_database().await;
        let targets = ReconcileTargets::new(pool.clone(), ShardSet::from_open_shards(&[]))
            .with_queues(&at(&url, &Env::ALL));
        tokio::time::timeout(
            Duration::from_secs(10),
            apply_initial_bundle(&targets, &BundleSource::Builtin),
        )
        .await
        .expect("it waits for the queues")
        .unwrap();
        let types: i64 =
            sqlx::query_scalar("SELECT count(*) FROM ledger_types").fetch_one(&pool).await.unwrap();
        assert_eq!(types, 4);
    });
}
