//! Reloadable SQS credentials from `--queues FILE`, or from files that it names: temporary keys
//! change while the program runs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use queue::fifo::{SqsCredentials, SqsKeyProvider};
use store::Outage;
use tokio::time::Instant;

use super::queues::read_entry_keys;

/// Minimum interval between reloads.
const KEY_RELOAD_INTERVAL: Duration = Duration::from_secs(3);

/// Credentials of one entry of the file, reloaded on use.
#[derive(Debug)]
pub(super) struct SqsFileKeys {
    file: PathBuf,
    entry: String,
    cached: Arc<Mutex<(Instant, SqsCredentials)>>,
    outage: Outage,
}

impl SqsFileKeys {
    /// Starts with `credentials`, just read from this entry.
    pub(super) fn new(file: PathBuf, entry: String, credentials: SqsCredentials) -> Self {
        let current = Arc::new(Mutex::new((Instant::now(), credentials)));
        Self { file, entry, cached: current, outage: Outage::default() }
    }

    /// Cached keys, and whether this caller has to reload them: one caller per interval.
    fn cached_keys(&self) -> (SqsCredentials, bool) {
        let mut current = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = current.0.elapsed() >= KEY_RELOAD_INTERVAL;
        if is_old {
            current.0 = Instant::now();
        }
        (current.1.clone(), is_old)
    }

    async fn reload_keys(&self) -> Result<SqsCredentials, String> {
        let (file, entry) = (self.file.clone(), self.entry.clone());
        let reading =
            store::panics::spawn_blocking_contained(move || read_entry_keys(&file, &entry)).await;
        reading.map_err(|error| error.to_string())?
    }
}

impl SqsKeyProvider for SqsFileKeys {
    fn current_credentials(&self) -> BoxFuture<'_, SqsCredentials> {
        Box::pin(async move {
            let (cached, is_old) = self.cached_keys();
            if !is_old {
                return cached;
            }
            let (file, entry) = (self.file.display().to_string(), &self.entry);
            match self.reload_keys().await {
                Ok(read) => {
                    self.outage.record_success(|_| {
                        tracing::info!(file, entry, "the keys of queues can be read again")
                    });
                    if read != cached {
                        tracing::info!(file, entry, "the keys of queues have changed");
                    }
                    self.cached.lock().unwrap_or_else(PoisonError::into_inner).1 = read.clone();
                    read
                }
                Err(reason) => {
                    self.outage.record_failure(|_| {
                        tracing::error!(
                            file,
                            entry,
                            reason,
                            code = "VALIDATION_ERROR",
                            "the keys of queues cannot be read: the old ones stay"
                        );
                    });
                    cached
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("queues.yaml");
        let write = |token: &str| {
            let text = format!(
                "queues: {{test: {{access_key_id: a, secret_access_key: s, session_token: {token}}}}}"
            );
            std::fs::write(&file, text).unwrap();
        };
        write("one");
        let keys = SqsFileKeys::new(
            file.clone(),
            "test".to_owned(),
            read_entry_keys(&file, "test").unwrap(),
        );
        let token = async || keys.current_credentials().await.session_token.unwrap();
        assert_eq!(token().await, "one");
        write("two");
        assert_eq!(token().await, "one", "not for each call");
        tokio::time::advance(KEY_RELOAD_INTERVAL).await;
        assert_eq!(token().await, "two");
        std::fs::write(&file, "queues: {test: {access_key_id: a}}").unwrap();
        tokio::time::advance(KEY_RELOAD_INTERVAL).await;
        assert_eq!(token().await, "two");
        write("three");
        tokio::time::advance(KEY_RELOAD_INTERVAL).await;
        assert_eq!(token().await, "three");
    }
}
