//! The protocol itself: credentials, keys, versions, errors, and what ends a GCS or a raylet.

use std::collections::BTreeMap;

use prost::Message;
use rayscaler::wire::gcs::ray::rpc;
use rayscaler::wire::gcs::ray::rpc::autoscaler::{
    AutoscalingState, DrainNodeReply, DrainNodeRequest, GetClusterResourceStateReply,
    GetClusterResourceStateRequest, NodeStatus, PendingInstance,
    ResizeRayletResourceInstancesReply, ResizeRayletResourceInstancesRequest,
};
use rayscaler::wire::gcs::{AuthSettings, GcsClient, GcsSettings, RayletClient, Token};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::heads::{Head, Worker};
use crate::support::ray::WorkerOptions;
use crate::support::wait::eventually;
use crate::{node, on_both_heads, state, until};

on_both_heads! {
    calls_say_which_cluster_they_mean(HeadOptions::default());
    keys_and_reports_are_kept_by_their_rules(HeadOptions::default());
    a_resize_is_answered_with_what_came_of_it(HeadOptions::default());
    calls_carry_the_token(HeadOptions {
        env: vec![
            ("RAY_AUTH_MODE".to_owned(), "token".to_owned()),
            ("RAY_AUTH_TOKEN".to_owned(), "a-token-of-the-tests".to_owned()),
        ],
        ..HeadOptions::default()
    });
    a_drain_without_a_reason_ends_the_raylet(HeadOptions::default());
    a_version_never_given_out_ends_the_gcs(HeadOptions::default());
    another_head_at_the_same_address_is_another_cluster(HeadOptions::default());
    ray_status_shows_nodes_and_reports(HeadOptions::default());
}

const STATE: &str = "/ray.rpc.autoscaler.AutoscalerStateService/GetClusterResourceState";
const DRAIN: &str = "/ray.rpc.autoscaler.AutoscalerStateService/DrainNode";
const RESIZE: &str = "/ray.rpc.autoscaler.AutoscalerStateService/ResizeRayletResourceInstances";
const CLUSTER_ID: &str = "/ray.rpc.NodeInfoGcsService/GetClusterId";
const KV_PUT: &str = "/ray.rpc.InternalKVGcsService/InternalKVPut";

