//! What becomes of a patch whose intent the API server does not take.

use crate::ray_access::{CLUSTER, RayAccess};
use rayscaler::act::kube::KubeAct;
use rayscaler::act::{Applied, DrainSettings, Drainer, Order, PatchOutcome, SidecarAct, WriteMode};
use rayscaler::clock::Clock;
use rayscaler::embedded::ray::{NodeSpec, RayHead};
use rayscaler::model::{
    Finish, GroupDecision, History, IntentSeen, Labels, NodeId, NodeStatus, PodName, RemovalCause,
    ReplicaRemoval, ResourceMap, ScaleDecision, Timestamp,
};
use rayscaler::wire::gcs::{AuthSettings, GcsClient, RayletClient};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::endings::head;
use super::plans::{group, seen, snapshot};

const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// All that annotations may take.
const ANNOTATIONS_BYTES: usize = 262_144;

struct World {
    access: RayAccess<'static>,
    act: SidecarAct,
    head: RayHead,
    clock: Clock,
    _switches: (watch::Sender<WriteMode>, watch::Sender<bool>),
}

impl World {
    async fn new() -> Self {
        let groups = json!([group("a", 0)]);
        let access = RayAccess::on_shared(super::SERVER, &groups, &[]).await;
        let head = head();
        let gcs = GcsClient::over(head.gcs_channel(), AuthSettings::Disabled);
        let raylets = RayletClient::over(head.raylet_channels(), AuthSettings::Disabled);
        let settings = DrainSettings {
            answer_ms: 2_000,
            preemption_ms: 30_000,
            alive_within_ms: 2_000,
        };
        let clock = Clock::starting_at(NOW);
        let drainer = Drainer::new(&gcs, raylets, clock.clone(), settings);
        let kube = KubeAct::new(access.client().await, &access.namespace, CLUSTER);
        let (mode, mode_seen) = watch::channel(WriteMode::Write);
        let (stop, stopping) = watch::channel(false);
        let act = SidecarAct::new(drainer, kube, (mode_seen, stopping));
        Self {
            access,
            act,
            head,
            clock,
            _switches: (mode, stop),
        }
    }

    /// Leaves `bytes` for the intent.
    async fn leave(&self, bytes: usize) {
        let others = "x".repeat(ANNOTATIONS_BYTES - "others".len() - bytes);
        let annotations = json!({"others": others});
        let patch = json!({"metadata": {"annotations": annotations}});
        self.access.edit(&patch).await;
    }

