//! One queue at Amazon's.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message as Given, MessageAttributeValue, MessageSystemAttributeName as System};
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use super::errors::judge;
use super::receipts::Receipts;
use queue::fifo::{
    FifoError, FifoQueue, LONGEST_VISIBILITY, LONGEST_WAIT, MOST_RECEIVED, Message, NewMessage, Receipt,
    Result, Sent,
};

pub(super) struct Queue {
    name: String,
    url: String,
    /// The queue's own.
    visibility: Duration,
    client: Client,
    receipts: Receipts,
}

/// Whole seconds, at least as long.
pub(super) fn seconds(duration: Duration) -> i32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

fn checked(visibility: Duration) -> Result<i32> {
    if visibility > LONGEST_VISIBILITY {
        return Err(FifoError::Invalid(format!("a visibility time-out is at most {LONGEST_VISIBILITY:?}")));
    }
    Ok(seconds(visibility))
}

impl Queue {
    pub(super) fn new(name: &str, url: String, visibility: Duration, client: Client) -> Self {
        Self { name: name.to_owned(), url, visibility, client, receipts: Receipts::default() }
    }

    async fn put(&self, message: NewMessage) -> Result<Sent> {
        message.check()?;
        let mut send = self
            .client
            .send_message()
            .queue_url(&self.url)
            .message_group_id(message.group)
            .message_deduplication_id(message.deduplication)
            .message_body(message.body);
        for (name, value) in message.attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            let value = value.map_err(|error| FifoError::Invalid(error.to_string()))?;
            send = send.message_attributes(name, value);
        }
        let sent = send.send().await.map_err(|error| judge(&self.name, error))?;
        let id = sent.message_id.ok_or_else(|| FifoError::Internal("a message without an id".to_owned()))?;
        let sequence = sent.sequence_number.and_then(|number| number.parse().ok()).unwrap_or_default();
        Ok(Sent { id, sequence })
    }

    async fn take(&self, most: usize, wait: Duration, visibility: Option<Duration>) -> Result<Vec<Message>> {
        if !(1..=MOST_RECEIVED).contains(&most) || wait > LONGEST_WAIT {
            let allowed = format!("1 to {MOST_RECEIVED} messages and a wait of at most {LONGEST_WAIT:?}");
            return Err(FifoError::Invalid(allowed));
        }
        let asked = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(most).unwrap_or(1))
            .wait_time_seconds(seconds(wait))
            .set_visibility_timeout(visibility.map(checked).transpose()?)
            .message_system_attribute_names(System::All)
            .message_attribute_names("All");
        let received = asked.send().await.map_err(|error| judge(&self.name, error))?;
        let holds = visibility.map_or(self.visibility, |visibility| {
            Duration::from_secs(u64::from(seconds(visibility).unsigned_abs()))
        });
        let given = received.messages.unwrap_or_default().into_iter();
        let messages: Vec<Message> = given.filter_map(|given| self.message(given)).collect();
        messages.iter().for_each(|message| self.receipts.give(&message.receipt.0, holds));
        Ok(messages)
    }

    fn message(&self, given: Given) -> Option<Message> {
        let attribute = |name: System| given.attributes.as_ref().and_then(|attributes| attributes.get(&name));
        let moment = |name| {
            // An emulator says 0 where it knows nothing.
            let milliseconds =
                attribute(name).and_then(|text| text.parse().ok()).filter(|since| *since > 0_i64);
            milliseconds.and_then(DateTime::from_timestamp_millis)
        };
        let attributes: BTreeMap<String, String> = given
            .message_attributes
            .iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.string_value.clone()?)))
            .collect();
        Some(Message {
            group: attribute(System::MessageGroupId).cloned().unwrap_or_default(),
            deduplication: attribute(System::MessageDeduplicationId).cloned().unwrap_or_default(),
            sequence: attribute(System::SequenceNumber).and_then(|n| n.parse().ok()).unwrap_or_default(),
            sent_at: moment(System::SentTimestamp).unwrap_or_else(Utc::now),
            first_received_at: moment(System::ApproximateFirstReceiveTimestamp),
            receives: attribute(System::ApproximateReceiveCount).and_then(|n| n.parse().ok()).unwrap_or(1),
            id: given.message_id?,
            body: given.body.unwrap_or_default(),
            attributes,
            receipt: Receipt(given.receipt_handle?),
        })
    }
}

impl FifoQueue for Queue {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, message: NewMessage) -> BoxFuture<'_, Result<Sent>> {
        Box::pin(self.put(message))
    }

    fn receive(
        &self,
        most: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> BoxFuture<'_, Result<Vec<Message>>> {
        Box::pin(self.take(most, wait, visibility))
    }

    fn delete<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            // At Amazon's a second delete is as good as the first; emulators refuse it.
            if self.receipts.was_used(&receipt.0) {
                return Ok(());
            }
            // Amazon refuses it, emulators do not.
            if self.receipts.has_expired(&receipt.0) {
                return Err(FifoError::Expired);
            }
            let delete = self.client.delete_message().queue_url(&self.url).receipt_handle(&receipt.0);
            delete.send().await.map_err(|error| judge(&self.name, error))?;
            self.receipts.used(&receipt.0);
            Ok(())
        })
    }

    fn change_visibility<'a>(
        &'a self,
        receipt: &'a Receipt,
        visibility: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let whole = checked(visibility)?;
            if self.receipts.has_expired(&receipt.0) {
                return Err(FifoError::Expired);
            }
            let change = self
                .client
                .change_message_visibility()
                .queue_url(&self.url)
                .receipt_handle(&receipt.0)
                .visibility_timeout(whole);
            change.send().await.map_err(|error| judge(&self.name, error))?;
            self.receipts.give(&receipt.0, Duration::from_secs(u64::from(whole.unsigned_abs())));
            Ok(())
        })
    }
}
