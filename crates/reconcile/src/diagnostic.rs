//! Diagnostics of a bundle: location, problem and allowed values.

use std::fmt;

use serde::Serialize;
use yaml::FieldPath;

/// A problem in a file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BundleDiagnostic {
    /// File path, prefixed with the bundle's location.
    pub file: String,
    /// Line number, from 1; for a missing key, the line of its parent.
    pub line: u32,
    /// Path of the field, such as `key_attributes[0].type`; empty if the problem
    /// concerns the whole file.
    pub field: String,
    /// The problem and the allowed values.
    pub reason: String,
}

impl fmt::Display for BundleDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

/// A problem with a field of a document, without file and line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// Path of the field.
    pub field: FieldPath,
    /// The problem and the allowed values.
    pub reason: String,
}

impl FieldProblem {
    /// A problem with `field`.
    pub fn new(field: impl Into<FieldPath>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}
