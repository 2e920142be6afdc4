//! Which pods make up a replica.
//!
//! # Why chunks where the pods do not say
//!
//! An operator that does not index replicas (before 1.6, or with the gate off) makes independent
//! pods: it knows no replica, counts pods, and replaces each one by itself. For our arithmetic
//! `numOfHosts` of them are still one replica, so they are taken in the order of their creation,
//! the ones that stay apart from the ones that go. The alternatives are worse: every pod a replica
//! of its own counts `numOfHosts` times too many replicas and removes hosts one by one; all pods
//! one replica can only be removed together. A chunk leaves when all of its pods are idle, so no
//! work is lost even where the guess is wrong.
//!
//! # Why not where newer pods say
//!
//! An operator that indexes replicas counts labelled pods only, and a group can hold others: those of before the
//! gate was on, or of before `numOfHosts` was more than one. Taken for replicas they would raise `replicas`, the
//! operator would make as many more, and so on to `maxReplicas`. They are no replicas of the group then: they stand
//! as a group that cannot be scaled, serve demand and are nobody's to remove. Unlabelled pods that are newer than
//! every labelled one come from an operator that has ceased to index, and counts all pods.

use std::collections::{BTreeMap, BTreeSet};

use super::JoinInput;
use crate::model::{Node, NodeKind, PodName, Problem, ReplicaName, Timestamp, WorkerGroupName};
use crate::wire::raycluster::RayCluster;

/// Ends the name of the group that uncounted pods stand in; no group of a RayCluster has a space in its name.
const UNCOUNTED: &str = " (unlabelled)";

/// Holds `numOfHosts` of each group.
#[derive(Debug, Default)]
pub(super) struct HostCounts<'a> {
    counts: BTreeMap<&'a str, usize>,
}

impl<'a> HostCounts<'a> {
    /// Returns the counts of a RayCluster, groups that cannot be scaled included.
    pub(super) fn of(raycluster: &'a RayCluster) -> Self {
        let groups = raycluster.spec.worker_groups.iter().flatten();
        let count = |hosts: i64| usize::try_from(hosts.max(1)).unwrap_or(usize::MAX);
        Self {
            counts: groups
                .map(|group| (group.group_name.as_str(), count(group.num_of_hosts)))
                .collect(),
        }
    }
}

/// Settles the replica of every worker pod.
pub(super) fn group_unlabelled(
    nodes: &mut [Node],
    hosts: &HostCounts<'_>,
    labelled: &BTreeSet<&str>,
    problems: &mut Vec<Problem>,
) {
    let indexed = indexed_groups(nodes, labelled);
    let mut uncounted: BTreeSet<&str> = BTreeSet::new();
    let mut unlabelled: BTreeMap<(&str, bool), Vec<usize>> = BTreeMap::new();
    for (at, node) in nodes.iter_mut().enumerate() {
        if node.kind == NodeKind::Head {
            continue;
        }
        match hosts.counts.get_key_value(node.group.as_str()) {
            // One host is one replica, whatever a label of former times says.
            Some((_, 1)) => one_pod(node),
            Some((group, _))
                if !labelled.contains(node.name.as_str()) && indexed.contains(&node.group) =>
            {
                uncounted.insert(group);
                node.group = WorkerGroupName::from(format!("{group}{UNCOUNTED}").as_str());
            }
            Some((group, _)) if !labelled.contains(node.name.as_str()) => unlabelled
                .entry((group, node.status.is_live()))
                .or_default()
                .push(at),
            // Pods of a group that is gone keep the replica that their label names.
            _ => {}
        }
    }
    problems.extend(uncounted.into_iter().map(|group| Problem {
        code: "replicas_unlabelled".to_owned(),
        detail: format!(
            "pods of worker group `{group}` lack the label ray.io/worker-group-replica-name, which newer ones have; the operator neither counts nor deletes them: they serve until somebody deletes them"
        ),
    }));
    for ((group, is_live), mut members) in unlabelled {
        members.sort_by(|a, b| {
            let key = |at: &usize| (nodes[*at].created_at, nodes[*at].name.clone());
            key(a).cmp(&key(b))
        });
        let count = hosts.counts.get(group).copied().unwrap_or(1);
        for chunk in members.chunks(count) {
            name_chunk(nodes, chunk);
        }
        if is_live {
            problems.push(Problem {
                code: "replicas_unlabelled".to_owned(),
                detail: format!(
                    "pods of worker group `{group}` lack the label ray.io/worker-group-replica-name; taken as replicas of {count} in the order of their creation"
                ),
            });
        }
    }
}

/// Returns whether pods that the operator does not count stand as a group of this name.
pub(super) fn is_uncounted(group: &WorkerGroupName) -> bool {
    group.as_str().ends_with(UNCOUNTED)
}

/// Returns the groups whose newest pod carries the label: their operator counts no others.
fn indexed_groups(nodes: &[Node], labelled: &BTreeSet<&str>) -> BTreeSet<WorkerGroupName> {
    // Of each group: when its newest pod without the label was created, and its newest with it.
    let mut newest: BTreeMap<&WorkerGroupName, [Option<Timestamp>; 2]> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.kind == NodeKind::Worker) {
        let at = usize::from(labelled.contains(node.name.as_str()));
        let known = newest.entry(&node.group).or_default();
        known[at] = known[at].max(node.created_at);
    }
    let is_indexed = |[without, with]: &[Option<Timestamp>; 2]| with.is_some() && with >= without;
    let groups = newest.iter().filter(|(_, newest)| is_indexed(newest));
    groups.map(|(group, _)| (*group).clone()).collect()
}

/// Says which replicas share an index: software that is told its place by the index, such as a
/// TPU slice, would find two in one place.
///
/// While a replica goes, its successor has its index already; that is as it should be.
pub(super) fn report_shared_indices(input: &JoinInput<'_>, problems: &mut Vec<Problem>) {
    let mut replicas: BTreeMap<(&str, u32), BTreeSet<&str>> = BTreeMap::new();
    let going: BTreeSet<&str> = input
        .pods
        .iter()
        .filter(|pod| pod.deletion_at_ms.is_some())
        .filter_map(|pod| pod.replica_name.as_deref())
        .collect();
    for pod in input.pods {
        if let (Some(index), Some(name)) = (pod.replica_index, pod.replica_name.as_deref())
            && !going.contains(name)
        {
            let names = replicas.entry((pod.group.as_str(), index)).or_default();
            names.insert(name);
        }
    }
    for ((group, index), names) in replicas.iter().filter(|(_, names)| names.len() > 1) {
        let names: Vec<&str> = names.iter().copied().collect();
        problems.push(Problem {
            code: "replica_index_twice".to_owned(),
            detail: format!(
                "worker group `{group}` has replica index {index} for {}; accepted: one replica for each",
                names.join(" and ")
            ),
        });
    }
}

fn one_pod(node: &mut Node) {
    node.replica = ReplicaName::from(node.name.as_str());
    node.host_index = 0;
}

fn name_chunk(nodes: &mut [Node], chunk: &[usize]) {
    let Some(first) = chunk.first() else {
        return;
    };
    let first: PodName = nodes[*first].name.clone();
    for (host_index, at) in chunk.iter().enumerate() {
        nodes[*at].replica = ReplicaName::from(first.as_str());
        nodes[*at].host_index = u32::try_from(host_index).unwrap_or(u32::MAX);
    }
}
