//! What the hands write where something refuses what a patch makes of the RayCluster: an admission policy, say.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod core;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use core::builders::{Cluster, NOW, group, resources, running};
use http::{Request, Response};
use kube::client::Body;
use rayscaler::act::kube::KubeAct;
use rayscaler::act::{Applied, DrainSettings, Drainer, Order, PatchOutcome, SidecarAct, WriteMode};
use rayscaler::clock::Clock;
use rayscaler::embedded::ray::{NodeSpec, RayHead, Settings as RaySettings};
use rayscaler::model::{
    ANNOTATION_INTENT, Finish, GroupDecision, History, IntentSeen, Labels, NodeId, NodeStatus,
    PodName, RemovalCause, ReplicaRemoval, ScaleDecision, WorkerGroupName,
};
use rayscaler::wire::gcs::{AuthSettings, GcsClient, RayletClient};
use rayscaler::wire::kube_client::KubeClient;
use serde_json::{Value, json};
use tokio::sync::watch;

/// What is denied: the operations of a patch.
type Denied = fn(&[Value]) -> bool;

/// An API server that knows the intent, and denies what a policy does not want.
#[derive(Clone)]
struct Api {
    denied: Arc<Mutex<Denied>>,
    intent: Arc<Mutex<Option<String>>>,
    /// Whether something takes the intent out of what is written.
    strips: Arc<AtomicBool>,
    /// How long an answer takes. Units: milliseconds.
    latency_ms: Arc<AtomicU64>,
    /// What was answered to which groups, by index.
    calls: Arc<Mutex<Vec<(u16, String)>>>,
}

impl Api {
    fn answer(&self, ops: &[Value]) -> (u16, Value) {
        let status = |code: u16, message: &str| {
            (
                code,
                json!({"kind": "Status", "status": "Failure", "message": message, "code": code}),
            )
        };
        let path = format!(
            "/metadata/annotations/{}",
            ANNOTATION_INTENT.replace('/', "~1")
        );
        let mut intent = self.intent.lock().unwrap();
        for op in ops.iter().filter(|op| op["path"] == path.as_str()) {
            let value = op["value"].as_str().map(str::to_owned);
            if op["op"] == "test" && value != *intent {
                let words = "the server rejected our request due to an error in our request";
                return status(422, words);
            }
        }
        if (self.denied.lock().unwrap())(ops) {
            return status(
                403,
                "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            );
        }
        for op in ops
            .iter()
            .filter(|op| op["path"] == path.as_str() && op["op"] == "add")
            .filter(|_| !self.strips.load(Relaxed))
        {
            *intent = op["value"].as_str().map(str::to_owned);
        }
        let annotations = intent.as_ref().map(|text| json!({ANNOTATION_INTENT: text}));
        let annotations = annotations.unwrap_or_else(|| json!({}));
        (200, json!({"metadata": {"annotations": annotations}}))
    }
}

impl tower_service::Service<Request<Body>> for Api {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let latency = Duration::from_millis(api.latency_ms.load(Relaxed));
            tokio::time::sleep(latency).await;
            let body = request.into_body().collect_bytes().await.unwrap();
            let ops: Vec<Value> = serde_json::from_slice(&body).unwrap();
            let (code, answer) = api.answer(&ops);
            let names = ops
                .iter()
                .filter(|op| op["path"].as_str().unwrap().ends_with("/groupName"));
            let names: Vec<&str> = names.map(|op| op["value"].as_str().unwrap()).collect();
            api.calls.lock().unwrap().push((code, names.join(" ")));
            let answer = Response::builder().status(code).body(answer.to_string());
            Ok(answer.unwrap())
        })
    }
}

struct World {
    api: Api,
    act: SidecarAct,
    clock: Clock,
    ray: RayHead,
    workers: [NodeId; 2],
    /// A worker of `b` that has no raylet yet, as far as is seen.
    starting: Option<&'static str>,
    stop: watch::Sender<bool>,
    _mode: watch::Sender<WriteMode>,
}

/// Starts a raylet in the pod of a worker, or of the head.
fn start(ray: &RayHead, pod: &str, group: &str, host: u8) -> NodeId {
    ray.start_node(NodeSpec {
        pod: pod.to_owned(),
        group: group.to_owned(),
        resources: resources("CPU=2"),
        labels: Labels::new(),
        address: format!("10.0.0.{host}"),
        port: 7000,
        is_head: group == "headgroup",
    })
}

