//! Draining and patching under virtual time: how long an act takes, and what it finds out before a pod is named.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod core;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use core::builders::{Cluster, NOW, group, resources, running};
use rayscaler::act::{DrainSettings, Drained, Drainer, Refusal};
use rayscaler::clock::Clock;
use rayscaler::embedded::Now;
use rayscaler::embedded::ray::{
    CallFault, Callee, Faults, NodeSpec, RayHead, Settings as RaySettings, Tasks,
};
use rayscaler::model::{
    ClusterSnapshot, Finish, GroupDecision, Labels, Node, NodeId, NodeStatus, PodName,
    RemovalCause, ReplicaName, ReplicaRemoval, ResourceMap, ScaleDecision, WorkerGroupName,
};
use rayscaler::wire::gcs::{AuthSettings, GcsClient, RayletClient};

const SETTINGS: DrainSettings = DrainSettings {
    answer_ms: 2_000,
    preemption_ms: 30_000,
    alive_within_ms: 2_000,
};

/// What the sidecar gives an act in which nothing grows.
const WITHIN: Duration = Duration::from_millis(2_200);

/// A Ray head in this process, and what drains its nodes.
struct World {
    clock: Clock,
    ray: RayHead,
    drainer: Drainer,
    nodes: BTreeMap<String, (NodeId, String)>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::starting_at(NOW);
        let now: Now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let ray = RayHead::new(RaySettings::default(), now);
        tokio::spawn({
            let ray = ray.clone();
            async move { ray.run().await }
        });
        let gcs = GcsClient::over(ray.gcs_channel(), AuthSettings::Disabled);
        // As the sidecar's own.
        let raylets = RayletClient::over(ray.raylet_channels(), AuthSettings::Disabled)
            .with_deadline(Duration::from_millis(250));
        let drainer = Drainer::new(&gcs, raylets, clock.clone(), SETTINGS);
        let mut world = Self {
            clock,
            ray,
            drainer,
            nodes: BTreeMap::new(),
        };
        world.raylet("head-0", true);
        world
    }

    /// Starts a raylet; a worker has 2 CPUs and a resource of its own.
    fn raylet(&mut self, pod: &str, is_head: bool) {
        let at = self.nodes.len() + 1;
        let (address, port) = (format!("10.0.{}.{}", at / 200, at % 200 + 1), 7000);
        let mut amounts = resources(&format!("CPU=2 {pod}=1"));
        if is_head {
            amounts = ResourceMap::new();
        }
        let id = self.ray.start_node(NodeSpec {
            pod: pod.to_owned(),
            group: if is_head { "headgroup" } else { "small" }.to_owned(),
            resources: amounts,
            labels: Labels::new(),
            address: address.clone(),
            port,
            is_head,
        });
        let known = (id, format!("{address}:{port}"));
        self.nodes.insert(pod.to_owned(), known);
    }

    fn raylets(&mut self, pods: &[&str]) {
        pods.iter().for_each(|pod| self.raylet(pod, false));
    }

    fn address(&self, pod: &str) -> &str {
        let (_, address) = &self.nodes[pod];
        address.split(':').next().unwrap()
    }

    async fn pass_ms(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Returns a node as it is seen: idle since now.
    fn idle(&self, pod: &str, replica: &str) -> Node {
        let mut node = running("small", pod, "CPU=2");
        if let Some((id, address)) = self.nodes.get(pod) {
            (node.node_id, node.raylet_address) = (Some(*id), Some(address.clone()));
        }
        node.replica = ReplicaName::from(replica);
        node.idle_since = Some(self.clock.now());
        node
    }

    /// Returns a pod whose raylet is not known.
    fn without_raylet(&self, pod: &str, replica: &str, status: NodeStatus) -> Node {
        let mut node = running("small", pod, "CPU=2");
        (node.status, node.replica) = (status, ReplicaName::from(replica));
        node
    }

    /// Returns what is known: the GCS's state has just come.
    fn snapshot(&self, nodes: &[Node]) -> ClusterSnapshot {
        let mut cluster = Cluster::default().group(group("small", "CPU=2"));
        for node in nodes {
            cluster = cluster.node(node.clone());
        }
        cluster.snapshot.completeness.gcs_at = Some(self.clock.now());
        cluster.snapshot
    }

    /// Removes a replica of these nodes.
    async fn remove(&self, nodes: &[Node], cause: RemovalCause) -> Drained {
        let pods = nodes.iter().map(|node| node.name.as_str());
        let decision = decision(vec![removal(&pods.collect::<Vec<_>>(), cause)]);
        let snapshot = self.snapshot(nodes);
        self.drainer
            .drain_within(&snapshot, &decision, Some(WITHIN))
            .await
    }
}

