//! Generated clusters: small, but with everything that may happen to one.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use rayscaler::engine::Engine;
use rayscaler::model::{
    LabelConstraint, LabelOperator, LabelSelector, Node, NodeId, NodeKind, NodeStatus,
    PlacementStrategy, PodResize, PodSize, Protection, Quantity, ReplicaBounds, ReplicaName,
    ResizeState, ResourceMap, SkippedGroup, UpscalingMode, WorkerGroup,
};

use super::builders::{Cluster, gang, group, labels, resources, running, seen_before, tasks};

const TOTALS: [&str; 7] = [
    "CPU=1",
    "CPU=2 memory=4e9",
    "CPU=4 memory=16e9",
    "CPU=8",
    "CPU=8 GPU=1",
    "CPU=4 TPU=4",
    "CPU=0.3 special=2",
];
const SHAPES: [&str; 10] = [
    "CPU=1",
    "CPU=0.1",
    "CPU=2",
    "CPU=4",
    "CPU=1 memory=3e9",
    "GPU=1",
    "CPU=3 special=1",
    "special=1",
    "CPU=9",
    "",
];

/// One host: status and use, as choices that are made concrete by its group.
type Host = (NodeStatus, u8, Option<u64>, bool);

#[derive(Debug, Clone)]
struct GroupPlan {
    total: &'static str,
    min: u32,
    more: u32,
    replicas: u32,
    hosts: u32,
    priority: i64,
    zone: Option<u8>,
    timeout_ms: Option<u64>,
    present: Vec<Vec<Host>>,
    listed: bool,
}

fn status() -> impl Strategy<Value = NodeStatus> {
    prop_oneof![
        12 => Just(NodeStatus::Running),
        4 => Just(NodeStatus::Starting),
        1 => Just(NodeStatus::Draining),
        2 => Just(NodeStatus::Stopped),
        1 => Just(NodeStatus::Failed),
        1 => Just(NodeStatus::Deleting),
        1 => Just(NodeStatus::Terminating),
        1 => Just(NodeStatus::Lost),
    ]
}

fn host() -> impl Strategy<Value = Host> {
    (
        status(),
        0..4_u8,
        weighted(0.6, 0..200_000_u64),
        any::<bool>(),
    )
}

fn group_plan() -> impl Strategy<Value = GroupPlan> {
    let bounds = (0..3_u32, 0..6_u32, 0..9_u32);
    let hosts = prop_oneof![4 => Just(1_u32), 1 => Just(2), 1 => Just(3)];
    let looks = (
        proptest::sample::select(&TOTALS[..]),
        -1..3_i64,
        weighted(0.4, 0..2_u8),
    );
    let timeout = weighted(0.3, 0..120_000_u64);
    (
        bounds,
        hosts,
        looks,
        timeout,
        vec(vec(host(), 3), 0..6),
        any::<bool>(),
    )
        .prop_map(
            |(
                (min, more, replicas),
                hosts,
                (total, priority, zone),
                timeout_ms,
                present,
                listed,
            )| GroupPlan {
                total,
                min,
                more,
                replicas,
                hosts,
                priority,
                zone,
                timeout_ms,
                present,
                listed,
            },
        )
}

impl GroupPlan {
    fn group(&self, name: &str) -> WorkerGroup {
        let mut group = group(name, self.total);
        group.bounds = ReplicaBounds {
            min: self.min,
            max: self.min + self.more,
        };
        group.replicas = self.replicas;
        group.num_of_hosts = self.hosts;
        group.priority = self.priority;
        group.idle_timeout_ms = self.timeout_ms;
        if self.hosts > 1 {
            group.template.host_zero_resources = resources("slice-head=1");
        }
        if let Some(zone) = self.zone {
            group
                .template
                .labels
                .extend(labels(&format!("zone=z{zone}")));
        }
        group
    }

    fn add_to(&self, cluster: &mut Cluster, name: &str) {
        let group = self.group(name);
        for (at, hosts) in self.present.iter().enumerate() {
            for (host, choice) in (0..self.hosts).zip(hosts) {
                let pod = format!("{name}-{at}-{host}");
                let mut node = node(&group, &pod, host, *choice, cluster);
                node.replica = ReplicaName::from(format!("{name}-{at}").as_str());
                remember(cluster, &node, *choice);
                cluster.snapshot.nodes.push(node);
            }
        }
        let mut group = group;
        let named = |status| matches!(status, NodeStatus::Deleting | NodeStatus::Terminating);
        let nodes = cluster.snapshot.nodes.iter();
        let own = nodes.filter(|node| node.group == group.name && named(node.status));
        group.workers_to_delete = own.map(|node| node.name.clone()).collect();
        if self.listed {
            group
                .workers_to_delete
                .push(format!("{name}-old").as_str().into());
        }
        cluster.snapshot.groups.push(group);
    }
}

