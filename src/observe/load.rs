//! Joins what raylets say of themselves with the GCS's older knowledge, never counting twice.
//!
//! # Why
//!
//! The GCS asks every raylet for its load once a second and every reply of the GCS repeats the
//! last answer. A raylet asked directly is right to the millisecond, in both directions: it shows
//! a task 5 ms after `.remote()`, and it stops showing one that was just placed. The second
//! matters more: an old load beside a new "nothing available" looks like demand that needs new
//! nodes. So the demand is a sum over nodes, and each node's part comes from exactly one place:
//! its raylet's fresh reply, else the GCS's last knowledge of that node. Only where the GCS cannot
//! tell the parts (an old Ray), the larger of both totals is taken per shape.

use std::collections::BTreeMap;

use super::ray_state::{RayNode, RayNodeStatus, RayState};
use crate::model::{NodeId, ResourceDemand, ResourceMap, ResourceRequest};

/// Holds what one raylet says of itself.
///
/// Source: `NodeManagerService.GetResourceLoad`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RayletLoad {
    /// Requests it queues.
    pub demands: Vec<ResourceDemand>,
    /// Available amounts as of now.
    pub available: ResourceMap,
    /// How long it has been idle as of now; 0 while it is not.
    pub idle_ms: u64,
    /// Whether it was told to stop.
    pub is_draining: bool,
}

/// Holds what is known of the load beside the GCS's total.
#[derive(Debug, Clone, Default)]
pub struct KnownLoad {
    /// Replies of raylets, made together with the state.
    pub fresh: BTreeMap<NodeId, RayletLoad>,
    /// The GCS's last knowledge, node by node; `None` when it was not asked or did not tell.
    pub by_node: Option<BTreeMap<NodeId, Vec<ResourceDemand>>>,
}

/// Replaces the demand in `state` by the freshest that is known, and the availability of every
/// node that answered by its answer.
pub fn join_load(state: &mut RayState, known: &KnownLoad) {
    if known.fresh.is_empty() {
        return;
    }
    state.demands = demands_of(&state.nodes, &state.demands, known);
    for node in &mut state.nodes {
        if let Some(load) = known.fresh.get(&node.node_id) {
            refresh(node, load);
        }
    }
}

/// Returns the freshest demand that is known, where the GCS told of `told`.
pub(super) fn demands_of(
    nodes: &[RayNode],
    told: &[ResourceDemand],
    known: &KnownLoad,
) -> Vec<ResourceDemand> {
    let alive = nodes.iter().filter(|node| node.status.is_alive());
    let alive: Vec<NodeId> = alive.map(|node| node.node_id).collect();
    let everybody_answered = alive.iter().all(|id| known.fresh.contains_key(id));
    let fresh = || {
        alive
            .iter()
            .filter_map(|id| known.fresh.get(id))
            .flat_map(|load| &load.demands)
    };
    match &known.by_node {
        _ if everybody_answered => total(fresh()),
        Some(by_node) => {
            let silent = alive.iter().filter(|id| !known.fresh.contains_key(id));
            total(fresh().chain(silent.filter_map(|id| by_node.get(id)).flatten()))
        }
        None => larger(told, &total(fresh())),
    }
}

/// Returns what both looks have seen waiting.
pub(super) fn agreed(first: &[ResourceDemand], second: &[ResourceDemand]) -> Vec<ResourceDemand> {
    let counts = second.iter().map(|demand| (&demand.request, demand.count));
    let counts: BTreeMap<&ResourceRequest, u64> = counts.collect();
    let both = first.iter().filter_map(|demand| {
        let count = counts.get(&demand.request)?;
        Some(ResourceDemand {
            request: demand.request.clone(),
            count: demand.count.min(*count),
        })
    });
    both.collect()
}

fn refresh(node: &mut RayNode, load: &RayletLoad) {
    if !node.status.is_alive() || node.status == RayNodeStatus::Draining {
        return;
    }
    node.available.clone_from(&load.available);
    node.idle_ms = load.idle_ms;
    node.status = match (load.is_draining, load.idle_ms) {
        (true, _) => RayNodeStatus::Draining,
        (false, 0) => RayNodeStatus::Running,
        (false, _) => RayNodeStatus::Idle,
    };
}

fn total<'a>(demands: impl Iterator<Item = &'a ResourceDemand>) -> Vec<ResourceDemand> {
    let mut sums: BTreeMap<&ResourceRequest, u64> = BTreeMap::new();
    for demand in demands {
        let sum = sums.entry(&demand.request).or_default();
        *sum = sum.saturating_add(demand.count);
    }
    let demands = sums.into_iter().filter(|(_, count)| *count > 0);
    demands
        .map(|(request, count)| ResourceDemand {
            request: request.clone(),
            count,
        })
        .collect()
}

