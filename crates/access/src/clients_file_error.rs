//! Why a clients file is refused.

use std::fmt;

/// Why a clients file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ClientsFileError {
    /// Line, from 1; `None` if the file as a whole is refused.
    pub line: Option<u32>,
    /// Field, such as `clients[0].scopes[1]`; empty for the whole file.
    pub field: String,
    /// The problem; holds no secret.
    pub reason: String,
}

impl fmt::Display for ClientsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

impl ClientsFileError {
    pub(crate) fn of_file(reason: impl fmt::Display) -> Self {
        Self { line: None, field: String::new(), reason: reason.to_string() }
    }
}
