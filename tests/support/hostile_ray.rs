//! A GCS and a raylet in one server, which answer what a test says: nonsense, late, or never.
#![allow(unreachable_pub, reason = "a test file includes it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use rayscaler::wire::gcs::ray::rpc;
use rayscaler::wire::gcs::ray::rpc::autoscaler as wire;
use rayscaler::wire::gcs::{AuthSettings, GcsClient, GcsSettings, RayletClient};
use tonic::transport::server::TcpIncoming;

/// How the server answers one method.
#[derive(Clone)]
pub enum Answer {
    Bytes(Vec<u8>),
    Status(u32),
    Never,
}

impl Answer {
    pub fn of(message: &impl prost::Message) -> Self {
        Self::Bytes(message.encode_to_vec())
    }
}

/// A GCS, and a raylet, that do as the test says.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<BTreeMap<String, Answer>>>);

impl Server {
    /// Starts a server that behaves: one node, whose raylet is the server itself.
    pub fn start() -> (Self, GcsClient, RayletClient) {
        let server = Self::default();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let node = rpc::GcsNodeInfo {
            node_id: vec![1; 28],
            node_manager_address: "127.0.0.1".to_owned(),
            node_manager_port: i32::from(address.port()),
            is_head_node: true,
            ..rpc::GcsNodeInfo::default()
        };
        server.set(
            "GetClusterId",
            Answer::of(&rpc::GetClusterIdReply {
                status: None,
                cluster_id: vec![7; 28],
            }),
        );
        server.set(
            "InternalKVGet",
            Answer::of(&rpc::InternalKvGetReply {
                status: None,
                value: b"1".to_vec(),
            }),
        );
        server.set(
            "GetAllNodeInfo",
            Answer::of(&rpc::GetAllNodeInfoReply {
                status: None,
                node_info_list: vec![node],
            }),
        );
        server.set("GetClusterResourceState", Answer::of(&good_state()));
        server.set("GetResourceLoad", Answer::of(&good_load()));
        let router = Router::new().fallback(answer).with_state(server.clone());
        let serving = tonic::transport::Server::builder()
            .add_routes(tonic::service::Routes::from(router))
            .serve_with_incoming(incoming);
        tokio::spawn(serving);
        let gcs = GcsClient::new(GcsSettings::plain(address.to_string()))
            .with_deadline(Duration::from_millis(400));
        let raylets = RayletClient::new(AuthSettings::Disabled, None)
            .with_deadline(Duration::from_millis(400));
        (server, gcs, raylets)
    }

    pub fn set(&self, method: &str, answer: Answer) {
        self.0.lock().unwrap().insert(method.to_owned(), answer);
    }
}

async fn answer(State(server): State<Server>, uri: Uri) -> Response {
    let method = uri.path().rsplit('/').next().unwrap();
    let answer = server.0.lock().unwrap().get(method).cloned();
    let (status, message) = match answer.unwrap_or(Answer::Status(12)) {
        Answer::Bytes(message) => (0, message),
        Answer::Status(status) => (status, Vec::new()),
        Answer::Never => std::future::pending().await,
    };
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let headers = [
        ("content-type", "application/grpc".to_owned()),
        ("grpc-status", status.to_string()),
    ];
    if status == 0 {
        (headers, frame).into_response()
    } else {
        headers.into_response()
    }
}

/// Asks for so many requests of so many processors.
pub fn by_count(amount: f64, count: i64) -> wire::ResourceRequestByCount {
    wire::ResourceRequestByCount {
        request: Some(wire::ResourceRequest {
            resources_bundle: [("CPU".to_owned(), amount)].into(),
            ..wire::ResourceRequest::default()
        }),
        count,
    }
}

/// One node of this status, and these requests.
pub fn state_with(
    status: i32,
    requests: Vec<wire::ResourceRequestByCount>,
) -> wire::GetClusterResourceStateReply {
    let node = wire::NodeState {
        node_id: vec![1; 28],
        status,
        total_resources: [("CPU".to_owned(), 4.0)].into(),
        ..wire::NodeState::default()
    };
    wire::GetClusterResourceStateReply {
        cluster_resource_state: Some(wire::ClusterResourceState {
            cluster_session_name: "session".to_owned(),
            node_states: vec![node],
            pending_resource_requests: requests,
            ..wire::ClusterResourceState::default()
        }),
    }
}

/// The GCS knows of five tasks.
pub fn good_state() -> wire::GetClusterResourceStateReply {
    state_with(1, vec![by_count(1.0, 5)])
}

/// The raylet knows of three: two have just been placed.
pub fn good_load() -> rpc::GetResourceLoadReply {
    let demand = rpc::ResourceDemand {
        shape: [("CPU".to_owned(), 1.0)].into(),
        num_ready_requests_queued: 3,
        ..rpc::ResourceDemand::default()
    };
    rpc::GetResourceLoadReply {
        resources: Some(rpc::ResourcesData {
            node_id: vec![1; 28],
            resource_load_by_shape: Some(rpc::ResourceLoad {
                resource_demands: vec![demand],
            }),
            ..rpc::ResourcesData::default()
        }),
    }
}
