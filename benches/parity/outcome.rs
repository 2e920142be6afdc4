//! A decision in the words of Ray's scheduler.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use rayscaler::model::{PodName, Quantity, RemovalCause, ResizeState, ScaleDecision};
use serde_json::{Value, json};

use super::case::{Case, hex};
use super::world::World;

/// Returns the outcome of a case.
pub(crate) fn of(case: &Case, world: &World, decision: &ScaleDecision) -> Value {
    let launched = launched(decision);
    let unserved = |class: &str| {
        let unserved = decision
            .unserved
            .iter()
            .filter(move |unserved| unserved.class == class);
        unserved
            .map(|unserved| (unserved.position, unserved.count))
            .collect::<Vec<_>>()
    };
    let requests = &case.state.pending_resource_requests;
    let request = |at: usize| {
        requests[at]
            .request
            .as_ref()
            .map(Message::encode_to_vec)
            .unwrap_or_default()
    };
    let tasks = by_class(requests.len(), request, &unserved("tasks"), &world.demands);
    let gangs = &case.state.pending_gang_resource_requests;
    let gang = |at: usize| gangs[at].encode_to_vec();
    let gangs = by_class(
        gangs.len(),
        gang,
        &unserved("placement_group"),
        &world.gangs,
    );
    json!({
        "to_launch": launched,
        "to_terminate": terminations(world, decision),
        "infeasible_request_count": tasks.values().sum::<u64>(),
        "infeasible_requests": tasks.into_iter().collect::<Vec<_>>(),
        "infeasible_gang_count": gangs.values().sum::<u64>(),
        "infeasible_gangs": gangs.into_iter().collect::<Vec<_>>(),
        "infeasible_constraints": usize::from(!unserved("request_resources").is_empty()),
        "to_ippr": resizes(world, decision),
        "cluster_resources": resources(case, world, decision, &launched),
    })
}

fn launched(decision: &ScaleDecision) -> BTreeMap<String, u32> {
    let groups = decision.groups.iter().map(|group| {
        let removed = u32::try_from(group.remove.len()).unwrap();
        let count = (group.replicas_to + removed).saturating_sub(group.replicas_from);
        (group.name.as_str().to_owned(), count)
    });
    groups.filter(|(_, count)| *count > 0).collect()
}

fn terminations(world: &World, decision: &ScaleDecision) -> Vec<Value> {
    let mut found = Vec::new();
    for group in &decision.groups {
        for removal in &group.remove {
            let cause = match removal.cause {
                RemovalCause::Idle | RemovalCause::Withdrawn => "IDLE",
                RemovalCause::AboveMax => "MAX_NUM_NODE_PER_TYPE",
                RemovalCause::AboveTotal => "MAX_NUM_NODES",
                RemovalCause::Stopped
                | RemovalCause::Ordered
                | RemovalCause::Stuck
                | RemovalCause::HalfStarted => continue,
            };
            for row in removal.pods.iter().filter_map(|pod| world.rows.get(pod)) {
                found.push((
                    row.node_type.clone(),
                    row.id.clone(),
                    cause,
                    row.status.clone(),
                ));
            }
        }
    }
    found.sort();
    let termination = |(node_type, id, cause, status)| json!({"type": node_type, "id": id, "cause": cause, "status": status});
    found.into_iter().map(termination).collect()
}

/// Returns how many of each class found no place; a class is known by its first entry.
fn by_class(
    entries: usize,
    content: impl Fn(usize) -> Vec<u8>,
    unserved: &[(usize, u64)],
    positions: &[usize],
) -> BTreeMap<usize, u64> {
    let mut first: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for at in 0..entries {
        first.entry(content(at)).or_insert(at);
    }
    let mut counts = BTreeMap::new();
    for (position, count) in unserved {
        let class = first[&content(positions[*position])];
        *counts.entry(class).or_default() += count;
    }
    counts
}

fn resizes(world: &World, decision: &ScaleDecision) -> Vec<Value> {
    let mut found: Vec<(String, f64, f64)> = decision
        .resizes
        .iter()
        .map(|resize| {
            let id = world.rows[&resize.pod].cloud_id.clone();
            (
                id,
                resize.desired.cpu.as_f64(),
                resize.desired.memory.as_f64(),
            )
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
        .into_iter()
        .map(|(id, cpu, memory)| json!([id, cpu, memory]))
        .collect()
}

/// Returns what the cluster will have: nodes that stay, as they will be, and those to come.
fn resources(
    case: &Case,
    world: &World,
    decision: &ScaleDecision,
    launched: &BTreeMap<String, u32>,
) -> BTreeMap<String, f64> {
    let removed: BTreeSet<&PodName> = decision
        .groups
        .iter()
        .flat_map(|group| &group.remove)
        .flat_map(|removal| &removal.pods)
        .collect();
    let states: BTreeMap<String, _> = case
        .state
        .node_states
        .iter()
        .map(|node| (hex(&node.node_id), node))
        .collect();
    let mut sums = BTreeMap::new();
    let mut add = |resources: &BTreeMap<String, f64>| {
        for (name, value) in resources {
            *sums.entry(name.clone()).or_insert(0.0) += value;
        }
    };
    let of_type = |name: &str| {
        case.config
            .node_types
            .iter()
            .find(|of| of.name == name)
            .map(|of| &of.resources)
    };
    for (pod, row) in world.rows.iter().filter(|(pod, _)| !removed.contains(pod)) {
        let own = states
            .get(&row.node)
            .filter(|_| row.status == "RAY_RUNNING")
            .map(|node| &node.total_resources);
        let mut own = own
            .or_else(|| of_type(&row.node_type))
            .cloned()
            .unwrap_or_default();
        if let Some(resize) = world.snapshot.resizing.pods.get(pod) {
            let asked = decision
                .resizes
                .iter()
                .find(|asked| asked.pod == *pod)
                .map(|asked| asked.desired);
            let is_asked = resize.state == ResizeState::Asked;
            if let Some(size) = asked.or_else(|| is_asked.then_some(resize.desired)) {
                set_size(&mut own, size.cpu, size.memory);
            }
        }
        add(&own);
    }
    for (name, count) in launched {
        for own in new_nodes(case, world, name, *count) {
            add(&own);
        }
    }
    sums
}

/// Returns what the new nodes of a type will have: those for its minimum as they are configured,
/// the others resized to the most they may have.
fn new_nodes(case: &Case, world: &World, name: &str, count: u32) -> Vec<BTreeMap<String, f64>> {
    let mut types = case.config.node_types.iter();
    let of = types.find(|of| of.name == *name).unwrap();
    let rows = world.rows.values().filter(|row| row.node_type == *name);
    let required = of.min.saturating_sub(u32::try_from(rows.count()).unwrap());
    let limits = world.snapshot.resizing.groups.get(&name.into());
    let own = |at: u32| {
        let mut own = of.resources.clone();
        if let Some(size) = limits.filter(|_| at >= required) {
            let configured = |name: &str| of.resources.get(name).copied().unwrap_or(0.0);
            let most = |name: &str, size: Quantity| {
                size.max(Quantity::from_f64(configured(name)).unwrap())
            };
            let (cpu, memory) = (most("CPU", size.cpu), most("memory", size.memory));
            set_size(&mut own, cpu, memory);
        }
        own
    };
    (0..count).map(own).collect()
}

fn set_size(resources: &mut BTreeMap<String, f64>, cpu: Quantity, memory: Quantity) {
    resources.insert("CPU".to_owned(), cpu.as_f64());
    resources.insert("memory".to_owned(), memory.as_f64());
}
