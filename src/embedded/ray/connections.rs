//! Ways in: sockets and in-memory streams, the same HTTP/2 on both.
//!
//! # Why
//!
//! A server of tonic's cannot be made to break its connections, and a process that dies does just
//! that (2026-11). So each connection is served by itself, until its server is gone.

use super::RayHead;
use super::faults::Callee;
use super::services::{GcsServer, RayletServer};
use crate::model::NodeId;
use crate::wire::gcs::ray::rpc::autoscaler::autoscaler_state_service_server::{
    AutoscalerStateServiceServer, SERVICE_NAME as AUTOSCALER_STATE,
};
use crate::wire::gcs::ray::rpc::internal_kv_gcs_service_server::{
    InternalKvGcsServiceServer, SERVICE_NAME as INTERNAL_KV,
};
use crate::wire::gcs::ray::rpc::job_info_gcs_service_server::{
    JobInfoGcsServiceServer, SERVICE_NAME as JOB_INFO,
};
use crate::wire::gcs::ray::rpc::node_info_gcs_service_server::{
    NodeInfoGcsServiceServer, SERVICE_NAME as NODE_INFO,
};
use crate::wire::gcs::ray::rpc::node_manager_service_server::{
    NodeManagerServiceServer, SERVICE_NAME as NODE_MANAGER,
};
use crate::wire::gcs::ray::rpc::node_resource_info_gcs_service_server::{
    NodeResourceInfoGcsServiceServer, SERVICE_NAME as NODE_RESOURCE_INFO,
};
use http::{HeaderMap, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

/// What an in-memory stream holds before its writer has to wait.
const BUFFER_BYTES: usize = 64 * 1024;

/// The longest message, as on Ray's side.
const MESSAGE_LIMIT: usize = 512 * 1024 * 1024;

/// One connection at work; it ends when the peer hangs up or the server is gone.
pub(super) type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

impl RayHead {
    /// Serves one connection to the GCS; `None` while there is no GCS.
    pub(super) fn gcs_connection<I>(&self, io: I) -> Option<Connection>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut incarnation = self.incarnation();
        incarnation.mark_unchanged();
        incarnation.get()?;
        let gone = async move { drop(incarnation.changed().await) };
        let server = GcsServer(self.clone());
        Some(serve(
            io,
            move |request| call_gcs(server.clone(), request),
            gone,
        ))
    }

    /// Serves one connection to a raylet; `None` when it does not run.
    pub(super) fn raylet_connection<I>(&self, id: NodeId, io: I) -> Option<Connection>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut ended = self.node_ended(id)?;
        let gone = async move { drop(ended.wait_for(Option::is_some).await) };
        let server = RayletServer {
            head: self.clone(),
            id,
        };
        Some(serve(
            io,
            move |request| call_raylet(server.clone(), request),
            gone,
        ))
    }
}

fn serve<I, F, A>(io: I, answer: F, gone: impl Future<Output = ()> + Send + 'static) -> Connection
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Body>) -> A + Send + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.map(Body::new));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service);
    Box::pin(async move {
        tokio::select! {
            biased;
            () = gone => {}
            // A peer that hangs up in the middle is no matter of ours.
            _ended = connection => {}
        }
    })
}

async fn call_gcs(server: GcsServer, request: Request<Body>) -> Response<Body> {
    if let Some(failed) = server.0.meet(Callee::Gcs, request.uri().path()).await {
        return failed;
    }
    let service = request
        .uri()
        .path()
        .split('/')
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    let is_question_for_id = request.uri().path().ends_with("/GetClusterId");
    if let Some(status) = refusal(&server.0, request.headers(), !is_question_for_id) {
        return status.into_http();
    }
    macro_rules! call {
        ($server:ident) => {{
            let mut service = $server::new(server).max_decoding_message_size(MESSAGE_LIMIT);
            let Ok(reply) = service.call(request).await;
            reply
        }};
    }
    match service.as_str() {
        AUTOSCALER_STATE => call!(AutoscalerStateServiceServer),
        NODE_INFO => call!(NodeInfoGcsServiceServer),
        INTERNAL_KV => call!(InternalKvGcsServiceServer),
        JOB_INFO => call!(JobInfoGcsServiceServer),
        NODE_RESOURCE_INFO => call!(NodeResourceInfoGcsServiceServer),
        _ => Status::unimplemented("").into_http(),
    }
}

async fn call_raylet(server: RayletServer, request: Request<Body>) -> Response<Body> {
    let (head, callee) = (server.head.clone(), Callee::Raylet(server.id));
    if let Some(failed) = head.meet(callee, request.uri().path()).await {
        return failed;
    }
    if let Some(status) = refusal(&server.head, request.headers(), false) {
        return status.into_http();
    }
    if request.uri().path().split('/').nth(1) != Some(NODE_MANAGER) {
        return Status::unimplemented("").into_http();
    }
    let Ok(reply) = NodeManagerServiceServer::new(server).call(request).await;
    reply
}

/// Returns why a call is turned away by its metadata.
fn refusal(head: &RayHead, metadata: &HeaderMap, is_for_one_cluster: bool) -> Option<Status> {
    let (token, cluster_id) = head.credentials();
    let sent = |name: &str| metadata.get(name).map(|value| value.as_bytes().to_vec());
    if let Some(token) = token
        && sent("authorization") != Some(format!("Bearer {token}").into_bytes())
    {
        let text = "InvalidAuthToken: Authentication token is missing or incorrect";
        return Some(Status::unauthenticated(text));
    }
    let is_other = |id: Vec<u8>| id != cluster_id.as_bytes();
    if is_for_one_cluster && sent("ray_cluster_id").is_some_and(is_other) {
        let text = "WrongClusterID: Perhaps the client is accessing GCS after it has restarted.";
        return Some(Status::unauthenticated(text));
    }
    None
}

/// Serves the connections to a listener, for as long as it is polled.
pub(super) async fn accept(
    listener: TcpListener,
    connection: impl Fn(TcpStream) -> Option<Connection>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((io, _)) = listener.accept() => {
                // Small messages back and forth: waiting to fill a packet would cost 40 ms each.
                drop(io.set_nodelay(true));
                // Where nobody serves, the connection is closed at once.
                if let Some(connection) = connection(io) {
                    connections.spawn(connection);
                }
            }
            Some(_ended) = connections.join_next() => {}
            else => {}
        }
    }
}

/// Returns a channel whose every connection is made by `connect`.
pub(super) fn channel<F>(connect: F) -> Channel
where
    F: Fn(DuplexStream) -> Option<Connection> + Clone + Send + 'static,
{
    Endpoint::from_static("http://in-memory").connect_with_connector_lazy(Connector(connect))
}

/// Makes connections that never leave the process.
#[derive(Clone)]
struct Connector<F>(F);

impl<F: Fn(DuplexStream) -> Option<Connection>> Service<Uri> for Connector<F> {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _address: Uri) -> Self::Future {
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let connected = match (self.0)(theirs) {
            Some(connection) => {
                tokio::spawn(connection);
                Ok(TokioIo::new(ours))
            }
            None => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
        };
        ready(connected)
    }
}
