//! The gauges that one pass sets: counts over the snapshot and the decision.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::MetricId;
use super::events::Event;
use super::failures::Failures;
use super::metrics::{Metrics, sample};
use crate::model::{
    ClusterSnapshot, History, Node, NodeKind, NodeStatus, ReplicaName, ResourceMap,
    ResourceRequest, ScaleDecision, ScalingMode, WorkerGroup, WorkerGroupName,
};

/// Most resource names that are exported; users make names of their own.
const RESOURCES_MAX: usize = 100;

type Samples<'a, const N: usize> = BTreeMap<[&'a str; N], f64>;

/// A decision was made on a snapshot.
#[derive(Debug)]
pub(super) struct Decided<'a> {
    pub(super) snapshot: &'a ClusterSnapshot,
    pub(super) decision: &'a ScaleDecision,
    pub(super) history: &'a History,
    pub(super) failures: &'a Failures,
    pub(super) is_dry_run: bool,
}

impl Event for Decided<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.set(MetricId::DryRun, &[], sample(u64::from(self.is_dry_run)));
        self.sources(metrics);
        self.stock_nodes(metrics);
        self.stock_resources(metrics);
        self.groups(metrics);
        self.nodes(metrics);
        self.demand(metrics);
        self.answers(metrics);
    }
}

