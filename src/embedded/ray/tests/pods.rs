//! Pods whose Ray containers are raylets of the embedded head.

use super::{World, cpus, drain};
use crate::embedded::pods::{ContainerRuntime, ContainerStart, Exit, Exits};
use crate::embedded::ray::{RayRuntime, RuntimeSettings, Tasks};
use crate::model::NodeId;
use crate::wire::gcs::ray::rpc::autoscaler::{DrainNodeReason, NodeStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

fn container(pod: &str, command: &str) -> ContainerStart {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": pod, "uid": format!("uid-{pod}")},
        "spec": {"containers": [{"name": "ray"}]},
    }))
    .unwrap();
    let container = pod.spec.as_ref().unwrap().containers[0].clone();
    let env = [
        ("KUBERAY_GEN_RAY_START_CMD", command),
        (
            "RAY_CLOUD_INSTANCE_ID",
            pod.metadata.name.as_deref().unwrap(),
        ),
    ];
    ContainerStart {
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        argv: Vec::new(),
        address: Ipv4Addr::new(10, 0, 0, 9),
        pod: Arc::new(pod),
        container,
    }
}

struct Pods {
    world: World,
    runtime: RayRuntime,
    exits: Exits,
    ended: mpsc::UnboundedReceiver<Exit>,
}

impl Pods {
    async fn new() -> Self {
        let world = World::new();
        let settings = RuntimeSettings {
            join_delay: Duration::from_secs(2),
            ..RuntimeSettings::default()
        };
        let runtime = RayRuntime::new(world.head.clone(), settings);
        let (sender, ended) = mpsc::unbounded_channel();
        let pods = Self {
            world,
            runtime,
            exits: Exits::telling(sender),
            ended,
        };
        pods.start("w", "ray start --num-cpus=2 --block").await;
        sleep(Duration::from_millis(1_900)).await;
        assert!(pods.id("w").is_none(), "it joins after a while");
        sleep(Duration::from_millis(200)).await;
        pods
    }

    async fn start(&self, pod: &str, command: &str) {
        self.runtime
            .start(container(pod, command), self.exits.clone())
            .await
            .unwrap();
    }

    fn id(&self, pod: &str) -> Option<NodeId> {
        let view = self.world.head.view();
        view.nodes
            .iter()
            .find(|node| node.pod == pod)
            .map(|node| node.id)
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_stays_when_its_raylet_was_drained_and_ends_when_it_crashed() {
    let mut pods = Pods::new().await;
    let request = drain(pods.id("w").unwrap(), DrainNodeReason::IdleTermination, 0);
    assert!(
        pods.world
            .gcs
            .drain_node(request)
            .await
            .unwrap()
            .is_accepted
    );
    sleep(Duration::from_secs(600)).await;
    assert!(pods.ended.try_recv().is_err(), "a zombie");
    let began = pods.world.now();
    pods.runtime.stop("uid-w", Duration::from_secs(30)).await;
    assert_eq!(pods.world.now(), began, "nothing to wait for");

    pods.start("v", "ray start --num-cpus=2 --block").await;
    sleep(Duration::from_secs(3)).await;
    pods.world.head.kill_node(pods.id("v").unwrap());
    let exit = pods.ended.recv().await.unwrap();
    assert_eq!((exit.container.as_str(), exit.code), ("ray", 1));
}

#[tokio::test(start_paused = true)]
async fn sigterm_waits_for_work_as_long_as_the_grace_period_allows() {
    let pods = Pods::new().await;
    let duration_ms = Some(4_000);
    pods.world.head.submit_tasks(Tasks {
        resources: cpus(1),
        count: 1,
        duration_ms,
        ..Tasks::default()
    });
    let began = pods.world.now();
    pods.runtime.stop("uid-w", Duration::from_secs(30)).await;
    assert_eq!(pods.world.now() - began, 4_000);
    assert_eq!(pods.world.status("w").await, NodeStatus::Dead);

    pods.start("v", "ray start --num-cpus=2 --block").await;
    sleep(Duration::from_secs(3)).await;
    pods.world.actor(1);
    let began = pods.world.now();
    pods.runtime.stop("uid-v", Duration::from_secs(5)).await;
    assert_eq!(pods.world.now() - began, 5_000);
    assert_ne!(
        pods.world.status("v").await,
        NodeStatus::Dead,
        "killed without a word"
    );
    sleep(Duration::from_secs(15)).await;
    assert_eq!(pods.world.status("v").await, NodeStatus::Dead);
}

#[tokio::test(start_paused = true)]
async fn a_flag_that_ray_start_refuses_ends_the_container() {
    let pods = Pods::new().await;
    let start = container("bad", "ray start --num-cpus=many");
    let problem = pods
        .runtime
        .start(start, pods.exits.clone())
        .await
        .unwrap_err();
    assert!(problem.contains("--num-cpus=many"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn a_new_head_pod_is_another_cluster_and_ends_the_workers_of_the_old_one() {
    let mut pods = Pods::new().await;
    pods.world.head.kill_node(pods.id("head-0").unwrap());
    let head = "ray start --head --num-cpus=0 --block";
    pods.start("head-1", head).await;
    sleep(Duration::from_secs(3)).await;
    let actor = pods.world.actor(2);
    let runs = |pods: &Pods| {
        let view = pods.world.head.view();
        view.works
            .iter()
            .any(|work| work.id == actor && work.running == 1)
    };
    assert!(runs(&pods));
    pods.world.states().await;
    pods.runtime
        .stop("uid-head-1", Duration::from_secs(30))
        .await;
    let gone = pods
        .world
        .gcs
        .get_cluster_resource_state()
        .await
        .unwrap_err();
    assert_eq!(gone.kind(), "unreachable");
    assert!(runs(&pods), "a raylet works on without its GCS");
    pods.start("late", "ray start --num-cpus=1 --block").await;
    sleep(Duration::from_secs(10)).await;
    assert!(pods.id("late").is_none(), "it waits for a GCS");

    pods.start("head-2", head).await;
    let exit = pods.ended.recv().await.unwrap();
    assert_eq!(exit.code, 1);
    sleep(Duration::from_secs(3)).await;
    let other = pods
        .world
        .gcs
        .get_cluster_resource_state()
        .await
        .unwrap_err();
    assert_eq!(other.kind(), "other_cluster");
    pods.world.gcs.refresh_cluster_id().await.unwrap();
    let states = pods.world.states().await;
    assert_eq!(states.keys().collect::<Vec<_>>(), ["head-2", "late"]);
}
