//! What happened, in lines.

use std::collections::{BTreeMap, BTreeSet};

use super::tally::Workers;
use crate::admin::Decided;
use crate::model::{GroupDecision, Timestamp};

/// Says what a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Users ask for something.
    Asked,
    /// What they asked for has its place.
    Placed,
    /// The autoscaler changes a group.
    Scaled,
    /// Something waits, and why.
    Waits,
    /// Something is left alone on purpose.
    Held,
    /// Workers come and go.
    Workers,
    /// A pod is lost.
    Lost,
}

impl Kind {
    /// Returns the word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Placed => "placed",
            Self::Scaled => "scaled",
            Self::Waits => "waits",
            Self::Held => "held",
            Self::Workers => "workers",
            Self::Lost => "lost",
        }
    }
}

/// Holds one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// When.
    pub(super) at: Timestamp,
    /// What it is about.
    pub(super) kind: Kind,
    /// What happened.
    pub(super) text: String,
}

/// Collects lines.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    lines: Vec<Line>,
    decided_until: Timestamp,
    waits: BTreeSet<(String, String)>,
    workers: BTreeMap<String, Workers>,
}

impl Timeline {
    /// Returns the lines, oldest first.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    fn push(&mut self, at: Timestamp, kind: Kind, text: String) {
        self.lines.push(Line { at, kind, text });
    }

    /// Notes what users ask for.
    pub(super) fn asked(&mut self, at: Timestamp, name: &str, what: &str) {
        let text = if name == what {
            what.to_owned()
        } else {
            format!("{name}: {what}")
        };
        self.push(at, Kind::Asked, text);
    }

    /// Notes that what users asked for has its place.
    pub(super) fn placed(&mut self, at: Timestamp, name: &str, waited_ms: u64) {
        self.push(
            at,
            Kind::Placed,
            format!("{name}: all of it, after {}", seconds(waited_ms)),
        );
    }

    /// Notes a pod that is lost.
    pub(super) fn lost(&mut self, at: Timestamp, pod: &str) {
        self.push(at, Kind::Lost, format!("{pod} is gone without a word"));
    }

    /// Notes the decisions that came since the last time.
    pub(super) fn decisions(&mut self, began_at: Timestamp, decisions: &[Decided]) {
        let since = self.decided_until.max(began_at);
        for decided in decisions.iter().filter(|decided| decided.at > since) {
            self.decided_until = decided.at;
            for group in decided
                .decision
                .groups
                .iter()
                .filter(|group| is_scaled(group))
            {
                self.push(decided.at, Kind::Scaled, scaled(group));
            }
        }
    }

    /// Notes what a decision could not serve, each thing once.
    pub(super) fn waiting(&mut self, decided: &Decided) {
        for unserved in &decided.decision.unserved {
            if self
                .waits
                .insert((unserved.what.clone(), unserved.code.clone()))
            {
                let text = format!(
                    "{} x {}: {} ({})",
                    unserved.count, unserved.what, unserved.code, unserved.detail
                );
                self.push(decided.at, Kind::Waits, text);
            }
        }
    }

    /// Notes what a decision leaves alone on purpose, each thing once.
    pub(super) fn holds(&mut self, decided: &Decided) {
        for hold in &decided.decision.holds {
            let what = hold
                .group
                .as_ref()
                .map_or("everything", |group| group.as_str());
            if self.waits.insert((what.to_owned(), hold.code.clone())) {
                let text = format!("{what}: {} ({})", hold.code, hold.detail);
                self.push(decided.at, Kind::Held, text);
            }
        }
    }

    /// Notes how the workers of each group have changed.
    pub(super) fn workers(&mut self, at: Timestamp, groups: &BTreeMap<String, Workers>) {
        let names: BTreeSet<&String> = groups.keys().chain(self.workers.keys()).collect();
        let mut texts = Vec::new();
        for name in names {
            let now = groups.get(name).copied().unwrap_or_default();
            let before = self.workers.get(name).copied().unwrap_or_default();
            let joined = |workers: Workers| workers.busy + workers.idle;
            if joined(now) != joined(before) || now.paid() == 0 && before.paid() > 0 {
                texts.push(format!("{name}: {}", words(now)));
            }
        }
        for text in texts {
            self.push(at, Kind::Workers, text);
        }
        self.workers.clone_from(groups);
    }
}

fn is_scaled(group: &GroupDecision) -> bool {
    group.replicas_from != group.replicas_to || !group.remove.is_empty()
}

fn scaled(group: &GroupDecision) -> String {
    let mut text = format!(
        "{} {} -> {}",
        group.name, group.replicas_from, group.replicas_to
    );
    let reasons: Vec<String> = group
        .reasons
        .iter()
        .map(|reason| {
            if reason.detail.is_empty() {
                format!("{}: {}", reason.policy, reason.code)
            } else {
                format!("{}: {}", reason.policy, reason.detail)
            }
        })
        .collect();
    if !reasons.is_empty() {
        text.push_str("  ");
        text.push_str(&reasons.join("; "));
    }
    text
}

/// Returns the counts that are not zero, in words.
pub(super) fn words(workers: Workers) -> String {
    let counts = [
        (workers.pending, "without a machine"),
        (workers.starting, "starting"),
        (workers.busy, "busy"),
        (workers.idle, "idle"),
        (workers.leaving, "leaving"),
    ];
    let words: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

/// Returns milliseconds as seconds with one decimal.
pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
