//! Pods that ended before a raylet of theirs had registered.
//!
//! With Ray's autoscaler v2 the operator has no container started again: a pod whose Ray container ends
//! is deleted within a moment and made anew under another name. What is there when we look tells
//! nothing of that, so that the ends are noted as the watch tells of them.

use std::collections::{BTreeMap, BTreeSet};

use super::Now;
use super::join::JoinInput;
use crate::model::{FailedStart, PodName, Timestamp, WorkerGroupName};
use crate::wire::pod::PodFacts;

/// How long a pod is remembered: the GCS answers many times by then. Units: milliseconds.
const ENDED_KEPT_MS: u64 = 60_000;

/// How many pods of a group are remembered, those that were made last: pods that end together are one attempt.
const PER_GROUP_MAX: usize = 16;

/// Remembers workers that ended by themselves.
pub(super) struct EndedPods {
    pods: BTreeMap<String, FailedStart>,
    /// When the last pod was made that was left out for others of its group: it may still be there, and must not
    /// be taken for another attempt.
    left_out: BTreeMap<WorkerGroupName, Timestamp>,
    now: Now,
}

impl EndedPods {
    pub(super) fn new(now: Now) -> Self {
        Self {
            pods: BTreeMap::new(),
            left_out: BTreeMap::new(),
            now,
        }
    }

    /// Looks at a pod that is there, and notes it if it has ended.
    pub(super) fn note(&mut self, pod: &PodFacts) {
        let is_news = pod.node_type == "worker" && !self.pods.contains_key(&pod.name);
        if !is_news || !pod.has_ended_by_itself() {
            return;
        }
        let now = (self.now)();
        self.forget(now);
        let start = FailedStart {
            ended_at: now,
            pod: PodName::from(pod.name.as_str()),
            group: WorkerGroupName::from(pod.group.as_str()),
            created_at: Timestamp::from_ms(pod.created_at_ms.unwrap_or(0)),
        };
        let left_out = self.left_out.get(&start.group);
        if left_out.is_none_or(|at| start.created_at > *at) {
            let group = start.group.clone();
            self.pods.insert(pod.name.clone(), start);
            self.leave_out(group);
        }
    }

    /// Forgets pods that ended long ago, and of groups that have no others what was left out for them.
    fn forget(&mut self, now: Timestamp) {
        let known = self.pods.len();
        self.pods
            .retain(|_, start| now.millis_since(start.ended_at) < ENDED_KEPT_MS);
        if self.pods.len() < known {
            let groups: BTreeSet<_> = self.pods.values().map(|it| &it.group).collect();
            self.left_out.retain(|group, _| groups.contains(group));
        }
    }

    /// Forgets the pod of a group that was made first, if there are too many: later attempts must be seen at once.
    fn leave_out(&mut self, group: WorkerGroupName) {
        let of_group = || self.pods.iter().filter(|(_, it)| it.group == group);
        if of_group().count() <= PER_GROUP_MAX {
            return;
        }
        let first = of_group().min_by_key(|(name, it)| (it.created_at, *name));
        let first = first.map(|(name, _)| name.clone());
        if let Some(start) = first.and_then(|name| self.pods.remove(&name)) {
            self.left_out.insert(group, start.created_at);
        }
    }

    /// Returns those that are remembered, whether they had registered or not.
    pub(super) fn iter(&self) -> impl Iterator<Item = &FailedStart> {
        let now = (self.now)();
        let pods = self.pods.values();
        pods.filter(move |start| now.millis_since(start.ended_at) < ENDED_KEPT_MS)
    }
}