/// Returns a group that becomes another size, and loses these idle replicas.
fn becomes(
    name: &str,
    (from, to): (u32, u32),
    idle: &[&str],
    cause: RemovalCause,
) -> GroupDecision {
    let removal = |pod: &&str| ReplicaRemoval {
        replica: (*pod).into(),
        pods: vec![(*pod).into()],
        cause,
        idle_ms: 61_000,
        finish: Finish::default(),
    };
    GroupDecision {
        name: name.into(),
        replicas_from: from,
        replicas_to: to,
        remove: idle.iter().map(removal).collect(),
        forget: Vec::new(),
        reasons: Vec::new(),
    }
}

fn grows(name: &str, to: u32) -> GroupDecision {
    becomes(name, (3, to), &[], RemovalCause::Idle)
}

impl World {
    async fn new(denied: Denied) -> Self {
        let clock = Clock::starting_at(NOW);
        let ray = RayHead::new(RaySettings::default(), {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        });
        tokio::spawn({
            let ray = ray.clone();
            async move { ray.run().await }
        });
        start(&ray, "head-0", "headgroup", 9);
        let workers = [start(&ray, "w-0", "b", 0), start(&ray, "w-1", "b", 1)];
        tokio::time::sleep(Duration::from_secs(1)).await;
        let api = Api {
            denied: Arc::new(Mutex::new(denied)),
            intent: Arc::default(),
            strips: Arc::default(),
            latency_ms: Arc::default(),
            calls: Arc::default(),
        };
        let client = KubeClient::over(api.clone(), Arc::new(|_, _| {}), Duration::from_secs(10));
        let gcs = GcsClient::over(ray.gcs_channel(), AuthSettings::Disabled);
        let raylets = RayletClient::over(ray.raylet_channels(), AuthSettings::Disabled);
        let settings = DrainSettings {
            answer_ms: 2_000,
            preemption_ms: 30_000,
            alive_within_ms: 2_000,
        };
        let drainer = Drainer::new(&gcs, raylets, clock.clone(), settings);
        let (mode, mode_seen) = watch::channel(WriteMode::Write);
        let (stop, stopping) = watch::channel(false);
        let act = SidecarAct::new(
            drainer,
            KubeAct::new(client, "n", "c"),
            (mode_seen, stopping),
        );
        Self {
            api,
            act,
            clock,
            ray,
            workers,
            starting: None,
            stop,
            _mode: mode,
        }
    }

    /// Carries out a decision about three groups of three; of two idle workers of `b` the first is as `status` says.
    async fn act(&mut self, status: NodeStatus, groups: Vec<GroupDecision>) -> Applied {
        let mut cluster = Cluster::default();
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            cluster = cluster.group(group(name, "CPU=2"));
            let group = cluster.group_mut(name);
            (group.index, group.bounds.max) = (index, 100);
        }
        for (at, (id, status)) in self
            .workers
            .iter()
            .zip([status, NodeStatus::Running])
            .enumerate()
        {
            let mut node = running("b", &format!("w-{at}"), "CPU=2");
            (node.status, node.node_id) = (status, Some(*id));
            node.raylet_address = Some(format!("10.0.0.{at}:7000"));
            node.idle_since = Some(self.clock.now());
            cluster = cluster.node(node);
        }
        if let Some(pod) = self.starting {
            cluster = cluster.starting("b", pod);
        }
        for name in ["a", "b", "c"] {
            cluster = cluster.replicas(name, 3);
        }
        cluster.snapshot.completeness.gcs_at = Some(self.clock.now());
        let intent = self.api.intent.lock().unwrap().clone();
        cluster.snapshot.writing.seen = intent.map_or(IntentSeen::Absent, IntentSeen::Text);
        let decision = ScaleDecision {
            groups,
            nudge: true,
            ..ScaleDecision::default()
        };
        let order = Order {
            snapshot: &cluster.snapshot,
            decision: &decision,
            history: &History::default(),
        };
        self.act.act(&order, self.clock.now()).await
    }

    /// Returns the calls since the last time: status, and the groups that each was about.
    fn calls(&self) -> Vec<(u16, String)> {
        std::mem::take(&mut self.api.calls.lock().unwrap())
    }
}

fn patched(applied: &Applied) -> Vec<WorkerGroupName> {
    match &applied.patch {
        PatchOutcome::Done { changes, .. } => changes.iter().map(|it| it.name.clone()).collect(),
        _ => Vec::new(),
    }
}

fn calls(of: &[(u16, &str)]) -> Vec<(u16, String)> {
    of.iter()
        .map(|(code, names)| (*code, (*names).to_owned()))
        .collect()
}

