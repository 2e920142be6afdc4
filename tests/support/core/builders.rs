//! Snapshots for tests, naming only what a test is about.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use rayscaler::engine::{Engine, apply, invariants};
use rayscaler::model::{
    ClusterConstraint, ClusterSnapshot, Completeness, GangRequest, History, Labels, Node, NodeKind,
    NodeStatus, NodeTemplate, PlacementStrategy, PodName, Quantity, ReplicaBounds, ReplicaName,
    ResourceDemand, ResourceMap, ResourceName, ResourceRequest, ScaleDecision, Timestamp,
    WorkerGroup, WorkerGroupName,
};
use rayscaler::policy::PolicyContext;

/// The moment at which tests begin.
pub const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// Returns `CPU=4 memory=1e9` as amounts.
pub fn resources(text: &str) -> ResourceMap {
    text.split_whitespace()
        .map(|part| {
            let (name, amount) = part.split_once('=').unwrap();
            let amount = Quantity::from_f64(amount.parse().unwrap()).unwrap();
            (ResourceName::from(name), amount)
        })
        .collect()
}

/// Returns `zone=z1 rack=r2` as labels.
pub fn labels(text: &str) -> Labels {
    text.split_whitespace()
        .map(|part| part.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Returns `count` requests for a shape anywhere, as Ray sends tasks.
pub fn tasks(shape: &str, count: u64) -> ResourceDemand {
    let request = ResourceRequest {
        resources: resources(shape),
        selectors: vec![rayscaler::model::LabelSelector::default()],
        anti_affinity: None,
    };
    ResourceDemand { request, count }
}

/// Returns a group of one host per replica with room for ten.
pub fn group(name: &str, shape: &str) -> WorkerGroup {
    WorkerGroup {
        surge: 0,
        has_replicas: true,
        name: WorkerGroupName::from(name),
        index: 0,
        replicas: 0,
        bounds: ReplicaBounds { min: 0, max: 10 },
        num_of_hosts: 1,
        priority: 0,
        idle_timeout_ms: None,
        template: NodeTemplate {
            resources: resources(shape),
            host_zero_resources: ResourceMap::new(),
            labels: labels(&format!("ray.io/node-group={name}")),
        },
        workers_to_delete: Vec::new(),
        has_scale_strategy: false,
        has_workers_to_delete: false,
    }
}

/// Returns a running node that is busy with nothing in particular.
pub fn running(group: &str, pod: &str, total: &str) -> Node {
    Node {
        name: PodName::from(pod),
        raylet_address: None,
        node_id: None,
        kind: NodeKind::Worker,
        group: WorkerGroupName::from(group),
        replica: ReplicaName::from(pod),
        host_index: 0,
        status: NodeStatus::Running,
        total: resources(total),
        available: resources(total),
        labels: labels(&format!("ray.io/node-group={group}")),
        idle_since: None,
        created_at: Some(NOW.minus_ms(600_000)),
        waiting_reason: String::new(),
        pod_ip: String::new(),
    }
}

/// Holds a snapshot, its history and the moment.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub snapshot: ClusterSnapshot,
    pub history: History,
    pub now: Timestamp,
}

impl Default for Cluster {
    fn default() -> Self {
        let fresh = Some(NOW);
        let mut head = running(WorkerGroupName::HEAD, "head", "CPU=0");
        head.kind = NodeKind::Head;
        let snapshot = ClusterSnapshot {
            uid: "uid".into(),
            nodes: vec![head],
            completeness: Completeness {
                gcs_at: fresh,
                pods_at: fresh,
                raycluster_at: fresh,
            },
            ..ClusterSnapshot::default()
        };
        Self {
            snapshot,
            history: History::default(),
            now: NOW,
        }
    }
}

impl Cluster {
    pub fn group(mut self, group: WorkerGroup) -> Self {
        self.snapshot.groups.push(group);
        self
    }

    /// Adds a node; a worker's replica counts towards `replicas` of its group.
    pub fn node(mut self, node: Node) -> Self {
        let group = self
            .snapshot
            .groups
            .iter_mut()
            .find(|group| group.name == node.group);
        let is_first = node.host_index == 0 && node.status.is_live();
        if let Some(group) = group.filter(|_| is_first) {
            group.replicas = group.replicas.saturating_add(1);
        }
        self.snapshot.nodes.push(node);
        self
    }

    /// Adds a node that has been idle for `seconds`.
    pub fn idle(self, group: &str, pod: &str, seconds: u64) -> Self {
        let mut node = running(group, pod, "");
        let template = self.template(group);
        (node.total, node.available) = (template.clone(), template);
        node.idle_since = Some(self.now.minus_ms(seconds * 1000));
        self.node(node)
    }

    /// Adds a node of which nothing is free.
    pub fn busy(self, group: &str, pod: &str) -> Self {
        let mut node = running(group, pod, "");
        node.total = self.template(group);
        node.available = ResourceMap::new();
        self.node(node)
    }

    /// Adds a pod whose raylet has not registered.
    pub fn starting(self, group: &str, pod: &str) -> Self {
        let mut node = running(group, pod, "");
        node.status = NodeStatus::Starting;
        node.labels = Labels::new();
        self.node(node)
    }

    pub fn demand(mut self, shape: &str, count: u64) -> Self {
        self.snapshot.demands.push(tasks(shape, count));
        self
    }

    pub fn constraint(mut self, shape: &str, count: u64) -> Self {
        let request = ResourceRequest::of(resources(shape));
        let asked = self.snapshot.constraint.get_or_insert(ClusterConstraint {
            demands: Vec::new(),
        });
        asked.demands.push(ResourceDemand { request, count });
        self
    }

    pub fn gang(mut self, id: &str, strategy: PlacementStrategy, shapes: &[(&str, u64)]) -> Self {
        let gang = gang(id, strategy, shapes);
        self.snapshot.gangs.push(gang);
        self
    }

    pub fn replicas(mut self, name: &str, replicas: u32) -> Self {
        self.group_mut(name).replicas = replicas;
        self
    }

    pub fn group_mut(&mut self, name: &str) -> &mut WorkerGroup {
        let groups = self.snapshot.groups.iter_mut();
        groups
            .into_iter()
            .find(|group| group.name.as_str() == name)
            .unwrap()
    }

    pub fn node_mut(&mut self, pod: &str) -> &mut Node {
        let nodes = self.snapshot.nodes.iter_mut();
        nodes
            .into_iter()
            .find(|node| node.name.as_str() == pod)
            .unwrap()
    }

    fn template(&self, name: &str) -> ResourceMap {
        let group = self
            .snapshot
            .groups
            .iter()
            .find(|group| group.name.as_str() == name);
        group.unwrap().template.resources.clone()
    }

    /// Decides with the default engine; the invariants hold and deciding again changes nothing.
    pub fn decide(&self) -> ScaleDecision {
        self.decide_with(&Engine::default())
    }

    /// What is idle has been found so once before.
    pub fn decide_with(&self, engine: &Engine) -> ScaleDecision {
        let mut snapshot = self.snapshot.clone();
        snapshot.sort();
        let history = seen_before(engine, &snapshot, (&self.history, self.now));
        let decision = engine.decide(&snapshot, &history, self.now);
        let ctx = PolicyContext {
            snapshot: &snapshot,
            history: &history,
            now: self.now,
        };
        let broken = invariants::check_of(engine, ctx, &decision);
        assert_eq!(broken, [], "{decision:#?}");
        let again = engine.decide(&apply(&snapshot, &decision), &history, self.now);
        assert!(!again.is_change(), "I4: {decision:#?}\nthen {again:#?}");
        decision
    }

    /// Writes a decision: `replicas` and names as decided, no new pods yet.
    pub fn apply(&mut self, decision: &ScaleDecision) {
        self.snapshot = apply(&self.snapshot, decision);
    }

    /// Lets the operator and Ray do what the RayCluster asks for: named pods are gone, missing
    /// ones run.
    pub fn settle(&mut self) {
        let gone =
            |node: &Node| matches!(node.status, NodeStatus::Deleting | NodeStatus::Terminating);
        self.snapshot.nodes.retain(|node| !gone(node));
        for group in self.snapshot.groups.clone() {
            let live = self.snapshot.replicas_of(&group.name).len();
            for at in live..group.replicas as usize {
                let replica = format!("{}-new-{at}-{}", group.name, self.now.as_ms());
                for host in 0..group.num_of_hosts {
                    let mut node = running(group.name.as_str(), &format!("{replica}-{host}"), "");
                    node.replica = ReplicaName::from(replica.as_str());
                    node.host_index = host;
                    node.created_at = Some(self.now);
                    node.total = group.host_resources(host);
                    node.available = node.total.clone();
                    self.snapshot.nodes.push(node);
                }
            }
        }
        self.snapshot.sort();
    }
}

/// Returns what is remembered when the reply before this one was the same: idle replicas go only
/// when two replies agree.
pub fn seen_before(
    engine: &Engine,
    snapshot: &ClusterSnapshot,
    (history, now): (&History, Timestamp),
) -> History {
    let first = engine.decide(snapshot, history, now);
    let mut history = history.clone();
    history.assume_seen_before(&first);
    history
}

/// Returns a placement group.
pub fn gang(id: &str, strategy: PlacementStrategy, shapes: &[(&str, u64)]) -> GangRequest {
    let anti_affinity =
        (strategy == PlacementStrategy::StrictSpread).then(|| rayscaler::model::AntiAffinity {
            label_name: format!("_PG_{id}"),
            label_value: String::new(),
        });
    let bundle_count: u64 = shapes.iter().map(|(_, count)| count).sum();
    let mut bundles: Vec<ResourceDemand> = shapes
        .iter()
        .map(|(shape, count)| ResourceDemand {
            request: ResourceRequest {
                resources: resources(shape),
                selectors: Vec::new(),
                anti_affinity: anti_affinity.clone(),
            },
            count: *count,
        })
        .collect();
    let is_strict = matches!(
        strategy,
        PlacementStrategy::StrictPack | PlacementStrategy::StrictSpread
    );
    if strategy == PlacementStrategy::StrictPack {
        // As the conversion from Ray's reply does it.
        let mut sum = ResourceMap::new();
        for bundle in &bundles {
            (0..bundle.count).for_each(|_| sum.add(&bundle.request.resources));
        }
        bundles = vec![ResourceDemand {
            request: ResourceRequest::of(sum),
            count: 1,
        }];
    }
    GangRequest {
        details: format!("{id}:{strategy:?}|PENDING"),
        strategy,
        bundles,
        fallbacks: Vec::new(),
        constraint_count: if is_strict { bundle_count } else { 0 },
        bundle_count,
    }
}

/// Returns a decision in lines that a reviewer can read; nothing for groups that stay.
pub fn lines(decision: &ScaleDecision) -> Vec<String> {
    let mut lines = Vec::new();
    for group in decision.groups.iter().filter(|group| group.is_change()) {
        let codes: Vec<&str> = group
            .reasons
            .iter()
            .map(|reason| reason.code.as_str())
            .collect();
        let (from, to) = (group.replicas_from, group.replicas_to);
        lines.push(
            format!("{} {from} -> {to}: {}", group.name, codes.join(", "))
                .trim_end_matches(": ")
                .to_owned(),
        );
        for removal in &group.remove {
            let pods: Vec<&str> = removal.pods.iter().map(PodName::as_str).collect();
            lines.push(format!("remove {} ({:?})", pods.join(" "), removal.cause));
        }
        for pod in &group.forget {
            lines.push(format!("forget {pod}"));
        }
    }
    lines.extend(
        decision
            .infeasible
            .iter()
            .map(|infeasible| match infeasible {
                rayscaler::model::Infeasible::Tasks(request) => {
                    format!("infeasible {}", request.resources)
                }
                rayscaler::model::Infeasible::Gang(details) => {
                    format!("infeasible gang {}", details.split(':').next().unwrap())
                }
                rayscaler::model::Infeasible::Constraint => {
                    "infeasible request_resources".to_owned()
                }
            }),
    );
    let unserved = decision.unserved.iter();
    lines.extend(unserved.map(|u| format!("unserved {} x {}: {}", u.count, u.what, u.code)));
    lines.extend(
        decision
            .kept_idle
            .iter()
            .map(|kept| format!("kept {}: {}", kept.pod, kept.code)),
    );
    lines.extend(
        decision
            .holds
            .iter()
            .map(|hold| format!("hold {}", hold.code)),
    );
    lines
}
