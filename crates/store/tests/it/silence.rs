//! Hazard: connections go silent (a host or router dies without RST) while new ones work.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::testing::{
    control_database_options, create_control_database, open_test_pool, open_test_pool_with,
    run_test,
};
use store::{
    LeaseManager, LeaseOptions, ListenHeartbeat, PgConnectOptions, PgNotification,
    PgNotificationHub, PgOperation, PgPool,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{mpsc, watch};

/// A proxy to the server whose connections can all be silenced: no byte passes,
/// and neither end notices.
struct Way {
    port: u16,
    /// Connections of a smaller generation are silent.
    generation: Arc<watch::Sender<u64>>,
}

impl Way {
    async fn to(server: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = server.get_socket().unwrap().join(format!(".s.PGSQL.{}", server.get_port()));
        let generation = Arc::new(watch::Sender::new(0));
        let present = generation.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(PathBuf::from(&socket)).await.unwrap();
                let born = *present.borrow();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(forward(from_client, to_server, born, present.subscribe()));
                tokio::spawn(forward(from_server, to_client, born, present.subscribe()));
            }
        });
        Self { port, generation }
    }

    fn options(&self, server: &PgConnectOptions) -> PgConnectOptions {
        let database = server.get_database().unwrap();
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.port);
        options
            .username(server.get_username())
            .database(database)
            .ssl_mode(sqlx::postgres::PgSslMode::Disable)
    }

    fn silence(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    born: u64,
    mut generation: watch::Receiver<u64>,
) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        tokio::select! {
            // Keeps both sockets open without forwarding.
            () = async { generation.wait_for(|generation| *generation > born).await.map(drop).unwrap_or(()) } => {
                std::future::pending::<()>().await;
            }
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(read) => if to.write_all(&buffer[..read]).await.is_err() { return },
            },
        }
    }
}

async fn one(pool: &PgPool, limit: Duration) -> store::Result<i32> {
    let operation = PgOperation::named("one").with_timeout(limit);
    store::run_statement(pool, operation, |connection| {
        Box::pin(async move { Ok(sqlx::query_scalar("SELECT 1").fetch_one(connection).await?) })
    })
    .await
}

async fn silenced() -> (Way, PgPool) {
    let server = control_database_options().await;
    let way = Way::to(&server).await;
    // A client timeout above the server's statement timeout implies a dead peer.
    let pool =
        open_test_pool_with(way.options(&server), vec![("statement_timeout", "300".to_owned())])
            .await;
    (way, pool)
}

#[test]
fn a_pool_whose_connections_are_all_silent_works_again_after_one_deadline() {
    run_test(async {
        let (way, pool) = silenced().await;
        let connections: Vec<_> =
            futures::future::try_join_all((0..10).map(|_| pool.acquire())).await.unwrap();
        drop(connections);
        while pool.num_idle() < 10 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        way.silence();
        let began = Instant::now();
        for _ in 0..20 {
            one(&pool, Duration::from_millis(400)).await.unwrap();
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(400), "the fault never bit");
        assert!(took < Duration::from_millis(1200), "one deadline after the other: {took:?}");
    });
}

#[test]
fn a_connection_that_falls_silent_while_it_is_given_back_does_not_keep_its_place() {
    run_test(async {
        let server = control_database_options().await;
        let way = Way::to(&server).await;
        let narrow = store::reserve_pool(&open_test_pool(way.options(&server)).await, "narrow", 1);
        let way = Arc::new(way);
        let silencing = way.clone();
        store::run_statement(&narrow, "one", move |connection| {
            let way = silencing.clone();
            Box::pin(async move {
                sqlx::query("SELECT 1").execute(connection).await?;
                way.silence();
                Ok(())
            })
        })
        .await
        .unwrap();
        one(&narrow, Duration::from_secs(2)).await.unwrap();
    });
}

