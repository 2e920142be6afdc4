//! Remembers for an hour what could not be started, and why.
//!
//! Why bounded: the stock autoscaler reports every failure since its start, without a reason, and the
//! report grows with the age of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::node_watch::NodeChange;
use super::pass::{Outcome, PassReport};
use crate::model::{Timestamp, WorkerGroupName};

/// How long a failure is told. An hour covers the slowest boot that anybody waits for.
const KEPT_MS: u64 = 3_600_000;

/// Most failures that are told; `ray status` shows 20.
const FAILURES_MAX: usize = 100;

/// Holds equal failures of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// How often.
    pub(super) count: u64,
    /// The first time.
    pub(super) first: Timestamp,
    /// The last time.
    pub(super) last: Timestamp,
    is_pod: bool,
}

/// Remembers failures by group and reason.
#[derive(Debug, Default)]
pub(super) struct Failures {
    known: BTreeMap<(WorkerGroupName, String), Failure>,
    failing: BTreeSet<(WorkerGroupName, String)>,
}

impl Failures {
    /// Takes in one pass.
    ///
    /// A state that lasts (a patch that is refused each time, a group that cannot be scaled) is one
    /// failure, as old as its beginning: else the report would change with each pass.
    pub(super) fn pass(&mut self, pass: &PassReport<'_>, nodes: &[NodeChange], now: Timestamp) {
        for change in nodes {
            if let NodeChange::Failed {
                group,
                reason,
                had_started: false,
                ..
            } = change
            {
                let reason = if reason.is_empty() {
                    "pod ended before its raylet registered"
                } else {
                    reason
                };
                self.note(group, reason, true, now);
            }
        }
        let failing = lasting(pass);
        for (group, reason) in failing.difference(&self.failing.clone()) {
            self.note(group, reason, false, now);
        }
        for key in &failing {
            if let Some(failure) = self.known.get_mut(key)
                && now.millis_since(failure.last) > KEPT_MS / 2
            {
                failure.last = now;
            }
        }
        self.failing = failing;
        self.prune(now);
    }

    /// Returns the failures, the latest first.
    pub(super) fn latest(&self) -> Vec<(&WorkerGroupName, &str, &Failure)> {
        let mut all: Vec<_> = self
            .known
            .iter()
            .map(|((group, reason), failure)| (group, reason.as_str(), failure))
            .collect();
        all.sort_by_key(|(_, _, failure)| std::cmp::Reverse(failure.last));
        all
    }

    /// Returns how many pods failed, by group.
    pub(super) fn pods_by_group(&self) -> BTreeMap<&WorkerGroupName, u64> {
        let mut counts = BTreeMap::new();
        for ((group, _), failure) in self.known.iter().filter(|(_, failure)| failure.is_pod) {
            *counts.entry(group).or_default() += failure.count;
        }
        counts
    }

    fn note(&mut self, group: &WorkerGroupName, reason: &str, is_pod: bool, now: Timestamp) {
        let key = (group.clone(), reason.to_owned());
        let failure = self.known.entry(key).or_insert(Failure {
            count: 0,
            first: now,
            last: now,
            is_pod,
        });
        failure.count = failure.count.saturating_add(1);
        failure.last = now;
    }

    fn prune(&mut self, now: Timestamp) {
        self.known
            .retain(|_, failure| now.millis_since(failure.last) < KEPT_MS);
        while self.known.len() > FAILURES_MAX {
            let oldest = self.known.iter().min_by_key(|(_, failure)| failure.last);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.known.remove(&key);
        }
    }
}

/// Returns what keeps groups from growing now.
fn lasting(pass: &PassReport<'_>) -> BTreeSet<(WorkerGroupName, String)> {
    let skipped = pass.snapshot.skipped.iter();
    let mut all: BTreeSet<_> = skipped
        .map(|it| (it.name.clone(), format!("{}: {}", it.code, it.detail)))
        .collect();
    if let Outcome::Failed { detail, .. } = &pass.acted.outcome {
        let growing = pass.decision.groups.iter();
        let growing = growing.filter(|group| group.replicas_to > group.replicas_from);
        all.extend(growing.map(|group| (group.name.clone(), detail.clone())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{FAILURES_MAX, Failures, KEPT_MS};
    use crate::model::{
        ClusterSnapshot, History, PodName, ScaleDecision, Timestamp, WorkerGroupName,
    };
    use crate::report::node_watch::NodeChange;
    use crate::report::pass::{Acted, PassReport};

    fn failed(reason: &str) -> NodeChange {
        NodeChange::Failed {
            pod: PodName::from("p"),
            group: WorkerGroupName::from("g"),
            had_started: false,
            reason: reason.to_owned(),
        }
    }

    fn pass(failures: &mut Failures, snapshot: &ClusterSnapshot, nodes: &[NodeChange], now: u64) {
        let pass = PassReport {
            observed_at: Timestamp::default(),
            snapshot,
            decision: &ScaleDecision::default(),
            history: &History::default(),
            acted: &Acted::default(),
            phases: &[],
            session_name: "",
            is_dry_run: false,
        };
        failures.pass(&pass, nodes, Timestamp::default().plus_ms(now));
    }

    #[test]
    fn failures_are_counted_by_reason_and_forgotten_after_an_hour() {
        let (mut failures, snapshot) = (Failures::default(), ClusterSnapshot::default());
        pass(
            &mut failures,
            &snapshot,
            &[failed("OOMKilled"), failed("OOMKilled")],
            0,
        );
        assert_eq!(failures.latest()[0].1, "OOMKilled");
        assert_eq!(failures.latest()[0].2.count, 2);
        pass(&mut failures, &snapshot, &[], KEPT_MS);
        assert!(failures.latest().is_empty());
    }

    #[test]
    fn a_lasting_failure_is_one_failure_and_is_not_forgotten() {
        let mut failures = Failures::default();
        let mut snapshot = ClusterSnapshot::default();
        snapshot.skipped.push(crate::model::SkippedGroup {
            name: WorkerGroupName::from("g"),
            index: 0,
            code: "no_hosts".to_owned(),
            detail: "numOfHosts 0".to_owned(),
        });
        for minute in 0..200 {
            pass(&mut failures, &snapshot, &[], minute * 60_000);
            assert_eq!(failures.latest().len(), 1);
            assert_eq!(failures.latest()[0].2.count, 1);
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut failures, snapshot) = (Failures::default(), ClusterSnapshot::default());
        for at in 0..1_000 {
            pass(&mut failures, &snapshot, &[failed(&at.to_string())], at);
        }
        assert_eq!(failures.latest().len(), FAILURES_MAX);
        assert_eq!(failures.latest()[0].1, "999");
    }
}
