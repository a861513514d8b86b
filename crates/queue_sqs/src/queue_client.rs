//! The client of one SQS queue.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    Message as Given, MessageAttributeValue, MessageSystemAttributeName as System,
};
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use super::errors::classify_error;
use super::receipts::SqsReceipts;
use queue::fifo::{
    FifoError, FifoMessage, FifoQueue, MAX_RECEIVE_WAIT_TIME, MAX_RECEIVED_MESSAGES,
    MAX_VISIBILITY_TIMEOUT, MessageReceipt, NewFifoMessage, Result, SentMessage,
};

pub(super) struct SqsQueue {
    name: String,
    url: String,
    /// The queue's default, used when a receive names none.
    visibility_timeout: Duration,
    client: Client,
    receipts: SqsReceipts,
}

/// Rounded up to whole seconds.
pub(super) fn whole_seconds(duration: Duration) -> i32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

fn checked_visibility_seconds(visibility: Duration) -> Result<i32> {
    if visibility > MAX_VISIBILITY_TIMEOUT {
        return Err(FifoError::Invalid(format!(
            "a visibility time-out is at most {MAX_VISIBILITY_TIMEOUT:?}"
        )));
    }
    Ok(whole_seconds(visibility))
}

/// `None` if the attribute is missing or unreadable.
fn parse_attribute<T: FromStr>(message: &Given, name: System) -> Option<T> {
    message.attributes.as_ref()?.get(&name)?.parse().ok()
}

fn parse_moment(message: &Given, name: System) -> Option<DateTime<Utc>> {
    let milliseconds: i64 = parse_attribute(message, name)?;
    // An emulator sends 0 for an unknown timestamp.
    if milliseconds <= 0 {
        return None;
    }
    DateTime::from_timestamp_millis(milliseconds)
}

impl SqsQueue {
    pub(super) fn new(name: &str, url: String, visibility: Duration, client: Client) -> Self {
        Self {
            name: name.to_owned(),
            url,
            visibility_timeout: visibility,
            client,
            receipts: SqsReceipts::default(),
        }
    }

    async fn send_message(&self, message: NewFifoMessage) -> Result<SentMessage> {
        message.validate()?;
        let mut send = self
            .client
            .send_message()
            .queue_url(&self.url)
            .message_group_id(message.group)
            .message_deduplication_id(message.deduplication_id)
            .message_body(message.body);
        for (name, value) in message.attributes {
            let value =
                MessageAttributeValue::builder().data_type("String").string_value(value).build();
            let value = value.map_err(|error| FifoError::Invalid(error.to_string()))?;
            send = send.message_attributes(name, value);
        }
        let sent = send.send().await.map_err(|error| classify_error(&self.name, error))?;
        let id = sent
            .message_id
            .ok_or_else(|| FifoError::Internal("a message without an id".to_owned()))?;
        let sequence =
            sent.sequence_number.and_then(|number| number.parse().ok()).unwrap_or_default();
        Ok(SentMessage { id, sequence })
    }

    async fn receive_messages(
        &self,
        max_messages: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> Result<Vec<FifoMessage>> {
        if !(1..=MAX_RECEIVED_MESSAGES).contains(&max_messages) || wait > MAX_RECEIVE_WAIT_TIME {
            let allowed = format!(
                "1 to {MAX_RECEIVED_MESSAGES} messages and a wait of at most {MAX_RECEIVE_WAIT_TIME:?}"
            );
            return Err(FifoError::Invalid(allowed));
        }
        let request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(max_messages).unwrap_or(1))
            .wait_time_seconds(whole_seconds(wait))
            .set_visibility_timeout(visibility.map(checked_visibility_seconds).transpose()?)
            .message_system_attribute_names(System::All)
            .message_attribute_names("All");
        let received = request.send().await.map_err(|error| classify_error(&self.name, error))?;
        let valid_for = visibility.map_or(self.visibility_timeout, |visibility| {
            Duration::from_secs(u64::from(whole_seconds(visibility).unsigned_abs()))
        });
        let raw_messages = received.messages.unwrap_or_default().into_iter();
        let messages: Vec<FifoMessage> =
            raw_messages.filter_map(|given| self.parse_message(given)).collect();
        messages.iter().for_each(|message| self.receipts.remember(&message.receipt.0, valid_for));
        Ok(messages)
    }

    fn parse_message(&self, raw: Given) -> Option<FifoMessage> {
        let attributes: BTreeMap<String, String> = raw
            .message_attributes
            .iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.string_value.clone()?)))
            .collect();
        Some(FifoMessage {
            group: parse_attribute(&raw, System::MessageGroupId).unwrap_or_default(),
            deduplication_id: parse_attribute(&raw, System::MessageDeduplicationId)
                .unwrap_or_default(),
            sequence: parse_attribute(&raw, System::SequenceNumber).unwrap_or_default(),
            sent_at: parse_moment(&raw, System::SentTimestamp).unwrap_or_else(Utc::now),
            first_received_at: parse_moment(&raw, System::ApproximateFirstReceiveTimestamp),
            receive_count: parse_attribute(&raw, System::ApproximateReceiveCount).unwrap_or(1),
            id: raw.message_id?,
            body: raw.body.unwrap_or_default(),
            attributes,
            receipt: MessageReceipt(raw.receipt_handle?),
        })
    }
}

impl FifoQueue for SqsQueue {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, message: NewFifoMessage) -> BoxFuture<'_, Result<SentMessage>> {
        Box::pin(self.send_message(message))
    }

    fn receive(
        &self,
        max_messages: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> BoxFuture<'_, Result<Vec<FifoMessage>>> {
        Box::pin(self.receive_messages(max_messages, wait, visibility))
    }

    fn delete<'a>(&'a self, receipt: &'a MessageReceipt) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            // SQS accepts a second delete with the same receipt; emulators refuse it.
            if self.receipts.is_used(&receipt.0) {
                return Ok(());
            }
            // SQS refuses an expired receipt; emulators do not.
            if self.receipts.has_expired(&receipt.0) {
                return Err(FifoError::ReceiptExpired);
            }
            let delete =
                self.client.delete_message().queue_url(&self.url).receipt_handle(&receipt.0);
            delete.send().await.map_err(|error| classify_error(&self.name, error))?;
            self.receipts.mark_used(&receipt.0);
            Ok(())
        })
    }

    fn change_visibility<'a>(
        &'a self,
        receipt: &'a MessageReceipt,
        visibility: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let whole = checked_visibility_seconds(visibility)?;
            if self.receipts.has_expired(&receipt.0) {
                return Err(FifoError::ReceiptExpired);
            }
            let change = self
                .client
                .change_message_visibility()
                .queue_url(&self.url)
                .receipt_handle(&receipt.0)
                .visibility_timeout(whole);
            change.send().await.map_err(|error| classify_error(&self.name, error))?;
            self.receipts
                .remember(&receipt.0, Duration::from_secs(u64::from(whole.unsigned_abs())));
            Ok(())
        })
    }
}
