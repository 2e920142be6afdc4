//! Reads the files of this folder and runs what they describe.

use std::path::Path;

use rayscaler::engine::{ChainEntry, Engine};
use rayscaler::model::{
    LabelConstraint, LabelOperator, LabelSelector, Labels, NodeStatus, PlacementStrategy,
    ReplicaBounds, ReplicaName, SkippedGroup, UpscalingMode,
};
use rayscaler::policy::Registry;
use serde::Deserialize;

use super::support::builders::{Cluster, gang, group, labels, lines, resources, running, tasks};

/// One situation and the decision it leads to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    id: String,
    #[serde(default)]
    says: String,
    #[serde(default)]
    head: Head,
    #[serde(default)]
    groups: Vec<Group>,
    #[serde(default)]
    skipped: Vec<String>,
    #[serde(default)]
    nodes: Vec<NodeText>,
    #[serde(default)]
    tasks: Vec<Ask>,
    #[serde(default)]
    gangs: Vec<GangText>,
    #[serde(default)]
    constraint: Vec<Ask>,
    #[serde(default)]
    conservative: bool,
    #[serde(default)]
    idle_timeout: Option<f64>,
    #[serde(default)]
    chain: Vec<ChainEntry>,
    /// Seconds since pods drained by us were drained.
    #[serde(default)]
    drained: Vec<String>,
    expect: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Head {
    total: String,
    free: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    has: String,
    #[serde(default)]
    host_zero: String,
    #[serde(default)]
    min: u32,
    #[serde(default)]
    max: Option<u32>,
    replicas: Option<u32>,
    #[serde(default)]
    hosts: Option<u32>,
    #[serde(default)]
    priority: i64,
    #[serde(default)]
    idle_timeout: Option<f64>,
    #[serde(default)]
    labels: String,
    #[serde(default)]
    named: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeText {
    pod: String,
    group: String,
    replica: Option<String>,
    #[serde(default)]
    host: u32,
    #[serde(default)]
    status: Option<NodeStatus>,
    #[serde(default)]
    total: Option<String>,
    /// What is free; everything unless given.
    #[serde(default)]
    free: Option<String>,
    /// Seconds.
    #[serde(default)]
    idle: Option<f64>,
    #[serde(default)]
    labels: String,
    /// Whether the pod does not count towards `replicas` (somebody lowered it).
    #[serde(default)]
    uncounted: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    #[serde(default)]
    shape: String,
    #[serde(default)]
    count: Option<u64>,
    /// `zone in z1,z2` or `zone not z1`; several are alternatives, most wanted first.
    #[serde(default)]
    selectors: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GangText {
    id: String,
    strategy: PlacementStrategy,
    bundles: Vec<Ask>,
}

fn selector(text: &str) -> LabelSelector {
    let mut parts = text.split_whitespace();
    let (key, operator, values) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
    let operator = match operator.unwrap() {
        "in" => LabelOperator::In,
        "not" => LabelOperator::NotIn,
        _ => LabelOperator::Unknown,
    };
    let values = values.split(',').map(str::to_owned).collect();
    let key = key.unwrap().to_owned();
    LabelSelector {
        constraints: vec![LabelConstraint {
            key,
            operator,
            values,
        }],
    }
}

impl Scenario {
    fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::default();
        let head = cluster.node_mut("head");
        head.total = resources(&self.head.total);
        head.available = resources(self.head.free.as_ref().unwrap_or(&self.head.total));
        for text in &self.groups {
            cluster = cluster.group(text.group());
        }
        for text in &self.nodes {
            let node = text.node(&cluster);
            cluster = cluster.node(node);
            if text.uncounted {
                cluster.group_mut(&text.group).replicas -= 1;
            }
        }
        for text in self.groups.iter().filter(|text| text.replicas.is_some()) {
            cluster.group_mut(&text.name).replicas = text.replicas.unwrap();
        }
        for ask in &self.tasks {
            let mut demand = tasks(&ask.shape, ask.count.unwrap_or(1));
            if let Some(selectors) = &ask.selectors {
                demand.request.selectors = selectors.iter().map(|text| selector(text)).collect();
            }
            cluster.snapshot.demands.push(demand);
        }
        for ask in &self.constraint {
            cluster = cluster.constraint(&ask.shape, ask.count.unwrap_or(1));
        }
        for text in &self.gangs {
            let gang = text.gang();
            cluster.snapshot.gangs.push(gang);
        }
        for (index, name) in self.skipped.iter().enumerate() {
            let (name, code, detail) =
                (name.as_str().into(), "bad_resources".into(), String::new());
            cluster.snapshot.skipped.push(SkippedGroup {
                name,
                index,
                code,
                detail,
            });
        }
        if self.conservative {
            cluster.snapshot.upscaling_mode = UpscalingMode::Conservative;
        }
        cluster.snapshot.idle_timeout_ms = self.idle_timeout.map(ms);
        for pod in &self.drained {
            cluster
                .history
                .drained_at
                .insert(pod.as_str().into(), cluster.now.minus_ms(100));
        }
        cluster
    }

    fn engine(&self) -> Engine {
        if self.chain.is_empty() {
            return Engine::default();
        }
        let mut chain = ChainEntry::defaults();
        for entry in &self.chain {
            chain.retain(|other| other.name != entry.name);
            chain.push(entry.clone());
        }
        Engine::new(&chain, &Registry::default()).unwrap()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a test"
)]
fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

impl Group {
    fn group(&self) -> rayscaler::model::WorkerGroup {
        let mut group = group(&self.name, &self.has);
        group.bounds = ReplicaBounds {
            min: self.min,
            max: self.max.unwrap_or(10),
        };
        group.num_of_hosts = self.hosts.unwrap_or(1);
        group.priority = self.priority;
        group.idle_timeout_ms = self.idle_timeout.map(ms);
        group.template.host_zero_resources = resources(&self.host_zero);
        group.template.labels.extend(labels(&self.labels));
        group.workers_to_delete = self.named.iter().map(|pod| pod.as_str().into()).collect();
        group
    }
}

impl NodeText {
    fn node(&self, cluster: &Cluster) -> rayscaler::model::Node {
        let mut node = running(&self.group, &self.pod, "");
        if let Some(replica) = &self.replica {
            node.replica = ReplicaName::from(replica.as_str());
        }
        node.host_index = self.host;
        node.status = self.status.unwrap_or(NodeStatus::Running);
        if node.status == NodeStatus::Running {
            let group = cluster.snapshot.group(&node.group);
            node.total = match &self.total {
                Some(total) => resources(total),
                None => group.unwrap().host_resources(self.host),
            };
            node.available = self
                .free
                .as_ref()
                .map_or_else(|| node.total.clone(), |free| resources(free));
            node.labels = group.map_or_else(Labels::new, |group| group.template.labels.clone());
            node.labels.extend(labels(&self.labels));
            node.idle_since = self.idle.map(|seconds| cluster.now.minus_ms(ms(seconds)));
        }
        node
    }
}

impl GangText {
    fn gang(&self) -> rayscaler::model::GangRequest {
        let shapes: Vec<(&str, u64)> = self
            .bundles
            .iter()
            .map(|bundle| (bundle.shape.as_str(), bundle.count.unwrap_or(1)))
            .collect();
        let mut gang = gang(&self.id, self.strategy, &shapes);
        if self.strategy != PlacementStrategy::StrictPack {
            for (bundle, text) in gang.bundles.iter_mut().zip(&self.bundles) {
                let selectors = text.selectors.iter().flatten();
                bundle.request.selectors = selectors.map(|text| selector(text)).collect();
            }
        }
        gang
    }
}

/// Decides every scenario of a file and compares.
pub(crate) fn run_file(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scenarios")
        .join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let scenarios: Vec<Scenario> = serde_saphyr::from_str(&text).unwrap();
    assert!(!scenarios.is_empty());
    let mut wrong = Vec::new();
    for scenario in &scenarios {
        let decision = scenario.cluster().decide_with(&scenario.engine());
        let lines = lines(&decision);
        if lines != scenario.expect {
            wrong.push(format!(
                "{} ({})\n  expected {:#?}\n  got {lines:#?}\n  {:#?}",
                scenario.id, scenario.says, scenario.expect, decision.groups
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
