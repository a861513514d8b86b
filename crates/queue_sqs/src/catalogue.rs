//! Which queues an account has and how they behave; makes them and changes them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value as Json;

use super::queue_client::seconds;
use super::{SqsFifo, errors};
use queue::fifo::{DeadLetters, FifoCatalogue, FifoError, QueueTerms, Result};

/// Queues that are looked at at the same time.
const AT_ONCE: usize = 8;

/// A queue that is there.
struct There {
    url: String,
    terms: QueueTerms,
}

impl FifoCatalogue for SqsFifo {
    fn look<'a>(&'a self, names: &'a [String]) -> BoxFuture<'a, Result<BTreeMap<String, QueueTerms>>> {
        Box::pin(async move {
            let looks: Vec<_> = names.iter().map(|name| self.named(name)).collect();
            let found: Vec<Option<(String, QueueTerms)>> =
                stream::iter(looks).buffer_unordered(AT_ONCE).try_collect().await?;
            Ok(found.into_iter().flatten().collect())
        })
    }

    fn ensure<'a>(&'a self, name: &'a str, terms: QueueTerms) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.make(name, &terms).await })
    }
}

impl SqsFifo {
    /// Makes a queue, or gives one that is there these terms. One that has them already is not touched.
    pub(super) async fn make(&self, name: &str, terms: &QueueTerms) -> Result<()> {
        let visibility = seconds(terms.visibility).to_string();
        let there = self.there(name).await?;
        let whole = Duration::from_secs(visibility.parse().unwrap_or_default());
        if there.as_ref().is_some_and(|there| {
            there.terms.visibility == whole && there.terms.dead_letters == terms.dead_letters
        }) {
            return Ok(());
        }
        let redrive = match (self.redrive(terms).await?, &there) {
            // Amazon takes away a policy that is set to nothing.
            (None, Some(There { terms, .. })) if terms.dead_letters.is_some() => Some(String::new()),
            (redrive, _) => redrive,
        };
        let url = match there {
            Some(there) => there.url,
            None => self.create(name, &visibility).await?,
        };
        let set = self.client.set_queue_attributes().queue_url(url);
        let mut set = set.attributes(Attribute::VisibilityTimeout, &visibility);
        if let Some(redrive) = redrive {
            set = set.attributes(Attribute::RedrivePolicy, redrive);
        }
        set.send().await.map(drop).map_err(|error| errors::judge(name, error))
    }

    async fn create(&self, name: &str, visibility: &str) -> Result<String> {
        let create = self
            .client
            .create_queue()
            .queue_name(name)
            .attributes(Attribute::FifoQueue, "true")
            .attributes(Attribute::VisibilityTimeout, visibility);
        let made = create.send().await.map_err(|error| errors::judge(name, error))?;
        made.queue_url.ok_or_else(|| FifoError::Internal(format!("the queue {name} has no URL")))
    }

    async fn redrive(&self, terms: &QueueTerms) -> Result<Option<String>> {
        let Some(dead) = &terms.dead_letters else { return Ok(None) };
        let url = self.url(&dead.queue).await?;
        let arn = self.attribute(&dead.queue, &url, Attribute::QueueArn).await?;
        let arn = arn.ok_or_else(|| FifoError::Internal(format!("the queue {} has no ARN", dead.queue)))?;
        let policy = serde_json::json!({
            "deadLetterTargetArn": arn,
            "maxReceiveCount": dead.max_receives.to_string(),
        });
        Ok(Some(policy.to_string()))
    }

    async fn named(&self, name: &str) -> Result<Option<(String, QueueTerms)>> {
        Ok(self.there(name).await?.map(|there| (name.to_owned(), there.terms)))
    }

    /// Two round trips.
    async fn there(&self, name: &str) -> Result<Option<There>> {
        let url = match self.url(name).await {
            Ok(url) => url,
            Err(FifoError::NoQueue(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let asked = self.client.get_queue_attributes().queue_url(&url).attribute_names(Attribute::All);
        match asked.send().await.map_err(|error| errors::judge(name, error)) {
            Ok(found) => {
                let terms = terms(name, &found.attributes.unwrap_or_default())?;
                Ok(Some(There { url, terms }))
            }
            // Somebody has just deleted it.
            Err(FifoError::NoQueue(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn terms(name: &str, attributes: &HashMap<Attribute, String>) -> Result<QueueTerms> {
    let wrong = |what: &str| FifoError::Internal(format!("the queue {name} has no readable {what}"));
    let visibility = attributes.get(&Attribute::VisibilityTimeout).and_then(|text| text.parse().ok());
    let own = attributes.get(&Attribute::QueueArn).map(String::as_str).unwrap_or_default();
    let policy = attributes.get(&Attribute::RedrivePolicy).filter(|policy| !policy.is_empty());
    let dead_letters = policy.map(|policy| dead_letters(own, policy).ok_or_else(|| wrong("redrive policy")));
    Ok(QueueTerms {
        visibility: Duration::from_secs(visibility.ok_or_else(|| wrong("visibility time-out"))?),
        dead_letters: dead_letters.transpose()?,
    })
}

/// A queue of the same account and region goes by its name, any other by all of its ARN.
fn dead_letters(own: &str, policy: &str) -> Option<DeadLetters> {
    let policy: Json = serde_json::from_str(policy).ok()?;
    let arn = policy["deadLetterTargetArn"].as_str()?;
    // A number or a text: both are written.
    let count = &policy["maxReceiveCount"];
    let max_receives = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    let place = |arn: &str| arn.rsplit_once(':').map(|(place, _)| place.to_owned());
    let queue = match place(own) == place(arn) {
        true => arn.rsplit(':').next().unwrap_or(arn),
        false => arn,
    };
    Some(DeadLetters { queue: queue.to_owned(), max_receives: u32::try_from(max_receives).ok()? })
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
            ("arn:aws:sqs:eu-west-1:456:d.fifo", "5", Some(("arn:aws:sqs:eu-west-1:456:d.fifo", 5))),
            ("arn:aws:sqs:eu-west-1:123:d.fifo", "\"often\"", None),
        ] {
            let found = dead_letters(own, &policy(arn, count));
            let found = found.as_ref().map(|dead| (dead.queue.as_str(), dead.max_receives));
            assert_eq!(found, expected, "{arn} {count}");
        }
    }
}
