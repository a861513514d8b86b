//! The queue catalogue on SQS: looks up queues and their attributes, creates and updates them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value as Json;

use super::queue_client::whole_seconds;
use super::{SqsFifo, errors};
use queue::fifo::{DeadLetterPolicy, FifoCatalogue, FifoError, FifoQueueOptions, Result};

/// Queues looked up concurrently.
const MAX_CONCURRENT_LOOKUPS: usize = 8;

struct ExistingSqsQueue {
    url: String,
    options: FifoQueueOptions,
}

impl FifoCatalogue for SqsFifo {
    fn find_queues<'a>(
        &'a self,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<BTreeMap<String, FifoQueueOptions>>> {
        Box::pin(async move {
            let lookups: Vec<_> = names.iter().map(|name| self.find_queue_options(name)).collect();
            let found: Vec<Option<(String, FifoQueueOptions)>> = stream::iter(lookups)
                .buffer_unordered(MAX_CONCURRENT_LOOKUPS)
                .try_collect()
                .await?;
            Ok(found.into_iter().flatten().collect())
        })
    }

    fn ensure_queue<'a>(
        &'a self,
        name: &'a str,
        options: FifoQueueOptions,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.create_or_update_queue(name, &options).await })
    }
}

impl SqsFifo {
    /// Creates a queue, or updates its attributes. A queue that already has these
    /// options is not written.
    pub(super) async fn create_or_update_queue(
        &self,
        name: &str,
        options: &FifoQueueOptions,
    ) -> Result<()> {
        let visibility = whole_seconds(options.visibility_timeout).to_string();
        let existing = self.find_queue(name).await?;
        let whole = Duration::from_secs(visibility.parse().unwrap_or_default());
        if existing.as_ref().is_some_and(|there| {
            there.options.visibility_timeout == whole
                && there.options.dead_letters == options.dead_letters
        }) {
            return Ok(());
        }
        let redrive = match (self.redrive_policy(options).await?, &existing) {
            // SQS removes a redrive policy that is set to the empty string.
            (None, Some(ExistingSqsQueue { options: stored, .. }))
                if stored.dead_letters.is_some() =>
            {
                Some(String::new())
            }
            (redrive, _) => redrive,
        };
        let url = match existing {
            Some(there) => there.url,
            None => self.create_queue(name, &visibility).await?,
        };
        let set = self.client.set_queue_attributes().queue_url(url);
        let mut set = set.attributes(Attribute::VisibilityTimeout, &visibility);
        if let Some(redrive) = redrive {
            set = set.attributes(Attribute::RedrivePolicy, redrive);
        }
        set.send().await.map(drop).map_err(|error| errors::classify_error(name, error))
    }

    async fn create_queue(&self, name: &str, visibility: &str) -> Result<String> {
        let create = self
            .client
            .create_queue()
            .queue_name(name)
            .attributes(Attribute::FifoQueue, "true")
            .attributes(Attribute::VisibilityTimeout, visibility);
        let created = create.send().await.map_err(|error| errors::classify_error(name, error))?;
        created.queue_url.ok_or_else(|| FifoError::Internal(format!("the queue {name} has no URL")))
    }

    async fn redrive_policy(&self, options: &FifoQueueOptions) -> Result<Option<String>> {
        let Some(dead) = &options.dead_letters else { return Ok(None) };
        let url = self.find_queue_url(&dead.queue).await?;
        let arn = self.read_queue_attribute(&dead.queue, &url, Attribute::QueueArn).await?;
        let arn =
            arn.ok_or_else(|| FifoError::Internal(format!("the queue {} has no ARN", dead.queue)))?;
        let policy = serde_json::json!({
            "deadLetterTargetArn": arn,
            "maxReceiveCount": dead.max_receives.to_string(),
        });
        Ok(Some(policy.to_string()))
    }

