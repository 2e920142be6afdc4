//! Situations and the decisions they lead to.
//!
//! Single decisions stand in `scenarios/*.yaml`, one file per subject; transcripts over several
//! decisions stand here.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use std::path::Path;

use rayscaler::engine::{ChainEntry, Engine};
use rayscaler::model::{
    AntiAffinity, LabelConstraint, LabelOperator, LabelSelector, Labels, NodeStatus,
    PlacementStrategy, ReplicaBounds, ReplicaName, SkippedGroup, UpscalingMode,
};
use rayscaler::policy::Registry;
use serde::Deserialize;
use support::builders::{Cluster, gang, group, labels, lines, resources, running, tasks};

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

fn run_file(name: &str) {
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

#[test]
fn groups_are_chosen_as_ray_chooses_them() {
    run_file("choice.yaml");
}

#[test]
fn nodes_that_are_there_come_first() {
    run_file("running.yaml");
}

#[test]
fn placement_groups_are_placed_whole_or_not_at_all() {
    run_file("gangs.yaml");
}

#[test]
fn labels_decide_where_requests_go() {
    run_file("labels.yaml");
}

#[test]
fn idle_nodes_go_and_asked_for_ones_stay() {
    run_file("idle.yaml");
}

#[test]
fn a_replica_is_one_unit() {
    run_file("multi_host.yaml");
}

#[test]
fn replicas_follow_the_raycluster_and_the_pods() {
    run_file("replicas.yaml");
}

#[test]
fn a_rescheduled_strict_spread_bundle_avoids_nodes_of_its_group() {
    let mut cluster = Cluster::default().group(group("cpu4", "CPU=4"));
    cluster = cluster.idle("cpu4", "w1", 5);
    cluster
        .node_mut("w1")
        .labels
        .insert("_PG_pg1".into(), String::new());
    let mut bundle = tasks("CPU=1", 1);
    let (label_name, label_value) = ("_PG_pg1".to_owned(), String::new());
    bundle.request.anti_affinity = Some(AntiAffinity {
        label_name,
        label_value,
    });
    let mut gang = gang("pg1", PlacementStrategy::StrictSpread, &[("CPU=1", 1)]);
    gang.bundles = vec![bundle];
    cluster.snapshot.gangs.push(gang);
    let expected = ["cpu4 1 -> 2: placement_group", "kept w1: idle_timeout"];
    assert_eq!(lines(&cluster.decide()), expected);
}

/// KubeRay's `TestRayClusterAutoscaler`: two actors one after the other, then none.
#[test]
fn actors_come_and_go() {
    let mut cluster = Cluster::default()
        .group(group("small", "CPU=1"))
        .demand("CPU=1", 1);
    for to in [1, 2] {
        let decision = cluster.decide();
        assert_eq!(
            lines(&decision),
            [format!("small {} -> {to}: tasks", to - 1)]
        );
        cluster.apply(&decision);
        assert!(
            !cluster.decide().is_change(),
            "the node on its way takes the actor"
        );
        cluster.settle();
        for node in cluster
            .snapshot
            .nodes
            .iter_mut()
            .filter(|node| node.name.as_str() != "head")
        {
            node.available = resources("");
        }
    }
    cluster.snapshot.demands.clear();
    let now = cluster.now;
    let workers = cluster
        .snapshot
        .nodes
        .iter_mut()
        .filter(|node| node.name.as_str() != "head");
    for node in workers {
        (node.available, node.idle_since) = (node.total.clone(), Some(now));
    }
    let waiting = cluster.decide();
    assert_eq!(waiting.kept_idle.len(), 2);
    cluster.now = now.plus_ms(60_001);
    let done = waiting.next_check_at.unwrap().min(cluster.now);
    assert_eq!(
        done,
        now.plus_ms(10_001),
        "the snapshot itself becomes stale first"
    );
    refresh(&mut cluster);
    let decision = cluster.decide();
    assert_eq!(lines(&decision)[0], "small 2 -> 0: idle_timeout");
    cluster.apply(&decision);
    cluster.history.absorb(
        &rayscaler::model::Input::Observed(&cluster.snapshot),
        cluster.now,
    );
    cluster.settle();
    cluster.history.absorb(
        &rayscaler::model::Input::Observed(&cluster.snapshot),
        cluster.now,
    );
    let forgetting = cluster.decide();
    assert_eq!(forgetting.groups[0].forget.len(), 2, "{forgetting:#?}");
    assert_eq!(forgetting.groups[0].replicas_to, 0);
}

fn refresh(cluster: &mut Cluster) {
    let at = Some(cluster.now);
    let known = &mut cluster.snapshot.completeness;
    (known.gcs_at, known.pods_at, known.raycluster_at) = (at, at, at);
}

/// KubeRay's `UpscalingModeConservative`: ten actors at once, ten nodes in the end.
#[test]
fn conservative_doubles_at_most_whatever_the_speed_of_the_loop() {
    let mut cluster = Cluster::default()
        .group(group("small", "CPU=1"))
        .demand("CPU=1", 10);
    cluster.snapshot.upscaling_mode = UpscalingMode::Conservative;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let decision = cluster.decide();
        seen.push(decision.groups[0].replicas_to);
        cluster.apply(&decision);
        assert!(
            !cluster.decide().is_change(),
            "a faster loop changes nothing"
        );
        cluster.settle();
    }
    assert_eq!(seen, [1, 2, 4, 8, 10]);
}

