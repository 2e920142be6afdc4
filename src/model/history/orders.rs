//! What is remembered of pods that go by somebody's order: ours are told from others'.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::{
    ClusterSnapshot, NodeKind, NodeStatus, PodName, ReplicaName, WorkerGroup, WorkerGroupName,
};
use super::History;

/// Says that somebody named pods of a group without lowering its `replicas`.
///
/// Units: replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// `replicas` as it stands.
    pub at: u32,
    /// What it amounts to without the replicas that were named.
    pub to: u32,
}

impl History {
    /// Returns `replicas` of a group without what somebody has named.
    #[must_use]
    pub fn followed(&self, group: &WorkerGroup) -> u32 {
        let followed = self.followed.get(&group.name);
        let to = followed
            .filter(|it| it.at == group.replicas)
            .map(|it| it.to);
        to.unwrap_or(group.replicas)
    }

    /// Returns `replicas` of a group without what only makes up for pods on their way out.
    #[must_use]
    pub fn without_surge(&self, group: &WorkerGroup) -> u32 {
        let known = self.surges.get(&group.name);
        let known = known.filter(|(replicas, _)| *replicas == group.replicas);
        let surge = known.map_or(group.surge, |(_, surge)| *surge);
        group.replicas.saturating_sub(surge)
    }

    /// Takes in that a patch asked for `surge` more than is wanted.
    pub(super) fn surged(&mut self, group: &WorkerGroupName, replicas: u32, surge: u32) {
        if let Some(asked) = self.asked.get_mut(group) {
            asked.ours = asked.ours.saturating_sub(surge);
        }
        if surge == 0 {
            self.surges.remove(group);
        } else {
            self.surges.insert(group.clone(), (replicas, surge));
        }
    }

    /// Looks for names that are not ours; before the names of this snapshot count as seen.
    ///
    /// A name in the list of another group than the pod's says nothing of how many either is to have.
    pub(super) fn observe_names(&mut self, snapshot: &ClusterSnapshot) {
        let mut replicas: BTreeMap<&PodName, (&WorkerGroupName, &ReplicaName)> = BTreeMap::new();
        for node in &snapshot.nodes {
            if node.kind == NodeKind::Worker && node.status != NodeStatus::Lost {
                replicas.insert(&node.name, (&node.group, &node.replica));
            }
        }
        for group in &snapshot.groups {
            let foreign = group.workers_to_delete.iter();
            let foreign = foreign.filter(|pod| !self.named_by_us.contains(pod));
            let present: Vec<_> = foreign
                .filter_map(|pod| {
                    let (owner, replica) = *replicas.get(pod)?;
                    (*owner == group.name).then_some((pod, replica))
                })
                .collect();
            let is_new = |(pod, _): &&(&PodName, &ReplicaName)| !self.named_seen.contains(*pod);
            let new: BTreeSet<&ReplicaName> =
                present.iter().filter(is_new).map(|(_, it)| *it).collect();
            if present.is_empty() {
                self.followed.remove(&group.name);
            }
            let new = u32::try_from(new.len()).unwrap_or(u32::MAX);
            self.follow(group, new);
        }
        let listed: BTreeSet<&PodName> = snapshot
            .groups
            .iter()
            .flat_map(|group| &group.workers_to_delete)
            .collect();
        // Named by a patch whose result has not been read yet: it stays until its pod is gone.
        self.named_by_us
            .retain(|pod| listed.contains(pod) || replicas.contains_key(pod));
        // Whoever changes the number since says what is wanted.
        self.surges.retain(|name, (replicas, _)| {
            let group = snapshot.group(name);
            group.is_some_and(|group| group.replicas == *replicas)
        });
        let seen = |group: &WorkerGroup| (group.name.clone(), group.replicas);
        self.replicas_seen = snapshot.groups.iter().map(seen).collect();
    }

    /// Follows `new` names in a group's list, unless `replicas` was lowered with them or changed besides.
    fn follow(&mut self, group: &WorkerGroup, new: u32) {
        let before = self.replicas_seen.get(&group.name).copied();
        let known = self.followed.get(&group.name).copied();
        let known = known.filter(|it| it.at == group.replicas);
        let to = match (before, known) {
            (_, Some(known)) => known.to.saturating_sub(new),
            (Some(before), None) if new > 0 && group.replicas <= before => {
                before.saturating_sub(new)
            }
            _ => group.replicas,
        };
        if to < group.replicas {
            let at = group.replicas;
            self.followed
                .insert(group.name.clone(), Followed { at, to });
        } else {
            self.followed.remove(&group.name);
        }
    }

    pub(super) fn forget_followed(&mut self, group: &WorkerGroupName, replicas: u32) {
        self.followed.remove(group);
        self.replicas_seen.insert(group.clone(), replicas);
    }
}
