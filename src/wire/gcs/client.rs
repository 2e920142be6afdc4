//! The client of the GCS; its methods are named after Ray's.

use super::caller::{Caller, ClusterId, EncodedReply, Observer};
use super::error::GcsError;
use super::kept_channel::KeptChannel;
use super::method::Request;
use super::ray::rpc::{self, autoscaler};
use super::settings::GcsSettings;
use super::token::AuthSettings;
use prost::DecodeError;
use prost::bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::Channel;

/// A cluster id has this many bytes, as every id of Ray's that names a cluster or a node.
const CLUSTER_ID_LEN: usize = 28;
/// What a GCS answers when a key is absent.
const NOT_FOUND: &str = "17";

/// Talks to one GCS over one kept connection, which is made at the first call and again after a failure.
///
/// Every call has a deadline and carries the cluster id once it is known. Clones share connection and cluster id.
#[derive(Debug, Clone)]
pub struct GcsClient {
    caller: Caller,
    channel: Arc<KeptChannel>,
    cluster_id: Arc<Mutex<Option<ClusterId>>>,
}

impl GcsClient {
    /// Returns a client; nothing is sent and no file is read before the first call.
    #[must_use]
    pub fn new(settings: GcsSettings) -> Self {
        Self::with_channel(
            KeptChannel::new(settings.address, settings.tls),
            settings.auth,
        )
    }

    /// Returns a client that talks over `channel`, for a GCS that is not behind a socket.
    #[must_use]
    pub fn over(channel: Channel, auth: AuthSettings) -> Self {
        Self::with_channel(KeptChannel::over(channel, "in-memory".to_owned()), auth)
    }

    fn with_channel(channel: KeptChannel, auth: AuthSettings) -> Self {
        Self {
            caller: Caller::new(auth),
            channel: Arc::new(channel),
            cluster_id: Arc::default(),
        }
    }

    /// Returns a client that tells `observer` of every call.
    #[must_use]
    pub fn observed_by(mut self, observer: Observer) -> Self {
        self.caller.observer = Some(observer);
        self
    }

