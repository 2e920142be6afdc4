//! Why a source could not be read, in words for people and for labels.

use std::error::Error;

/// Holds a failed question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// `gcs`, `pods` or `raycluster`.
    pub source: &'static str,
    /// A stable word, used as a metric label.
    pub kind: &'static str,
    /// The whole chain of causes.
    pub message: String,
}

impl SourceError {
    /// Returns the error of a source, its causes joined by colons.
    #[must_use]
    pub fn new(source: &'static str, kind: &'static str, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self {
            source,
            kind,
            message,
        }
    }
}