fn node(group: &WorkerGroup, pod: &str, host: u32, choice: Host, cluster: &Cluster) -> Node {
    let (status, used, idle, _) = choice;
    let mut node = running(group.name.as_str(), pod, "");
    (node.status, node.host_index) = (status, host);
    if matches!(
        status,
        NodeStatus::Running | NodeStatus::Draining | NodeStatus::Lost
    ) {
        node.total = group.host_resources(host);
        node.total.set(
            format!("node:{pod}").as_str().into(),
            Quantity::from_whole(1),
        );
        node.labels = group.template.labels.clone();
        node.labels.insert("ray.io/node-id".into(), pod.into());
        node.idle_since = idle.map(|ms| cluster.now.minus_ms(ms));
        node.available = if idle.is_some() {
            node.total.clone()
        } else {
            part_of(&node.total, used)
        };
        if status != NodeStatus::Running {
            node.idle_since = None;
        }
    }
    node
}

/// Leaves a part of every amount; what is used up is absent, as in Ray.
fn part_of(total: &ResourceMap, used: u8) -> ResourceMap {
    let left = total.iter().map(|(name, amount)| {
        let units = amount.units() / 4 * i64::from(3 - used.min(3));
        (name.clone(), Quantity::from_units(units))
    });
    left.filter(|(_, amount)| !amount.is_zero()).collect()
}

fn remember(cluster: &mut Cluster, node: &Node, (_, used, _, flag): Host) {
    let at = cluster.now.minus_ms(u64::from(used) * 15_000);
    let history = &mut cluster.history;
    match node.status {
        NodeStatus::Stopped => {
            history.stopped_since.insert(node.name.clone(), at);
            if flag {
                history.drained_at.insert(node.name.clone(), at);
            }
        }
        NodeStatus::Draining if flag => {
            history.drained_at.insert(node.name.clone(), at);
        }
        NodeStatus::Running if flag && used == 0 => {
            history.drain_refused_at.insert(node.name.clone(), at);
        }
        _ => {}
    }
}

fn shape() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&SHAPES[..])
}

fn selectors() -> impl Strategy<Value = Vec<LabelSelector>> {
    let one = (0..3_u8, any::<bool>()).prop_map(|(zone, is_in)| LabelSelector {
        constraints: vec![LabelConstraint {
            key: "zone".into(),
            operator: if is_in {
                LabelOperator::In
            } else {
                LabelOperator::NotIn
            },
            values: vec![format!("z{zone}")],
        }],
    });
    prop_oneof![4 => Just(vec![LabelSelector::default()]), 1 => vec(one, 0..3)]
}

fn strategy() -> impl Strategy<Value = PlacementStrategy> {
    proptest::sample::select(vec![
        PlacementStrategy::Pack,
        PlacementStrategy::Spread,
        PlacementStrategy::StrictPack,
        PlacementStrategy::StrictSpread,
    ])
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 1..20_u64, 1 => Just(u64::MAX)]
}

/// Returns clusters that may be in any state.
pub fn clusters() -> impl Strategy<Value = Cluster> {
    let demand = vec((shape(), count(), selectors()), 0..5);
    let gangs = vec((strategy(), vec((shape(), 1..4_u64), 1..3)), 0..4);
    let constraint = vec((shape(), 1..6_u64), 0..3);
    let flags = (any::<bool>(), 0..30_u8, weighted(0.5, 0..90_000_u64));
    let orders = vec((0..12_usize, 0..4_u8), 0..4);
    let orders = (orders, weighted(0.8, Just(())), weighted(0.3, growth()));
    (
        vec(group_plan(), 0..4),
        demand,
        gangs,
        constraint,
        flags,
        orders,
    )
        .prop_map(
            |(
                plans,
                demand,
                gangs,
                constraint,
                (is_conservative, odd, timeout),
                (orders, seen, growth),
            )| {
                let mut cluster = Cluster::default();
                let head = cluster.node_mut("head");
                head.total = resources("CPU=2 memory=4e9");
                head.available = resources("CPU=1 memory=4e9");
                for (at, plan) in plans.iter().enumerate() {
                    plan.add_to(&mut cluster, &format!("g{at}"));
                }
                for (shape, count, selectors) in demand {
                    let mut demand = tasks(shape, count);
                    demand.request.selectors = selectors;
                    cluster.snapshot.demands.push(demand);
                }
                for (at, (strategy, shapes)) in gangs.iter().enumerate() {
                    cluster
                        .snapshot
                        .gangs
                        .push(gang(&format!("pg{at}"), *strategy, shapes));
                }
                for (shape, count) in constraint {
                    cluster = cluster.constraint(shape, count);
                }
                if is_conservative {
                    cluster.snapshot.upscaling_mode = UpscalingMode::Conservative;
                }
                cluster.snapshot.idle_timeout_ms = timeout;
                make_odd(&mut cluster, odd);
                order(&mut cluster, &orders);
                if let Some(growth) = growth {
                    growth.add_to(&mut cluster);
                }
                cluster.snapshot.sort();
                if seen.is_some() {
                    let engine = Engine::default();
                    let known = (&cluster.history, cluster.now);
                    cluster.history = seen_before(&engine, &cluster.snapshot, known);
                }
                cluster
            },
        )
}

/// Which groups may be resized in place, how far, and where their pods stand, as choices.
#[derive(Debug, Clone)]
struct GrowthPlan {
    factors: Vec<i64>,
    stages: Vec<u8>,
}

