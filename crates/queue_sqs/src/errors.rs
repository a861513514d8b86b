//! Classification of SQS errors as [`FifoError`].

use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use queue::fifo::FifoError;

/// Error codes occur with and without the namespace prefix of the older protocol.
fn is_code_of(code: &str, names: &[&str]) -> bool {
    names.iter().any(|name| code == *name || code.ends_with(&format!(".{name}")))
}

pub(super) fn classify_error<E, R>(queue: &str, error: SdkError<E, R>) -> FifoError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let message = error.message().unwrap_or_default().to_owned();
    if is_code_of(&code, &["QueueDoesNotExist", "NonExistentQueue", "QueueDeletedRecently"]) {
        return FifoError::NoQueue(queue.to_owned());
    }
    let about_receipt = message.to_ascii_lowercase().contains("receipt");
    let refused = is_code_of(&code, &["ReceiptHandleIsInvalid", "MessageNotInflight"]);
    if refused || about_receipt && is_code_of(&code, &["InvalidParameterValue"]) {
        return FifoError::ReceiptExpired;
    }
    // SQS has one code for all invalid parameters; only the message text tells size errors apart.
    let words = message.to_ascii_lowercase();
    let about_size = ["shorter than", "too long", "too large", "maximum message size", "exceeds"]
        .iter()
        .any(|about| words.contains(about));
    if is_code_of(&code, &["BatchRequestTooLong", "RequestEntityTooLarge", "MessageTooLong"])
        || about_size && is_code_of(&code, &["InvalidParameterValue", "InvalidMessageContents"])
    {
        return FifoError::TooLarge(format!("{code}: {message}"));
    }
    if is_code_of(
        &code,
        &["InvalidMessageContents", "InvalidParameterValue", "InvalidAttributeValue"],
    ) {
        return FifoError::Invalid(format!("{code}: {message}"));
    }
    let reason = if code.is_empty() {
        DisplayErrorContext(&error).to_string()
    } else {
        format!("{code}: {message}")
    };
    FifoError::Unavailable(store::to_storable_text(&reason))
}
