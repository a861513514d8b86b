//! Keys of SQS accounts that stand in `--queues FILE`, or in files that it names, and change while the program runs: temporary
//! ones, say.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use queue::fifo::{SqsCredentials, SqsKeys};
use store::Outage;
use tokio::time::Instant;

use super::queues::keys_of;

/// How soon a change is noticed.
const EVERY: Duration = Duration::from_secs(3);

/// The keys of one entry of the file, read again as long as they are used.
#[derive(Debug)]
pub(super) struct FileKeys {
    file: PathBuf,
    entry: String,
    current: Arc<Mutex<(Instant, SqsCredentials)>>,
    outage: Outage,
}

impl FileKeys {
    /// Those of this entry; `read` are the ones that were there just now.
    pub(super) fn new(file: PathBuf, entry: String, read: SqsCredentials) -> Self {
        let current = Arc::new(Mutex::new((Instant::now(), read)));
        Self { file, entry, current, outage: Outage::default() }
    }

    /// The keys, and whether they were read long enough ago to be read again: by one caller.
    fn known(&self) -> (SqsCredentials, bool) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = current.0.elapsed() >= EVERY;
        if is_old {
            current.0 = Instant::now();
        }
        (current.1.clone(), is_old)
    }

    async fn read(&self) -> Result<SqsCredentials, String> {
        let (file, entry) = (self.file.clone(), self.entry.clone());
        let read = store::panics::told_blocking(move || keys_of(&file, &entry)).await;
        read.map_err(|error| error.to_string())?
    }
}

impl SqsKeys for FileKeys {
    fn current(&self) -> BoxFuture<'_, SqsCredentials> {
        Box::pin(async move {
            let (known, is_old) = self.known();
            if !is_old {
                return known;
            }
            let (file, entry) = (self.file.display().to_string(), &self.entry);
            match self.read().await {
                Ok(read) => {
                    self.outage
                        .worked(|_| tracing::info!(file, entry, "the keys of queues can be read again"));
                    if read != known {
                        tracing::info!(file, entry, "the keys of queues have changed");
                    }
                    self.current.lock().unwrap_or_else(PoisonError::into_inner).1 = read.clone();
                    read
                }
                Err(reason) => {
                    self.outage.failed(|_| {
                        tracing::error!(
                            file,
                            entry,
                            reason,
                            code = "VALIDATION_ERROR",
                            "the keys of queues cannot be read: the old ones stay"
                        );
                    });
                    known
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
        let keys = FileKeys::new(file.clone(), "test".to_owned(), keys_of(&file, "test").unwrap());
        let token = async || keys.current().await.session_token.unwrap();
        assert_eq!(token().await, "one");
        write("two");
        assert_eq!(token().await, "one", "not for each call");
        tokio::time::advance(EVERY).await;
        assert_eq!(token().await, "two");
        std::fs::write(&file, "queues: {test: {access_key_id: a}}").unwrap();
        tokio::time::advance(EVERY).await;
        assert_eq!(token().await, "two");
        write("three");
        tokio::time::advance(EVERY).await;
        assert_eq!(token().await, "three");
    }
}