#[test]
fn what_conservative_cuts_is_reported() {
    let mut cluster = Cluster::default()
        .group(group("small", "CPU=1"))
        .demand("CPU=1", 10);
    cluster.snapshot.upscaling_mode = UpscalingMode::Conservative;
    let decision = cluster.decide();
    let expected = [
        "small 0 -> 1: tasks, upscaling_mode",
        "unserved 9 x {CPU: 1}: upscaling_mode",
    ];
    assert_eq!(lines(&decision), expected);
}

#[test]
fn old_knowledge_removes_nothing_and_missing_knowledge_does_nothing() {
    let cluster = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .idle("cpu4", "w1", 100);
    let mut stale = cluster.clone().demand("CPU=4", 2);
    stale.snapshot.completeness.pods_at = Some(stale.now.minus_ms(10_001));
    assert_eq!(
        lines(&stale.decide()),
        [
            "cpu4 1 -> 2: tasks",
            "kept w1: needed_by_demand",
            "hold stale"
        ]
    );
    stale.snapshot.demands.clear();
    assert_eq!(lines(&stale.decide()), ["kept w1: stale", "hold stale"]);
    let mut blind = cluster.clone().demand("CPU=4", 2);
    blind.snapshot.completeness.gcs_at = Some(blind.now.minus_ms(10_001));
    assert_eq!(lines(&blind.decide()), ["hold stale"]);
    blind.snapshot.completeness.gcs_at = None;
    assert_eq!(lines(&blind.decide()), ["hold incomplete"]);
    let mut headless = cluster.clone().demand("CPU=4", 2);
    headless.node_mut("head").status = NodeStatus::Starting;
    assert_eq!(lines(&headless.decide()), ["hold head_not_running"]);
    let mut suspended = cluster.clone();
    suspended.snapshot.is_suspended = true;
    assert_eq!(lines(&suspended.decide()), ["hold suspended"]);
    let mut paused = cluster;
    paused.snapshot.paused = Some("annotation".into());
    assert_eq!(
        lines(&paused.decide()),
        [
            "cpu4 1 -> 0: idle_timeout",
            "remove w1 (Idle)",
            "hold paused"
        ]
    );
}

#[test]
fn a_refused_drain_is_not_asked_again_at_once() {
    let mut cluster = Cluster::default()
        .group(group("cpu4", "CPU=4"))
        .idle("cpu4", "w1", 100);
    cluster
        .history
        .drain_refused_at
        .insert("w1".into(), cluster.now);
    let decision = cluster.decide();
    assert_eq!(lines(&decision), ["kept w1: drain_refused"]);
    assert_eq!(decision.next_check_at, Some(cluster.now.plus_ms(5_000)));
    cluster.now = cluster.now.plus_ms(5_000);
    assert_eq!(
        lines(&cluster.decide()),
        ["cpu4 1 -> 0: idle_timeout", "remove w1 (Idle)"]
    );
}