impl Decided<'_> {
    fn sources(&self, metrics: &Metrics) {
        let completeness = self.snapshot.completeness;
        let sources = [
            ("gcs", completeness.gcs_at),
            ("pods", completeness.pods_at),
            ("raycluster", completeness.raycluster_at),
        ];
        for (source, at) in sources {
            if let Some(at) = at {
                metrics.source_was_right(source, at);
            }
        }
    }

    fn stock_nodes(&self, metrics: &Metrics) {
        let mut active = self.zero_per_group();
        let mut pending = active.clone();
        let mut failed = active.clone();
        let mut workers = 0;
        for node in &self.snapshot.nodes {
            let key = [node.group.as_str()];
            if is_active(node) {
                add(&mut active, key, 1.0);
                workers += u64::from(node.kind == NodeKind::Worker);
            } else if node.status == NodeStatus::Starting {
                add(&mut pending, key, 1.0);
            }
        }
        for (group, missing) in missing_pods(self.snapshot) {
            add(&mut pending, [group.as_str()], sample(missing));
        }
        for (group, count) in self.failures.pods_by_group() {
            add(&mut failed, [group.as_str()], sample(count));
        }
        metrics.replace(MetricId::StockActiveNodes, &active);
        metrics.replace(MetricId::StockPendingNodes, &pending);
        metrics.replace(MetricId::StockRecentlyFailedNodes, &failed);
        metrics.set(MetricId::StockRunningWorkers, &[], sample(workers));
    }

    fn stock_resources(&self, metrics: &Metrics) {
        let groups = self.snapshot.groups.iter();
        let template = |group: &WorkerGroup| self.history.template(&group.name, &group.template);
        let templates: BTreeMap<_, _> = groups.map(|it| (&it.name, template(it))).collect();
        let mut awaited = missing_pods(self.snapshot);
        let mut cluster = Samples::new();
        for node in &self.snapshot.nodes {
            if is_active(node) {
                add_resources(&mut cluster, &node.total, 1.0);
            } else if node.status == NodeStatus::Starting {
                *awaited.entry(&node.group).or_default() += 1;
            }
        }
        let mut pending = Samples::new();
        for (group, count) in awaited.into_iter().filter(|(_, count)| *count > 0) {
            if let Some(template) = templates.get(group) {
                add_resources(&mut pending, &template.resources, sample(count));
            }
        }
        // A resource that is nowhere pending stands at 0; a gauge that is left behind lies.
        let names: BTreeSet<[&str; 1]> = cluster.keys().chain(pending.keys()).copied().collect();
        for name in names {
            cluster.entry(name).or_insert(0.0);
            pending.entry(name).or_insert(0.0);
        }
        metrics.replace(MetricId::StockClusterResources, &cluster);
        metrics.replace(MetricId::StockPendingResources, &pending);
    }

    fn groups(&self, metrics: &Metrics) {
        let mut observed = self.zero_per_group();
        observed.remove(&[WorkerGroupName::HEAD]);
        observed.extend(live_replicas(self.snapshot));
        let groups = self.snapshot.groups.iter();
        let requested = groups
            .clone()
            .map(|it| ([it.name.as_str()], f64::from(it.replicas)));
        let max = groups.map(|it| ([it.name.as_str()], f64::from(it.bounds.max)));
        let decided = self.decision.groups.iter();
        let desired = decided.map(|it| ([it.name.as_str()], f64::from(it.replicas_to)));
        metrics.replace(MetricId::ReplicasObserved, &observed);
        metrics.replace(MetricId::ReplicasRequested, &requested.collect());
        metrics.replace(MetricId::ReplicasMax, &max.collect());
        metrics.replace(MetricId::ReplicasDesired, &desired.collect());
    }

    fn nodes(&self, metrics: &Metrics) {
        let mut by_status = Samples::<2>::new();
        let mut waiting = Samples::<2>::new();
        for node in &self.snapshot.nodes {
            let group = node.group.as_str();
            add(&mut by_status, [group, status_label(node.status)], 1.0);
            if node.status == NodeStatus::Starting {
                let reason = match node.waiting_reason.as_str() {
                    "" => "none",
                    reason => reason,
                };
                add(&mut waiting, [group, reason], 1.0);
            }
        }
        metrics.replace(MetricId::Nodes, &by_status);
        metrics.replace(MetricId::PodsWaiting, &waiting);
    }

    fn demand(&self, metrics: &Metrics) {
        let mut demand = Samples::<2>::new();
        let mut note = |class: &'static str, request: &ResourceRequest, count: u64| {
            let key = [class, shape_class(&request.resources)];
            add(&mut demand, key, sample(count));
        };
        for it in &self.snapshot.demands {
            note("tasks", &it.request, it.count);
        }
        for it in self.snapshot.gangs.iter().flat_map(|gang| &gang.bundles) {
            note("placement_group", &it.request, it.count);
        }
        for it in self.snapshot.constraint.iter().flat_map(|it| &it.demands) {
            note("request_resources", &it.request, it.count);
        }
        let mut unserved = Samples::<2>::new();
        for it in &self.decision.unserved {
            add(
                &mut unserved,
                [it.class.as_str(), it.code.as_str()],
                sample(it.count),
            );
        }
        metrics.replace(MetricId::Demand, &demand);
        metrics.replace(MetricId::Unserved, &unserved);
    }

    fn answers(&self, metrics: &Metrics) {
        let mut holds = Samples::<1>::new();
        for hold in &self.decision.holds {
            add(&mut holds, [hold.code.as_str()], 1.0);
        }
        let nodes = self.snapshot.nodes.iter();
        let gpus: BTreeMap<_, _> = nodes.map(|it| (&it.name, it.total.get("GPU"))).collect();
        let mut kept = Samples::<2>::new();
        let mut kept_gpus = Samples::<1>::new();
        for it in &self.decision.kept_idle {
            add(&mut kept, [it.group.as_str(), it.code.as_str()], 1.0);
            let gpus = gpus.get(&it.pod).map_or(0.0, |amount| amount.as_f64());
            add(&mut kept_gpus, [it.code.as_str()], gpus);
        }
        let mut skipped = Samples::<1>::new();
        for it in &self.snapshot.skipped {
            add(&mut skipped, [it.code.as_str()], 1.0);
        }
        let mut problems = Samples::<1>::new();
        for it in &self.snapshot.problems {
            add(&mut problems, [it.code.as_str()], 1.0);
        }
        let mode = self.decision.mode;
        let modes = ScalingMode::ALL.iter();
        let modes = modes.map(|it| ([it.as_str()], sample(u64::from(*it == mode))));
        metrics.replace(MetricId::Mode, &modes.collect());
        metrics.replace(MetricId::Holds, &holds);
        metrics.replace(MetricId::IdleKept, &kept);
        metrics.replace(MetricId::IdleKeptGpus, &kept_gpus);
        metrics.replace(MetricId::GroupsSkipped, &skipped);
        metrics.replace(MetricId::InputProblems, &problems);
    }

    fn zero_per_group(&self) -> Samples<'_, 1> {
        let groups = self.snapshot.groups.iter().map(|group| group.name.as_str());
        let head = std::iter::once(WorkerGroupName::HEAD);
        groups.chain(head).map(|name| ([name], 0.0)).collect()
    }
}