fn larger(a: &[ResourceDemand], b: &[ResourceDemand]) -> Vec<ResourceDemand> {
    let mut counts: BTreeMap<&ResourceRequest, u64> = BTreeMap::new();
    for demand in a.iter().chain(b) {
        let count = counts.entry(&demand.request).or_default();
        *count = (*count).max(demand.count);
    }
    counts
        .into_iter()
        .map(|(request, count)| ResourceDemand {
            request: request.clone(),
            count,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{KnownLoad, RayletLoad, agreed, join_load};
    use crate::model::{
        Labels, NodeId, Quantity, ResourceDemand, ResourceMap, ResourceName, ResourceRequest,
    };
    use crate::observe::ray_state::{RayNode, RayNodeStatus, RayState};

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes(&[n; 28]).unwrap()
    }

    fn cpus(cpu: i64, count: u64) -> ResourceDemand {
        let map: ResourceMap = [(ResourceName::from("CPU"), Quantity::from_whole(cpu))]
            .into_iter()
            .collect();
        ResourceDemand {
            request: ResourceRequest::of(map),
            count,
        }
    }

    fn state(demands: Vec<ResourceDemand>) -> RayState {
        let node = |n| RayNode {
            node_id: id(n),
            instance_id: format!("pod-{n}"),
            group: "small".into(),
            ip_address: String::new(),
            raylet_address: None,
            status: RayNodeStatus::Running,
            is_head: n == 1,
            total: ResourceMap::new(),
            available: ResourceMap::new(),
            labels: Labels::new(),
            idle_ms: 0,
        };
        RayState {
            nodes: vec![node(1), node(2)],
            demands,
            ..RayState::default()
        }
    }

    fn fresh(loads: &[(u8, Vec<ResourceDemand>)]) -> BTreeMap<NodeId, RayletLoad> {
        let loads = loads.iter().cloned();
        loads
            .map(|(n, demands)| {
                (
                    id(n),
                    RayletLoad {
                        demands,
                        ..RayletLoad::default()
                    },
                )
            })
            .collect()
    }

    #[test]
    fn when_everybody_answers_the_old_total_is_forgotten() {
        let mut state = state(vec![cpus(1, 1000)]);
        let fresh = fresh(&[(1, vec![cpus(1, 3)]), (2, vec![cpus(1, 2), cpus(4, 1)])]);
        join_load(
            &mut state,
            &KnownLoad {
                fresh,
                by_node: None,
            },
        );
        assert_eq!(state.demands, vec![cpus(1, 5), cpus(4, 1)]);
    }

    #[test]
    fn each_node_is_counted_from_one_place() {
        let mut state = state(vec![cpus(1, 1010)]);
        let fresh = fresh(&[(1, vec![])]);
        let by_node = Some(BTreeMap::from([
            (id(1), vec![cpus(1, 1000)]),
            (id(2), vec![cpus(1, 10)]),
        ]));
        join_load(&mut state, &KnownLoad { fresh, by_node });
        assert_eq!(state.demands, vec![cpus(1, 10)]);
    }

    #[test]
    fn without_parts_the_larger_total_counts_per_shape() {
        let mut state = state(vec![cpus(1, 7), cpus(2, 1)]);
        let fresh = fresh(&[(1, vec![cpus(1, 9), cpus(4, 1)])]);
        join_load(
            &mut state,
            &KnownLoad {
                fresh,
                by_node: None,
            },
        );
        assert_eq!(state.demands, vec![cpus(1, 9), cpus(2, 1), cpus(4, 1)]);
    }

    #[test]
    fn nobody_answers_and_the_gcs_counts_alone() {
        let mut state = state(vec![cpus(1, 7)]);
        join_load(&mut state, &KnownLoad::default());
        assert_eq!(state.demands, vec![cpus(1, 7)]);
    }

    #[test]
    fn what_one_look_alone_has_seen_does_not_count() {
        let first = [cpus(1, 5), cpus(2, 1), cpus(4, 2)];
        let second = [cpus(1, 3), cpus(4, 7), cpus(8, 1)];
        assert_eq!(agreed(&first, &second), vec![cpus(1, 3), cpus(4, 2)]);
    }

    #[test]
    fn an_answer_says_whether_the_node_is_idle_now() {
        let mut state = state(vec![]);
        let load = RayletLoad {
            idle_ms: 40,
            ..RayletLoad::default()
        };
        let draining = RayletLoad {
            is_draining: true,
            idle_ms: 40,
            ..RayletLoad::default()
        };
        let fresh = BTreeMap::from([(id(1), load), (id(2), draining)]);
        join_load(
            &mut state,
            &KnownLoad {
                fresh,
                by_node: None,
            },
        );
        assert_eq!(state.nodes[0].status, RayNodeStatus::Idle);
        assert_eq!(state.nodes[0].idle_ms, 40);
        assert_eq!(state.nodes[1].status, RayNodeStatus::Draining);
    }
}
