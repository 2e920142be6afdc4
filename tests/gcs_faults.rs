//! Answers that real Ray does not give on request: none, late ones, broken ones.
#![expect(clippy::unwrap_used, reason = "test")]

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::IntoResponse;
use prost::Message as _;
use rayscaler::wire::gcs::ray::rpc::autoscaler::{
    ClusterResourceState, DrainNodeRequest, GetClusterResourceStateReply, NodeState, NodeStatus,
};
use rayscaler::wire::gcs::ray::rpc::{GcsStatus, GetAllNodeInfoReply, GetClusterIdReply};
use rayscaler::wire::gcs::{GcsClient, GcsSettings, RayletClient};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::transport::server::TcpIncoming;

/// Holds what a fake GCS answers, and what it was asked.
#[derive(Clone, Default)]
struct FakeGcs {
    reply: Vec<u8>,
    cluster_id: Vec<u8>,
    seen: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

/// Puts the bytes of a message into the frame of gRPC.
fn frame(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed
}

async fn answer(State(fake): State<FakeGcs>, uri: Uri, headers: HeaderMap) -> impl IntoResponse {
    fake.seen
        .lock()
        .unwrap()
        .push((uri.path().to_owned(), headers));
    let body = if uri.path().ends_with("/GetClusterId") {
        let reply = GetClusterIdReply {
            status: None,
            cluster_id: fake.cluster_id,
        };
        frame(&reply.encode_to_vec())
    } else {
        frame(&fake.reply)
    };
    (
        [("content-type", "application/grpc"), ("grpc-status", "0")],
        body,
    )
}

impl FakeGcs {
    fn with_reply(reply: Vec<u8>) -> Self {
        Self {
            reply,
            cluster_id: vec![0xab; 28],
            ..Self::default()
        }
    }

    /// Serves on a free port until the runtime of the test ends.
    fn serve(&self) -> String {
        let router = Router::new().fallback(answer).with_state(self.clone());
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap().to_string();
        let server = tonic::transport::Server::builder()
            .add_routes(tonic::service::Routes::from(router))
            .serve_with_incoming(incoming);
        tokio::spawn(server);
        address
    }
}

async fn state_error_kind(reply: Vec<u8>) -> &'static str {
    let client = GcsClient::new(GcsSettings::plain(FakeGcs::with_reply(reply).serve()));
    client
        .get_cluster_resource_state()
        .await
        .unwrap_err()
        .kind()
}

fn state_reply() -> GetClusterResourceStateReply {
    let node = NodeState {
        node_id: vec![1; 28],
        total_resources: [("CPU".to_owned(), f64::NAN)].into(),
        status: 99,
        ..NodeState::default()
    };
    let state = ClusterResourceState {
        node_states: vec![node],
        ..ClusterResourceState::default()
    };
    GetClusterResourceStateReply {
        cluster_resource_state: Some(state),
    }
}

#[tokio::test]
async fn a_call_carries_who_we_are_and_which_cluster_we_mean() {
    let fake = FakeGcs::with_reply(state_reply().encode_to_vec());
    let client = GcsClient::new(GcsSettings::plain(fake.serve()));
    client.get_cluster_resource_state().await.unwrap();
    client.get_cluster_resource_state().await.unwrap();
    let seen = fake.seen.lock().unwrap().clone();
    let paths: Vec<&str> = seen.iter().map(|(path, _)| path.as_str()).collect();
    let state = "/ray.rpc.autoscaler.AutoscalerStateService/GetClusterResourceState";
    assert_eq!(
        paths,
        ["/ray.rpc.NodeInfoGcsService/GetClusterId", state, state]
    );
    assert!(!seen[0].1.contains_key("ray_cluster_id"));
    let headers = &seen[2].1;
    assert_eq!(headers["ray_cluster_id"], "ab".repeat(28));
    assert_eq!(headers["grpc-timeout"], "10000000u");
    assert!(!headers.contains_key("authorization"));
    let agent = headers["user-agent"].to_str().unwrap();
    assert!(
        agent.starts_with(concat!("rayscaler/", env!("CARGO_PKG_VERSION"))),
        "{agent}"
    );
}