#[test]
fn a_zombie_is_replaced_in_the_patch_that_names_it() {
    let mut only = group("cpu4", "CPU=4");
    only.bounds = ReplicaBounds { min: 1, max: 1 };
    let mut zombie = running("cpu4", "w1", "");
    zombie.status = NodeStatus::Stopped;
    let mut cluster = Cluster::default().group(only).node(zombie);
    let since = cluster.now.minus_ms(20_000);
    cluster.history.stopped_since.insert("w1".into(), since);
    let waiting = cluster.decide();
    assert!(
        !waiting.is_change(),
        "at the maximum nothing replaces a raylet that may come back"
    );
    cluster.now = since.plus_ms(30_000);
    let decision = cluster.decide();
    assert_eq!(
        lines(&decision),
        ["cpu4 1 -> 1: stopped, minimum", "remove w1 (Stopped)"]
    );
}

#[test]
fn names_are_forgotten_when_their_pods_are_gone_and_the_operator_had_its_time() {
    let mut listed = group("cpu4", "CPU=4");
    listed.workers_to_delete = vec!["seen".into(), "strange".into(), "here".into()];
    let mut here = running("cpu4", "here", "CPU=4");
    here.status = NodeStatus::Deleting;
    let mut cluster = Cluster::default().group(listed).node(here);
    cluster.history.named_seen.insert("seen".into());
    cluster
        .history
        .listed_without_pod_since
        .insert("strange".into(), cluster.now);
    let decision = cluster.decide();
    assert_eq!(lines(&decision), ["cpu4 0 -> 0", "forget seen"]);
    assert_eq!(decision.next_check_at, Some(cluster.now.plus_ms(5_000)));
    cluster.now = cluster.now.plus_ms(5_000);
    assert_eq!(
        lines(&cluster.decide()),
        ["cpu4 0 -> 0", "forget seen", "forget strange"]
    );
}

#[test]
fn hostile_numbers_get_an_answer() {
    let mut wide = group("wide", "CPU=4");
    wide.bounds.max = 2_147_483_647;
    let cluster = Cluster::default()
        .group(wide.clone())
        .demand("CPU=1", u64::MAX)
        .demand("", u64::MAX);
    assert_eq!(cluster.decide().groups[0].replicas_to, 2_147_483_647);
    let mut hosts = wide.clone();
    (hosts.num_of_hosts, hosts.bounds.max) = (u32::MAX, u32::MAX);
    let cluster = Cluster::default()
        .group(hosts)
        .demand("CPU=1", u64::MAX)
        .constraint("CPU=3", u64::MAX);
    assert!(cluster.decide().groups[0].replicas_to > 0);
    let mut asked = wide;
    asked.replicas = u32::MAX;
    let mut negative = running("wide", "w1", "CPU=4");
    negative.available = resources("CPU=-9e14");
    let cluster = Cluster::default()
        .group(asked)
        .node(negative.clone())
        .demand("CPU=3", 1_000_000_000_000);
    assert_eq!(cluster.decide().groups[0].replicas_to, 2_147_483_647);
    let empty = Cluster {
        snapshot: rayscaler::model::ClusterSnapshot::default(),
        ..Cluster::default()
    };
    assert!(!empty.decide().is_change());
}

#[test]
fn a_thousand_nodes_and_a_thousand_tasks_are_decided_at_once() {
    let mut cluster = Cluster::default().group(group("cpu8", "CPU=8 memory=3.2e10"));
    cluster.group_mut("cpu8").bounds.max = 5_000;
    for at in 0..1_000_u32 {
        let mut node = running("cpu8", &format!("w{at:04}"), "CPU=8 memory=3.2e10");
        node.available = resources(&format!("CPU={} memory=1.6e10", at % 8));
        node.total.set(
            format!("node:10.0.{}.{}", at / 256, at % 256)
                .as_str()
                .into(),
            rayscaler::model::Quantity::from_whole(1),
        );
        cluster = cluster.node(node);
    }
    for shape in 1..=8 {
        cluster = cluster.demand(&format!("CPU={shape}"), 125);
    }
    let decision = cluster.decide();
    assert!(decision.groups[0].replicas_to > 1_000 && decision.unserved.is_empty());
}
