//! Draining real raylets: who agrees, who refuses, and who is not even asked.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod core;
mod support;

use std::collections::BTreeSet;

use core::builders::{Cluster, group, running};
use rayscaler::act::{DrainSettings, Drainer, Refusal};
use rayscaler::clock::Clock;
use rayscaler::model::{
    ClusterSnapshot, GroupDecision, Node, NodeId, NodeStatus, PodName, RemovalCause, ReplicaName,
    ReplicaRemoval, ScaleDecision, WorkerGroupName,
};
use rayscaler::wire::gcs::ray::rpc::autoscaler::NodeStatus as WireStatus;
use rayscaler::wire::gcs::{GcsClient, GcsSettings};
use support::ray::{HeadOptions, RayHead, RayVersion, RayWorker, WorkerOptions};

const HOLD: &str = r#"{"CPU": 1, "X": 1}"#;

const SETTINGS: DrainSettings = DrainSettings {
    answer_ms: 20_000,
    preemption_ms: 600_000,
    alive_within_ms: 2_000,
};

struct World {
    head: RayHead,
    clock: Clock,
    drainer: Drainer,
}

impl World {
    async fn start(version: RayVersion) -> Self {
        let head = RayHead::start(HeadOptions {
            version,
            ..HeadOptions::default()
        })
        .await;
        let clock = Clock::system();
        let drainer = Drainer::new(&head.client(), head.raylets(), clock.clone(), SETTINGS);
        Self {
            head,
            clock,
            drainer,
        }
    }

    async fn worker(&self, pod: &str, resources: &str) -> RayWorker {
        let mut options = WorkerOptions::named(pod);
        options.resources = resources.to_owned();
        self.head.start_worker(options).await
    }

    /// Starts a worker and waits until it is idle, which a new one is not at once.
    async fn idle_worker(&self, pod: &str) -> RayWorker {
        let worker = self.worker(pod, "").await;
        let client = self.head.client();
        worker
            .wait_until(&client, |state| state.status() == WireStatus::Idle)
            .await;
        worker
    }

    /// Returns what was seen just now: these workers, idle as far as anybody knows.
    fn snapshot(&self, nodes: Vec<Node>) -> ClusterSnapshot {
        let mut cluster = Cluster::default().group(group("small", "CPU=2"));
        for node in nodes {
            cluster = cluster.node(node);
        }
        cluster.snapshot.completeness.gcs_at = Some(self.clock.now());
        cluster.snapshot
    }

    async fn wire_status(&self, worker: &RayWorker) -> WireStatus {
        let reply = self.head.client().get_cluster_resource_state().await;
        let nodes = reply.unwrap().cluster_resource_state.unwrap().node_states;
        let node = nodes
            .iter()
            .find(|node| node.node_id == worker.info.node_id);
        node.unwrap().status()
    }
}

fn node(worker: &RayWorker, replica: &str, host_index: u32) -> Node {
    let mut node = running("small", &worker.info.instance_id, "CPU=2");
    node.node_id = NodeId::from_bytes(&worker.info.node_id);
    node.raylet_address = Some(worker.raylet_address());
    node.replica = ReplicaName::from(replica);
    node.host_index = host_index;
    node
}