#[tokio::test]
async fn a_reply_can_be_had_encoded_and_keeps_what_is_strange_in_it() {
    let encoded = state_reply().encode_to_vec();
    let client = GcsClient::new(GcsSettings::plain(
        FakeGcs::with_reply(encoded.clone()).serve(),
    ));
    let reply = client.get_cluster_resource_state_encoded().await.unwrap();
    assert_eq!(reply.bytes(), encoded);
    let node = &reply
        .decode()
        .unwrap()
        .cluster_resource_state
        .unwrap()
        .node_states[0];
    assert!(node.total_resources["CPU"].is_nan());
    // An enum value of a later Ray: kept as a number, read as unspecified.
    assert_eq!((node.status, node.status()), (99, NodeStatus::Unspecified));
}

#[tokio::test]
async fn a_broken_reply_is_malformed() {
    let whole = state_reply().encode_to_vec();
    for length in 1..whole.len() {
        assert_eq!(
            state_error_kind(whole[..length].to_vec()).await,
            "malformed",
            "{length} bytes"
        );
    }
    assert_eq!(state_error_kind(vec![0xff; 64]).await, "malformed");
}

#[tokio::test]
async fn a_cluster_id_of_the_wrong_length_is_malformed() {
    let fake = FakeGcs {
        cluster_id: vec![1; 3],
        ..FakeGcs::default()
    };
    let client = GcsClient::new(GcsSettings::plain(fake.serve()));
    assert_eq!(client.check_alive().await.unwrap_err().kind(), "malformed");
    assert_eq!(client.cluster_id(), None);
}

#[tokio::test]
async fn a_failure_inside_a_reply_is_a_failure() {
    let status = GcsStatus {
        code: 5,
        message: "no such thing".to_owned(),
    };
    let reply = GetAllNodeInfoReply {
        status: Some(status),
        ..GetAllNodeInfoReply::default()
    };
    let client = GcsClient::new(GcsSettings::plain(
        FakeGcs::with_reply(reply.encode_to_vec()).serve(),
    ));
    let error = client.get_all_node_info().await.unwrap_err();
    assert_eq!(error.kind(), "rejected");
    assert_eq!(
        error.to_string(),
        "Ray answers GetAllNodeInfo with 5: no such thing"
    );
}

#[tokio::test]
async fn a_drain_that_would_abort_the_raylet_is_not_sent() {
    let fake = FakeGcs::with_reply(Vec::new());
    let client = GcsClient::new(GcsSettings::plain(fake.serve()));
    for reason in [0, 3, -1] {
        let request = DrainNodeRequest {
            reason,
            ..DrainNodeRequest::default()
        };
        assert_eq!(
            client.drain_node(request).await.unwrap_err().kind(),
            "unsafe"
        );
    }
    assert!(fake.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_told_apart_and_counted() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_address = silent.local_addr().unwrap().to_string();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed_address = closed.local_addr().unwrap().to_string();
    drop(closed);
    let counted = Arc::new(Mutex::new(Vec::new()));
    for (address, kind) in [(silent_address, "timeout"), (closed_address, "unreachable")] {
        let counter = Arc::clone(&counted);
        let client = GcsClient::new(GcsSettings::plain(address))
            .with_deadline(Duration::from_millis(200))
            .observed_by(Arc::new(move |method, status| {
                counter.lock().unwrap().push((method, status));
            }));
        let call = tokio::time::timeout(Duration::from_secs(5), client.check_alive());
        assert_eq!(call.await.unwrap().unwrap_err().kind(), kind);
    }
    let expected = [("GetClusterId", "timeout"), ("GetClusterId", "unreachable")];
    assert_eq!(*counted.lock().unwrap(), expected);
}

#[tokio::test]
async fn connections_to_raylets_are_kept_and_those_of_gone_nodes_dropped() {
    let fake = FakeGcs::with_reply(Vec::new());
    let (first, second) = (fake.serve(), fake.serve());
    let raylets = RayletClient::new(rayscaler::wire::gcs::AuthSettings::Disabled, None)
        .with_deadline(Duration::from_secs(5));
    for address in [&first, &second, &first] {
        raylets.get_resource_load(address).await.unwrap();
    }
    assert_eq!(raylets.connections(), 2);
    raylets.retain(&BTreeSet::from([second]));
    assert_eq!(raylets.connections(), 1);
    assert_eq!(
        fake.seen.lock().unwrap().len(),
        3,
        "the cluster id is not asked for"
    );
}
