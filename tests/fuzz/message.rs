//! Changes of a reply that keep it a reply, with values that nobody should send.

use rayscaler::wire::gcs::ray::rpc;
use rayscaler::wire::gcs::ray::rpc::autoscaler::{self as wire, ClusterResourceState};

use super::random::Random;
use super::world::{GROUPS, PODS};

const AMOUNTS: [f64; 18] = [
    0.0,
    -0.0,
    1.0,
    2.0,
    0.5,
    0.1,
    0.000_01,
    4e9,
    -1.0,
    1e15,
    922_337_203_685_477.6,
    1e19,
    1e300,
    f64::MIN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    f64::MIN_POSITIVE,
];
const COUNTS: [i64; 10] = [1, 2, 3, 30, 1000, 0, -1, 1_000_000_000, i64::MAX, i64::MIN];
const RESOURCES: [&str; 9] = [
    "CPU",
    "CPU",
    "memory",
    "GPU",
    "small",
    "rare",
    "",
    "node:__internal_implicit_resource_x",
    "CPU_group_0c0b773283780470ada8d576312d01000000",
];
const LABELS: [(&str, &str); 5] = [
    ("zone", "z1"),
    ("zone", ""),
    ("tier", "spot"),
    ("_PG_1", ""),
    ("", "x"),
];
const DETAILS: [&str; 8] = [
    "1:PACK|PENDING",
    "1:SPREAD|PENDING",
    "1:STRICT_PACK|PENDING",
    "1:STRICT_SPREAD|RESCHEDULING",
    "2:PACK|",
    ":PACK",
    "nonsense",
    "",
];
/// Entries of one kind; more only take longer.
const ENTRIES_MAX: usize = 12;

/// Changes one to six things.
pub(crate) fn mutate(state: &mut ClusterResourceState, random: &mut Random) {
    for _ in 0..=random.below(6) {
        match random.below(8) {
            0..=2 => mutate_node(state, random),
            3 | 4 => {
                let demand = by_count(random);
                change(&mut state.pending_resource_requests, demand, random);
            }
            5 | 6 => {
                let gang = gang(random);
                change(&mut state.pending_gang_resource_requests, gang, random);
            }
            _ => {
                let resource_requests = (0..random.below(4)).map(|_| by_count(random)).collect();
                let constraint = wire::ClusterResourceConstraint { resource_requests };
                change(&mut state.cluster_resource_constraints, constraint, random);
            }
        }
    }
}

/// Adds, replaces, doubles or removes an entry.
fn change<T: Clone>(entries: &mut Vec<T>, entry: T, random: &mut Random) {
    let at = random.below(entries.len());
    match random.below(5) {
        0 | 1 if entries.len() < ENTRIES_MAX => entries.push(entry),
        2 if entries.len() < ENTRIES_MAX && !entries.is_empty() => {
            entries.push(entries[at].clone())
        }
        3 if !entries.is_empty() => entries[at] = entry,
        _ if !entries.is_empty() => drop(entries.remove(at)),
        _ => {}
    }
}

fn mutate_node(state: &mut ClusterResourceState, random: &mut Random) {
    if state.node_states.is_empty() || random.once_in(8) {
        let node = wire::NodeState {
            node_id: vec![
                u8::try_from(random.below(8)).unwrap();
                *random.pick(&[28, 28, 28, 0, 27])
            ],
            ..Default::default()
        };
        change(&mut state.node_states, node, random);
        return;
    }
    let at = random.below(state.node_states.len());
    let node = &mut state.node_states[at];
    match random.below(10) {
        0 | 1 => node.status = i32::try_from(random.below(7)).unwrap() - 1,
        2 => {
            node.idle_duration_ms =
                *random.pick(&[0, 1, 29_000, 31_000, 90_001, -1, i64::MAX, i64::MIN])
        }
        3 => node.instance_id = (*random.pick(&PODS)).to_owned(),
        4 => node.ray_node_type_name = (*random.pick(&GROUPS)).to_owned(),
        5 => {
            let (name, value) = *random.pick(&LABELS);
            node.labels.insert(name.to_owned(), value.to_owned());
            node.dynamic_labels
                .insert(name.to_owned(), value.to_owned());
        }
        6 => {
            node.available_resources
                .insert(name(random), amount(random));
        }
        7 => {
            node.total_resources.insert(name(random), amount(random));
        }
        8 => node.available_resources = node.total_resources.clone(),
        _ => node.available_resources.clear(),
    }
}

fn name(random: &mut Random) -> String {
    (*random.pick(&RESOURCES)).to_owned()
}

fn amount(random: &mut Random) -> f64 {
    // Mostly what may be: otherwise nothing is ever placed.
    let ordinary = if random.once_in(3) { AMOUNTS.len() } else { 6 };
    AMOUNTS[random.below(ordinary)]
}

fn request(random: &mut Random) -> wire::ResourceRequest {
    let resources = (0..random.below(3)).map(|_| (name(random), amount(random)));
    let resources_bundle = resources.collect();
    let selectors = (0..random.below(3)).map(|_| selector(random));
    let label_selectors = selectors.collect();
    let (label_name, label_value) = *random.pick(&LABELS);
    let anti_affinity = random.once_in(3).then(|| wire::AntiAffinityConstraint {
        label_name: label_name.to_owned(),
        label_value: label_value.to_owned(),
    });
    let constraint = wire::PlacementConstraint {
        anti_affinity,
        affinity: None,
    };
    wire::ResourceRequest {
        resources_bundle,
        placement_constraints: vec![constraint; random.below(3)],
        label_selectors,
    }
}

fn selector(random: &mut Random) -> rpc::LabelSelector {
    let constraints = (0..random.below(3)).map(|_| {
        let (key, value) = *random.pick(&LABELS);
        rpc::LabelSelectorConstraint {
            label_key: key.to_owned(),
            operator: i32::try_from(random.below(5)).unwrap() - 1,
            label_values: vec![value.to_owned(); random.below(3)],
        }
    });
    rpc::LabelSelector {
        label_constraints: constraints.collect(),
    }
}

fn by_count(random: &mut Random) -> wire::ResourceRequestByCount {
    let request = (!random.once_in(20)).then(|| request(random));
    let ordinary = if random.once_in(3) { COUNTS.len() } else { 4 };
    wire::ResourceRequestByCount {
        request,
        count: COUNTS[random.below(ordinary)],
    }
}

fn gang(random: &mut Random) -> wire::GangResourceRequest {
    let bundle = request(random);
    let mut requests = vec![bundle; random.below(6)];
    if random.once_in(3) {
        requests.push(request(random));
    }
    let chosen = wire::BundleSelector {
        resource_requests: requests.clone(),
        locality_requirement: None,
    };
    wire::GangResourceRequest {
        requests,
        details: (*random.pick(&DETAILS)).to_owned(),
        bundle_selectors: vec![chosen; random.below(3)],
    }
}
