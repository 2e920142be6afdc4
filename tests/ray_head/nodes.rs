//! Nodes: what they show of themselves, how they become idle, drain, refuse, and die.

use std::time::Duration;

use rayscaler::wire::gcs::GcsError;
use rayscaler::wire::gcs::ray::rpc::autoscaler::{DrainNodeReason, DrainNodeRequest, NodeStatus};
use rayscaler::wire::gcs::ray::rpc::gcs_node_info::GcsNodeState;
use rayscaler::wire::gcs::ray::rpc::node_death_info::Reason;
use rayscaler::wire::gcs::ray::rpc::{NodeDeathInfo, ResourcesData};

use crate::heads::{Head, Worker};
use crate::support::now;
use crate::support::ray::WorkerOptions;
use crate::support::wait::eventually;
use crate::{node, on_both_heads, state, until};

on_both_heads! {
    a_new_node_shows_what_it_has_and_is_idle_from_its_first_report(HeadOptions::default());
    a_busy_node_refuses_and_an_idle_one_goes(HeadOptions::default());
    a_preempted_node_runs_on_until_its_work_ends(HeadOptions::default());
    a_lost_node_is_dead_as_soon_as_the_gcs_is_told(HeadOptions::default());
    sigterm_lets_work_go_on_and_takes_no_more(HeadOptions::default());
}

