//! Pod changes not yet seen; the group they were asked for is left alone until they are.

use crate::model::Timestamp;
use std::collections::BTreeMap;

/// A pod made and gone again before it was looked for must not lock its group for ever.
const CREATION_TIMEOUT_MS: u64 = 30_000;

/// What was done to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Over when the pod is there, or after a while.
    Created,
    /// Over only when the pod is gone, however long that takes.
    Deleted,
}

/// The group whose reconciliation made the change, which may be another one than the pod's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) cluster: String,
    pub(super) name: String,
}

#[derive(Debug)]
struct Expectation {
    group: Group,
    change: Change,
    at: Timestamp,
}

/// Holds the changes that are not over yet, by pod; they are lost when the operator ends.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    by_pod: BTreeMap<String, Expectation>,
}

impl Expectations {
    /// Notes a change; a pod's later one takes the place of its earlier one.
    pub(super) fn expect(&mut self, group: &Group, pod: &str, change: Change, at: Timestamp) {
        let group = group.clone();
        self.by_pod
            .insert(pod.to_owned(), Expectation { group, change, at });
    }

    /// Returns true while nothing is expected of a group.
    pub(super) fn is_empty(&self, group: &Group) -> bool {
        !self
            .by_pod
            .values()
            .any(|expectation| expectation.group == *group)
    }

    /// Forgets a group's changes that are over, and returns true when none is left.
    pub(super) fn settle(
        &mut self,
        group: &Group,
        exists: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> bool {
        self.by_pod.retain(|pod, expected| {
            let is_over = match expected.change {
                Change::Created => {
                    exists(pod) || now.millis_since(expected.at) > CREATION_TIMEOUT_MS
                }
                Change::Deleted => !exists(pod),
            };
            expected.group != *group || !is_over
        });
        self.is_empty(group)
    }

    /// Forgets all changes of a cluster.
    pub(super) fn forget(&mut self, cluster: &str) {
        self.by_pod
            .retain(|_, expectation| expectation.group.cluster != cluster);
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Expectations, Group};
    use crate::model::Timestamp;

    fn group(name: &str) -> Group {
        Group {
            cluster: "c".to_owned(),
            name: name.to_owned(),
        }
    }

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn a_deletion_locks_its_group_until_the_pod_is_gone() {
        let mut expectations = Expectations::default();
        expectations.expect(&group("a"), "p", Change::Deleted, at(0));
        assert!(!expectations.settle(&group("a"), |_| true, at(3_600_000)));
        assert!(expectations.settle(&group("b"), |_| true, at(3_600_000)));
        assert!(expectations.settle(&group("a"), |_| false, at(3_600_001)));
    }

    #[test]
    fn a_creation_locks_its_group_until_the_pod_is_seen_or_for_thirty_seconds() {
        let mut expectations = Expectations::default();
        expectations.expect(&group("a"), "p", Change::Created, at(0));
        assert!(!expectations.settle(&group("a"), |_| false, at(30_000)));
        assert!(expectations.settle(&group("a"), |_| false, at(30_001)));
        expectations.expect(&group("a"), "q", Change::Created, at(0));
        assert!(expectations.settle(&group("a"), |pod| pod == "q", at(1)));
    }

    #[test]
    fn a_pod_locks_the_group_of_its_latest_change_only() {
        let mut expectations = Expectations::default();
        expectations.expect(&group("a"), "p", Change::Created, at(0));
        expectations.expect(&group("b"), "p", Change::Deleted, at(1));
        assert!(expectations.is_empty(&group("a")));
        assert!(!expectations.is_empty(&group("b")));
        expectations.forget("c");
        assert!(expectations.is_empty(&group("b")));
    }
}
