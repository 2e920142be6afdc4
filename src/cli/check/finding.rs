//! What a check finds, and how it is shown.

use serde::Serialize;

use crate::cli::paint::{Colour, Paint};

/// Says how much a finding hurts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// It does not work like this.
    Error,
    /// It works, and hurts one day.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    const fn shown(self) -> (&'static str, Colour) {
        match self {
            Self::Error => ("error", Colour::Red),
            Self::Warning => ("warning", Colour::Yellow),
            Self::Note => ("note", Colour::Dim),
        }
    }
}

/// Holds where something stands, what it is, and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// The path from the outermost object.
    pub(super) path: String,
    /// What stands there, shortened; `absent` when nothing does.
    pub(super) value: String,
    /// What would be accepted.
    pub(super) accepted: String,
    /// Why, where it differs from case to case; the check says it otherwise.
    pub(super) why: Option<String>,
}

impl Found {
    /// Returns what was found at a path.
    pub(super) fn at(path: String, value: impl ToString, accepted: &str) -> Self {
        Self {
            path,
            value: value.to_string(),
            accepted: accepted.to_owned(),
            why: None,
        }
    }
}

/// Holds a finding of one check, as it is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The check, a stable word.
    pub(super) code: String,
    /// How much it hurts.
    pub(super) severity: Severity,
    /// Where it stands.
    pub(super) path: String,
    /// What stands there.
    pub(super) value: String,
    /// What would be accepted.
    pub(super) accepted: String,
    /// What it leads to.
    pub(super) why: String,
}

impl Finding {
    /// Returns two lines: what and where, then what it leads to.
    pub(super) fn text(&self, paint: Paint) -> String {
        let (word, colour) = self.severity.shown();
        let head = paint.text(colour, &format!("{word}[{}]", self.code));
        let Self {
            path,
            value,
            accepted,
            why,
            ..
        } = self;
        let what = match (value.as_str(), accepted.as_str()) {
            ("", _) => path.clone(),
            (value, "") => format!("{path} is {value}"),
            (value, accepted) => format!("{path} is {value}; accepted: {accepted}"),
        };
        format!("{head}: {what}\n  {why}\n")
    }
}