    /// Has `replicas` set, and returns the calls that this took.
    async fn scale(&mut self, to: u32, now: Timestamp) -> (bool, Vec<(&'static str, u16)>) {
        let stored = self.access.stored().await;
        self.scale_as_seen(&stored, to, now).await
    }

    async fn scale_as_seen(
        &mut self,
        stored: &Value,
        to: u32,
        now: Timestamp,
    ) -> (bool, Vec<(&'static str, u16)>) {
        let mut snapshot = snapshot(stored, &[]);
        snapshot.writing.seen = seen(stored);
        let decision = ScaleDecision {
            groups: vec![GroupDecision {
                name: "a".into(),
                replicas_from: snapshot.groups[0].replicas,
                replicas_to: to,
                remove: Vec::new(),
                forget: Vec::new(),
                reasons: Vec::new(),
            }],
            ..ScaleDecision::default()
        };
        let order = Order {
            snapshot: &snapshot,
            decision: &decision,
            history: &History::default(),
        };
        let applied = self.act.act(&order, now).await;
        let is_done = matches!(applied.patch, PatchOutcome::Done { .. });
        (is_done, self.access.calls())
    }

    /// Starts the raylet of `w-0`, and returns it once it has been idle for a moment.
    async fn worker(&self) -> NodeId {
        let id = self.head.start_node(NodeSpec {
            pod: "w-0".to_owned(),
            group: "a".to_owned(),
            resources: ResourceMap::new(),
            labels: Labels::new(),
            address: "10.0.0.2".to_owned(),
            port: 7000,
            is_head: false,
        });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        id
    }

    /// Has the idle worker removed.
    async fn remove(&mut self, id: NodeId) -> (Applied, Vec<(&'static str, u16)>) {
        let stored = self.access.stored().await;
        let mut snapshot = snapshot(&stored, &[("a", "w-0")]);
        let now = self.clock.now();
        snapshot.writing.seen = seen(&stored);
        snapshot.completeness.gcs_at = Some(now);
        let node = &mut snapshot.nodes[0];
        (node.status, node.node_id) = (NodeStatus::Running, Some(id));
        node.raylet_address = Some("10.0.0.2:7000".to_owned());
        node.idle_since = Some(now);
        let replicas = snapshot.groups[0].replicas;
        let removal = ReplicaRemoval {
            replica: "w-0".into(),
            pods: vec!["w-0".into()],
            cause: RemovalCause::Idle,
            idle_ms: 61_000,
            finish: Finish::default(),
        };
        let decision = ScaleDecision {
            groups: vec![GroupDecision {
                name: "a".into(),
                replicas_from: replicas,
                replicas_to: replicas - 1,
                remove: vec![removal],
                forget: Vec::new(),
                reasons: Vec::new(),
            }],
            ..ScaleDecision::default()
        };
        let order = Order {
            snapshot: &snapshot,
            decision: &decision,
            history: &History::default(),
        };
        (self.act.act(&order, now).await, self.access.calls())
    }

    async fn replicas(&self) -> Value {
        let stored = self.access.stored().await;
        stored["spec"]["workerGroupSpecs"][0]["replicas"].clone()
    }
}

#[tokio::test]
async fn growth_comes_without_the_intent_where_annotations_are_full() {
    let mut world = World::new().await;
    let refused = world.act.intent_refused();
    world.leave(10).await;
    let twice = [("patch", 422), ("patch", 200)];
    assert_eq!(world.scale(1, NOW).await, (true, twice.to_vec()));
    assert_eq!(world.replicas().await, 1);
    assert_eq!(seen(&world.access.stored().await), IntentSeen::Absent);
    let why = refused.borrow().clone().unwrap();
    let words = "metadata.annotations: Too long: may not be more than 262144 bytes";
    assert!(why.contains(words), "{why}");

    // Once more it is tried, then left out for a minute.
    assert_eq!(world.scale(2, NOW).await, (true, twice.to_vec()));
    let once = [("patch", 200)];
    let soon = NOW.plus_ms(59_000);
    assert_eq!(world.scale(3, soon).await, (true, once.to_vec()));
    assert!(refused.borrow().is_some());
    let later = NOW.plus_ms(60_000);
    assert_eq!(world.scale(4, later).await, (true, twice.to_vec()));

    // Somebody makes room.
    world.leave(10_000).await;
    let later = later.plus_ms(120_000);
    assert_eq!(world.scale(5, later).await, (true, once.to_vec()));
    let stored = world.access.stored().await;
    assert!(matches!(seen(&stored), IntentSeen::Text(_)));
    assert_eq!(*refused.borrow(), None);
    assert_eq!(world.replicas().await, 5);
}

#[tokio::test]
async fn a_patch_that_is_refused_for_something_else_is_sent_once() {
    let mut world = World::new().await;
    let outdated = world.access.stored().await;
    let edited = json!({"spec": {"workerGroupSpecs": [group("a", 3)]}});
    world.access.edit(&edited).await;
    let answer = world.scale_as_seen(&outdated, 1, NOW).await;
    assert_eq!(answer, (false, vec![("patch", 422)]));
    assert_eq!(*world.act.intent_refused().borrow(), None);
    assert_eq!(world.replicas().await, 3);
}

#[tokio::test]
async fn after_a_patch_that_failed_idle_raylets_are_asked_once_another_one_goes_through() {
    // With and without the intent: something is written either way.
    for has_room in [true, false] {
        let mut world = World::new().await;
        if !has_room {
            world.leave(10).await;
        }
        for to in [1, 2] {
            assert!(world.scale(to, NOW).await.0);
        }
        let outdated = world.access.stored().await;
        let edited = json!({"spec": {"workerGroupSpecs": [group("a", 3)]}});
        world.access.edit(&edited).await;
        let answer = world.scale_as_seen(&outdated, 4, NOW).await;
        assert_eq!(answer, (false, vec![("patch", 422)]));

        let worker = world.worker().await;
        let (applied, calls) = world.remove(worker).await;
        assert_eq!(calls, [("patch", 200)], "has room: {has_room}");
        assert_eq!((applied.drained.len(), applied.not_asked), (0, 1));
        assert_eq!(world.replicas().await, 3);

        let (applied, calls) = world.remove(worker).await;
        assert_eq!(calls, [("patch", 200)], "has room: {has_room}");
        assert_eq!(applied.drained, [PodName::from("w-0")], "{applied:?}");
        assert_eq!(world.replicas().await, 2);
    }
}
