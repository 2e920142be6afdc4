//! Replicas that are given up in a draft: which ones, and what becomes of the list of nodes.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{NodeKind, RemovalCause, ReplicaName, ReplicaRemoval, WorkerGroupName};
use crate::placement::{Judge, ReplicaState, victims};

use super::staying::protection;
use super::{GroupPlan, Plan, PolicyContext, ordered};

/// Says which replica goes and why.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// The replica.
    pub replica: &'a ReplicaName,
    /// How it is ended.
    pub cause: RemovalCause,
    /// A stable word for the reason.
    pub code: &'a str,
    /// How long it has been idle, in milliseconds.
    pub idle_ms: u64,
}

impl Plan {
    /// Gives a replica up and names its pods; returns whether it was there and may go: a protected
    /// one may not unless its user says so, an idle one not before it was seen twice.
    pub fn release(
        &mut self,
        ctx: PolicyContext<'_>,
        name: &WorkerGroupName,
        removal: Release<'_>,
    ) -> bool {
        let Some(at) = self.index.get(name).copied().filter(|_| self.may_remove) else {
            return false;
        };
        let Some(group) = self.groups.get(at) else {
            return false;
        };
        let is_order = !removal.cause.is_asked() && removal.cause != RemovalCause::Withdrawn;
        if group.frozen.is_some() && !is_order {
            return false;
        }
        let Some(replica) = group.staying_replica(removal.replica).cloned() else {
            return false;
        };
        let pods: Vec<_> = replica
            .nodes(ctx.snapshot)
            .map(|node| node.name.clone())
            .collect();
        let (cause, idle_ms) = (removal.cause, removal.idle_ms);
        if protection(ctx, &replica).is_some()
            || (cause.is_asked() && !self.is_seen_twice(ctx, &pods))
        {
            return false;
        }
        let finish = ordered::finish(ctx, &replica, cause);
        let Some(group) = self.groups.get_mut(at) else {
            return false;
        };
        let left = ReplicaRemoval {
            replica: replica.name.clone(),
            pods,
            cause,
            idle_ms,
            finish,
        };
        group.leave(&replica, left);
        let to = group.target.saturating_sub(1);
        group.change(&self.author, removal.code, to, removal.replica.as_str());
        self.pool.remove_nodes(&replica.hosts);
        self.update_room(at);
        true
    }

    /// Names victims until a group is at its maximum; returns the order in which its replicas
    /// would go, if any goes.
    pub(crate) fn shrink_to_maximum(
        &mut self,
        ctx: PolicyContext<'_>,
        name: &WorkerGroupName,
    ) -> Vec<ReplicaState> {
        let Some(group) = self.group(name) else {
            return Vec::new();
        };
        let excess = group.target.saturating_sub(group.bounds.max);
        if excess == 0 {
            return Vec::new();
        }
        let staying: Vec<ReplicaState> = group
            .staying()
            .filter(|replica| protection(ctx, replica).is_none())
            .cloned()
            .collect();
        let count = usize::try_from(excess).unwrap_or(usize::MAX);
        let ranked = self.ranked(ctx, &staying);
        for replica in ranked.iter().take(count) {
            let release = Release {
                replica: &replica.name,
                cause: RemovalCause::AboveMax,
                code: "above_maximum",
                idle_ms: 0,
            };
            self.release(ctx, name, release);
        }
        ranked
    }

    /// Names victims until all groups together have `nodes_max` nodes; returns all nodes in the
    /// order in which they would go, the head last, if any goes.
    pub(super) fn shrink_to_total(&mut self, ctx: PolicyContext<'_>, nodes_max: u64) -> Vec<usize> {
        let place =
            |replica: &ReplicaState| replica.hosts.first().and_then(|at| self.pool.place_of(*at));
        let groups = self.names.iter().zip(&self.groups);
        let mut staying: Vec<(WorkerGroupName, ReplicaState)> = groups
            .flat_map(|(name, group)| {
                group
                    .staying()
                    .map(|replica| (name.clone(), replica.clone()))
            })
            .collect();
        staying.sort_by_key(|(_, replica)| place(replica));
        let nodes: usize = staying.iter().map(|(_, replica)| replica.hosts.len()).sum();
        let nodes = u64::try_from(nodes).unwrap_or(u64::MAX);
        if nodes <= nodes_max {
            return Vec::new();
        }
        let owners: BTreeMap<Option<usize>, WorkerGroupName> = staying
            .iter()
            .map(|(name, replica)| (replica.hosts.first().copied(), name.clone()))
            .collect();
        let staying: Vec<ReplicaState> = staying.into_iter().map(|(_, replica)| replica).collect();
        let ranked = self.ranked(ctx, &staying);
        let mut left = nodes;
        let free = ranked.iter().filter(|it| protection(ctx, it).is_none());
        for replica in free {
            let Some(name) = owners
                .get(&replica.hosts.first().copied())
                .filter(|_| left > nodes_max)
            else {
                break;
            };
            left = left.saturating_sub(u64::try_from(replica.hosts.len()).unwrap_or(u64::MAX));
            let release = Release {
                replica: &replica.name,
                cause: RemovalCause::AboveTotal,
                code: "above_total",
                idle_ms: 0,
            };
            self.release(ctx, name, release);
        }
        let heads = ctx.snapshot.nodes.iter().enumerate();
        let heads = heads
            .filter(|(_, node)| node.kind == NodeKind::Head)
            .map(|(at, _)| at);
        ranked
            .into_iter()
            .flat_map(|replica| replica.hosts)
            .chain(heads)
            .collect()
    }

    /// Puts the nodes into the order of Ray's list once the maxima are enforced.
    pub(super) fn list_by_group(&mut self, ctx: PolicyContext<'_>, sorted: &[Vec<usize>]) {
        let removed = |group: &GroupPlan| {
            group
                .removals
                .iter()
                .map(|removal| removal.replica.clone())
                .collect()
        };
        let removed: Vec<BTreeSet<ReplicaName>> = self.groups.iter().map(removed).collect();
        let groups = self.groups.iter().zip(&removed);
        let leaving = groups.flat_map(|(group, removed)| {
            group
                .live
                .iter()
                .filter(|replica| removed.contains(&replica.name))
        });
        let mut leaving: Vec<usize> = leaving.flat_map(|replica| replica.hosts.clone()).collect();
        let rank = |at: &usize| sorted.iter().flatten().position(|other| other == at);
        leaving.sort_by_key(rank);
        leaving.retain(|at| ctx.snapshot.nodes.get(*at).is_some());
        self.pool.list_by_group(&leaving, sorted);
    }

    /// Returns replicas in the order in which they would go.
    pub(crate) fn ranked(
        &self,
        ctx: PolicyContext<'_>,
        replicas: &[ReplicaState],
    ) -> Vec<ReplicaState> {
        let judge = Judge {
            snapshot: ctx.snapshot,
            history: ctx.history,
            now: ctx.now,
            corrections: self.pool.corrections(),
        };
        let order = victims(&judge, replicas);
        order
            .into_iter()
            .filter_map(|at| replicas.get(at).cloned())
            .collect()
    }
}
