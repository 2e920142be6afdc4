//! Follows demand from the moment it is seen to the patch, the pods and the Ray nodes that serve it.
//!
//! Ray does not say which task a node was started for, so this follows the oldest rise in demand that
//! no patch has answered yet: the patch that grows groups answers it, the next new pods of those
//! groups are its pods, and their raylets are its nodes. Growth without demand (a minimum, a person)
//! is not measured.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::node_watch::NodeChange;
use super::pass::{PassReport, Scaled};
use crate::model::{ClusterSnapshot, PodName, Timestamp, WorkerGroupName};

/// Pods that have not appeared after this time are not expected any more.
///
/// An hour is the last bucket of the histograms and the stock autoscaler's own limit for a pod.
const PATIENCE_MS: u64 = 3_600_000;

/// Says which mark was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Patch,
    Pod,
    Node,
}

/// Holds one measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) group: WorkerGroupName,
    pub(super) mark: Mark,
    pub(super) after: Duration,
}

/// Remembers demand that is on its way to be served.
#[derive(Debug, Default)]
pub(super) struct Latency {
    demand: BTreeMap<u64, u64>,
    since: Option<Timestamp>,
    expected: BTreeMap<WorkerGroupName, VecDeque<(Timestamp, u64)>>,
    starting: BTreeMap<PodName, Timestamp>,
}

impl Latency {
    /// Takes in one pass, which ended at `now`, and returns what was reached in it.
    pub(super) fn pass(
        &mut self,
        pass: &PassReport<'_>,
        nodes: &[NodeChange],
        now: Timestamp,
    ) -> Vec<Measured> {
        let mut measured = Vec::new();
        self.note_demand(pass.snapshot, pass.observed_at);
        self.note_nodes(nodes, pass.observed_at, &mut measured);
        for scaled in &pass.acted.scaled {
            self.note_scaled(pass.snapshot, scaled, now, &mut measured);
        }
        let grew = pass
            .acted
            .scaled
            .iter()
            .any(|scaled| scaled.to > scaled.from);
        if grew || !is_waiting(pass) {
            self.since = None;
        }
        self.expire(now);
        measured
    }

    fn note_demand(&mut self, snapshot: &ClusterSnapshot, seen_at: Timestamp) {
        let demand = demand_by_shape(snapshot);
        let rose = demand
            .iter()
            .any(|(shape, count)| *count > self.demand.get(shape).copied().unwrap_or(0));
        if rose {
            self.since.get_or_insert(seen_at);
        }
        if demand.is_empty() {
            self.since = None;
        }
        self.demand = demand;
    }

    fn note_scaled(
        &mut self,
        snapshot: &ClusterSnapshot,
        scaled: &Scaled,
        now: Timestamp,
        measured: &mut Vec<Measured>,
    ) {
        if scaled.to < scaled.from {
            self.expected.remove(&scaled.group);
        }
        let (Some(since), Some(group)) = (self.since, snapshot.group(&scaled.group)) else {
            return;
        };
        if scaled.to > scaled.from {
            let pods = group.pods_of(scaled.to - scaled.from);
            let runs = self.expected.entry(scaled.group.clone()).or_default();
            runs.push_back((since, pods));
            measured.push(Measured {
                group: scaled.group.clone(),
                mark: Mark::Patch,
                after: elapsed(since, now),
            });
        }
    }

    fn note_nodes(
        &mut self,
        nodes: &[NodeChange],
        seen_at: Timestamp,
        measured: &mut Vec<Measured>,
    ) {
        for change in nodes {
            match change {
                NodeChange::Appeared { pod, group } => {
                    if let Some(since) = self.take_expected(group) {
                        self.starting.insert(pod.clone(), since);
                        measured.push(Measured {
                            group: group.clone(),
                            mark: Mark::Pod,
                            after: elapsed(since, seen_at),
                        });
                    }
                }
                NodeChange::Started { pod, group, .. } => {
                    if let Some(since) = self.starting.remove(pod) {
                        measured.push(Measured {
                            group: group.clone(),
                            mark: Mark::Node,
                            after: elapsed(since, seen_at),
                        });
                    }
                }
                NodeChange::Failed { pod, .. } | NodeChange::Gone { pod, .. } => {
                    self.starting.remove(pod);
                }
            }
        }
    }

    fn take_expected(&mut self, group: &WorkerGroupName) -> Option<Timestamp> {
        let runs = self.expected.get_mut(group)?;
        let (since, left) = runs.front_mut()?;
        let since = *since;
        *left = left.saturating_sub(1);
        if *left == 0 {
            runs.pop_front();
        }
        Some(since)
    }

    fn expire(&mut self, now: Timestamp) {
        for runs in self.expected.values_mut() {
            runs.retain(|(since, left)| *left > 0 && now.millis_since(*since) < PATIENCE_MS);
        }
        self.expected.retain(|_, runs| !runs.is_empty());
    }
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(now.millis_since(since))
}

/// Returns whether a later pass may still answer the demand.
fn is_waiting(pass: &PassReport<'_>) -> bool {
    let grows = |group: &crate::model::GroupDecision| group.replicas_to > group.replicas_from;
    pass.decision.groups.iter().any(grows)
        || pass
            .decision
            .unserved
            .iter()
            .any(|it| it.code != "infeasible")
}

