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
    // Amazon has one code for all that is wrong with a parameter; the words tell.
    let words = message.to_ascii_lowercase();
    let about_size = ["shorter than", "too long", "too large", "maximum message size", "exceeds"]
        .iter()
        .any(|about| words.contains(about));
    if is(&code, &["BatchRequestTooLong", "RequestEntityTooLarge", "MessageTooLong"])
        || about_size && is(&code, &["InvalidParameterValue", "InvalidMessageContents"])
    {
        return FifoError::TooLarge(format!("{code}: {message}"));
    }
    if is(&code, &["InvalidMessageContents", "InvalidParameterValue", "InvalidAttributeValue"]) {
        return FifoError::Invalid(format!("{code}: {message}"));
    }
    let said =
        if code.is_empty() { DisplayErrorContext(&error).to_string() } else { format!("{code}: {message}") };
    FifoError::Unavailable(store::storable(&said))
}
