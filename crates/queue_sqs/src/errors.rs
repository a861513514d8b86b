//! What went wrong at Amazon's, in this room's words.

use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use queue::fifo::FifoError;

/// Codes come with and without the prefixes of older protocols.
fn is(code: &str, names: &[&str]) -> bool {
    names.iter().any(|name| code == *name || code.ends_with(&format!(".{name}")))
}

pub(super) fn judge<E, R>(queue: &str, error: SdkError<E, R>) -> FifoError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let message = error.message().unwrap_or_default().to_owned();
    if is(&code, &["QueueDoesNotExist", "NonExistentQueue", "QueueDeletedRecently"]) {
        return FifoError::NoQueue(queue.to_owned());
    }
    let about_receipt = message.to_ascii_lowercase().contains("receipt");
    let refused = is(&code, &["ReceiptHandleIsInvalid", "MessageNotInflight"]);
    if refused || about_receipt && is(&code, &["InvalidParameterValue"]) {
        return FifoError::Expired;
    }
    if is(
        &code,
        &["InvalidMessageContents", "InvalidParameterValue", "InvalidAttributeValue", "BatchRequestTooLong"],
    ) {
        return FifoError::Invalid(format!("{code}: {message}"));
    }
    let said =
        if code.is_empty() { DisplayErrorContext(&error).to_string() } else { format!("{code}: {message}") };
    FifoError::Unavailable(store::storable(&said))
}
