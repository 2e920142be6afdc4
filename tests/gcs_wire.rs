//! Speaks to real Ray: what its replies say, and how it answers what we send.
#![expect(clippy::unwrap_used, reason = "test")]

mod support;

use rayscaler::wire::gcs::ray::rpc::autoscaler::{
    AutoscalingState, ClusterResourceState, DrainNodeReason, DrainNodeRequest, GangResourceRequest,
    NodeStatus, PendingInstance, ResourceRequest,
};
use rayscaler::wire::gcs::ray::rpc::node_death_info::Reason;
use rayscaler::wire::gcs::ray::rpc::{LabelSelectorOperator, NodeDeathInfo, ResourcesData};
use rayscaler::wire::gcs::{GcsClient, RayletClient};
use std::collections::BTreeMap;
use support::ray::{HeadOptions, RayHead, RayVersion, WorkerOptions};
use support::wait::eventually;

fn bundle(resources: &[(&str, f64)]) -> BTreeMap<String, f64> {
    resources
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), *amount))
        .collect()
}

async fn state(client: &GcsClient) -> ClusterResourceState {
    let reply = client.get_cluster_resource_state().await.unwrap();
    reply.cluster_resource_state.unwrap()
}

/// Returns how many requests of this shape wait, and the first of them.
fn pending(
    state: &ClusterResourceState,
    resources: &[(&str, f64)],
) -> Option<(i64, ResourceRequest)> {
    let wanted = bundle(resources);
    state.pending_resource_requests.iter().find_map(|by_count| {
        let request = by_count.request.clone()?;
        (request.resources_bundle == wanted).then_some((by_count.count, request))
    })
}

fn load_of(data: &ResourcesData, resources: &[(&str, f64)]) -> u64 {
    let demands = data
        .resource_load_by_shape
        .iter()
        .flat_map(|load| &load.resource_demands);
    let same_shape = demands.filter(|demand| demand.shape == bundle(resources));
    same_shape
        .map(|demand| demand.num_infeasible_requests_queued + demand.num_ready_requests_queued)
        .sum()
}

fn drain(node_id: &[u8]) -> DrainNodeRequest {
    DrainNodeRequest {
        node_id: node_id.to_vec(),
        reason: DrainNodeReason::IdleTermination.into(),
        reason_message: "idle for 60 s".to_owned(),
        deadline_timestamp_ms: 0,
    }
}

/// Checks what `demand.py` asks for in every version of Ray.
async fn assert_plain_demand(client: &GcsClient) -> ClusterResourceState {
    let seen = eventually("all demand of the driver", async || {
        let state = state(client).await;
        let (waiting, _) = pending(&state, &[("CPU", 1.0)])?;
        // Two of the 32 run.
        (waiting == 30 && pending(&state, &[("CPU", 8.0)])?.0 == 3).then_some(state)
    })
    .await;
    assert_eq!(seen.pending_gang_resource_requests.len(), 2);
    let spread = gang(&seen, "STRICT_SPREAD");
    let (id, _) = spread.details.split_once(':').unwrap();
    assert_eq!(spread.requests.len(), 2);
    for request in &spread.requests {
        assert_eq!(request.resources_bundle, bundle(&[("CPU", 4.0)]));
        let apart = request.placement_constraints[0]
            .anti_affinity
            .clone()
            .unwrap();
        assert_eq!(apart.label_name, format!("_PG_{id}"));
    }
    assert_eq!(
        gang(&seen, "PACK").requests[0].resources_bundle,
        bundle(&[("CPU", 16.0)])
    );
    let constraints: Vec<_> = seen.cluster_resource_constraints[0]
        .resource_requests
        .iter()
        .map(|wanted| {
            (
                wanted.count,
                wanted.request.clone().unwrap().resources_bundle,
            )
        })
        .collect();
    assert_eq!(seen.cluster_resource_constraints.len(), 1);
    assert_eq!(constraints.len(), 2);
    assert!(constraints.contains(&(5, bundle(&[("CPU", 1.0)]))));
    assert!(constraints.contains(&(1, bundle(&[("GPU", 2.0)]))));
    // A task inside a group that is not placed asks for what only the placed group will have.
    let inside = seen.pending_resource_requests.iter().filter(|by_count| {
        let shape = &by_count.request.as_ref().unwrap().resources_bundle;
        shape.keys().any(|name| name.starts_with("CPU_group_"))
    });
    assert_eq!(inside.count(), 1);
    seen
}

