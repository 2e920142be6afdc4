//! What takes long or needs a fault: under virtual time.

mod pods;

use super::{
    Actor, Bundle, Ended, NodeCondition, NodeSpec, PlacementGroup, PlacementGroupState, RayHead,
    Settings, Tasks,
};
use crate::clock::Clock;
use crate::model::{
    Labels, NodeId, PlacementStrategy, Quantity, ResourceMap, ResourceName, Timestamp,
};
use crate::wire::gcs::ray::rpc::autoscaler::{
    DrainNodeReason, DrainNodeRequest, NodeState, NodeStatus,
};
use crate::wire::gcs::ray::rpc::{NodeDeathInfo, node_death_info::Reason};
use crate::wire::gcs::{AuthSettings, GcsClient, RayletClient};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

fn cpus(amount: i64) -> ResourceMap {
    [(ResourceName::from("CPU"), Quantity::from_whole(amount))]
        .into_iter()
        .collect()
}

struct World {
    head: RayHead,
    gcs: GcsClient,
    raylets: RayletClient,
    clock: Clock,
}

impl World {
    /// A head without processors, looked after.
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let clock = Clock::starting_at(Timestamp::from_ms(1_000_000));
        let now = clock.clone();
        let head = RayHead::new(settings, Arc::new(move || now.now()));
        let looked_after = head.clone();
        tokio::spawn(async move { looked_after.run().await });
        let gcs = GcsClient::over(head.gcs_channel(), AuthSettings::Disabled);
        let raylets = RayletClient::over(head.raylet_channels(), AuthSettings::Disabled);
        let world = Self {
            head,
            gcs,
            raylets,
            clock,
        };
        world.node("head-0", 0);
        world
    }

    fn node(&self, pod: &str, cpu: i64) -> NodeId {
        self.head.start_node(NodeSpec {
            pod: pod.to_owned(),
            group: "small".to_owned(),
            resources: cpus(cpu),
            labels: Labels::new(),
            address: format!("ip-of-{pod}"),
            port: 7,
            is_head: pod == "head-0",
        })
    }

    fn actor(&self, cpu: i64) -> super::WorkId {
        self.head.create_actor(Actor {
            resources: cpus(cpu),
            ..Actor::default()
        })
    }

    async fn states(&self) -> BTreeMap<String, NodeState> {
        let reply = self.gcs.get_cluster_resource_state().await.unwrap();
        let nodes = reply.cluster_resource_state.unwrap().node_states;
        nodes
            .into_iter()
            .map(|node| (node.instance_id.clone(), node))
            .collect()
    }

    async fn status(&self, pod: &str) -> NodeStatus {
        self.states().await[pod].status()
    }

    fn now(&self) -> u64 {
        self.clock.now().millis_since(Timestamp::from_ms(1_000_000))
    }
}

fn drain(id: NodeId, reason: DrainNodeReason, deadline_timestamp_ms: i64) -> DrainNodeRequest {
    DrainNodeRequest {
        node_id: id.as_bytes().to_vec(),
        reason: reason.into(),
        reason_message: "why not".to_owned(),
        deadline_timestamp_ms,
    }
}