#[test]
fn leases_are_renewed_before_they_run_out_and_it_shows_when_they_are_not() {
    run_test(async {
        let (way, pool) = silenced().await;
        let terms = LeaseOptions {
            renewal_interval: Duration::from_millis(100),
            ..LeaseOptions::default()
        };
        let (leases, _) = LeaseManager::start(pool.clone(), terms, Vec::new(), mpsc::channel(1).0);
        let lease = leases.take_lease("test", "thing").await.unwrap().unwrap();
        way.silence();
        let until = Instant::now() + Duration::from_millis(3500);
        while Instant::now() < until {
            assert!(!lease.is_lost());
            leases.check_last_renewal().unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let left: f64 = sqlx::query_scalar(
            "SELECT extract(epoch FROM expires_at - now())::float8 FROM leases WHERE class = 'test'",
        )
        .fetch_one(&store::reserve_pool(&pool, "observer", 1))
        .await
        .unwrap();
        assert!(left > 6.0, "not renewed since the silence: {left} s left");
        let short = LeaseOptions {
            ttl: Duration::from_millis(300),
            renewal_interval: Duration::from_millis(50),
        };
        let (leases, _) = LeaseManager::start(pool.clone(), short, Vec::new(), mpsc::channel(1).0);
        leases.take_lease("test", "another").await.unwrap().unwrap();
        leases.check_last_renewal().unwrap();
        while leases.check_last_renewal().is_ok() {
            // Also silences a connection that is being opened.
            way.silence();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while leases.check_last_renewal().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn whoever_listens_on_a_silent_connection_is_told_and_hears_again() {
    run_test(async {
        let (way, pool) = silenced().await;
        let heartbeat = ListenHeartbeat {
            interval: Duration::from_millis(100),
            answer_timeout: Duration::from_millis(200),
        };
        let (notifications, _) =
            PgNotificationHub::start_with_heartbeat(pool.clone(), vec!["news"], heartbeat);
        let mut heard = notifications.subscribe();
        assert!(matches!(heard.recv().await.unwrap(), PgNotification::Missed));
        let mut silences = 0;
        while silences < 3 {
            way.silence();
            silences += 1;
            assert!(matches!(heard.recv().await.unwrap(), PgNotification::Missed));
            let said = sqlx::query("SELECT pg_notify('news', 'again')");
            said.execute(&store::reserve_pool(&pool, "other", 1)).await.unwrap();
            assert!(
                matches!(heard.recv().await.unwrap(), PgNotification::Received { payload, .. } if payload == "again")
            );
        }
    });
}

#[test]
fn expensive_operations_leave_connections_for_the_others() {
    run_test(async {
        let pool = create_control_database().await;
        let slow = |pool: PgPool| async move {
            store::run_statement(&pool, PgOperation::named("slow").expensive(), |connection| {
                Box::pin(async move {
                    sqlx::query("SELECT pg_sleep(0.3)").execute(connection).await?;
                    Ok(())
                })
            })
            .await
        };
        let began = Instant::now();
        let many: Vec<_> = (0..9).map(|_| tokio::spawn(slow(pool.clone()))).collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        one(&pool, Duration::from_secs(3)).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(290), "waited for listings");
        for one in many {
            one.await.unwrap().unwrap();
        }
        assert!(
            began.elapsed() >= Duration::from_millis(900),
            "more than a third of ten at a time"
        );
    });
}

#[test]
fn a_lock_that_takes_long_does_not_make_other_connections_suspect() {
    run_test(async {
        let pool = create_control_database().await;
        sqlx::query("CREATE TABLE held (n int)").execute(&pool).await.unwrap();
        let backend = "SELECT pg_backend_pid()";
        let narrow = store::reserve_pool(&pool, "narrow", 1);
        let before: i32 = sqlx::query_scalar(backend).fetch_one(&narrow).await.unwrap();
        let mut holding = pool.begin().await.unwrap();
        sqlx::query("LOCK TABLE held").execute(&mut *holding).await.unwrap();
        let waits = PgOperation::named("waits").with_timeout(Duration::from_millis(200));
        let given_up = store::run_statement(&pool, waits, |connection| {
            Box::pin(
                async move { Ok(sqlx::query("SELECT * FROM held").execute(connection).await?) },
            )
        });
        assert!(given_up.await.is_err());
        holding.rollback().await.unwrap();
        let after: i32 = sqlx::query_scalar(backend).fetch_one(&narrow).await.unwrap();
        assert_eq!(before, after, "a lock is no silence");
    });
}
