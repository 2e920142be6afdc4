//! One mistake in a config file, with where it is and what would be accepted.

use std::fmt;

use thiserror::Error;

/// Holds one mistake in a config file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ConfigError {
    /// The key, from the top: `poll.gcs.intervalMin`, `policies[1].name`; empty for the whole file.
    pub path: String,
    /// The line in the file, counted from 1; `None` when the mistake is something that is not there.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// What would be accepted; empty when `problem` says all there is to say.
    pub accepted: String,
}

impl ConfigError {
    /// Returns a mistake at a place.
    pub(super) fn new(at: &Place<'_>, problem: impl Into<String>) -> Self {
        Self {
            path: at.path.to_owned(),
            line: at.line,
            problem: problem.into(),
            accepted: String::new(),
        }
    }

    /// Returns the same mistake with what would be accepted instead.
    #[must_use]
    pub(super) fn accepting(mut self, accepted: impl Into<String>) -> Self {
        self.accepted = accepted.into();
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)?;
        if !self.accepted.is_empty() {
            write!(f, "; accepted: {}", self.accepted)?;
        }
        Ok(())
    }
}

/// Says where in a file something stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a str,
    pub(super) line: Option<usize>,
}

impl<'a> Place<'a> {
    pub(super) const fn at(path: &'a str, line: usize) -> Self {
        Self {
            path,
            line: Some(line),
        }
    }

    pub(super) const fn nowhere(path: &'a str) -> Self {
        Self { path, line: None }
    }
}