/// Returns the pending count of each shape, the shape as a hash: only rises matter here.
fn demand_by_shape(snapshot: &ClusterSnapshot) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    let mut add = |shape: u64, count: u64| {
        let sum: &mut u64 = counts.entry(shape).or_default();
        *sum = sum.saturating_add(count);
    };
    for demand in &snapshot.demands {
        add(hash_of(&(0_u8, &demand.request)), demand.count);
    }
    for gang in &snapshot.gangs {
        add(hash_of(&(1_u8, gang)), 1);
    }
    for demand in snapshot.constraint.iter().flat_map(|it| &it.demands) {
        add(hash_of(&(2_u8, &demand.request)), demand.count);
    }
    counts
}

fn hash_of(value: &impl std::hash::Hash) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Latency, Mark, Measured, PATIENCE_MS};
    use crate::model::NodeStatus::{Running, Starting};
    use crate::model::{ClusterSnapshot, Node, ScaleDecision, Unserved};
    use crate::report::fixtures::{Pass, at, demand, group, grow, node, patched, snapshot};
    use crate::report::node_watch::NodeWatch;
    use crate::report::pass::Acted;

    #[derive(Default)]
    struct Run {
        watch: NodeWatch,
        latency: Latency,
    }

    impl Run {
        fn pass(&mut self, pass: &Pass, now: u64) -> Vec<(Mark, u128)> {
            // What is seen at `now` is decided and patched 20 ms later.
            let mut report = pass.report();
            report.observed_at = at(now);
            let nodes = self.watch.update(&pass.snapshot, at(now));
            let measured = self.latency.pass(&report, &nodes, at(now + 20));
            let one = |it: Measured| (it.mark, it.after.as_millis());
            measured.into_iter().map(one).collect()
        }
    }

    fn seen(count: u64, replicas: u32, nodes: Vec<Node>) -> ClusterSnapshot {
        let mut snapshot = snapshot(vec![group("g", replicas)], nodes);
        if count > 0 {
            snapshot.demands.push(demand(&[("CPU", 4)], count));
        }
        snapshot
    }

    #[test]
    fn demand_is_followed_to_its_patch_pods_and_nodes() {
        let mut run = Run::default();
        assert!(run.pass(&Pass::of(seen(0, 0, vec![])), 0).is_empty());
        let failing = Pass::of(seen(2, 0, vec![])).with(grow("g", 0, 2), Acted::default());
        assert!(run.pass(&failing, 1_000).is_empty());
        let scaled = Pass::of(seen(2, 0, vec![])).with(grow("g", 0, 2), patched("g", 0, 2));
        assert_eq!(run.pass(&scaled, 1_060), [(Mark::Patch, 80)]);
        let pods = vec![node("a", "g", Starting), node("b", "g", Starting)];
        let pods = Pass::of(seen(2, 2, pods));
        assert_eq!(run.pass(&pods, 1_500), [(Mark::Pod, 500), (Mark::Pod, 500)]);
        let up = vec![node("a", "g", Running), node("b", "g", Starting)];
        assert_eq!(
            run.pass(&Pass::of(seen(1, 2, up)), 9_000),
            [(Mark::Node, 8_000)]
        );
    }

    #[test]
    fn growth_without_demand_is_not_measured() {
        let mut run = Run::default();
        run.pass(&Pass::of(seen(0, 0, vec![])), 0);
        let scaled = Pass::of(seen(0, 0, vec![])).with(grow("g", 0, 1), patched("g", 0, 1));
        assert!(run.pass(&scaled, 50).is_empty());
        let pods = vec![node("a", "g", Starting)];
        assert!(run.pass(&Pass::of(seen(0, 1, pods)), 90).is_empty());
    }

    #[test]
    fn demand_that_starting_nodes_absorb_is_not_waiting() {
        let mut run = Run::default();
        let nodes = || vec![node("a", "g", Starting)];
        run.pass(&Pass::of(seen(1, 1, nodes())), 0);
        let scaled = Pass::of(seen(2, 1, nodes())).with(grow("g", 1, 2), patched("g", 1, 2));
        // Counted from the second request, not from the first.
        assert_eq!(run.pass(&scaled, 60_000), [(Mark::Patch, 20)]);
    }

    #[test]
    fn demand_at_a_limit_waits_until_it_is_served() {
        let mut run = Run::default();
        let unserved = Unserved {
            what: "{CPU: 4}".to_owned(),
            class: "tasks".to_owned(),
            position: 0,
            count: 1,
            code: "at_maximum".to_owned(),
            detail: String::new(),
        };
        let limited = ScaleDecision {
            unserved: vec![unserved],
            ..ScaleDecision::default()
        };
        run.pass(
            &Pass::of(seen(1, 0, vec![])).with(limited, Acted::default()),
            0,
        );
        let scaled = Pass::of(seen(1, 0, vec![])).with(grow("g", 0, 1), patched("g", 0, 1));
        assert_eq!(run.pass(&scaled, 7_000), [(Mark::Patch, 7_020)]);
    }

    #[test]
    fn pods_that_never_come_are_not_expected_for_ever() {
        let mut run = Run::default();
        run.pass(&Pass::of(seen(0, 0, vec![])), 0);
        let scaled = Pass::of(seen(1, 0, vec![])).with(grow("g", 0, 1), patched("g", 0, 1));
        run.pass(&scaled, 0);
        run.pass(&Pass::of(seen(1, 1, vec![])), PATIENCE_MS);
        let late = Pass::of(seen(1, 1, vec![node("a", "g", Starting)]));
        assert!(run.pass(&late, PATIENCE_MS + 1).is_empty());
    }
}