    async fn find_queue_options(&self, name: &str) -> Result<Option<(String, FifoQueueOptions)>> {
        Ok(self.find_queue(name).await?.map(|there| (name.to_owned(), there.options)))
    }

    /// Two round trips: the URL, then the attributes.
    async fn find_queue(&self, name: &str) -> Result<Option<ExistingSqsQueue>> {
        let url = match self.find_queue_url(name).await {
            Ok(url) => url,
            Err(FifoError::NoQueue(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let request =
            self.client.get_queue_attributes().queue_url(&url).attribute_names(Attribute::All);
        match request.send().await.map_err(|error| errors::classify_error(name, error)) {
            Ok(found) => {
                let options = parse_queue_options(name, &found.attributes.unwrap_or_default())?;
                Ok(Some(ExistingSqsQueue { url, options }))
            }
            // Deleted between the two calls.
            Err(FifoError::NoQueue(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn parse_queue_options(
    name: &str,
    attributes: &HashMap<Attribute, String>,
) -> Result<FifoQueueOptions> {
    let visibility = attributes.get(&Attribute::VisibilityTimeout);
    let Some(seconds) = visibility.and_then(|text| text.parse().ok()) else {
        return Err(unreadable_error(name, "visibility time-out"));
    };
    let own = attributes.get(&Attribute::QueueArn).map(String::as_str).unwrap_or_default();
    let dead_letters = match attributes.get(&Attribute::RedrivePolicy) {
        Some(policy) if !policy.is_empty() => match parse_redrive_policy(own, policy) {
            Some(dead_letters) => Some(dead_letters),
            None => return Err(unreadable_error(name, "redrive policy")),
        },
        _ => None,
    };
    Ok(FifoQueueOptions { visibility_timeout: Duration::from_secs(seconds), dead_letters })
}

fn unreadable_error(queue: &str, what: &str) -> FifoError {
    FifoError::Internal(format!("the queue {queue} has no readable {what}"))
}

/// A dead-letter queue of the same account and region is named by its name, any other
/// by its full ARN.
fn parse_redrive_policy(own_arn: &str, policy: &str) -> Option<DeadLetterPolicy> {
    let policy: Json = serde_json::from_str(policy).ok()?;
    let arn = policy["deadLetterTargetArn"].as_str()?;
    // A number or a string: both occur.
    let count = &policy["maxReceiveCount"];
    let max_receives = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    let queue = match split_account(own_arn) == split_account(arn) {
        true => arn.rsplit(':').next().unwrap_or(arn),
        false => arn,
    };
    Some(DeadLetterPolicy {
        queue: queue.to_owned(),
        max_receives: u32::try_from(max_receives).ok()?,
    })
}

/// The part of an ARN before the name: service, region and account.
fn split_account(arn: &str) -> Option<&str> {
    arn.rsplit_once(':').map(|(account, _)| account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_whoever_wrote_it_writes_it() {
        let own = "arn:aws:sqs:eu-west-1:123:a.fifo";
        let policy = |arn: &str, count: &str| {
            format!("{{\"deadLetterTargetArn\": \"{arn}\", \"maxReceiveCount\": {count}}}")
        };
        for (arn, count, expected) in [
            ("arn:aws:sqs:eu-west-1:123:d.fifo", "5", Some(("d.fifo", 5))),
            ("arn:aws:sqs:eu-west-1:123:d.fifo", "\"5\"", Some(("d.fifo", 5))),
            (
                "arn:aws:sqs:eu-west-1:456:d.fifo",
                "5",
                Some(("arn:aws:sqs:eu-west-1:456:d.fifo", 5)),
            ),
            ("arn:aws:sqs:eu-west-1:123:d.fifo", "\"often\"", None),
        ] {
            let found = parse_redrive_policy(own, &policy(arn, count));
            let found = found.as_ref().map(|dead| (dead.queue.as_str(), dead.max_receives));
            assert_eq!(found, expected, "{arn} {count}");
        }
    }
}
