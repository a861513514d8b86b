//! The queue engine `sqs`: Amazon SQS, or any endpoint that speaks its protocol.
//!
//! - Shape: one [`FifoQueue`] per SQS FIFO queue; clones share one SDK client.
//! - Promise: Amazon's documented behaviour, also on emulators. Each queue remembers the receipts
//!   that it gave out. An expired receipt is refused locally (emulators would let it delete and
//!   extend). A repeated delete with the same receipt succeeds (emulators would refuse it).

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

use queue::fifo::{
    FifoEngine, FifoError, FifoQueue, FifoQueueOptions, Result, SqsAccount, SqsEngine,
    SqsKeyProvider,
};

use self::queue_client::SqsQueue;

/// The SQS queue engine; clones share its connections.
#[derive(Clone)]
pub struct SqsFifo {
    client: Client,
}

impl SqsFifo {
    /// An engine for the queues of this account. Does not connect yet.
    pub async fn new(account: &SqsAccount) -> Self {
        Self { client: account::build_client(account, None).await }
    }

    /// Like [`new`](Self::new), with credentials that the provider renews.
    pub async fn with_key_provider(
        account: &SqsAccount,
        key_provider: Arc<dyn SqsKeyProvider>,
    ) -> Self {
        Self { client: account::build_client(account, Some(key_provider)).await }
    }

    async fn find_queue_url(&self, name: &str) -> Result<String> {
        let response = self.client.get_queue_url().queue_name(name).send().await;
        let url = response.map_err(|error| errors::classify_error(name, error))?.queue_url;
        url.ok_or_else(|| FifoError::Internal(format!("the queue {name} has no URL")))
    }

    async fn read_queue_attribute(
        &self,
        name: &str,
        url: &str,
        attribute: Attribute,
    ) -> Result<Option<String>> {
        let request =
            self.client.get_queue_attributes().queue_url(url).attribute_names(attribute.clone());
        let mut found =
            request.send().await.map_err(|error| errors::classify_error(name, error))?;
        Ok(found.attributes.as_mut().and_then(|attributes| attributes.remove(&attribute)))
    }
}

impl SqsEngine for SqsFifo {
    fn count_in_flight<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let url = self.find_queue_url(queue).await?;
            let count = Attribute::ApproximateNumberOfMessagesNotVisible;
            let count = self.read_queue_attribute(queue, &url, count).await?;
            Ok(count.and_then(|count| count.parse().ok()).unwrap_or_default())
        })
    }
}

impl FifoEngine for SqsFifo {
    fn ensure_queue<'a>(
        &'a self,
        name: &'a str,
        options: FifoQueueOptions,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.create_or_update_queue(name, &options).await })
    }

    fn open_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<dyn FifoQueue>>> {
        Box::pin(async move {
            let url = self.find_queue_url(name).await?;
            let visibility =
                self.read_queue_attribute(name, &url, Attribute::VisibilityTimeout).await?;
            let seconds = visibility.and_then(|text| text.parse().ok()).unwrap_or(30);
            let visibility = Duration::from_secs(seconds);
            Ok(Arc::new(SqsQueue::new(name, url, visibility, self.client.clone()))
                as Arc<dyn FifoQueue>)
        })
    }
}