/// An actor that only a node with `X` can hold.
const ON_X: [&str; 2] = ["--num-cpus=2", r#"--resources={"X": 1}"#];

fn with_x(name: &str) -> WorkerOptions {
    WorkerOptions {
        resources: r#"{"X": 1}"#.to_owned(),
        ..WorkerOptions::named(name)
    }
}

fn drain(id: &[u8], reason: DrainNodeReason) -> DrainNodeRequest {
    DrainNodeRequest {
        node_id: id.to_vec(),
        reason: reason.into(),
        reason_message: "a test".to_owned(),
        deadline_timestamp_ms: 0,
    }
}

async fn load<H: Head>(head: &H, worker: &impl Worker) -> ResourcesData {
    let reply = head
        .raylets()
        .get_resource_load(&worker.raylet_address())
        .await;
    reply.unwrap().resources.unwrap()
}

async fn death<H: Head>(head: &H, id: &[u8]) -> NodeDeathInfo {
    let reply = head.client().get_all_node_info().await.unwrap();
    let mut nodes = reply.node_info_list.into_iter();
    let node = nodes.find(|node| node.node_id == id).unwrap();
    assert_eq!(node.state(), GcsNodeState::Dead);
    assert!(node.end_time_ms >= node.start_time_ms && node.start_time_ms > 0);
    node.death_info.unwrap()
}

async fn a_new_node_shows_what_it_has_and_is_idle_from_its_first_report<H: Head>(head: H) {
    let options = WorkerOptions {
        labels: "zone=a".to_owned(),
        ..with_x("w")
    };
    let worker = head.worker(options).await;
    let info = worker.info();
    assert_eq!(
        (info.instance_id.as_str(), info.node_type_name.as_str()),
        ("w", "small")
    );
    assert!(!info.is_head_node && info.node_manager_port > 0);
    let seen = node(&head, &worker.id()).await;
    assert_eq!(
        (seen.instance_id.as_str(), seen.ray_node_type_name.as_str()),
        ("w", "small")
    );
    assert_eq!(seen.node_ip_address, info.node_manager_address);
    assert_eq!(seen.labels["zone"], "a");
    assert_eq!(seen.labels["ray.io/node-group"], "small");
    let hex: String = worker
        .id()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(seen.labels["ray.io/node-id"], hex);
    let mut names: Vec<&str> = seen.total_resources.keys().map(String::as_str).collect();
    names.sort_unstable();
    let own = format!("node:{}", seen.node_ip_address);
    assert_eq!(
        names,
        ["CPU", "X", "memory", own.as_str(), "object_store_memory"]
    );
    assert_eq!(
        (seen.total_resources["CPU"], seen.total_resources[&own]),
        (2.0, 1.0)
    );
    assert_eq!(seen.available_resources, seen.total_resources);
    assert!(seen.dynamic_labels.is_empty());

    let idle = until(&head, &worker.id(), "idle", |node| {
        node.status() == NodeStatus::Idle
    })
    .await;
    assert!(idle.idle_duration_ms > 0);
    until(&head, &worker.id(), "idle for longer", |node| {
        node.idle_duration_ms > idle.idle_duration_ms + 100
    })
    .await;
    let load = load(&head, &worker).await;
    assert_eq!(load.node_id, worker.id());
    assert!(load.idle_duration_ms > 0 && !load.is_draining);
    assert_eq!(load.resources_total, seen.total_resources);
    the_head_and_all_usage_are_shown(&head, &worker).await;
}

async fn the_head_and_all_usage_are_shown<H: Head>(head: &H, worker: &H::Worker) {
    let of_head = state(head)
        .await
        .node_states
        .into_iter()
        .find(|node| node.instance_id == "head-0");
    let of_head = of_head.unwrap();
    assert_eq!(of_head.total_resources["node:__internal_head__"], 1.0);
    assert!(
        !of_head.total_resources.contains_key("CPU"),
        "of nothing there is none"
    );
    let usage = head.client().get_all_resource_usage().await.unwrap();
    let nodes: Vec<Vec<u8>> = usage
        .resource_usage_data
        .unwrap()
        .batch
        .into_iter()
        .map(|one| one.node_id)
        .collect();
    assert!(nodes.len() == 2 && nodes.contains(&worker.id()));
}

async fn a_busy_node_refuses_and_an_idle_one_goes<H: Head>(head: H) {
    let (busy, mut idle) = (
        head.worker(with_x("busy")).await,
        head.worker(WorkerOptions::named("idle")).await,
    );
    head.user(&["actor", "one", ON_X[0], ON_X[1]]).await;
    a_busy_one_refuses(&head, &busy).await;
    an_idle_one_goes(&head, &mut idle).await;
    orders_to_nobody_and_wrong_ones_are_answered(&head, (&idle.id(), &busy.id())).await;
    assert_eq!(node(&head, &busy.id()).await.status(), NodeStatus::Running);
    head.user(&["kill", "one"]).await;
    until(&head, &busy.id(), "idle again", |node| {
        node.status() == NodeStatus::Idle
    })
    .await;
}

async fn a_busy_one_refuses<H: Head>(head: &H, busy: &H::Worker) {
    let client = head.client();
    let refused = client
        .drain_node(drain(&busy.id(), DrainNodeReason::IdleTermination))
        .await
        .unwrap();
    assert!(!refused.is_accepted);
    assert_eq!(
        refused.rejection_reason_message,
        "The node to be idle terminated is no longer idle."
    );
    let working = until(head, &busy.id(), "no processor left", |node| {
        !node.available_resources.contains_key("CPU")
    })
    .await;
    assert_eq!(
        (working.status(), working.idle_duration_ms),
        (NodeStatus::Running, 0)
    );
    assert_eq!(working.total_resources["CPU"], 2.0);
    assert!(
        working
            .node_activity
            .iter()
            .any(|text| text == "Resource: CPU currently in use."),
        "{:?}",
        working.node_activity
    );
    let busy_load = load(head, busy).await;
    assert_eq!(
        (busy_load.idle_duration_ms, busy_load.is_draining),
        (0, false)
    );
}

async fn an_idle_one_goes<H: Head>(head: &H, idle: &mut H::Worker) {
    let client = head.client();
    until(head, &idle.id(), "idle", |node| {
        node.status() == NodeStatus::Idle
    })
    .await;
    let accepted = client
        .drain_node(drain(&idle.id(), DrainNodeReason::IdleTermination))
        .await
        .unwrap();
    assert!(accepted.is_accepted && accepted.rejection_reason_message.is_empty());
    let dead = until(head, &idle.id(), "dead", |node| {
        node.status() == NodeStatus::Dead
    })
    .await;
    assert!(
        dead.total_resources.is_empty()
            && dead.available_resources.is_empty()
            && dead.labels.is_empty()
    );
    assert_eq!(
        (dead.instance_id.as_str(), dead.ray_node_type_name.as_str()),
        ("idle", "small")
    );
    assert_eq!(dead.idle_duration_ms, 0);
    let death = death(head, &idle.id()).await;
    assert_eq!(
        (death.reason(), death.reason_message.as_str()),
        (Reason::AutoscalerDrainIdle, "a test")
    );
    assert!(!idle.has_ended(), "its command takes that as graceful");
    eventually("no raylet answers", async || {
        let load = head
            .raylets()
            .get_resource_load(&idle.raylet_address())
            .await;
        load.is_err().then_some(())
    })
    .await;
}

async fn orders_to_nobody_and_wrong_ones_are_answered<H: Head>(
    head: &H,
    (dead, busy): (&[u8], &[u8]),
) {
    let client = head.client();
    for gone in [dead, &[9; 28]] {
        let answer = client
            .drain_node(drain(gone, DrainNodeReason::IdleTermination))
            .await
            .unwrap();
        assert!(answer.is_accepted, "dead or unknown");
    }
    let short = DrainNodeRequest {
        deadline_timestamp_ms: -1,
        ..drain(busy, DrainNodeReason::Preemption)
    };
    match client.drain_node(short).await.unwrap_err() {
        GcsError::Rejected {
            ray_status,
            details,
            ..
        } => {
            assert_eq!(ray_status, "Invalid");
            assert!(!details.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

async fn a_preempted_node_runs_on_until_its_work_ends<H: Head>(head: H) {
    let worker = head.worker(with_x("w")).await;
    head.user(&["actor", "one", "--num-cpus=1", ON_X[1]]).await;
    let client = head.client();
    let deadline = now()().plus_ms(3_000);
    let order = DrainNodeRequest {
        deadline_timestamp_ms: deadline.as_ms(),
        ..drain(&worker.id(), DrainNodeReason::Preemption)
    };
    assert!(client.drain_node(order).await.unwrap().is_accepted);
    until(&head, &worker.id(), "draining", |node| {
        node.status() == NodeStatus::Draining
    })
    .await;
    let again = drain(&worker.id(), DrainNodeReason::IdleTermination);
    assert!(client.drain_node(again).await.unwrap().is_accepted);
    let told = load(&head, &worker).await;
    assert!(told.is_draining);
    assert_eq!(
        told.draining_deadline_timestamp_ms,
        deadline.as_ms(),
        "the first order stands"
    );
    head.user(&["actor", "two", "--num-cpus=1", "--no-wait"])
        .await;
    eventually("an actor that waits beside free processors", async || {
        let pending = state(&head).await.pending_resource_requests;
        (pending.iter().map(|demand| demand.count).sum::<i64>() == 1).then_some(())
    })
    .await;
    eventually("the deadline has long passed", async || {
        (now()().millis_since(deadline) > 3_000).then_some(())
    })
    .await;
    let seen = node(&head, &worker.id()).await;
    assert_eq!(seen.status(), NodeStatus::Draining, "nobody ends its work");
    head.user(&["kill", "one"]).await;
    until(&head, &worker.id(), "dead", |node| {
        node.status() == NodeStatus::Dead
    })
    .await;
    let death_of_it = death(&head, &worker.id()).await;
    assert_eq!(death_of_it.reason(), Reason::AutoscalerDrainPreempted);
    assert_eq!(death_of_it.reason_message, "a test");
    // Nothing to run on for: it goes at once.
    let idle = head.worker(with_x("idle")).await;
    until(
        &head,
        &idle.id(),
        "one that took the actor that waits",
        |node| node.available_resources.get("CPU") == Some(&1.0),
    )
    .await;
    head.user(&["kill", "two"]).await;
    until(&head, &idle.id(), "idle", |node| {
        node.status() == NodeStatus::Idle
    })
    .await;
    assert!(
        client
            .drain_node(drain(&idle.id(), DrainNodeReason::Preemption))
            .await
            .unwrap()
            .is_accepted
    );
    until(&head, &idle.id(), "dead without a deadline", |node| {
        node.status() == NodeStatus::Dead
    })
    .await;
}

async fn a_lost_node_is_dead_as_soon_as_the_gcs_is_told<H: Head>(head: H) {
    let mut worker = head.worker(with_x("w")).await;
    head.user(&[
        "gang",
        "g",
        "--strategy=PACK",
        r#"--bundles=[{"X": 1}, {"CPU": 1}]"#,
    ])
    .await;
    worker.kill();
    let client = head.client().with_deadline(Duration::from_millis(1_500));
    let unanswered = client
        .drain_node(drain(&worker.id(), DrainNodeReason::IdleTermination))
        .await;
    assert_eq!(unanswered.unwrap_err().kind(), "timeout");
    assert_ne!(node(&head, &worker.id()).await.status(), NodeStatus::Dead);
    assert!(state(&head).await.pending_gang_resource_requests.is_empty());
    let told = NodeDeathInfo {
        reason: Reason::UnexpectedTermination.into(),
        reason_message: "the pod is gone".to_owned(),
    };
    head.client()
        .unregister_node(worker.id(), told.clone())
        .await
        .unwrap();
    let dead = node(&head, &worker.id()).await;
    assert_eq!(dead.status(), NodeStatus::Dead);
    assert_eq!(death(&head, &worker.id()).await, told);
    let waiting = eventually("a group that waits again", async || {
        state(&head).await.pending_gang_resource_requests.pop()
    })
    .await;
    assert!(
        waiting.details.ends_with(":PACK|RESCHEDULING"),
        "{}",
        waiting.details
    );
    assert_eq!(waiting.requests.len(), 2);
    let spare = head.worker(with_x("spare")).await;
    let printed = head.user(&["gang_nodes", "g"]).await;
    let holders: Vec<String> = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let hex: String = spare
        .id()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(holders, [hex.clone(), hex]);
}

async fn sigterm_lets_work_go_on_and_takes_no_more<H: Head>(head: H) {
    let (mut idle, busy) = (
        head.worker(WorkerOptions::named("idle")).await,
        head.worker(with_x("busy")).await,
    );
    head.user(&["actor", "one", "--num-cpus=1", ON_X[1]]).await;
    let began = now()();
    idle.terminate();
    until(&head, &idle.id(), "dead", |node| {
        node.status() == NodeStatus::Dead
    })
    .await;
    eventually("the command ends", async || idle.has_ended().then_some(())).await;
    assert!(now()().millis_since(began) < 20_000);
    let began = now()();
    busy.terminate();
    let draining = eventually("a raylet that drains", async || {
        let load = head
            .raylets()
            .get_resource_load(&busy.raylet_address())
            .await
            .ok()?;
        load.resources.filter(|load| load.is_draining)
    })
    .await;
    assert!(draining.draining_deadline_timestamp_ms > began.as_ms());
    until(&head, &busy.id(), "draining", |node| {
        node.status() == NodeStatus::Draining
    })
    .await;
    until(&head, &busy.id(), "dead", |node| {
        node.status() == NodeStatus::Dead
    })
    .await;
    let took = now()().millis_since(began);
    assert!((28_000..40_000).contains(&took), "after {took} ms");
    let death = death(&head, &busy.id()).await;
    let found = (death.reason(), death.reason_message.as_str());
    assert!(H::DEATHS_AT_DEADLINE.contains(&found), "{found:?}");
}