/// Returns how many pods of each group are asked for and not there, in one walk over the nodes.
pub(super) fn missing_pods(snapshot: &ClusterSnapshot) -> BTreeMap<&WorkerGroupName, u64> {
    let groups = snapshot.groups.iter();
    let mut missing: BTreeMap<_, _> = groups
        .map(|group| (&group.name, group.pods_of(group.replicas)))
        .collect();
    for node in &snapshot.nodes {
        if node.kind == NodeKind::Worker
            && node.status.is_live()
            && let Some(count) = missing.get_mut(&node.group)
        {
            *count = count.saturating_sub(1);
        }
    }
    missing
}

/// Returns whether a node has a live raylet, as the stock names mean it.
pub(super) const fn is_active(node: &Node) -> bool {
    matches!(node.status, NodeStatus::Running | NodeStatus::Draining)
        || (matches!(node.status, NodeStatus::Deleting) && node.node_id.is_some())
}

/// Returns the number of replicas of each group that are whole and stay, in one walk over the nodes.
fn live_replicas(snapshot: &ClusterSnapshot) -> Samples<'_, 1> {
    let mut is_live: BTreeMap<(&WorkerGroupName, &ReplicaName), bool> = BTreeMap::new();
    for node in &snapshot.nodes {
        if node.kind == NodeKind::Worker && node.status != NodeStatus::Lost {
            let all = is_live.entry((&node.group, &node.replica)).or_insert(true);
            *all &= node.status.is_live();
        }
    }
    let mut counts = Samples::new();
    for ((group, _), _) in is_live.iter().filter(|(_, is_live)| **is_live) {
        add(&mut counts, [group.as_str()], 1.0);
    }
    counts
}

fn add<'a, const N: usize>(samples: &mut Samples<'a, N>, key: [&'a str; N], value: f64) {
    *samples.entry(key).or_default() += value;
}

fn add_resources<'a>(samples: &mut Samples<'a, 1>, resources: &'a ResourceMap, times: f64) {
    for (name, amount) in resources.iter() {
        let name = name.as_str();
        // One name per node or per placement group: no sum, and no bound.
        let is_of_one = name.starts_with("node:") || name.contains("_group_");
        let key = [name];
        if !is_of_one && (samples.contains_key(&key) || samples.len() < RESOURCES_MAX) {
            add(samples, key, amount.as_f64() * times);
        }
    }
}

/// Returns the class of a shape: the scarcest thing in it.
fn shape_class(resources: &ResourceMap) -> &'static str {
    let has = |name: &str| resources.get(name).units() > 0;
    let is_custom = |name: &str| !matches!(name, "CPU" | "memory" | "object_store_memory");
    if has("GPU") {
        "gpu"
    } else if has("TPU") {
        "tpu"
    } else if resources
        .iter()
        .any(|(name, amount)| is_custom(name.as_str()) && amount.units() > 0)
    {
        "custom"
    } else if has("CPU") {
        "cpu"
    } else if resources.is_empty() {
        "empty"
    } else {
        "memory"
    }
}

const fn status_label(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Queued | NodeStatus::Requested | NodeStatus::Starting => "starting",
        NodeStatus::Running => "running",
        NodeStatus::Draining => "draining",
        NodeStatus::Stopped => "stopped",
        NodeStatus::Failed => "failed",
        NodeStatus::Deleting => "deleting",
        NodeStatus::Terminating => "terminating",
        NodeStatus::Lost => "lost",
    }
}
