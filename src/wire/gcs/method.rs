//! The table of methods: request, reply, path and default deadline of each.

use super::ray::rpc::{self, GcsStatus, autoscaler};
use prost::Message;
use std::time::Duration;

/// Joins a request with its reply and with where it is sent.
pub(super) trait Request: Message + Default + 'static {
    type Reply: Reply;
    /// `/<package>.<service>/<method>`.
    const PATH: &'static str;
    /// How long an answer may take.
    const DEADLINE: Duration;

    /// Returns the method's name, for errors and metrics.
    fn method() -> &'static str {
        Self::PATH.rsplit('/').next().unwrap_or(Self::PATH)
    }
}

/// Holds an answer, which may say by itself that the call failed.
pub(super) trait Reply: Message + Default {
    /// Returns the status inside the reply; `AutoscalerStateService` has none.
    fn gcs_status(&self) -> Option<&GcsStatus> {
        None
    }
}

macro_rules! plain_reply {
    ($($reply:ty),* $(,)?) => {
        $(impl Reply for $reply {})*
    };
}

macro_rules! reply_with_status {
    ($($reply:ty),* $(,)?) => {
        $(impl Reply for $reply {
            fn gcs_status(&self) -> Option<&GcsStatus> {
                self.status.as_ref()
            }
        })*
    };
}

macro_rules! methods {
    ($($path:literal, $deadline_ms:literal, $request:ty => $reply:ty;)*) => {
        $(impl Request for $request {
            type Reply = $reply;
            const PATH: &'static str = $path;
            const DEADLINE: Duration = Duration::from_millis($deadline_ms);
        })*
    };
}

plain_reply!(
    autoscaler::GetClusterResourceStateReply,
    autoscaler::GetClusterStatusReply,
    autoscaler::ReportAutoscalingStateReply,
    autoscaler::DrainNodeReply,
    autoscaler::ResizeRayletResourceInstancesReply,
    rpc::GetResourceLoadReply,
);
reply_with_status!(
    rpc::GetClusterIdReply,
    rpc::CheckAliveReply,
    rpc::GetAllNodeInfoReply,
    rpc::UnregisterNodeReply,
    rpc::InternalKvGetReply,
    rpc::InternalKvPutReply,
    rpc::GetAllJobInfoReply,
    rpc::GetAllResourceUsageReply,
);

// Deadlines: a healthy GCS answers in milliseconds. 5 s rides out a busy one without stopping the loop for long; replies
// that grow with the cluster get 10 s. A drain of a raylet that crashed is not answered before the GCS has noticed the
// crash, tens of seconds later, so more patience than 5 s would buy nothing. A raylet answers in 0.2 ms; one that needs
// a thousand times that cannot help to be fast, and the GCS tells the same later.
methods! {
    "/ray.rpc.autoscaler.AutoscalerStateService/GetClusterResourceState", 10_000,
        autoscaler::GetClusterResourceStateRequest => autoscaler::GetClusterResourceStateReply;
    "/ray.rpc.autoscaler.AutoscalerStateService/GetClusterStatus", 10_000,
        autoscaler::GetClusterStatusRequest => autoscaler::GetClusterStatusReply;
    "/ray.rpc.autoscaler.AutoscalerStateService/ReportAutoscalingState", 5_000,
        autoscaler::ReportAutoscalingStateRequest => autoscaler::ReportAutoscalingStateReply;
    "/ray.rpc.autoscaler.AutoscalerStateService/DrainNode", 5_000,
        autoscaler::DrainNodeRequest => autoscaler::DrainNodeReply;
    "/ray.rpc.autoscaler.AutoscalerStateService/ResizeRayletResourceInstances", 5_000,
        autoscaler::ResizeRayletResourceInstancesRequest => autoscaler::ResizeRayletResourceInstancesReply;
    "/ray.rpc.NodeInfoGcsService/GetClusterId", 5_000,
        rpc::GetClusterIdRequest => rpc::GetClusterIdReply;
    "/ray.rpc.NodeInfoGcsService/CheckAlive", 5_000,
        rpc::CheckAliveRequest => rpc::CheckAliveReply;
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo", 10_000,
        rpc::GetAllNodeInfoRequest => rpc::GetAllNodeInfoReply;
    "/ray.rpc.NodeInfoGcsService/UnregisterNode", 5_000,
        rpc::UnregisterNodeRequest => rpc::UnregisterNodeReply;
    "/ray.rpc.InternalKVGcsService/InternalKVGet", 5_000,
        rpc::InternalKvGetRequest => rpc::InternalKvGetReply;
    "/ray.rpc.InternalKVGcsService/InternalKVPut", 5_000,
        rpc::InternalKvPutRequest => rpc::InternalKvPutReply;
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo", 10_000,
        rpc::GetAllJobInfoRequest => rpc::GetAllJobInfoReply;
    "/ray.rpc.NodeResourceInfoGcsService/GetAllResourceUsage", 10_000,
        rpc::GetAllResourceUsageRequest => rpc::GetAllResourceUsageReply;
    "/ray.rpc.NodeManagerService/GetResourceLoad", 250,
        rpc::GetResourceLoadRequest => rpc::GetResourceLoadReply;
}