/// Returns those of the `ended` pods of which no raylet has ever registered, sorted.
///
/// Only a reply of the GCS that is younger than the end of a pod says so; it also has the raylets that
/// have died. What was named in `workersToDelete` has been given up by whoever named it.
pub(super) fn failed_starts<'a>(
    input: &JoinInput<'_>,
    ended: impl Iterator<Item = &'a FailedStart>,
) -> Vec<FailedStart> {
    let mut found: Vec<FailedStart> = ended
        .filter(|start| {
            let gcs_at = input.completeness.gcs_at;
            gcs_at.is_some_and(|gcs_at| gcs_at > start.ended_at)
        })
        .cloned()
        .collect();
    if found.is_empty() {
        return found;
    }
    let raylets = input.ray.nodes.iter();
    let registered: BTreeSet<&str> = raylets.map(|node| node.instance_id.as_str()).collect();
    let groups = input.raycluster.spec.worker_groups.iter().flatten();
    let named: BTreeSet<&str> = groups
        .flat_map(|group| group.workers_to_delete.iter().flatten())
        .map(String::as_str)
        .collect();
    found.retain(|start| {
        let name = start.pod.as_str();
        !registered.contains(name) && !named.contains(name)
    });
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use serde_json::{Value, json};

    use super::{ENDED_KEPT_MS, EndedPods, FailedStart, PER_GROUP_MAX, failed_starts};
    use crate::model::{Completeness, Labels, NodeId, ResourceMap, Timestamp};
    use crate::observe::join::JoinInput;
    use crate::observe::ray_state::{RayNode, RayNodeStatus, RayState};
    use crate::wire::pod::PodFacts;
    use crate::wire::raycluster::RayCluster;

    const NOW: Timestamp = Timestamp::from_ms(100_000);

    fn pod(deletion: &Value, status: &Value) -> PodFacts {
        let pod = json!({
            "metadata": {"name": "w1", "deletionTimestamp": deletion,
                "creationTimestamp": "1970-01-01T00:01:00Z",
                "labels": {"ray.io/node-type": "worker", "ray.io/group": "g"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "ray"}]},
            "status": status,
        });
        PodFacts::from_value(&pod).unwrap()
    }

    fn ended(reason: &str, conditions: &Value) -> Value {
        json!({"phase": "Failed", "reason": reason, "conditions": conditions, "containerStatuses": [
            {"name": "ray", "state": {"terminated": {"exitCode": 1}}}]})
    }

    fn count(
        pod: &PodFacts,
        (raylet, gcs_at): (Option<RayNodeStatus>, u64),
        named: &[&str],
    ) -> usize {
        let mut memory = EndedPods::new(Arc::new(|| NOW));
        memory.note(pod);
        memory.note(pod);
        let raylet = raylet.map(|status| RayNode {
            node_id: NodeId::from_bytes(&[7; 28]).unwrap(),
            instance_id: "w1".to_owned(),
            group: "g".to_owned(),
            ip_address: String::new(),
            raylet_address: None,
            status,
            is_head: false,
            total: ResourceMap::new(),
            available: ResourceMap::new(),
            labels: Labels::new(),
            idle_ms: 0,
        });
        let ray = RayState {
            nodes: raylet.into_iter().collect(),
            ..RayState::default()
        };
        let raycluster = RayCluster::from_value(&json!({"metadata": {"name": "c"}, "spec": {
            "workerGroupSpecs": [{"groupName": "g", "scaleStrategy": {"workersToDelete": named}}]}}))
        .unwrap();
        let input = JoinInput {
            ray: &ray,
            raycluster: &raycluster,
            pods: &[],
            completeness: Completeness {
                gcs_at: Some(NOW.plus_ms(gcs_at)),
                ..Completeness::default()
            },
        };
        failed_starts(&input, memory.iter()).len()
    }

    #[test]
    fn a_pod_that_ended_without_a_raylet_is_a_failed_start_when_the_gcs_says_so() {
        let crashed = pod(&json!(null), &ended("", &json!([])));
        assert_eq!(count(&crashed, (None, 1), &[]), 1);
        assert_eq!(count(&crashed, (None, 0), &[]), 0, "an older reply");
        let dead = Some(RayNodeStatus::Dead);
        assert_eq!(count(&crashed, (dead, 1), &[]), 0, "it had registered");
        assert_eq!(count(&crashed, (None, 1), &["w1"]), 0, "it was given up");
        let only_container = json!({"phase": "Running", "containerStatuses": [
            {"name": "ray", "state": {"terminated": {"exitCode": 0}}}]});
        let only_container = pod(&json!(null), &only_container);
        assert_eq!(count(&only_container, (None, 1), &[]), 1);
        let running = json!({"phase": "Running", "containerStatuses": [
            {"name": "ray", "state": {"running": {}}}]});
        assert_eq!(count(&pod(&json!(null), &running), (None, 1), &[]), 0);
    }

    #[test]
    fn a_pod_that_somebody_else_ended_is_none() {
        let disrupted =
            json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}]);
        let soon = json!("2026-11-25T01:02:03Z");
        let nothing = json!([]);
        let cases = [
            ("evicted", json!(null), ended("Evicted", &nothing)),
            (
                "its machine went down",
                json!(null),
                ended("Terminated", &nothing),
            ),
            ("its machine is gone", json!(null), ended("", &disrupted)),
            ("deleted", soon, ended("", &nothing)),
        ];
        for (what, deletion, status) in cases {
            assert_eq!(count(&pod(&deletion, &status), (None, 1), &[]), 0, "{what}");
        }
    }

    #[test]
    fn of_a_large_group_the_last_attempt_is_remembered_and_no_pod_counts_twice() {
        let mut memory = EndedPods::new(Arc::new(|| NOW));
        let pods = |attempt: i64| {
            let ended = pod(&json!(null), &ended("", &json!([])));
            let pods = (0..20).map(move |at| PodFacts {
                name: format!("w-{attempt}-{at}"),
                created_at_ms: Some(attempt * 5_000),
                ..ended.clone()
            });
            pods.collect::<Vec<_>>()
        };
        for attempt in 1..=3 {
            for pod in pods(attempt) {
                memory.note(&pod);
            }
            let known: Vec<&FailedStart> = memory.iter().collect();
            assert_eq!(known.len(), PER_GROUP_MAX);
            let made_at = Timestamp::from_ms(attempt * 5_000);
            assert!(known.iter().all(|it| it.created_at == made_at), "{attempt}");
        }
        // They are all still there.
        let before: Vec<FailedStart> = memory.iter().cloned().collect();
        for pod in (1..=3).flat_map(pods) {
            memory.note(&pod);
        }
        assert!(memory.iter().eq(&before));
    }

    #[test]
    fn what_was_left_out_of_a_group_is_forgotten_with_its_pods_and_those_of_others_stay() {
        let clock = Arc::new(AtomicI64::new(NOW.as_ms()));
        let now = Arc::clone(&clock);
        let mut memory = EndedPods::new(Arc::new(move || {
            Timestamp::from_ms(now.load(Ordering::Relaxed))
        }));
        let ended = pod(&json!(null), &ended("", &json!([])));
        let made = |group: &str, name: &str, at: usize| PodFacts {
            name: format!("{group}-{name}-{at}"),
            group: group.to_owned(),
            created_at_ms: Some(i64::try_from(at).unwrap()),
            ..ended.clone()
        };
        let fill = |memory: &mut EndedPods, group: &str| {
            for at in 1..=PER_GROUP_MAX + 1 {
                memory.note(&made(group, "w", at));
            }
        };
        fill(&mut memory, "early");
        clock.fetch_add(ENDED_KEPT_MS.cast_signed() - 1, Ordering::Relaxed);
        fill(&mut memory, "late");
        clock.fetch_add(1, Ordering::Relaxed);
        let count = |memory: &EndedPods, group: &str| {
            memory
                .iter()
                .filter(|it| it.group.as_str() == group)
                .count()
        };
        for (group, expected) in [("early", 1), ("late", PER_GROUP_MAX)] {
            memory.note(&made(group, "again", 1));
            assert_eq!(count(&memory, group), expected, "{group}");
        }
    }
}