fn gang(state: &ClusterResourceState, strategy: &str) -> GangResourceRequest {
    let ending = format!(":{strategy}|PENDING");
    let mut gangs = state.pending_gang_resource_requests.iter();
    gangs
        .find(|gang| gang.details.ends_with(&ending))
        .unwrap()
        .clone()
}

/// Checks that the head's raylet says itself what the GCS says of it.
async fn assert_load_at_the_raylet(head: &RayHead, raylets: &RayletClient) {
    let address = head.raylet_address().await;
    let load = raylets
        .get_resource_load(&address)
        .await
        .unwrap()
        .resources
        .unwrap();
    assert_eq!(load_of(&load, &[("CPU", 8.0)]), 3);
    assert_eq!(load.resources_total["CPU"], 2.0);
    assert!(!load.is_draining);
    let usage = head.client().get_all_resource_usage().await.unwrap();
    let of_nodes = usage.resource_usage_data.unwrap().batch;
    assert_eq!(of_nodes.len(), 1);
    assert_eq!(of_nodes[0].node_id, load.node_id);
    assert_eq!(load_of(&of_nodes[0], &[("CPU", 8.0)]), 3);
}

#[tokio::test]
async fn a_state_reply_says_what_the_driver_asked_for() {
    let options = HeadOptions {
        num_cpus: 2,
        labels: "zone=z1".to_owned(),
        ..HeadOptions::default()
    };
    let head = RayHead::start(options).await;
    let client = head.client();
    let mut driver = head.driver("demand.py", &["--labels"]);
    driver.prints("asked").await;

    let seen = assert_plain_demand(&client).await;
    let node = &seen.node_states[0];
    assert_eq!(
        (node.instance_id.as_str(), node.ray_node_type_name.as_str()),
        ("head-0", "headgroup")
    );
    assert_eq!(node.status(), NodeStatus::Running);
    assert_eq!(node.total_resources["node:__internal_head__"], 1.0);
    assert_eq!(node.total_resources["CPU"], 2.0);
    assert!(
        !node.available_resources.contains_key("CPU"),
        "used up, so absent"
    );
    assert_eq!(node.labels["zone"], "z1");
    assert_eq!(node.node_id.len(), 28);

    // Without a selector there is one that asks for nothing.
    let (_, plain) = pending(&seen, &[("CPU", 8.0)]).unwrap();
    assert_eq!(plain.label_selectors.len(), 1);
    assert!(plain.label_selectors[0].label_constraints.is_empty());
    let (_, selected) = pending(&seen, &[("CPU", 3.0)]).unwrap();
    let shown: Vec<Vec<_>> = selected
        .label_selectors
        .iter()
        .map(|selector| {
            let constraints = selector.label_constraints.iter();
            constraints
                .map(|one| (one.label_key.as_str(), one.operator()))
                .collect()
        })
        .collect();
    let zone_in = ("zone", LabelSelectorOperator::LabelOperatorIn);
    let not_tier = ("tier", LabelSelectorOperator::LabelOperatorNotIn);
    assert!(
        shown[0].contains(&zone_in) && shown[0].contains(&not_tier),
        "{shown:?}"
    );
    assert_eq!(shown[1], [zone_in]);
    assert_eq!(
        selected.label_selectors[1].label_constraints[0].label_values,
        ["z6"]
    );
    let spread = gang(&seen, "STRICT_SPREAD");
    assert_eq!(spread.bundle_selectors[0].resource_requests.len(), 2);

    assert_load_at_the_raylet(&head, &head.raylets()).await;
    let jobs = client.get_all_job_info().await.unwrap().job_info_list;
    assert_eq!(jobs.len(), 1);
    assert!(!jobs[0].is_dead && jobs[0].end_time == 0 && jobs[0].start_time > 0);
    assert_eq!(
        jobs[0].driver_address.as_ref().unwrap().node_id,
        node.node_id
    );
    let session = client
        .internal_kv_get(b"session", b"session_name")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(session, seen.cluster_session_name.as_bytes());
}