fn growth() -> impl Strategy<Value = GrowthPlan> {
    (vec(0..4_i64, 4), vec(0..14_u8, 18))
        .prop_map(|(factors, stages)| GrowthPlan { factors, stages })
}

impl GrowthPlan {
    fn add_to(&self, cluster: &mut Cluster) {
        let snapshot = &mut cluster.snapshot;
        for (group, factor) in snapshot.groups.iter().zip(&self.factors) {
            let base = size_of(&group.template.resources);
            // Both have to be known, and nothing is allowed for the first.
            if *factor == 0 || base.cpu.is_zero() {
                continue;
            }
            let times = |amount: Quantity| Quantity::from_units(amount.units() * factor);
            let size = PodSize {
                cpu: times(base.cpu),
                memory: times(base.memory.max(Quantity::from_whole(4_000_000_000))),
            };
            snapshot.resizing.groups.insert(group.name.clone(), size);
        }
        for (at, node) in snapshot.nodes.iter_mut().enumerate() {
            let max = snapshot.resizing.groups.get(&node.group).copied();
            let is_pod = node.kind == NodeKind::Worker && node.status != NodeStatus::Lost;
            let (Some(max), true) = (max, is_pod) else {
                continue;
            };
            let stage = self.stages[at % self.stages.len()];
            if node.status == NodeStatus::Running {
                let id = [u8::try_from(at).unwrap() + 1; 28];
                node.node_id = NodeId::from_bytes(&id);
            }
            let pod = resize_of(node, max, stage);
            snapshot.resizing.pods.insert(node.name.clone(), pod);
        }
    }
}

fn size_of(resources: &ResourceMap) -> PodSize {
    PodSize {
        cpu: resources.get("CPU"),
        memory: resources.get("memory"),
    }
}

/// Returns where a pod stands; one without a raylet has only its template's size.
fn resize_of(node: &mut Node, max: PodSize, stage: u8) -> PodResize {
    let current = size_of(&node.total);
    let is_running = node.status == NodeStatus::Running;
    let (current, desired, state) = match stage {
        0 | 1 if is_running => (current, max, ResizeState::Asked),
        2 if is_running => (max, max, ResizeState::Resized),
        3 if is_running => (current, max, ResizeState::Decided),
        4 if is_running => (current, current, ResizeState::Decided),
        5 => (current, current, ResizeState::Failed),
        6 => (current, current, ResizeState::Unsettled),
        7 | 8 if is_running => {
            for (name, amount) in [("CPU", max.cpu), ("memory", max.memory)] {
                let used = node.total.get(name).units() - node.available.get(name).units();
                let left = Quantity::from_units((amount.units() - used).max(0));
                node.total.set(name.into(), amount);
                node.available.set(name.into(), left);
            }
            (max, max, ResizeState::Settled)
        }
        _ => (current, current, ResizeState::Settled),
    };
    PodResize {
        current,
        desired,
        max,
        state,
        basis: None,
    }
}

/// Has users ask something of single pods.
fn order(cluster: &mut Cluster, orders: &[(usize, u8)]) {
    for (at, what) in orders {
        let Some(node) = cluster.snapshot.nodes.get(*at) else {
            continue;
        };
        if node.kind == NodeKind::Head {
            continue;
        }
        let (pod, orders) = (node.name.clone(), &mut cluster.snapshot.orders);
        let until = |at| Protection::Until(at);
        match what {
            0 => drop(orders.drain.insert(pod, Some(7_000))),
            1 => drop(orders.protect.insert(pod, Protection::ForGood)),
            2 => drop(orders.protect.insert(pod, until(cluster.now.plus_ms(1)))),
            _ => drop(orders.protect.insert(pod, until(cluster.now))),
        }
    }
}

/// Breaks one thing now and then.
fn make_odd(cluster: &mut Cluster, odd: u8) {
    let old = Some(cluster.now.minus_ms(20_000));
    let snapshot = &mut cluster.snapshot;
    match odd {
        0 => snapshot.is_suspended = true,
        1 => snapshot.is_deleting = true,
        2 => snapshot.completeness.gcs_at = None,
        3 => snapshot.completeness.gcs_at = old,
        4 | 5 => snapshot.completeness.pods_at = old,
        6 => snapshot.completeness.raycluster_at = old,
        7 => snapshot.nodes.retain(|node| node.name.as_str() != "head"),
        8 => snapshot.paused = Some("asked for".into()),
        9 => snapshot.skipped.push(SkippedGroup {
            name: "odd".into(),
            index: 9,
            code: "no_hosts".into(),
            detail: String::new(),
        }),
        10 => snapshot
            .groups
            .iter_mut()
            .for_each(|group| group.bounds.max = 2_147_483_647),
        11 => {
            let nodes = snapshot
                .nodes
                .iter_mut()
                .filter(|node| node.status == NodeStatus::Running);
            nodes.for_each(|node| node.available = resources("CPU=-5"));
        }
        12 => snapshot
            .groups
            .iter_mut()
            .for_each(|group| group.replicas = u32::MAX),
        _ => {}
    }
}
