//! The store of an integration: its answers, for redeliveries, and the data of its handlers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use serde_json::Value as Json;
use sqlx::PgPool;
use store::PgStatement;

use crate::ids::BlockId;

/// Maximum answers in [`InMemoryIntegrationStore`]; the oldest are evicted.
const MAX_CACHED_ANSWERS: usize = 10_000;

/// A failure of the store, as text; always temporary.
pub type Result<T> = std::result::Result<T, String>;

/// A store of answers by queue (full name) and `block_id`.
pub trait IntegrationStore: Send + Sync {
    /// The stored answer's body, if there is one.
    fn find_answer<'a>(
        &'a self,
        queue: &'a str,
        block_id: BlockId,
    ) -> BoxFuture<'a, Result<Option<String>>>;

    /// Stores an answer's body, and replaces an earlier one.
    fn save_answer<'a>(
        &'a self,
        queue: &'a str,
        block_id: BlockId,
        answer: &'a str,
    ) -> BoxFuture<'a, Result<()>>;

    /// The key-value store for handlers of this queue.
    fn key_values(&self, queue: &str) -> Arc<dyn KeyValueStore>;
}

/// A key-value store for handlers.
pub trait KeyValueStore: Send + Sync {
    /// Reads a value; `None` if the key is missing.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Json>>>;

    /// Stores a value, and replaces an earlier one.
    fn put<'a>(&'a self, key: &'a str, value: Json) -> BoxFuture<'a, Result<()>>;

    /// Removes a key, if it exists.
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// By queue and `block_id`, and in insertion order.
#[derive(Default)]
struct CachedAnswers {
    by_block: HashMap<(String, BlockId), String>,
    order: VecDeque<(String, BlockId)>,
}

/// An in-memory store, lost at the end of the process.
#[derive(Clone, Default)]
pub struct InMemoryIntegrationStore {
    answers: Arc<Mutex<CachedAnswers>>,
    values: Arc<Mutex<HashMap<String, Json>>>,
}

impl IntegrationStore for InMemoryIntegrationStore {
    fn find_answer<'a>(
        &'a self,
        queue: &'a str,
        block_id: BlockId,
    ) -> BoxFuture<'a, Result<Option<String>>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = answers.by_block.get(&(queue.to_owned(), block_id)).cloned();
        Box::pin(std::future::ready(Ok(known)))
    }

    fn save_answer<'a>(
        &'a self,
        queue: &'a str,
        block_id: BlockId,
        answer: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (queue.to_owned(), block_id);
        if !answers.by_block.contains_key(&key) {
            answers.order.push_back(key.clone());
            if answers.order.len() > MAX_CACHED_ANSWERS
                && let Some(oldest) = answers.order.pop_front()
            {
                answers.by_block.remove(&oldest);
            }
        }
        answers.by_block.insert(key, answer.to_owned());
        Box::pin(std::future::ready(Ok(())))
    }

    fn key_values(&self, queue: &str) -> Arc<dyn KeyValueStore> {
        Arc::new(QueueKeyValueStore { queue: queue.to_owned(), store: self.clone() })
    }
}

/// The key-value store of one queue.
struct QueueKeyValueStore<M> {
    queue: String,
    store: M,
}

impl QueueKeyValueStore<InMemoryIntegrationStore> {
    fn lock_values(&self) -> std::sync::MutexGuard<'_, HashMap<String, Json>> {
        self.store.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full_key(&self, key: &str) -> String {
        format!("{}/{key}", self.queue)
    }
}

impl KeyValueStore for QueueKeyValueStore<InMemoryIntegrationStore> {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Json>>> {
        Box::pin(std::future::ready(Ok(self.lock_values().get(&self.full_key(key)).cloned())))
    }

    fn put<'a>(&'a self, key: &'a str, value: Json) -> BoxFuture<'a, Result<()>> {
        self.lock_values().insert(self.full_key(key), value);
        Box::pin(std::future::ready(Ok(())))
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        self.lock_values().remove(&self.full_key(key));
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A store in the control database, for integrations that have access to it.
#[derive(Clone)]
pub struct PgIntegrationStore {
    pool: PgPool,
}

impl PgIntegrationStore {
    /// A store in the control database behind `pool`.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

fn error_text(error: store::Error) -> String {
    error.to_string()
}

/// Executes a statement of the store.
fn execute_boxed(statement: PgStatement, pool: &PgPool) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move { statement.execute(pool).await.map(drop).map_err(error_text) })
}

impl IntegrationStore for PgIntegrationStore {
    fn find_answer<'a>(
        &'a self,
        queue: &'a str,
        block_id: BlockId,
    ) -> BoxFuture<'a, Result<Option<String>>> {
        let find = store::statement(
            "integration_answer",
            "SELECT answer FROM integration_answers WHERE queue = $1 AND block_id = $2",
        )
        .bind(queue)
        .bind(block_id);
        Box::pin(async move { find.fetch_optional_value(&self.pool).await.map_err(error_text) })
    }

    fn save_answer<'a>(
        &'a self,
        queue: &'a str,
        block_id: BlockId,
        answer: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        let save = store::statement(
            "remember_answer",
            "INSERT INTO integration_answers (queue, block_id, answer) VALUES ($1, $2, $3)
             ON CONFLICT (queue, block_id) DO UPDATE SET answer = excluded.answer, answered_at = now()",
        )
        .bind(queue)
        .bind(block_id)
        .bind(answer);
        execute_boxed(save, &self.pool)
    }

    fn key_values(&self, queue: &str) -> Arc<dyn KeyValueStore> {
        Arc::new(QueueKeyValueStore { queue: queue.to_owned(), store: self.clone() })
    }
}

impl KeyValueStore for QueueKeyValueStore<PgIntegrationStore> {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Json>>> {
        let get = store::statement(
            "integration_get",
            "SELECT value FROM integration_store WHERE queue = $1 AND key = $2",
        )
        .bind(&self.queue)
        .bind(key);
        Box::pin(async move {
            let stored: Option<String> =
                get.fetch_optional_value(&self.store.pool).await.map_err(error_text)?;
            stored
                .map(|text| text.parse().map_err(|error| format!("a kept value: {error}")))
                .transpose()
        })
    }

    fn put<'a>(&'a self, key: &'a str, value: Json) -> BoxFuture<'a, Result<()>> {
        let put = store::statement(
            "integration_put",
            "INSERT INTO integration_store (queue, key, value) VALUES ($1, $2, $3)
             ON CONFLICT (queue, key) DO UPDATE SET value = excluded.value, changed_at = now()",
        )
        .bind(&self.queue)
        .bind(key)
        .bind(value.to_string());
        execute_boxed(put, &self.store.pool)
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        let remove = store::statement(
            "integration_remove",
            "DELETE FROM integration_store WHERE queue = $1 AND key = $2",
        )
        .bind(&self.queue)
        .bind(key);
        execute_boxed(remove, &self.store.pool)
    }
}