#[tokio::test(start_paused = true)]
async fn the_gcs_learns_once_a_second_what_a_raylet_knows_at_once() {
    let world = World::new();
    world.node("w", 2);
    assert_eq!(
        world.status("w").await,
        NodeStatus::Running,
        "not asked yet"
    );
    sleep(Duration::from_millis(1_100)).await;
    let state = world.states().await.remove("w").unwrap();
    assert_eq!(
        (state.status(), state.idle_duration_ms),
        (NodeStatus::Idle, 1_100)
    );
    world.actor(2);
    assert_eq!(world.status("w").await, NodeStatus::Idle);
    let load = world
        .raylets
        .get_resource_load("ip-of-w:7")
        .await
        .unwrap()
        .resources
        .unwrap();
    assert_eq!(load.idle_duration_ms, 0);
    assert!(!load.resources_available.contains_key("CPU"));
    sleep(Duration::from_millis(1_000)).await;
    assert_eq!(world.status("w").await, NodeStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn tasks_run_their_time_and_the_rest_waits_where_its_caller_is() {
    let world = World::new();
    world.node("w", 2);
    let duration_ms = Some(10_000);
    let id = world.head.submit_tasks(Tasks {
        resources: cpus(1),
        count: 30,
        duration_ms,
        ..Tasks::default()
    });
    let work = |world: &World| {
        let view = world.head.view();
        let work = view.works.into_iter().find(|work| work.id == id).unwrap();
        (work.queued, work.running, work.done)
    };
    assert_eq!(work(&world), (28, 2, 0));
    let load = world
        .raylets
        .get_resource_load("ip-of-head-0:7")
        .await
        .unwrap();
    let at_head = load
        .resources
        .unwrap()
        .resource_load_by_shape
        .unwrap()
        .resource_demands;
    assert_eq!(
        (
            at_head[0].num_ready_requests_queued,
            at_head[0].backlog_size
        ),
        (0, 18)
    );
    let load = world.raylets.get_resource_load("ip-of-w:7").await.unwrap();
    let at_worker = load
        .resources
        .unwrap()
        .resource_load_by_shape
        .unwrap()
        .resource_demands;
    assert_eq!(
        (
            at_worker[0].num_ready_requests_queued,
            at_worker[0].backlog_size
        ),
        (10, 0)
    );
    sleep(Duration::from_millis(25_000)).await;
    assert_eq!(work(&world), (24, 2, 4));
    world.node("w2", 8);
    assert_eq!(work(&world), (16, 10, 4));
    sleep(Duration::from_millis(60_000)).await;
    assert_eq!(work(&world), (0, 0, 30));
    assert!(world.head.view().works[0].placed_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_preempted_node_ends_with_its_work_whatever_the_deadline() {
    let world = World::new();
    let (first, second) = (world.node("first", 1), world.node("second", 1));
    let duration_ms = Some(5_000);
    world.head.submit_tasks(Tasks {
        resources: cpus(1),
        count: 1,
        duration_ms,
        ..Tasks::default()
    });
    let actor = world.actor(1);
    let deadline = world.clock.now().plus_ms(20_000).as_ms();
    for id in [first, second] {
        let reply = world
            .gcs
            .drain_node(drain(id, DrainNodeReason::Preemption, deadline))
            .await
            .unwrap();
        assert!(reply.is_accepted);
    }
    world.actor(1);
    sleep(Duration::from_millis(4_900)).await;
    for pod in ["first", "second"] {
        assert_eq!(world.status(pod).await, NodeStatus::Draining);
    }
    assert_eq!(
        world.head.view().works[2].queued,
        1,
        "no new work for a node that drains"
    );
    sleep(Duration::from_millis(200)).await;
    assert_eq!(world.status("first").await, NodeStatus::Dead);
    assert_eq!(world.status("second").await, NodeStatus::Draining);
    sleep(Duration::from_millis(60_000)).await;
    assert_eq!(world.status("second").await, NodeStatus::Draining);
    world.head.cancel(actor);
    assert_eq!(world.status("second").await, NodeStatus::Dead);
    let infos = world.gcs.get_all_node_info().await.unwrap().node_info_list;
    let reasons: Vec<_> = infos
        .iter()
        .filter_map(|info| info.death_info.clone())
        .collect();
    assert_eq!(reasons.len(), 2);
    assert!(
        reasons
            .iter()
            .all(|death| death.reason() == Reason::AutoscalerDrainPreempted)
    );
}

#[tokio::test(start_paused = true)]
async fn an_actor_killed_while_its_node_is_lost_does_not_come_back() {
    let world = World::new();
    let id = world.node("w", 1);
    let actor = world.head.create_actor(Actor {
        resources: cpus(1),
        restarts: true,
        ..Actor::default()
    });
    world.head.kill_node(id);
    world.head.cancel(actor);
    world.node("spare", 1);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.status("w").await, NodeStatus::Dead);
    let view = world.head.view();
    assert!(
        view.works
            .iter()
            .all(|work| work.queued + work.running == 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_crashed_raylet_is_found_dead_after_a_while_and_only_then_answered_for() {
    let world = World::new();
    let id = world.node("w", 1);
    let gang = world.head.create_placement_group(PlacementGroup {
        strategy: PlacementStrategy::Pack,
        bundles: vec![Bundle {
            resources: cpus(1),
            ..Bundle::default()
        }],
    });
    world.node("spare", 1);
    sleep(Duration::from_millis(2_000)).await;
    world.head.kill_node(id);
    let node_of = |world: &World| world.head.view().placement_groups[0].nodes[0];
    assert_eq!(world.head.view().nodes[1].condition, NodeCondition::Lost);
    assert_eq!(node_of(&world), Some(id));
    let patient = world.gcs.clone().with_deadline(Duration::from_secs(60));
    let reply = patient
        .drain_node(drain(id, DrainNodeReason::IdleTermination, 0))
        .await
        .unwrap();
    assert!(reply.is_accepted);
    assert_eq!(world.now(), 15_000, "five checks, 3 s apart");
    assert_eq!(world.status("w").await, NodeStatus::Dead);
    assert_ne!(node_of(&world), Some(id));
    assert_eq!(
        world.head.view().placement_groups[0].state,
        PlacementGroupState::Created
    );
    world.head.remove_placement_group(gang);
    assert!(world.head.view().placement_groups.is_empty());
    let unreachable = world
        .raylets
        .get_resource_load("ip-of-w:7")
        .await
        .unwrap_err();
    assert_eq!(unreachable.kind(), "unreachable");
}

#[tokio::test(start_paused = true)]
async fn a_living_raylet_that_is_declared_dead_ends_itself() {
    let world = World::new();
    let id = world.node("w", 1);
    let ended = world.head.node_ended(id).unwrap();
    let actor = world.actor(1);
    let death = NodeDeathInfo {
        reason: Reason::UnexpectedTermination.into(),
        reason_message: "gone".to_owned(),
    };
    world
        .gcs
        .unregister_node(id.as_bytes().to_vec(), death)
        .await
        .unwrap();
    assert_eq!(ended.get(), Some(Ended::Crashed));
    assert_eq!(world.status("w").await, NodeStatus::Dead);
    let view = world.head.view();
    let actor = view.works.iter().find(|work| work.id == actor).unwrap();
    assert_eq!(
        (actor.queued, actor.running),
        (0, 0),
        "an actor without restarts is lost"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gcs_that_comes_back_is_the_same_cluster_or_another() {
    let world = World::new();
    world.node("w", 1);
    world.actor(1);
    world.head.request_resources(&[(cpus(1), 3)]);
    let before = world.states().await["w"].clone();
    let id = world.gcs.cluster_id();
    world.head.stop_gcs();
    let error = world.gcs.get_cluster_resource_state().await.unwrap_err();
    assert_eq!(error.kind(), "unreachable");
    sleep(Duration::from_secs(60)).await;
    world.head.start_gcs(true);
    let reply = world.gcs.get_cluster_resource_state().await.unwrap();
    let state = reply.cluster_resource_state.unwrap();
    assert_eq!(
        state.cluster_resource_state_version, 1,
        "counts from the start"
    );
    assert!(
        state.cluster_resource_constraints.is_empty(),
        "not kept in Redis"
    );
    assert_eq!(state.node_states.len(), 2);
    assert_eq!(world.states().await["w"].node_id, before.node_id);
    assert_eq!(world.head.view().works[0].running, 1);

    world.head.stop_gcs();
    let error = world.gcs.get_cluster_resource_state().await.unwrap_err();
    assert_eq!(error.kind(), "unreachable");
    world.head.start_gcs(false);
    let error = world.gcs.get_cluster_resource_state().await.unwrap_err();
    assert_eq!(error.kind(), "other_cluster");
    assert_ne!(world.gcs.refresh_cluster_id().await.unwrap(), id.unwrap());
    let nodes = world.states().await;
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["head-0"]);
    assert!(world.head.view().works.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_and_the_same_questions_give_the_same_answers() {
    let run = |seed| async move {
        let world = World::with(Settings {
            seed,
            ..Settings::default()
        });
        for number in 0..5 {
            world.node(&format!("w-{number}"), 4);
        }
        let duration_ms = Some(3_000);
        world.head.submit_tasks(Tasks {
            resources: cpus(1),
            count: 70,
            duration_ms,
            ..Tasks::default()
        });
        world.head.create_placement_group(PlacementGroup {
            strategy: PlacementStrategy::StrictSpread,
            bundles: vec![
                Bundle {
                    resources: cpus(2),
                    ..Bundle::default()
                };
                3
            ],
        });
        sleep(Duration::from_secs(7)).await;
        (world.head.view(), world.states().await)
    };
    let first = run(3).await;
    assert_eq!(first, run(3).await);
    assert_ne!(first.0, run(4).await.0);
}
