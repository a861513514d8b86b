//! Hazard: a statement commits and its answer is lost. Repeating it must be idempotent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ledger::FencingToken;
use ledger::locks::{LockRequest, LockService};
use ledger::sharding::LedgerShards;
use store::testing::{open_test_pool, run_test};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{caller, line_of, two, waiting, wanted};
use crate::harness::four_shards;

/// Proxy between a process and the database that drops every other answer to a statement.
struct Dropping {
    dir: PathBuf,
    dropping: Arc<AtomicBool>,
    dropped: Arc<AtomicUsize>,
}

impl Dropping {
    fn before(socket: PathBuf) -> Self {
        let dir = std::env::temp_dir().join(format!("lost-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap();
        let listener = UnixListener::bind(dir.join(socket.file_name().unwrap())).unwrap();
        let (dropping, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (on, count) = (dropping.clone(), dropped.clone());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(between(client, server, on.clone(), count.clone()));
            }
        });
        Self { dir, dropping, dropped }
    }

    fn drop_answers(&self, drops: bool) {
        self.dropping.store(drops, Ordering::SeqCst);
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn between(
    client: UnixStream,
    server: UnixStream,
    on: Arc<AtomicBool>,
    dropped: Arc<AtomicUsize>,
) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let asking =
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut bytes = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
        // The CommandComplete message follows the commit. Each connection loses at most one answer,
        // and every other one none.
        let ended =
            bytes[..length].windows(12).any(|window| window.starts_with(b"C\0\0\0\rSELECT "));
        if ended
            && on.load(Ordering::SeqCst)
            && dropped.fetch_add(1, Ordering::SeqCst).is_multiple_of(2)
        {
            break;
        }
        if to_client.write_all(&bytes[..length]).await.is_err() {
            break;
        }
    }
    asking.abort();
}

/// A process whose answers can be lost, and another one.
async fn lossy() -> (LedgerShards, LockService, LockService, Dropping) {
    let (shards, _, b) = two().await;
    let first = (*shards.all()[0].pool.connect_options()).clone();
    let socket = first.get_socket().unwrap().join(format!(".s.PGSQL.{}", first.get_port()));
    let dropping = Dropping::before(socket);
    let mut pools = Vec::new();
    for shard in shards.all() {
        let options = (*shard.pool.connect_options()).clone();
        pools.push(open_test_pool(options.socket(&dropping.dir)).await);
    }
    let a = LockService::start(LedgerShards::open(four_shards(), pools, false).await.unwrap());
    // LISTEN is set up, and a first statement has succeeded.
    let grant = a.acquire(wanted()).await.unwrap();
    a.release(grant.lock_id).await.unwrap();
    (shards, a, b, dropping)
}

#[test]
fn what_was_done_unheard_is_done_once() {
    run_test(async {
        let (shards, a, b, dropping) = lossy().await;
        let mut token = FencingToken(0);
        for turn in 0..20 {
            let request_id = (turn % 2 == 0).then(|| format!("{turn}"));
            dropping.drop_answers(true);
            let held = a.acquire(LockRequest { request_id, ..waiting() }).await.unwrap();
            dropping.drop_answers(false);
            assert!(held.token > token);
            assert_eq!(
                a.get_lock(held.lock_id).await.unwrap().map(|seen| (seen.alive, seen.token)),
                Some((true, held.token))
            );
            let own = caller(&a, waiting());
            line_of(&shards, 1).await;
            let other = caller(&b, waiting());
            line_of(&shards, 2).await;
            // The repetition does not know to which callers the lock was handed over; they are
            // notified anyway.
            dropping.drop_answers(true);
            a.release(held.lock_id).await.unwrap();
            dropping.drop_answers(false);
            let own = own.await.unwrap().unwrap();
            a.extend(own.lock_id, super::LONG).await.unwrap();
            a.release(own.lock_id).await.unwrap();
            let other = other.await.unwrap().unwrap();
            b.release(other.lock_id).await.unwrap();
            token = other.token;
        }
        let dropped = dropping.dropped.load(Ordering::SeqCst);
        println!("{dropped} answers seen, every other one lost");
        assert!(dropped >= 40, "{dropped} answers seen: the fault hardly bit");
    });
}
