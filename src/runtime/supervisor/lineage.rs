//! What the parent tells its child: who started it, and how its elder siblings ended.
//!
//! Passed in one environment variable, because the child's arguments are the user's.

use std::fmt;

/// Says what ended a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It returned.
    Exit,
    /// It panicked, in a build that unwinds.
    Panic,
    /// It aborted: a panic in a build that does not unwind, or no memory left.
    Abort,
    /// It touched memory or an instruction that is not there.
    Fault,
    /// It was killed, by the OOM killer as a rule.
    Kill,
    /// Another signal ended it.
    Signal,
    /// It could not be started.
    Start,
}

impl Cause {
    /// All causes, in the order of their counts.
    pub const ALL: [Self; 7] = [
        Self::Exit,
        Self::Panic,
        Self::Abort,
        Self::Fault,
        Self::Kill,
        Self::Signal,
        Self::Start,
    ];

    /// Returns a fixed word, for labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Panic => "panic",
            Self::Abort => "abort",
            Self::Fault => "fault",
            Self::Kill => "kill",
            Self::Signal => "signal",
            Self::Start => "start",
        }
    }
}

/// Counts how children ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lineage {
    counts: [u64; Cause::ALL.len()],
    last: Option<Cause>,
}

impl Lineage {
    /// The environment variable that carries it.
    pub const VARIABLE: &str = "RAYSCALER_SUPERVISED";

    /// Counts one more end.
    pub fn count(&mut self, cause: Cause) {
        for (count, of) in self.counts.iter_mut().zip(Cause::ALL) {
            *count = count.saturating_add(u64::from(of == cause));
        }
        self.last = Some(cause);
    }

    /// Returns how often a child ended in each way.
    pub fn restarts(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        Cause::ALL.into_iter().zip(self.counts)
    }

    /// Returns how often a child ended.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns how the last child ended.
    #[must_use]
    pub const fn last(&self) -> Option<Cause> {
        self.last
    }

    /// Returns the parent's process id and what it passed on.
    #[must_use]
    pub fn parse(text: &str) -> Option<(u32, Self)> {
        let mut words = text.split(' ');
        let parent = words.next()?.parse().ok()?;
        let last = words.next()?;
        let mut lineage = Self {
            last: Cause::ALL.into_iter().find(|cause| cause.as_str() == last),
            ..Self::default()
        };
        for count in &mut lineage.counts {
            *count = words.next()?.parse().ok()?;
        }
        Some((parent, lineage))
    }

    /// Writes what [`parse`](Self::parse) reads.
    pub(super) fn write(&self, parent: u32, to: &mut dyn fmt::Write) -> fmt::Result {
        write!(to, "{parent} {}", self.last.map_or("-", Cause::as_str))?;
        for count in self.counts {
            write!(to, " {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, Lineage};

    #[test]
    fn what_is_written_is_read() {
        let mut lineage = Lineage::default();
        let mut text = String::new();
        lineage.write(7, &mut text).unwrap();
        assert_eq!(text, "7 - 0 0 0 0 0 0 0");
        assert_eq!(Lineage::parse(&text), Some((7, lineage)));
        for cause in [Cause::Kill, Cause::Abort, Cause::Kill] {
            lineage.count(cause);
        }
        text.clear();
        lineage.write(7, &mut text).unwrap();
        assert_eq!(Lineage::parse(&text), Some((7, lineage)));
        assert_eq!(lineage.total(), 3);
        assert_eq!(lineage.last(), Some(Cause::Kill));
        assert!(lineage.restarts().any(|pair| pair == (Cause::Kill, 2)));
    }

    #[test]
    fn anything_else_is_not_from_a_parent() {
        for text in [
            "",
            "1",
            "x - 0 0 0 0 0 0 0",
            "1 - 0 0",
            "-1 - 0 0 0 0 0 0 0",
        ] {
            assert_eq!(Lineage::parse(text), None, "{text}");
        }
    }
}
