//! What becomes of a patch whose intent the API server does not take.

use crate::ray_access::{CLUSTER, RayAccess};
use rayscaler::act::kube::KubeAct;
use rayscaler::act::{DrainSettings, Drainer, Order, PatchOutcome, SidecarAct, WriteMode};
use rayscaler::clock::Clock;
use rayscaler::model::{GroupDecision, History, IntentSeen, ScaleDecision, Timestamp};
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
        let drainer = Drainer::new(&gcs, raylets, Clock::starting_at(NOW), settings);
        let kube = KubeAct::new(access.client().await, &access.namespace, CLUSTER);
        let (mode, mode_seen) = watch::channel(WriteMode::Write);
        let (stop, stopping) = watch::channel(false);
        let act = SidecarAct::new(drainer, kube, (mode_seen, stopping));
        Self {
            access,
            act,
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
