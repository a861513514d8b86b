//! The engine `sqs`: Amazon SQS, or whatever speaks its protocol at an endpoint URL.
//!
//! Written to Amazon's documented behaviour. Where emulators differ, each queue sees to it by what it remembers of the
//! receipts it gave out: one that has expired is refused here already (emulators let it delete and extend), and a message
//! that was deleted by a receipt is deleted by it again without an error (emulators refuse that).

mod account;
mod catalogue;
mod errors;
mod queue_client;
mod receipts;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use futures::future::BoxFuture;

use queue::fifo::{FifoEngine, FifoError, FifoQueue, QueueTerms, Result, SqsAccount, SqsEngine, SqsKeys};

use self::queue_client::Queue;

/// The engine; clones share its connections.
#[derive(Clone)]
pub struct SqsFifo {
    client: Client,
}

impl SqsFifo {
    /// Queues of this account. Nothing is connected yet.
    pub async fn new(account: &SqsAccount) -> Self {
        Self { client: account::client(account, None).await }
    }

    /// The same, with keys that change.
    pub async fn with_keys(account: &SqsAccount, keys: Arc<dyn SqsKeys>) -> Self {
        Self { client: account::client(account, Some(keys)).await }
    }

    async fn url(&self, name: &str) -> Result<String> {
        let asked = self.client.get_queue_url().queue_name(name).send().await;
        let url = asked.map_err(|error| errors::judge(name, error))?.queue_url;
        url.ok_or_else(|| FifoError::Internal(format!("the queue {name} has no URL")))
    }

    async fn attribute(&self, name: &str, url: &str, attribute: Attribute) -> Result<Option<String>> {
        let asked = self.client.get_queue_attributes().queue_url(url).attribute_names(attribute.clone());
        let mut found = asked.send().await.map_err(|error| errors::judge(name, error))?;
        Ok(found.attributes.as_mut().and_then(|attributes| attributes.remove(&attribute)))
    }
}

impl SqsEngine for SqsFifo {
    fn count_in_flight<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let url = self.url(queue).await?;
            let count = Attribute::ApproximateNumberOfMessagesNotVisible;
            let count = self.attribute(queue, &url, count).await?;
            Ok(count.and_then(|count| count.parse().ok()).unwrap_or_default())
        })
    }
}

impl FifoEngine for SqsFifo {
    fn ensure<'a>(&'a self, name: &'a str, terms: QueueTerms) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.make(name, &terms).await })
    }

    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<dyn FifoQueue>>> {
        Box::pin(async move {
            let url = self.url(name).await?;
            let visibility = self.attribute(name, &url, Attribute::VisibilityTimeout).await?;
            let seconds = visibility.and_then(|text| text.parse().ok()).unwrap_or(30);
            let visibility = Duration::from_secs(seconds);
            Ok(Arc::new(Queue::new(name, url, visibility, self.client.clone())) as Arc<dyn FifoQueue>)
        })
    }
}