    /// Returns a client whose calls all have this deadline, in place of each method's own.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.caller.deadline = Some(deadline);
        self
    }

    /// Returns the id of the cluster that we talk to, as 56 hex digits, `None` before the first call.
    #[must_use]
    pub fn cluster_id(&self) -> Option<String> {
        self.known_cluster_id().map(|id| id.hex)
    }

    /// Asks whose GCS it is now and sends that id from now on.
    ///
    /// Called after `OtherCluster`, by someone who has dropped what was known of the old cluster.
    pub async fn refresh_cluster_id(&self) -> Result<String, GcsError> {
        self.fetch_cluster_id().await.map(|id| id.hex)
    }

    /// Forgets whose GCS it was; the next call asks anew.
    pub fn forget_cluster_id(&self) {
        *self
            .cluster_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks for all nodes and all demand.
    pub async fn get_cluster_resource_state(
        &self,
    ) -> Result<autoscaler::GetClusterResourceStateReply, GcsError> {
        self.call(autoscaler::GetClusterResourceStateRequest::default())
            .await
    }

    /// Asks for all nodes and all demand, and reads the reply as `read` does.
    pub async fn read_cluster_resource_state<T>(
        &self,
        read: impl FnOnce(Bytes) -> Result<T, DecodeError>,
    ) -> Result<T, GcsError> {
        let id = self.cluster_id_to_send().await?;
        let request = autoscaler::GetClusterResourceStateRequest::default();
        self.caller
            .call_read(&self.channel, (request, read), Some(id))
            .await
    }

    /// Asks for all nodes and all demand, and leaves decoding to the caller.
    pub async fn get_cluster_resource_state_encoded(
        &self,
    ) -> Result<EncodedReply<autoscaler::GetClusterResourceStateReply>, GcsError> {
        let id = self.cluster_id_to_send().await?;
        let request = autoscaler::GetClusterResourceStateRequest::default();
        self.caller
            .call_encoded(&self.channel, request, Some(id))
            .await
    }

    /// Asks for what was last reported, beside the state.
    pub async fn get_cluster_status(&self) -> Result<autoscaler::GetClusterStatusReply, GcsError> {
        self.call(autoscaler::GetClusterStatusRequest::default())
            .await
    }

    /// Stores what `ray status` shows.
    ///
    /// A version lower than the stored one is discarded without a word.
    pub async fn report_autoscaling_state(
        &self,
        state: autoscaler::AutoscalingState,
    ) -> Result<(), GcsError> {
        let request = autoscaler::ReportAutoscalingStateRequest {
            autoscaling_state: Some(state),
        };
        self.call(request).await.map(|_| ())
    }

    /// Asks a raylet to stop; a refusal is an answer.
    pub async fn drain_node(
        &self,
        request: autoscaler::DrainNodeRequest,
    ) -> Result<autoscaler::DrainNodeReply, GcsError> {
        let reason = request.reason();
        if reason == autoscaler::DrainNodeReason::Unspecified {
            let reason = "a raylet that is drained without a known reason aborts";
            return Err(GcsError::Unsafe {
                method: "DrainNode",
                reason,
            });
        }
        self.call(request).await
    }

    /// Sets totals of a raylet, and returns all totals that it has then: no less than what is in use.
    pub async fn resize_raylet(
        &self,
        node_id: Vec<u8>,
        resources: BTreeMap<String, f64>,
    ) -> Result<BTreeMap<String, f64>, GcsError> {
        let request = autoscaler::ResizeRayletResourceInstancesRequest { node_id, resources };
        self.call(request).await.map(|reply| reply.total_resources)
    }

    /// Asks for Ray's version.
    pub async fn check_alive(&self) -> Result<rpc::CheckAliveReply, GcsError> {
        self.call(rpc::CheckAliveRequest::default()).await
    }

    /// Asks for addresses and ports of the nodes, alive and dead.
    pub async fn get_all_node_info(&self) -> Result<rpc::GetAllNodeInfoReply, GcsError> {
        self.call(rpc::GetAllNodeInfoRequest::default()).await
    }

    /// Tells the GCS that a node is gone.
    ///
    /// A raylet that lives ends itself then: only for one that is known to be dead.
    pub async fn unregister_node(
        &self,
        node_id: Vec<u8>,
        node_death_info: rpc::NodeDeathInfo,
    ) -> Result<(), GcsError> {
        let node_death_info = Some(node_death_info);
        self.call(rpc::UnregisterNodeRequest {
            node_id,
            node_death_info,
        })
        .await
        .map(|_| ())
    }

    /// Reads a key, `None` when it is absent.
    pub async fn internal_kv_get(
        &self,
        namespace: &[u8],
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, GcsError> {
        let (key, namespace) = (key.to_vec(), namespace.to_vec());
        match self
            .call(rpc::InternalKvGetRequest { key, namespace })
            .await
        {
            Ok(reply) => Ok(Some(reply.value)),
            Err(GcsError::Rejected { ray_status, .. }) if ray_status == NOT_FOUND => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a key, in place of what is there; returns whether the key is new.
    pub async fn internal_kv_put(
        &self,
        namespace: &[u8],
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<bool, GcsError> {
        let (key, namespace) = (key.to_vec(), namespace.to_vec());
        let request = rpc::InternalKvPutRequest {
            key,
            value,
            overwrite: true,
            namespace,
        };
        self.call(request).await.map(|reply| reply.added)
    }

    /// Asks for the drivers, past and present.
    pub async fn get_all_job_info(&self) -> Result<rpc::GetAllJobInfoReply, GcsError> {
        // Without these the GCS asks every driver and reads every submission.
        let request = rpc::GetAllJobInfoRequest {
            skip_submission_job_info_field: Some(true),
            skip_is_running_tasks_field: Some(true),
        };
        self.call(request).await
    }

    /// Asks for the load that each raylet last told the GCS.
    pub async fn get_all_resource_usage(&self) -> Result<rpc::GetAllResourceUsageReply, GcsError> {
        self.call(rpc::GetAllResourceUsageRequest::default()).await
    }

    async fn call<R: Request>(&self, request: R) -> Result<R::Reply, GcsError> {
        let id = self.cluster_id_to_send().await?;
        self.caller.call(&self.channel, request, Some(id)).await
    }

    fn known_cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn cluster_id_to_send(&self) -> Result<ClusterId, GcsError> {
        match self.known_cluster_id() {
            Some(id) => Ok(id),
            None => self.fetch_cluster_id().await,
        }
    }

    async fn fetch_cluster_id(&self) -> Result<ClusterId, GcsError> {
        let reply = self
            .caller
            .call(&self.channel, rpc::GetClusterIdRequest::default(), None)
            .await?;
        let id = cluster_id(&reply.cluster_id)?;
        *self
            .cluster_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
        Ok(id)
    }
}

fn cluster_id(bytes: &[u8]) -> Result<ClusterId, GcsError> {
    let malformed = || GcsError::Malformed {
        method: "GetClusterId",
        encoded_len: bytes.len(),
        source: None,
    };
    if bytes.len() != CLUSTER_ID_LEN {
        return Err(malformed());
    }
    let mut hex = String::with_capacity(2 * CLUSTER_ID_LEN);
    for byte in bytes {
        write!(hex, "{byte:02x}").map_err(|_| malformed())?;
    }
    let header = hex.parse().map_err(|_| malformed())?;
    Ok(ClusterId { hex, header })
}