fn removal(replica: &str, pods: &[&str], cause: RemovalCause) -> ScaleDecision {
    let removal = ReplicaRemoval {
        replica: ReplicaName::from(replica),
        pods: pods.iter().map(|pod| PodName::from(*pod)).collect(),
        cause,
        idle_ms: 61_000,
        finish: rayscaler::model::Finish::default(),
    };
    ScaleDecision {
        groups: vec![GroupDecision {
            name: WorkerGroupName::from("small"),
            replicas_from: 1,
            replicas_to: 0,
            remove: vec![removal],
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

async fn idle_goes_and_busy_stays(version: RayVersion) {
    let world = World::start(version).await;
    let busy = world.worker("busy-0", r#"{"X": 1}"#).await;
    let mut driver = world.head.driver("hold_task.py", &[HOLD]);
    driver.prints("running").await;
    let idle = world.idle_worker("idle-0").await;

    let snapshot = world.snapshot(vec![node(&busy, "busy-0", 0)]);
    let decision = removal("busy-0", &["busy-0"], RemovalCause::Idle);
    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert_eq!(codes(&drained.refused), [("busy-0", "busy_now")]);
    assert!(drained.may_go.is_empty() && drained.accepted.is_empty());
    assert_eq!(world.wire_status(&busy).await, WireStatus::Running);

    // Its raylet cannot be asked beforehand: the drain itself is refused.
    let mut unknown = node(&busy, "busy-0", 0);
    unknown.raylet_address = None;
    let snapshot = world.snapshot(vec![unknown]);
    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert_eq!(codes(&drained.refused), [("busy-0", "refused")]);
    assert!(!drained.refused[0].message.is_empty());

    let snapshot = world.snapshot(vec![node(&idle, "idle-0", 0)]);
    let decision = removal("idle-0", &["idle-0"], RemovalCause::Idle);
    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert!(drained.refused.is_empty(), "{:?}", drained.refused);
    assert_eq!(drained.accepted, [PodName::from("idle-0")]);
    assert_eq!(drained.may_go, names(&["idle-0"]));
    let client = world.head.client();
    idle.wait_until(&client, |state| state.status() == WireStatus::Dead)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_raylet_goes_and_a_busy_one_stays() {
    idle_goes_and_busy_stays(RayVersion::Newest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_raylet_of_the_oldest_ray_goes_and_a_busy_one_stays() {
    idle_goes_and_busy_stays(RayVersion::Oldest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_replica_with_one_busy_host_nobody_is_drained() {
    let world = World::start(RayVersion::Newest).await;
    let busy = world.worker("r-1", r#"{"X": 1}"#).await;
    let mut driver = world.head.driver("hold_task.py", &[HOLD]);
    driver.prints("running").await;
    let idle = world.idle_worker("r-0").await;
    let snapshot = world.snapshot(vec![node(&idle, "r", 0), node(&busy, "r", 1)]);
    let decision = removal("r", &["r-0", "r-1"], RemovalCause::Idle);
    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert_eq!(codes(&drained.refused), [("r-1", "busy_now")]);
    assert!(drained.may_go.is_empty() && drained.accepted.is_empty());
    for worker in [&idle, &busy] {
        let status = world.wire_status(worker).await;
        assert!(
            matches!(status, WireStatus::Idle | WireStatus::Running),
            "{status:?}"
        );
    }

    // The user lowers maxReplicas: both are told, work or not, and have time to finish.
    let mut decision = removal("r", &["r-0", "r-1"], RemovalCause::AboveMax);
    let asked_at = world.clock.now();
    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert!(drained.refused.is_empty() && drained.may_go.is_empty());
    assert!(drained.accepted.contains(&PodName::from("r-1")));
    let leaving: BTreeSet<PodName> = drained.leaving.keys().cloned().collect();
    assert_eq!(leaving, names(&["r-0", "r-1"]));
    let by = drained.leaving[&PodName::from("r-1")];
    assert!(by >= asked_at.plus_ms(600_000), "{by:?}");
    let client = world.head.client();
    busy.wait_until(&client, |state| state.status() == WireStatus::Draining)
        .await;
    // It goes on working; told again nothing changes, and when its time is up it is named.
    let mut draining = node(&busy, "r", 1);
    draining.status = NodeStatus::Draining;
    let mut stopped = node(&idle, "r", 0);
    stopped.status = NodeStatus::Stopped;
    let snapshot = world.snapshot(vec![stopped, draining]);
    decision.groups[0].remove[0].finish.by = Some(by);
    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert!(drained.accepted.is_empty() && drained.may_go.is_empty());
    assert_eq!(drained.leaving.len(), 2);
    decision.groups[0].remove[0].finish.by = Some(world.clock.now());
    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert_eq!(drained.may_go, names(&["r-0", "r-1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_nothing_to_finish_goes_at_once_and_who_is_named_by_others_is_told() {
    let world = World::start(RayVersion::Newest).await;
    let busy = world.worker("busy-0", r#"{"X": 1}"#).await;
    let mut driver = world.head.driver("hold_task.py", &[HOLD]);
    driver.prints("running").await;
    let idle = world.idle_worker("idle-0").await;

    let mut free = node(&idle, "idle-0", 0);
    free.idle_since = Some(world.clock.now());
    let snapshot = world.snapshot(vec![free]);
    let decision = removal("idle-0", &["idle-0"], RemovalCause::Ordered);
    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert_eq!(drained.may_go, names(&["idle-0"]));
    assert!(drained.leaving.is_empty());

    // Idle by the GCS's last word, and yet it works: the raylet knows better.
    let mut outdated = node(&busy, "busy-0", 0);
    outdated.idle_since = Some(world.clock.now());
    let snapshot = world.snapshot(vec![outdated]);
    let mut decision = removal("busy-0", &["busy-0"], RemovalCause::Ordered);
    decision.groups[0].remove[0].finish.within_ms = Some(0);
    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert_eq!(drained.may_go, names(&["busy-0"]), "no time, no waiting");

    let pods = [PodName::from("busy-0"), PodName::from("unknown")];
    let told = world.drainer.tell(&snapshot, &pods).await;
    assert_eq!(told.accepted, [PodName::from("busy-0")]);
    assert_eq!(codes(&told.refused), [("unknown", "no_answer")]);
    // The GCS hears of it with the raylet's next report.
    let client = world.head.client();
    busy.wait_until(&client, |state| state.status() == WireStatus::Draining)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_to_be_alive_is_not_drained() {
    let world = World::start(RayVersion::Newest).await;
    let worker = world.worker("w", "").await;
    let decision = removal("w", &["w"], RemovalCause::Idle);

    // Where the state is old the GCS is asked who lives: another node in the same pod is not the one that was idle.
    let mut other = node(&worker, "w", 0);
    other.node_id = NodeId::from_bytes(&[7; 28]);
    let mut snapshot = world.snapshot(vec![other]);
    for gcs_at in [Some(world.clock.now().minus_ms(2_500)), None] {
        snapshot.completeness.gcs_at = gcs_at;
        let drained = world.drainer.drain(&snapshot, &decision).await;
        assert_eq!(codes(&drained.refused), [("w", "stale")]);
    }

    let mut starting = node(&worker, "w", 0);
    starting.status = NodeStatus::Starting;
    let drained = world
        .drainer
        .drain(&world.snapshot(vec![starting]), &decision)
        .await;
    assert_eq!(codes(&drained.refused), [("w", "not_running")]);

    let elsewhere = world.snapshot(Vec::new());
    let drained = world.drainer.drain(&elsewhere, &decision).await;
    assert_eq!(codes(&drained.refused), [("w", "not_running")]);
    assert!(drained.may_go.is_empty());

    // A raylet that is gone is not drained again, and one that is not gone is not `Stopped`.
    let stopped = removal("w", &["w"], RemovalCause::Stopped);
    let snapshot = world.snapshot(vec![node(&worker, "w", 0)]);
    let drained = world.drainer.drain(&snapshot, &stopped).await;
    assert_eq!(codes(&drained.refused), [("w", "not_stopped")]);
    // There is nobody to ask before a raylet has registered, and after that it must be asked; what a
    // decision was made from may be older than that.
    let cases = [
        (RemovalCause::Stopped, NodeStatus::Stopped, "not_stopped"),
        (
            RemovalCause::Withdrawn,
            NodeStatus::Starting,
            "has_registered",
        ),
        (RemovalCause::Stuck, NodeStatus::Starting, "has_registered"),
    ];
    for (cause, without, code) in cases {
        for status in [NodeStatus::Running, without] {
            let mut host = node(&worker, "w", 0);
            host.status = status;
            let snapshot = world.snapshot(vec![host]);
            let decision = removal("w", &["w"], cause);
            let drained = world.drainer.drain(&snapshot, &decision).await;
            assert_eq!(
                codes(&drained.refused),
                [("w", code)],
                "{cause:?} {status:?}"
            );
            assert!(drained.may_go.is_empty());
        }
        let mut host = node(&worker, "never", 0);
        (host.status, host.node_id) = (without, None);
        let snapshot = world.snapshot(vec![host]);
        let decision = removal("never", &["never"], cause);
        let drained = world.drainer.drain(&snapshot, &decision).await;
        assert_eq!(drained.may_go, names(&["never"]));
        assert!(drained.accepted.is_empty());
    }
    // Told to go and out of time: it goes although it lives.
    let mut told = node(&worker, "w", 0);
    told.status = NodeStatus::Draining;
    let stopped = removal("w", &["w"], RemovalCause::Stopped);
    let drained = world
        .drainer
        .drain(&world.snapshot(vec![told]), &stopped)
        .await;
    assert_eq!(drained.may_go, names(&["w"]));
    let status = world.wire_status(&worker).await;
    assert!(
        matches!(status, WireStatus::Idle | WireStatus::Running),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_replica_that_has_started_by_half_the_registered_host_is_drained_unless_the_other_has_come()
 {
    let world = World::start(RayVersion::Newest).await;
    let first = world.idle_worker("r-0").await;
    let second = world.worker("r-1", "").await;
    let cause = RemovalCause::HalfStarted;
    let half = |pod: &str| {
        let mut starting = node(&second, "r", 1);
        (starting.name, starting.status) = (PodName::from(pod), NodeStatus::Starting);
        (starting.node_id, starting.raylet_address) = (None, None);
        world.snapshot(vec![node(&first, "r", 0), starting])
    };
    // The other host has registered since: nobody is drained.
    let decision = removal("r", &["r-0", "r-1"], cause);
    let drained = world.drainer.drain(&half("r-1"), &decision).await;
    assert_eq!(codes(&drained.refused), [("r-1", "has_registered")]);
    assert!(drained.may_go.is_empty() && drained.accepted.is_empty());
    let status = world.wire_status(&first).await;
    assert!(matches!(status, WireStatus::Idle | WireStatus::Running));

    let decision = removal("r", &["r-0", "never"], cause);
    let drained = world.drainer.drain(&half("never"), &decision).await;
    assert!(drained.refused.is_empty(), "{:?}", drained.refused);
    assert_eq!(drained.accepted, [PodName::from("r-0")]);
    assert_eq!(drained.may_go, names(&["r-0", "never"]));
    let client = world.head.client();
    first
        .wait_until(&client, |state| state.status() == WireStatus::Dead)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_started_by_half_stays_while_its_registered_host_works() {
    let world = World::start(RayVersion::Newest).await;
    let busy = world.worker("r-0", r#"{"X": 1}"#).await;
    let mut driver = world.head.driver("hold_task.py", &[HOLD]);
    driver.prints("running").await;
    let mut starting = node(&busy, "r", 1);
    (starting.name, starting.status) = (PodName::from("never"), NodeStatus::Starting);
    (starting.node_id, starting.raylet_address) = (None, None);
    let snapshot = world.snapshot(vec![node(&busy, "r", 0), starting]);
    let decision = removal("r", &["r-0", "never"], RemovalCause::HalfStarted);
    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert_eq!(codes(&drained.refused), [("r-0", "busy_now")]);
    assert!(drained.may_go.is_empty() && drained.accepted.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_of_the_gcs_the_replica_stays() {
    let mut world = World::start(RayVersion::Newest).await;
    let worker = world.worker("w", "").await;
    let settings = DrainSettings {
        answer_ms: 300,
        preemption_ms: 600_000,
        alive_within_ms: 2_000,
    };
    let (client, raylets) = (world.head.client(), world.head.raylets());
    client.check_alive().await.unwrap();
    let drainer = Drainer::new(&client, raylets, world.clock.clone(), settings);
    world.head.process.kill();
    let snapshot = world.snapshot(vec![node(&worker, "w", 0)]);
    let decision = removal("w", &["w"], RemovalCause::Idle);
    let drained = drainer.drain(&snapshot, &decision).await;
    assert_eq!(codes(&drained.refused), [("w", "no_answer")]);
    // One that must go goes all the same, when its time is up.
    let mut decision = removal("w", &["w"], RemovalCause::AboveMax);
    let drained = drainer.drain(&snapshot, &decision).await;
    assert!(drained.may_go.is_empty() && drained.leaving.len() == 1);
    decision.groups[0].remove[0].finish.by = Some(world.clock.now());
    let drained = drainer.drain(&snapshot, &decision).await;
    assert_eq!(drained.may_go, names(&["w"]));
}

/// A GCS whose replies take seconds must not keep idle nodes for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_state_is_enough_where_the_gcs_says_that_the_node_lives() {
    let world = World::start(RayVersion::Newest).await;
    let worker = world.idle_worker("w").await;
    let decision = removal("w", &["w"], RemovalCause::Idle);
    let mut snapshot = world.snapshot(vec![node(&worker, "w", 0)]);
    snapshot.completeness.gcs_at = Some(world.clock.now().minus_ms(2_500));
    // Nobody answers here.
    let nobody = GcsClient::new(GcsSettings {
        address: format!("127.0.0.1:{}", support::free_port()),
        ..world.head.settings()
    });
    let settings = DrainSettings {
        answer_ms: 500,
        ..SETTINGS
    };
    let cut_off = Drainer::new(&nobody, world.head.raylets(), world.clock.clone(), settings);
    let drained = cut_off.drain(&snapshot, &decision).await;
    assert_eq!(codes(&drained.refused), [("w", "stale")]);

    let drained = world.drainer.drain(&snapshot, &decision).await;
    assert!(drained.refused.is_empty(), "{:?}", drained.refused);
    assert_eq!(drained.may_go, names(&["w"]));
}