#[tokio::test]
async fn the_oldest_ray_is_understood_too() {
    let options = HeadOptions {
        version: RayVersion::Oldest,
        num_cpus: 2,
        ..HeadOptions::default()
    };
    let head = RayHead::start(options).await;
    let client = head.client();
    assert_eq!(client.check_alive().await.unwrap().ray_version, "2.47.1");
    let mut driver = head.driver("demand.py", &[]);
    driver.prints("asked").await;
    assert_plain_demand(&client).await;
    assert_load_at_the_raylet(&head, &head.raylets()).await;

    let worker = head.start_worker(WorkerOptions::named("small-0")).await;
    drop(driver);
    worker
        .wait_until(&client, |node| node.status() == NodeStatus::Idle)
        .await;
    let reply = client.drain_node(drain(&worker.info.node_id)).await;
    assert!(reply.unwrap().is_accepted);
    worker
        .wait_until(&client, |node| node.status() == NodeStatus::Dead)
        .await;
}

#[tokio::test]
async fn without_autoscaler_v2_the_constraint_is_in_the_kv() {
    let options = HeadOptions {
        autoscaler_v2: false,
        ..HeadOptions::default()
    };
    let head = RayHead::start(options).await;
    let client = head.client();
    let flag = client
        .internal_kv_get(b"__autoscaler", b"__autoscaler_v2_enabled")
        .await
        .unwrap();
    assert_eq!(flag.as_deref(), Some(b"0".as_slice()));
    let absent = client
        .internal_kv_get(b"", b"autoscaler_resource_request")
        .await
        .unwrap();
    assert_eq!(absent, None);
    head.driver("request_resources.py", &[r#"[{"CPU": 1}, {"GPU": 2}]"#])
        .finish()
        .await;
    let asked = client
        .internal_kv_get(b"", b"autoscaler_resource_request")
        .await
        .unwrap()
        .unwrap();
    let asked: serde_json::Value = serde_json::from_slice(&asked).unwrap();
    assert_eq!(asked, serde_json::json!([{"CPU": 1}, {"GPU": 2}]));
    assert!(state(&client).await.cluster_resource_constraints.is_empty());

    assert!(
        client
            .internal_kv_put(b"rayscaler", b"key", b"one".to_vec())
            .await
            .unwrap()
    );
    assert!(
        !client
            .internal_kv_put(b"rayscaler", b"key", b"two".to_vec())
            .await
            .unwrap()
    );
    let value = client.internal_kv_get(b"rayscaler", b"key").await.unwrap();
    assert_eq!(value.as_deref(), Some(b"two".as_slice()));
}

#[tokio::test]
async fn an_idle_worker_can_be_drained_and_a_busy_one_refuses() {
    let head = RayHead::start(HeadOptions::default()).await;
    let client = head.client();
    let resources = r#"{"X": 1}"#.to_owned();
    let busy = head
        .start_worker(WorkerOptions {
            resources,
            ..WorkerOptions::named("busy-0")
        })
        .await;
    let idle = head.start_worker(WorkerOptions::named("idle-0")).await;
    let mut driver = head.driver("hold_task.py", &[r#"{"CPU": 1, "X": 1}"#]);
    driver.prints("running").await;

    let refused = client.drain_node(drain(&busy.info.node_id)).await.unwrap();
    assert!(!refused.is_accepted);
    assert_eq!(
        refused.rejection_reason_message,
        "The node to be idle terminated is no longer idle."
    );
    let raylets = head.raylets();
    let load = raylets
        .get_resource_load(&busy.raylet_address())
        .await
        .unwrap()
        .resources
        .unwrap();
    assert_eq!((load.idle_duration_ms, load.is_draining), (0, false));

    let since = idle
        .wait_until(&client, |node| node.status() == NodeStatus::Idle)
        .await;
    assert!(since.idle_duration_ms > 0);
    let load = raylets
        .get_resource_load(&idle.raylet_address())
        .await
        .unwrap()
        .resources
        .unwrap();
    assert!(load.idle_duration_ms > 0);
    let accepted = client.drain_node(drain(&idle.info.node_id)).await.unwrap();
    assert!(accepted.is_accepted);
    idle.wait_until(&client, |node| node.status() == NodeStatus::Dead)
        .await;

    let without_reason = DrainNodeRequest {
        reason: 0,
        ..drain(&busy.info.node_id)
    };
    assert_eq!(
        client.drain_node(without_reason).await.unwrap_err().kind(),
        "unsafe"
    );
    let short = client.drain_node(DrainNodeRequest {
        deadline_timestamp_ms: -1,
        ..drain(&busy.info.node_id)
    });
    let error = short.await.unwrap_err();
    assert_eq!(error.kind(), "rejected");
    assert!(error.to_string().contains("Invalid"), "{error}");
    busy.wait_until(&client, |node| node.status() == NodeStatus::Running)
        .await;
}

#[tokio::test]
async fn a_lost_node_is_dead_as_soon_as_the_gcs_is_told() {
    let head = RayHead::start(HeadOptions::default()).await;
    let client = head.client();
    let mut lost = head.start_worker(WorkerOptions::named("lost-0")).await;
    lost.process.kill();
    let node_id = lost.info.node_id.clone();
    let reason = NodeDeathInfo {
        reason: Reason::UnexpectedTermination.into(),
        reason_message: "the pod is gone".to_owned(),
    };
    client
        .unregister_node(node_id.clone(), reason)
        .await
        .unwrap();
    let state = state(&client).await;
    let node = state
        .node_states
        .iter()
        .find(|node| node.node_id == node_id)
        .unwrap();
    assert_eq!(node.status(), NodeStatus::Dead);
    assert!(node.total_resources.is_empty() && node.labels.is_empty());
}

#[tokio::test]
async fn ray_status_shows_the_report_with_the_highest_version() {
    let head = RayHead::start(HeadOptions::default()).await;
    let client = head.client();
    let report = |version, pod: &str| AutoscalingState {
        autoscaler_state_version: version,
        pending_instances: vec![PendingInstance {
            ray_node_type_name: "small".to_owned(),
            instance_id: pod.to_owned(),
            details: "pulling image".to_owned(),
            ..PendingInstance::default()
        }],
        ..AutoscalingState::default()
    };
    let shown = async || {
        let status = client
            .get_cluster_status()
            .await
            .unwrap()
            .autoscaling_state
            .unwrap();
        (
            status.autoscaler_state_version,
            status.pending_instances[0].instance_id.clone(),
        )
    };
    client
        .report_autoscaling_state(report(5, "pod-a"))
        .await
        .unwrap();
    client
        .report_autoscaling_state(report(4, "pod-b"))
        .await
        .unwrap();
    assert_eq!(
        shown().await,
        (5, "pod-a".to_owned()),
        "a lower version is thrown away"
    );
    client
        .report_autoscaling_state(report(5, "pod-c"))
        .await
        .unwrap();
    assert_eq!(
        shown().await,
        (5, "pod-c".to_owned()),
        "the same version replaces"
    );
    let text = head.ray_status().await;
    assert!(text.contains("pod-c: small, pulling image"), "{text}");
}