/// Sends what our client would not send.
async fn call<Q, R>(
    head: &impl Head,
    path: &'static str,
    (message, metadata): (Q, &[(&'static str, &str)]),
) -> Result<R, Status>
where
    Q: Message + 'static,
    R: Message + Default + 'static,
{
    let endpoint = Endpoint::from_shared(format!("http://{}", head.settings().address)).unwrap();
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(message);
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(path);
    let reply = grpc
        .unary(request, path, ProstCodec::<Q, R>::default())
        .await?;
    Ok(reply.into_inner())
}

async fn calls_say_which_cluster_they_mean<H: Head>(head: H) {
    let ask = async |metadata: &[(&'static str, &str)]| {
        let request = GetClusterResourceStateRequest::default();
        call::<_, GetClusterResourceStateReply>(&head, STATE, (request, metadata)).await
    };
    let client = head.client();
    let id = client.refresh_cluster_id().await.unwrap();
    assert!(id.len() == 56 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert!(ask(&[]).await.is_ok(), "nobody has to say");
    assert!(ask(&[("ray_cluster_id", &id)]).await.is_ok());
    for wrong in ["ff".repeat(28).as_str(), "", "no hex digits"] {
        let status = ask(&[("ray_cluster_id", wrong)]).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{wrong}");
        let text = "WrongClusterID: Perhaps the client is accessing GCS after it has restarted.";
        assert_eq!(status.message(), text);
    }
    let request = rpc::GetClusterIdRequest::default();
    let other = "ff".repeat(28);
    let reply: rpc::GetClusterIdReply = call(
        &head,
        CLUSTER_ID,
        (request, &[("ray_cluster_id", other.as_str())]),
    )
    .await
    .unwrap();
    assert_eq!(
        reply.cluster_id.len(),
        28,
        "the question for the id needs none"
    );
    let alive = client.check_alive().await.unwrap();
    assert_eq!(alive.ray_version, "2.60.0");
    let (first, second) = (state(&head).await, state(&head).await);
    let step = second.cluster_resource_state_version - first.cluster_resource_state_version;
    assert_eq!(step, 1, "counts questions");
    client.get_cluster_status().await.unwrap();
    let third = state(&head).await;
    assert_eq!(
        third.cluster_resource_state_version - second.cluster_resource_state_version,
        2
    );
    assert_eq!(
        third.node_states[0].node_state_version,
        third.cluster_resource_state_version
    );
    assert_eq!(third.last_seen_autoscaler_state_version, 0);
}

async fn keys_and_reports_are_kept_by_their_rules<H: Head>(head: H) {
    let client = head.client();
    let put = async |value: &[u8]| {
        client
            .internal_kv_put(b"tests", b"key", value.to_vec())
            .await
            .unwrap()
    };
    assert_eq!(
        client.internal_kv_get(b"tests", b"key").await.unwrap(),
        None
    );
    assert!(put(b"one").await, "new");
    assert!(!put(b"two").await, "in place of the old one");
    let request = rpc::InternalKvPutRequest {
        key: b"key".to_vec(),
        value: b"three".to_vec(),
        overwrite: false,
        namespace: b"tests".to_vec(),
    };
    let reply: rpc::InternalKvPutReply = call(&head, KV_PUT, (request, &[])).await.unwrap();
    assert!(!reply.added);
    assert_eq!(
        client
            .internal_kv_get(b"tests", b"key")
            .await
            .unwrap()
            .as_deref(),
        Some(b"two".as_slice())
    );
    assert_eq!(
        client.internal_kv_get(b"others", b"key").await.unwrap(),
        None
    );
    let flag = client
        .internal_kv_get(b"__autoscaler", b"__autoscaler_v2_enabled")
        .await
        .unwrap();
    assert_eq!(flag.as_deref(), Some(b"1".as_slice()));
    a_report_replaces_one_of_no_higher_version(&client).await;
}

async fn a_report_replaces_one_of_no_higher_version(client: &GcsClient) {
    let report = |version, pod: &str| AutoscalingState {
        autoscaler_state_version: version,
        pending_instances: vec![PendingInstance {
            instance_id: pod.to_owned(),
            ..PendingInstance::default()
        }],
        ..AutoscalingState::default()
    };
    let shown = async || {
        let state = client.get_cluster_status().await.unwrap().autoscaling_state;
        state.map(|state| {
            (
                state.autoscaler_state_version,
                state.pending_instances[0].instance_id.clone(),
            )
        })
    };
    assert_eq!(shown().await, None);
    for (version, pod, expected) in [
        (5, "a", (5, "a")),
        (4, "b", (5, "a")),
        (5, "c", (5, "c")),
        (9, "d", (9, "d")),
    ] {
        client
            .report_autoscaling_state(report(version, pod))
            .await
            .unwrap();
        assert_eq!(
            shown().await,
            Some((expected.0, expected.1.to_owned())),
            "after {version}"
        );
    }
}

async fn a_resize_is_answered_with_what_came_of_it<H: Head>(head: H) {
    let worker = head.worker(WorkerOptions::named("w")).await;
    until(&head, &worker.id(), "idle for a while", |node| {
        node.idle_duration_ms > 2_000
    })
    .await;
    let resize = async |node_id: Vec<u8>, name: &str, amount: f64| {
        let resources = BTreeMap::from([(name.to_owned(), amount)]);
        let request = ResizeRayletResourceInstancesRequest { node_id, resources };
        call::<_, ResizeRayletResourceInstancesReply>(&head, RESIZE, (request, &[])).await
    };
    let nothing = ResizeRayletResourceInstancesRequest {
        node_id: worker.id(),
        ..ResizeRayletResourceInstancesRequest::default()
    };
    let same: ResizeRayletResourceInstancesReply =
        call(&head, RESIZE, (nothing, &[])).await.unwrap();
    let before = node(&head, &worker.id()).await;
    for name in ["CPU", "memory"] {
        assert_eq!(same.total_resources[name], before.total_resources[name]);
    }
    let reply = resize(worker.id(), "CPU", 4.0).await.unwrap();
    assert_eq!(reply.total_resources["CPU"], 4.0);
    assert!(reply.total_resources.contains_key("memory"), "{reply:?}");
    let seen = until(&head, &worker.id(), "more processors", |node| {
        node.total_resources["CPU"] == 4.0
    })
    .await;
    assert_eq!(seen.available_resources["CPU"], 4.0);
    assert!(seen.idle_duration_ms < 2_000, "the clock starts anew");
    head.user(&["actor", "one", "--num-cpus=3"]).await;
    let reply = resize(worker.id(), "CPU", 1.0).await.unwrap();
    assert_eq!(
        reply.total_resources["CPU"], 3.0,
        "no less than what is in use"
    );
    until(&head, &worker.id(), "fewer processors", |node| {
        node.total_resources["CPU"] == 3.0
    })
    .await;
    for (id, name, expected) in [
        (worker.id(), "GPU", "InvalidArgument"),
        (vec![9; 28], "CPU", "NotFound"),
        (vec![9; 5], "CPU", "InvalidArgument"),
    ] {
        let status = resize(id, name, 1.0).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Aborted, expected),
            "{name}"
        );
        assert!(!status.details().is_empty());
    }
}

async fn calls_carry_the_token<H: Head>(head: H) {
    assert!(matches!(head.settings().auth, AuthSettings::Value(_)));
    head.client().check_alive().await.unwrap();
    let nodes = head
        .client()
        .get_all_node_info()
        .await
        .unwrap()
        .node_info_list;
    let raylet = format!(
        "{}:{}",
        nodes[0].node_manager_address, nodes[0].node_manager_port
    );
    head.raylets().get_resource_load(&raylet).await.unwrap();
    for wrong in [
        AuthSettings::Disabled,
        AuthSettings::Value(Token::new("another")),
    ] {
        let client = GcsClient::new(GcsSettings {
            auth: wrong.clone(),
            ..head.settings()
        });
        let error = client.refresh_cluster_id().await.unwrap_err();
        assert_eq!(error.kind(), "bad_token", "{error}");
        let raylets =
            RayletClient::new(wrong, None).with_deadline(std::time::Duration::from_secs(5));
        let error = raylets.get_resource_load(&raylet).await.unwrap_err();
        assert_eq!(error.kind(), "bad_token", "{error}");
    }
    for header in ["a-token-of-the-tests", "bearer a-token-of-the-tests"] {
        let request = GetClusterResourceStateRequest::default();
        let reply = call::<_, GetClusterResourceStateReply>(
            &head,
            STATE,
            (request, &[("authorization", header)]),
        )
        .await;
        let status = reply.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(
            status.message(),
            "InvalidAuthToken: Authentication token is missing or incorrect"
        );
    }
}

async fn a_drain_without_a_reason_ends_the_raylet<H: Head>(head: H) {
    let mut worker = head.worker(WorkerOptions::named("w")).await;
    let request = DrainNodeRequest {
        node_id: worker.id(),
        ..DrainNodeRequest::default()
    };
    let asking = call::<_, DrainNodeReply>(&head, DRAIN, (request, &[]));
    let waited = tokio::time::timeout(std::time::Duration::from_secs(3), asking).await;
    assert!(
        waited.is_err(),
        "no answer before the GCS knows: {waited:?}"
    );
    eventually("the raylet is gone", async || {
        worker.has_ended().then_some(())
    })
    .await;
    assert_ne!(node(&head, &worker.id()).await.status(), NodeStatus::Dead);
    until(
        &head,
        &worker.id(),
        "found dead by its health checks",
        |node| node.status() == NodeStatus::Dead,
    )
    .await;
}

async fn a_version_never_given_out_ends_the_gcs<H: Head>(head: H) {
    let client = head.client();
    let version = state(&head).await.cluster_resource_state_version;
    let ask = async |last_seen| {
        let request = GetClusterResourceStateRequest {
            last_seen_cluster_resource_state_version: last_seen,
        };
        call::<_, GetClusterResourceStateReply>(&head, STATE, (request, &[])).await
    };
    ask(version).await.unwrap();
    assert!(ask(version + 1_000).await.is_err());
    eventually("the GCS is gone", async || {
        let error = client.check_alive().await.err()?;
        (error.kind() == "unreachable").then_some(())
    })
    .await;
}

async fn another_head_at_the_same_address_is_another_cluster<H: Head>(head: H) {
    let client = head.client();
    client
        .internal_kv_put(b"tests", b"key", b"one".to_vec())
        .await
        .unwrap();
    let old = state(&head).await;
    for _ in 0..20 {
        state(&head).await;
    }
    let head = head.becomes_another_cluster().await;
    eventually("calls that are for another cluster", async || {
        let error = client.get_cluster_resource_state().await.unwrap_err();
        (error.kind() == "other_cluster").then_some(())
    })
    .await;
    client.refresh_cluster_id().await.unwrap();
    let new = client.get_cluster_resource_state().await.unwrap();
    let new = new.cluster_resource_state.unwrap();
    assert!(new.cluster_resource_state_version < 20, "counts anew");
    assert_ne!(new.cluster_session_name, old.cluster_session_name);
    assert_eq!(new.node_states.len(), 1);
    assert_ne!(new.node_states[0].node_id, old.node_states[0].node_id);
    assert_eq!(new.node_states[0].instance_id, "head-0");
    let key = head
        .client()
        .internal_kv_get(b"tests", b"key")
        .await
        .unwrap();
    assert_eq!(key, None);
}

async fn ray_status_shows_nodes_and_reports<H: Head>(head: H) {
    let _worker = head.worker(WorkerOptions::named("w")).await;
    head.user(&["actor", "one", "--num-cpus=1"]).await;
    head.user(&["actor", "large", "--num-cpus=64", "--no-wait"])
        .await;
    let report = AutoscalingState {
        autoscaler_state_version: 1,
        pending_instances: vec![PendingInstance {
            ray_node_type_name: "small".to_owned(),
            instance_id: "pod-c".to_owned(),
            details: "pulling image".to_owned(),
            ..PendingInstance::default()
        }],
        ..AutoscalingState::default()
    };
    head.client()
        .report_autoscaling_state(report)
        .await
        .unwrap();
    eventually("the demand at the GCS", async || {
        let demands = state(&head).await.pending_resource_requests;
        (!demands.is_empty()).then_some(())
    })
    .await;
    let text = head.ray_status().await;
    for line in [
        "1 small",
        "pod-c: small, pulling image",
        "1.0/2.0 CPU",
        "{'CPU': 64.0}: 1+",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
