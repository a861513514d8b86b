//! Real Postgres for tests: one server per test process, one fresh database per test, copied from a
//! migrated template in milliseconds. The server ends with the process, even after a crash.
//!
//! A test runs inside [`run_test`], which creates a runtime for it and fails it when any
//! of its tasks panics.

#![allow(clippy::expect_used, clippy::panic)] // a failed set-up fails the test

use std::collections::HashSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use crate::MigrationSet;
use crate::embedded::{EmbeddedServer, EmbeddedServerOptions};
use crate::second_connection;

static TEST_COUNT: AtomicU64 = AtomicU64::new(0);
static PANICKED_THREADS: OnceLock<Mutex<HashSet<String>>> = OnceLock::new();

/// Runs one test on a new runtime (two threads) and fails it if a task of that runtime panicked.
pub fn run_test<F: Future<Output = ()>>(test: F) {
    let panics = run_counting_panics(test);
    assert_eq!(panics, 0, "a task of this test panicked");
}

/// Like [`run_test`] for tests with intended panics: returns the number of threads with a panic.
pub fn run_counting_panics<F: Future<Output = ()>>(test: F) -> usize {
    record_panics();
    second_connection::activate_check();
    let name = format!("test-{}-", TEST_COUNT.fetch_add(1, Ordering::Relaxed));
    let thread = AtomicU64::new(0);
    let prefix = name.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name_fn(move || format!("{prefix}{}", thread.fetch_add(1, Ordering::Relaxed)))
        .build()
        .expect("a runtime");
    runtime.block_on(test);
    runtime.shutdown_timeout(Duration::from_secs(5));
    let panicked =
        PANICKED_THREADS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    panicked.iter().filter(|thread| thread.starts_with(&name)).count()
}

fn record_panics() {
    static INSTALL_HOOK: Once = Once::new();
    INSTALL_HOOK.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            let panicked = PANICKED_THREADS.get_or_init(Mutex::default);
            panicked.lock().unwrap_or_else(PoisonError::into_inner).insert(thread);
            default(panic);
        }));
    });
}

/// Creates a fresh database with the control schema.
pub async fn create_control_database() -> PgPool {
    open_test_pool(control_database_options().await).await
}

/// Connect options of a fresh database with the control schema, for tests with several pools.
pub async fn control_database_options() -> PgConnectOptions {
    static TEMPLATE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    copy_template("template_control", &TEMPLATE, MigrationSet::control()).await
}

/// Creates a fresh database with the schema of a ledger shard.
pub async fn create_shard_database() -> PgPool {
    static TEMPLATE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    open_test_pool(copy_template("template_shard", &TEMPLATE, MigrationSet::shard()).await).await
}

async fn copy_template(
    template: &str,
    made: &tokio::sync::OnceCell<()>,
    migrations: MigrationSet,
) -> PgConnectOptions {
    let cluster = start_test_cluster();
    made.get_or_init(|| async {
        create_database(cluster, &format!("CREATE DATABASE {template}")).await;
        let mut connection = open_connection(cluster.connect_options(template)).await;
        migrations.apply_pending(&mut connection).await.expect("migrations");
        #[cfg(feature = "mutants")]
        mutate(&mut connection, template.trim_start_matches("template_")).await;
        connection.close().await.expect("close");
    })
    .await;
    let name = format!("test_{}", TEST_COUNT.fetch_add(1, Ordering::Relaxed));
    create_database(cluster, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    cluster.connect_options(&name)
}

/// Applies the selected mutant's SQL file for this schema,
/// scripts/mutants/SCHEMA/NAME.sql, if it exists.
#[cfg(feature = "mutants")]
async fn mutate(connection: &mut PgConnection, schema: &str) {
    let Some(name) = crate::mutant::chosen() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/mutants");
    let Ok(statements) = std::fs::read_to_string(folder.join(schema).join(format!("{name}.sql")))
    else {
        return;
    };
    let tools = std::fs::read_to_string(folder.join("mutate.sql")).expect("mutate.sql");
    sqlx::raw_sql(AssertSqlSafe(tools)).execute(&mut *connection).await.expect("mutate.sql");
    // The runner parses this message: a mutant that no longer applies does not count as killed.
    let applied = sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await;
    applied.unwrap_or_else(|error| panic!("the mutant {name} does not apply: {error}"));
}

/// Connect options of a fresh database without schema, for programs with separate migrations.
pub async fn empty_database_options() -> PgConnectOptions {
    let cluster = start_test_cluster();
    let name = format!("test_{}", TEST_COUNT.fetch_add(1, Ordering::Relaxed));
    create_database(cluster, &format!("CREATE DATABASE {name}")).await;
    cluster.connect_options(&name)
}

/// Opens a pool with the settings of the services.
pub async fn open_test_pool(options: PgConnectOptions) -> PgPool {
    open_test_pool_with(options, Vec::new()).await
}

/// Like [`open_test_pool`], with additional session settings.
pub async fn open_test_pool_with(
    options: PgConnectOptions,
    session: Vec<(&'static str, String)>,
) -> PgPool {
    let options = crate::session::remove_startup_parameters(options).application_name("test/test");
    crate::pool::open_pool(options, session, 10)
}

async fn create_database(cluster: &TestCluster, statement: &str) {
    let mut admin = open_connection(cluster.connect_options("postgres")).await;
    // One copy of a template at a time: Postgres refuses concurrent ones.
    sqlx::query("SELECT pg_advisory_lock(1)").execute(&mut admin).await.expect("lock");
    sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(&mut admin)
        .await
        .expect("create database");
    admin.close().await.expect("close");
}

async fn open_connection(options: PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(&options).await.expect("the test server")
}

struct TestCluster {
    server: Mutex<EmbeddedServer>,
}

impl TestCluster {
    fn connect_options(&self, database: &str) -> PgConnectOptions {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).connect_options(database)
    }
}

/// Test server of this process. Its thread never ends, because the server ends with the thread.
fn start_test_cluster() -> &'static TestCluster {
    static CLUSTER: OnceLock<TestCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let (started, server) = mpsc::channel();
        std::thread::spawn(move || {
            let dir = create_cluster_dir();
            let deadline = Instant::now() + Duration::from_secs(60);
            started
                .send(EmbeddedServer::start(
                    &dir,
                    EmbeddedServerOptions { max_connections: 400 },
                    deadline,
                ))
                .ok();
            loop {
                std::thread::park();
            }
        });
        let server = server.recv().expect("a server").expect("the test server starts");
        TestCluster { server: Mutex::new(server) }
    })
}

/// Creates a directory named after this process; removes those of dead processes.
fn create_cluster_dir() -> PathBuf {
    const DIR_PREFIX: &str = "order-service-test-";
    let tmp = std::env::temp_dir();
    for entry in std::fs::read_dir(&tmp).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name.strip_prefix(DIR_PREFIX)
            && !Path::new("/proc").join(pid).exists()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let dir = tmp.join(format!("{DIR_PREFIX}{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder for the test server");
    dir
}