/// Denies more than ten replicas of the first group.
fn above_ten(ops: &[Value]) -> bool {
    let mut ops = ops.iter();
    ops.any(|op| {
        let is_write = op["op"] == "add" && op["path"] == "/spec/workerGroupSpecs/0/replicas";
        is_write && op["value"].as_u64() > Some(10)
    })
}

#[tokio::test(start_paused = true)]
async fn what_one_group_may_not_become_does_not_hold_back_the_others() {
    let mut world = World::new(above_ten).await;
    let groups = vec![grows("a", 20), grows("b", 5), grows("c", 6)];
    let applied = world.act(NodeStatus::Running, groups).await;
    assert_eq!(patched(&applied), ["b".into(), "c".into()]);
    // Each with the intent and without.
    let expected = [
        (403, "a b c"),
        (403, "a b c"),
        (403, "a"),
        (403, "a"),
        (200, "b"),
        (200, "c"),
    ];
    assert_eq!(world.calls(), calls(&expected));
    let intent = world.api.intent.lock().unwrap().clone().unwrap();
    let intent: Value = serde_json::from_str(&intent).unwrap();
    let up: Vec<&String> = intent["up"].as_object().unwrap().keys().collect();
    assert_eq!(up, ["b", "c"], "{intent}");
}

#[tokio::test(start_paused = true)]
async fn idle_replicas_of_other_groups_go_while_one_may_not_grow() {
    let mut world = World::new(above_ten).await;
    let applied = world.act(NodeStatus::Running, vec![grows("a", 20)]).await;
    assert!(matches!(applied.patch, PatchOutcome::Failed(_)));
    assert_eq!(world.calls(), calls(&[(403, "a"), (403, "a")]));
    // Whether patches go through at all is not known yet.
    let both = || {
        let goes = becomes("b", (3, 2), &["w-0"], RemovalCause::Idle);
        vec![grows("a", 20), goes]
    };
    let applied = world.act(NodeStatus::Running, both()).await;
    assert!(matches!(applied.patch, PatchOutcome::Failed(_)) && applied.drained.is_empty());
    assert_eq!(world.calls(), calls(&[(403, "a"), (403, "a"), (200, "")]));
    let applied = world.act(NodeStatus::Running, both()).await;
    assert_eq!(applied.drained, [PodName::from("w-0")]);
    assert_eq!(patched(&applied), ["b".into()]);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_shrink_loses_no_second_batch_and_others_do() {
    // The second group keeps its size.
    let mut world = World::new(|ops| {
        let path = "/spec/workerGroupSpecs/1/replicas";
        ops.iter().any(|op| op["op"] == "add" && op["path"] == path)
    })
    .await;
    // One replica has lost its raylet already, the other one is idle.
    let groups = || {
        let mut shrinks = becomes("b", (3, 1), &["w-0"], RemovalCause::Stopped);
        let idle = becomes("b", (3, 1), &["w-1"], RemovalCause::Idle);
        shrinks.remove.extend(idle.remove);
        vec![shrinks, grows("c", 4)]
    };
    let first = vec![
        becomes("b", (3, 2), &["w-0"], RemovalCause::Stopped),
        grows("c", 4),
    ];
    let applied = world.act(NodeStatus::Draining, first).await;
    assert_eq!(patched(&applied), ["c".into()]);
    for _ in 0..3 {
        // A patch that says nothing of the group changes nothing for it.
        let elsewhere = world.act(NodeStatus::Draining, vec![grows("c", 4)]).await;
        assert_eq!(patched(&elsewhere), ["c".into()]);
        let applied = world.act(NodeStatus::Draining, groups()).await;
        assert_eq!(patched(&applied), ["c".into()]);
        assert!(applied.drained.is_empty(), "{applied:?}");
    }
    *world.api.denied.lock().unwrap() = |_| false;
    let applied = world.act(NodeStatus::Draining, groups()).await;
    assert_eq!(patched(&applied), ["b".into(), "c".into()]);
    assert_eq!((applied.drained.len(), applied.not_asked), (0, 1));
    let applied = world.act(NodeStatus::Draining, groups()).await;
    assert_eq!(applied.drained, [PodName::from("w-1")]);
}

#[tokio::test(start_paused = true)]
async fn where_even_no_change_is_refused_one_replica_is_tried() {
    // A limit that came when the cluster was above: it must become smaller.
    let mut world = World::new(|ops| {
        let path = "/spec/workerGroupSpecs/1/replicas";
        !ops.iter().any(|op| op["op"] == "add" && op["path"] == path)
    })
    .await;
    let applied = world.act(NodeStatus::Running, vec![grows("a", 4)]).await;
    assert!(matches!(applied.patch, PatchOutcome::Failed(_)));
    let goes = || vec![becomes("b", (3, 2), &["w-0"], RemovalCause::Idle)];
    let applied = world.act(NodeStatus::Running, goes()).await;
    assert!(applied.drained.is_empty() && patched(&applied).is_empty());
    let applied = world.act(NodeStatus::Running, goes()).await;
    assert_eq!(applied.drained, [PodName::from("w-0")]);
    assert_eq!(patched(&applied), ["b".into()]);
}

#[tokio::test(start_paused = true)]
async fn who_joins_while_a_patch_is_tried_in_parts_is_not_named() {
    let mut world = World::new(above_ten).await;
    world.api.latency_ms.store(1_000, Relaxed);
    world.starting = Some("w-2");
    let goes = || becomes("b", (3, 2), &["w-2"], RemovalCause::Withdrawn);
    let ray = world.ray.clone();
    let joins = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        start(&ray, "w-2", "b", 2);
    };
    let groups = vec![grows("a", 20), goes(), grows("c", 6)];
    let (applied, ()) = tokio::join!(world.act(NodeStatus::Running, groups), joins);
    assert_eq!(patched(&applied), ["c".into()]);
    let named = world.calls().into_iter().filter(|(_, to)| to == "b");
    assert_eq!(named.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_joins_while_a_patch_is_refused_is_not_named_without_the_intent() {
    let has_intent: Denied = |ops| {
        ops.iter().any(|op| {
            op["op"] == "add"
                && op["path"] != "/spec/workerGroupSpecs/1/replicas"
                && op["path"] != "/spec/workerGroupSpecs/1/scaleStrategy"
        })
    };
    let mut world = World::new(has_intent).await;
    world.api.latency_ms.store(1_000, Relaxed);
    world.starting = Some("w-2");
    let groups = || vec![becomes("b", (3, 2), &["w-2"], RemovalCause::Withdrawn)];
    let ray = world.ray.clone();
    let joins = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        start(&ray, "w-2", "b", 2);
    };
    let (applied, ()) = tokio::join!(world.act(NodeStatus::Running, groups()), joins);
    assert!(matches!(applied.patch, PatchOutcome::Failed(_)));
    assert_eq!(world.calls(), calls(&[(403, "b")]));
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_no_part_is_begun() {
    let mut world = World::new(above_ten).await;
    world.api.latency_ms.store(400, Relaxed);
    let stop = world.stop.clone();
    let stops = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.send_replace(true);
    };
    let groups = vec![grows("a", 20), grows("b", 5), grows("c", 6)];
    let (applied, ()) = tokio::join!(world.act(NodeStatus::Running, groups), stops);
    assert!(matches!(applied.patch, PatchOutcome::Failed(_)));
    assert_eq!(world.calls(), calls(&[(403, "a b c"), (403, "a b c")]));
}

#[tokio::test(start_paused = true)]
async fn parts_for_which_no_time_is_left_are_the_first_ones_the_next_time() {
    let mut world = World::new(above_ten).await;
    world.api.latency_ms.store(2_000, Relaxed);
    let groups = || vec![grows("a", 20), grows("b", 5), grows("c", 6)];
    let whole = [(403, "a b c"), (403, "a b c")];
    let applied = world.act(NodeStatus::Running, groups()).await;
    assert!(matches!(applied.patch, PatchOutcome::Failed(_)));
    let first = [&whole[..], &[(403, "a"), (403, "a")]].concat();
    assert_eq!(world.calls(), calls(&first));
    let applied = world.act(NodeStatus::Running, groups()).await;
    assert_eq!(patched(&applied), ["b".into(), "c".into()]);
    let second = [&whole[..], &[(200, "b"), (200, "c")]].concat();
    assert_eq!(world.calls(), calls(&second));
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_is_taken_out_on_its_way_is_told_and_left_out() {
    let mut world = World::new(|_| false).await;
    world.api.strips.store(true, Relaxed);
    let refused = world.act.intent_refused();
    for _ in 0..2 {
        let applied = world.act(NodeStatus::Running, vec![grows("a", 4)]).await;
        assert_eq!(patched(&applied), ["a".into()]);
        assert!(
            refused
                .borrow()
                .as_ref()
                .is_some_and(|it| it.contains("takes the annotation out"))
        );
    }
    world.calls();
    // A patch that would have said nothing else.
    world.act(NodeStatus::Running, Vec::new()).await;
    assert_eq!(world.calls(), calls(&[]));
    world.api.strips.store(false, Relaxed);
    tokio::time::sleep(Duration::from_secs(61)).await;
    world.act(NodeStatus::Running, vec![grows("a", 5)]).await;
    assert_eq!(*refused.borrow(), None);
}