fn removal(pods: &[&str], cause: RemovalCause) -> ReplicaRemoval {
    ReplicaRemoval {
        replica: ReplicaName::from(pods[0]),
        pods: pods.iter().map(|pod| PodName::from(*pod)).collect(),
        cause,
        idle_ms: 61_000,
        finish: Finish::default(),
    }
}

fn decision(remove: Vec<ReplicaRemoval>) -> ScaleDecision {
    ScaleDecision {
        groups: vec![GroupDecision {
            name: WorkerGroupName::from("small"),
            replicas_from: 1,
            replicas_to: 0,
            remove,
            forget: Vec::new(),
            reasons: Vec::new(),
        }],
        ..ScaleDecision::default()
    }
}

fn names(pods: &[&str]) -> BTreeSet<PodName> {
    pods.iter().map(|pod| PodName::from(*pod)).collect()
}

fn codes(refused: &[Refusal]) -> Vec<(&str, &str)> {
    let refused = refused.iter();
    refused
        .map(|refusal| (refusal.pod.as_str(), refusal.code))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_dead_zone_takes_one_act_two_seconds_and_who_lives_gets_its_turn() {
    let mut world = World::new();
    let pods: Vec<String> = (0..60).map(|at| format!("w-{at:02}")).collect();
    let all: Vec<&str> = pods.iter().map(String::as_str).collect();
    world.raylets(&all);
    world.pass_ms(1_000).await;
    let (dead, healthy) = all.split_at(40);
    for pod in dead {
        world.ray.kill_node(world.nodes[*pod].0);
    }
    let nodes: Vec<Node> = all.iter().map(|pod| world.idle(pod, pod)).collect();
    let remove = |pods: &[&str]| {
        let idle = |pod: &&str| removal(&[pod], RemovalCause::Idle);
        decision(pods.iter().map(idle).collect())
    };

    let began = world.clock.now();
    let snapshot = world.snapshot(&nodes);
    let drained = world
        .drainer
        .drain_within(&snapshot, &remove(&all), Some(WITHIN))
        .await;
    let took_ms = world.clock.now().millis_since(began);
    assert!(took_ms <= 2_300, "{took_ms} ms");
    let silent: Vec<(&str, &str)> = dead.iter().map(|pod| (*pod, "no_answer")).collect();
    assert!(drained.accepted.is_empty() && drained.may_go.is_empty());
    assert_eq!(codes(&drained.refused), silent[..drained.refused.len()]);
    // Nobody has refused who was not asked.
    assert_eq!(drained.refused.len() + drained.not_asked, 60);
    assert!(drained.not_asked >= 20, "{}", drained.not_asked);

    // Those that did not answer are left alone for a while; the next ones are asked.
    let rest = &all[drained.refused.len()..];
    let snapshot = world.snapshot(&nodes);
    let drained = world
        .drainer
        .drain_within(&snapshot, &remove(rest), Some(WITHIN))
        .await;
    assert_eq!(drained.may_go, names(healthy));
    assert_eq!(drained.not_asked, 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_replica_that_is_cut_short_nobody_goes_and_the_accepted_drain_is_known() {
    let mut world = World::new();
    world.raylets(&["r-0", "r-1", "o-0"]);
    world.pass_ms(1_000).await;
    world.ray.kill_node(world.nodes["r-1"].0);
    let nodes = [
        world.idle("r-0", "r"),
        world.idle("r-1", "r"),
        world.idle("o-0", "o"),
    ];
    let decision = decision(vec![
        removal(&["r-0", "r-1"], RemovalCause::Idle),
        removal(&["o-0"], RemovalCause::Idle),
    ]);
    let began = world.clock.now();
    let drained = world
        .drainer
        .drain_within(
            &world.snapshot(&nodes),
            &decision,
            Some(Duration::from_millis(400)),
        )
        .await;
    assert!(world.clock.now().millis_since(began) <= 500);
    assert_eq!(drained.may_go, names(&["o-0"]));
    assert_eq!(drained.accepted, ["o-0", "r-0"].map(PodName::from));
    assert_eq!(codes(&drained.refused), [("r-1", "no_answer")]);
}

#[tokio::test(start_paused = true)]
async fn whoever_must_go_is_told_before_the_idle_are_asked() {
    let mut world = World::new();
    let pods: Vec<String> = (0..20).map(|at| format!("w-{at:02}")).collect();
    let idle: Vec<&str> = pods.iter().map(String::as_str).collect();
    world.raylets(&idle);
    world.raylets(&["z"]);
    world.pass_ms(1_000).await;
    for pod in &idle {
        world.ray.kill_node(world.nodes[*pod].0);
    }
    let mut nodes: Vec<Node> = idle.iter().map(|pod| world.idle(pod, pod)).collect();
    nodes.push(world.idle("z", "z"));
    let removals = idle.iter().map(|pod| removal(&[pod], RemovalCause::Idle));
    let removals = removals.chain([removal(&["z"], RemovalCause::AboveMax)]);
    let drained = world
        .drainer
        .drain_within(
            &world.snapshot(&nodes),
            &decision(removals.collect()),
            Some(WITHIN),
        )
        .await;
    assert_eq!(drained.may_go, names(&["z"]));
}

#[tokio::test(start_paused = true)]
async fn of_many_that_must_go_and_do_not_answer_each_has_its_time_and_no_more() {
    let mut world = World::new();
    let pods: Vec<String> = (0..40).map(|at| format!("w-{at:02}")).collect();
    let all: Vec<&str> = pods.iter().map(String::as_str).collect();
    world.raylets(&all);
    world.pass_ms(1_000).await;
    for pod in &all {
        world.ray.kill_node(world.nodes[*pod].0);
    }
    let mut nodes: Vec<Node> = all.iter().map(|pod| world.idle(pod, pod)).collect();
    for node in &mut nodes {
        node.idle_since = None;
    }
    let mut told = BTreeMap::new();
    for pass in 1..=3 {
        let must_go = |pod: &&str| {
            let mut must_go = removal(&[pod], RemovalCause::AboveMax);
            must_go.finish.by = told.get(&PodName::from(*pod)).copied();
            must_go
        };
        let decision = decision(all.iter().map(must_go).collect());
        let snapshot = world.snapshot(&nodes);
        let drained = world
            .drainer
            .drain_within(&snapshot, &decision, Some(WITHIN))
            .await;
        assert!(drained.may_go.is_empty(), "their time is not up");
        // Whoever was told in an earlier pass stays off the number.
        assert!(told.keys().all(|pod| drained.leaving.contains_key(pod)));
        told = drained.leaving;
        assert_eq!(told.len() + drained.not_asked, 40);
        assert!(told.len() >= 40.min(pass * 16), "{}", told.len());
    }
    world.pass_ms(30_000).await;
    let must_go = |pod: &&str| {
        let mut must_go = removal(&[pod], RemovalCause::AboveMax);
        must_go.finish.by = told.get(&PodName::from(*pod)).copied();
        must_go
    };
    let decision = decision(all.iter().map(must_go).collect());
    let snapshot = world.snapshot(&nodes);
    let drained = world
        .drainer
        .drain_within(&snapshot, &decision, Some(WITHIN))
        .await;
    assert_eq!(drained.may_go, names(&all));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_joined_after_the_reply_keeps_its_replica() {
    use NodeStatus::{Starting, Stopped};
    let mut world = World::new();
    world.raylets(&["new-1", "by-address"]);
    world.pass_ms(100).await;
    let without = |pod, status| world.without_raylet(pod, "r", status);
    let causes = [
        (RemovalCause::Stopped, Stopped, "not_stopped"),
        (RemovalCause::Stuck, Starting, "has_registered"),
        (RemovalCause::Withdrawn, Starting, "has_registered"),
    ];
    for (cause, first, code) in causes {
        let hosts = [without("old-0", first), without("new-1", Starting)];
        let drained = world.remove(&hosts, cause).await;
        assert_eq!(codes(&drained.refused), [("new-1", code)], "{cause:?}");
        assert!(drained.may_go.is_empty(), "{cause:?}");

        // Its raylet calls itself by another name than its pod's.
        let mut renamed = without("renamed-1", Starting);
        renamed.pod_ip = world.address("by-address").to_owned();
        let hosts = [without("old-0", first), renamed.clone()];
        let drained = world.remove(&hosts, cause).await;
        assert_eq!(codes(&drained.refused), [("renamed-1", code)], "{cause:?}");
        // Unless it is another pod's that shares the address.
        let mut owner = world.idle("by-address", "other");
        owner.pod_ip.clone_from(&renamed.pod_ip);
        let decision = decision(vec![removal(&["old-0", "renamed-1"], cause)]);
        let snapshot = world.snapshot(&[hosts[0].clone(), renamed, owner]);
        let drained = world.drainer.drain(&snapshot, &decision).await;
        assert_eq!(drained.may_go, names(&["old-0", "renamed-1"]), "{cause:?}");

        let hosts = [without("old-0", first), without("never-1", Starting)];
        let drained = world.remove(&hosts, cause).await;
        assert_eq!(drained.may_go, names(&["old-0", "never-1"]), "{cause:?}");
    }
    // One host is gone, the rest is idle: the gone one may be back with work.
    let hosts = [without("new-1", Stopped), world.idle("by-address", "r")];
    let drained = world.remove(&hosts, RemovalCause::Idle).await;
    assert_eq!(codes(&drained.refused), [("new-1", "not_stopped")]);
    assert!(drained.accepted.is_empty() && drained.may_go.is_empty());
    // The same where a host has not come yet: it may have come meanwhile.
    let torn = |third| {
        let second = world.idle("by-address", "r");
        [without("old-0", Stopped), second, without(third, Starting)]
    };
    let half = RemovalCause::HalfStarted;
    let drained = world.remove(&torn("new-1"), half).await;
    assert_eq!(codes(&drained.refused), [("new-1", "has_registered")]);
    assert!(drained.accepted.is_empty() && drained.may_go.is_empty());
    let drained = world.remove(&torn("never-2"), half).await;
    assert_eq!(drained.may_go, names(&["old-0", "by-address", "never-2"]));
    // And nobody is named while the GCS does not say who lives.
    world.ray.set_faults(Arc::new(Unanswered("GetAllNodeInfo")));
    let hosts = [without("old-0", Stopped), without("never-1", Starting)];
    for cause in [RemovalCause::Stopped, RemovalCause::AboveMax] {
        let drained = world.remove(&hosts, cause).await;
        assert!(drained.may_go.is_empty(), "{cause:?}");
    }
}

/// Lets calls of one method wait for ever.
struct Unanswered(&'static str);

impl Faults for Unanswered {
    fn on_call(&self, _callee: Callee, method: &str) -> Option<CallFault> {
        (method == self.0).then_some(CallFault::Hangs)
    }
}

/// Submits a task just before a drain reaches the GCS.
struct WorkComes(RayHead, &'static str);

impl Faults for WorkComes {
    fn on_call(&self, _callee: Callee, method: &str) -> Option<CallFault> {
        if method == "DrainNode" {
            self.0.submit_tasks(Tasks {
                resources: resources(self.1),
                count: 1,
                ..Tasks::default()
            });
        }
        None
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_comes_before_the_drain_has_its_time() {
    let mut world = World::new();
    world.raylets(&["w"]);
    world.pass_ms(1_000).await;
    let faults = WorkComes(world.ray.clone(), "w=1");
    world.ray.set_faults(Arc::new(faults));
    let asked_at = world.clock.now();
    let nodes = [world.idle("w", "w")];
    let drained = world.remove(&nodes, RemovalCause::Ordered).await;
    assert_eq!(world.ray.view().works[0].running, 1);
    assert_eq!(drained.accepted, [PodName::from("w")]);
    assert!(drained.may_go.is_empty(), "it works");
    let by = drained.leaving[&PodName::from("w")];
    assert!(by >= asked_at.plus_ms(30_000), "{by:?}");
}

#[tokio::test(start_paused = true)]
async fn a_raylet_that_joined_before_its_replica_is_taken_has_its_time() {
    let mut world = World::new();
    world.raylets(&["w"]);
    world.pass_ms(100).await;
    let starting = |pod| [world.without_raylet(pod, pod, NodeStatus::Starting)];
    let drained = world.remove(&starting("w"), RemovalCause::AboveMax).await;
    assert!(drained.may_go.is_empty(), "it may have work");
    assert_eq!(drained.leaving.len(), 1);
    let drained = world
        .remove(&starting("never"), RemovalCause::AboveMax)
        .await;
    assert_eq!(drained.may_go, names(&["never"]));
}

#[tokio::test(start_paused = true)]
async fn a_raylet_that_has_worked_since_it_was_seen_idle_stays() {
    let mut world = World::new();
    world.raylets(&["w", "idle"]);
    world.pass_ms(1_000).await;
    let nodes = ["w", "idle"].map(|pod| world.idle(pod, pod));
    world.pass_ms(60_000).await;
    world.ray.submit_tasks(Tasks {
        resources: resources("w=1"),
        count: 1,
        duration_ms: Some(20),
        ..Tasks::default()
    });
    world.pass_ms(25).await;
    assert_eq!(world.ray.view().works[0].running, 0, "it is over");
    let [worked, idle] = nodes;
    let drained = world
        .remove(std::slice::from_ref(&worked), RemovalCause::Idle)
        .await;
    assert_eq!(codes(&drained.refused), [("w", "busy_now")]);
    assert!(drained.accepted.is_empty());
    let drained = world.remove(&[idle], RemovalCause::Idle).await;
    assert_eq!(drained.may_go, names(&["idle"]));
    // It must go, and has nothing to finish.
    let drained = world.remove(&[worked], RemovalCause::Ordered).await;
    assert_eq!(drained.may_go, names(&["w"]));
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_nothing_more_is_begun_and_what_does_not_answer_is_soon_left() {
    let mut world = World::new();
    world.raylets(&["dead", "w"]);
    world.pass_ms(1_000).await;
    world.ray.kill_node(world.nodes["dead"].0);
    let (stop, stopping) = tokio::sync::watch::channel(false);
    world.drainer = world.drainer.clone().stopped_by(stopping);
    let snapshot = world.snapshot(&["dead", "w"].map(|pod| world.idle(pod, pod)));
    let both = decision(
        ["dead", "w"]
            .map(|pod| removal(&[pod], RemovalCause::Idle))
            .into(),
    );
    let began = world.clock.now();
    let drains = world.drainer.drain(&snapshot, &both);
    let (drained, ()) = tokio::join!(drains, async {
        world.pass_ms(100).await;
        stop.send_replace(true);
    });
    assert!(world.clock.now().millis_since(began) <= 700);
    assert_eq!(drained.may_go, names(&["w"]));
    assert_eq!(world.drainer.drain(&snapshot, &both).await.not_asked, 2);
}
