//! The methods of the GCS and of the raylets.

use super::RayHead;
use super::drains::DrainAnswer;
use super::raylet::Cause;
use super::replies::amounts;
use crate::model::NodeId;
use crate::wire::gcs::ray::rpc::autoscaler as wire;
use crate::wire::gcs::ray::rpc::autoscaler::autoscaler_state_service_server::AutoscalerStateService;
use crate::wire::gcs::ray::rpc::internal_kv_gcs_service_server::InternalKvGcsService;
use crate::wire::gcs::ray::rpc::job_info_gcs_service_server::JobInfoGcsService;
use crate::wire::gcs::ray::rpc::node_death_info::Reason;
use crate::wire::gcs::ray::rpc::node_info_gcs_service_server::NodeInfoGcsService;
use crate::wire::gcs::ray::rpc::node_manager_service_server::NodeManagerService;
use crate::wire::gcs::ray::rpc::node_resource_info_gcs_service_server::NodeResourceInfoGcsService;
use crate::wire::gcs::ray::rpc::{self, GcsStatus};
use tonic::{Code, Request, Response, Status};

/// What the GCS says of a key that is not there.
const NOT_FOUND: i32 = 17;

type Answer<T> = Result<Response<T>, Status>;

/// Serves the GCS's methods.
#[derive(Debug, Clone)]
pub(super) struct GcsServer(pub(super) RayHead);

/// Serves the methods of one raylet.
#[derive(Debug, Clone)]
pub(super) struct RayletServer {
    pub(super) head: RayHead,
    pub(super) id: NodeId,
}

/// `AutoscalerStateService` replies have no field for a failure.
fn aborted(name: &'static str, text: String) -> Status {
    Status::with_details(Code::Aborted, name, text.into())
}

/// The other services say in the reply itself how it went.
fn ok() -> Option<GcsStatus> {
    Some(GcsStatus::default())
}

#[tonic::async_trait]
impl AutoscalerStateService for GcsServer {
    async fn get_cluster_resource_state(
        &self,
        request: Request<wire::GetClusterResourceStateRequest>,
    ) -> Answer<wire::GetClusterResourceStateReply> {
        let last_seen = request
            .into_inner()
            .last_seen_cluster_resource_state_version;
        let state = self.0.with(|cluster| {
            if last_seen > cluster.gcs.state_version {
                // A check in the GCS fails over a number that it has not given out.
                cluster.stop_gcs();
                return None;
            }
            Some(cluster.cluster_resource_state())
        });
        let mut state = state.ok_or_else(|| Status::unavailable("the GCS is gone"))?;
        if let Some(faults) = self.0.faults() {
            faults.on_state(&mut state);
        }
        Ok(Response::new(wire::GetClusterResourceStateReply {
            cluster_resource_state: Some(state),
        }))
    }

    async fn report_autoscaling_state(
        &self,
        request: Request<wire::ReportAutoscalingStateRequest>,
    ) -> Answer<wire::ReportAutoscalingStateReply> {
        if let Some(state) = request.into_inner().autoscaling_state {
            self.0.with(|cluster| {
                let version = |state: &wire::AutoscalingState| state.autoscaler_state_version;
                let known = cluster.gcs.autoscaling_state.as_ref().map(version);
                if known.is_none_or(|known| version(&state) >= known) {
                    cluster.gcs.autoscaling_state = Some(state);
                }
            });
        }
        Ok(Response::new(wire::ReportAutoscalingStateReply {}))
    }

    async fn get_cluster_status(
        &self,
        _request: Request<wire::GetClusterStatusRequest>,
    ) -> Answer<wire::GetClusterStatusReply> {
        let reply = self.0.with(|cluster| wire::GetClusterStatusReply {
            autoscaling_state: cluster.gcs.autoscaling_state.clone(),
            cluster_resource_state: Some(cluster.cluster_resource_state()),
        });
        Ok(Response::new(reply))
    }

    async fn drain_node(
        &self,
        request: Request<wire::DrainNodeRequest>,
    ) -> Answer<wire::DrainNodeReply> {
        let request = request.into_inner();
        let refusal = self.0.faults().and_then(|faults| faults.refuses_drain());
        if let Some(rejection_reason_message) = refusal {
            return Ok(Response::new(wire::DrainNodeReply {
                is_accepted: false,
                rejection_reason_message,
            }));
        }
        let mut changes = self.0.changes();
        loop {
            changes.mark_unchanged();
            match self.0.with(|cluster| cluster.order_drain(&request)) {
                DrainAnswer::Reply(reply) => return Ok(Response::new(reply)),
                DrainAnswer::Error(name, text) => return Err(aborted(name, text)),
                DrainAnswer::NotYet => {
                    let gone = |_| Status::unavailable("the GCS is gone");
                    changes.changed().await.map_err(gone)?;
                }
            }
        }
    }

    async fn resize_raylet_resource_instances(
        &self,
        request: Request<wire::ResizeRayletResourceInstancesRequest>,
    ) -> Answer<wire::ResizeRayletResourceInstancesReply> {
        let wire::ResizeRayletResourceInstancesRequest { node_id, resources } =
            request.into_inner();
        let total = self.0.with(|cluster| cluster.resize(&node_id, &resources));
        let total = total.map_err(|(name, text)| aborted(name, text))?;
        Ok(Response::new(wire::ResizeRayletResourceInstancesReply {
            total_resources: amounts(&total),
        }))
    }
}

#[tonic::async_trait]
impl NodeInfoGcsService for GcsServer {
    async fn get_cluster_id(
        &self,
        _request: Request<rpc::GetClusterIdRequest>,
    ) -> Answer<rpc::GetClusterIdReply> {
        let cluster_id = self.0.with(|cluster| cluster.gcs.cluster_id.to_vec());
        Ok(Response::new(rpc::GetClusterIdReply {
            status: ok(),
            cluster_id,
        }))
    }

    async fn unregister_node(
        &self,
        request: Request<rpc::UnregisterNodeRequest>,
    ) -> Answer<rpc::UnregisterNodeReply> {
        let rpc::UnregisterNodeRequest {
            node_id,
            node_death_info,
        } = request.into_inner();
        let death = node_death_info.unwrap_or_default();
        let cause = match death.reason() {
            Reason::Unspecified | Reason::UnexpectedTermination => Cause::Unexpected,
            Reason::ExpectedTermination => Cause::Expected,
            Reason::AutoscalerDrainPreempted => Cause::Preempted,
            Reason::AutoscalerDrainIdle => Cause::Idle,
        };
        if let Some(id) = NodeId::from_bytes(&node_id) {
            self.0
                .with(|cluster| cluster.declare_dead(id, cause, &death.reason_message));
        }
        Ok(Response::new(rpc::UnregisterNodeReply { status: ok() }))
    }

    async fn get_all_node_info(
        &self,
        _request: Request<rpc::GetAllNodeInfoRequest>,
    ) -> Answer<rpc::GetAllNodeInfoReply> {
        let node_info_list = self.0.with(|cluster| cluster.node_infos());
        Ok(Response::new(rpc::GetAllNodeInfoReply {
            status: ok(),
            node_info_list,
        }))
    }

    async fn check_alive(
        &self,
        _request: Request<rpc::CheckAliveRequest>,
    ) -> Answer<rpc::CheckAliveReply> {
        let ray_version = self.0.with(|cluster| cluster.settings.version.clone());
        Ok(Response::new(rpc::CheckAliveReply {
            status: ok(),
            ray_version,
            is_leader: Some(true),
        }))
    }
}

#[tonic::async_trait]
impl InternalKvGcsService for GcsServer {
    async fn internal_kv_get(
        &self,
        request: Request<rpc::InternalKvGetRequest>,
    ) -> Answer<rpc::InternalKvGetReply> {
        let rpc::InternalKvGetRequest { key, namespace } = request.into_inner();
        let value = self
            .0
            .with(|cluster| cluster.gcs.kv.get(&(namespace, key)).cloned());
        let status = if value.is_some() {
            ok()
        } else {
            Some(GcsStatus {
                code: NOT_FOUND,
                message: "Failed to find the key".to_owned(),
            })
        };
        Ok(Response::new(rpc::InternalKvGetReply {
            status,
            value: value.unwrap_or_default(),
        }))
    }

    async fn internal_kv_put(
        &self,
        request: Request<rpc::InternalKvPutRequest>,
    ) -> Answer<rpc::InternalKvPutReply> {
        let rpc::InternalKvPutRequest {
            key,
            value,
            overwrite,
            namespace,
        } = request.into_inner();
        let added = self.0.with(|cluster| {
            let place = (namespace, key);
            let is_new = !cluster.gcs.kv.contains_key(&place);
            if is_new || overwrite {
                cluster.gcs.kv.insert(place, value);
            }
            is_new
        });
        Ok(Response::new(rpc::InternalKvPutReply {
            status: ok(),
            added,
        }))
    }
}

#[tonic::async_trait]
impl JobInfoGcsService for GcsServer {
    async fn get_all_job_info(
        &self,
        _request: Request<rpc::GetAllJobInfoRequest>,
    ) -> Answer<rpc::GetAllJobInfoReply> {
        let job_info_list = self.0.with(|cluster| cluster.job_infos());
        Ok(Response::new(rpc::GetAllJobInfoReply {
            status: ok(),
            job_info_list,
        }))
    }
}

#[tonic::async_trait]
impl NodeResourceInfoGcsService for GcsServer {
    async fn get_all_resource_usage(
        &self,
        _request: Request<rpc::GetAllResourceUsageRequest>,
    ) -> Answer<rpc::GetAllResourceUsageReply> {
        let usage = self.0.with(|cluster| cluster.resource_usage());
        Ok(Response::new(rpc::GetAllResourceUsageReply {
            status: ok(),
            resource_usage_data: Some(usage),
        }))
    }
}

#[tonic::async_trait]
impl NodeManagerService for RayletServer {
    async fn get_resource_load(
        &self,
        _request: Request<rpc::GetResourceLoadRequest>,
    ) -> Answer<rpc::GetResourceLoadReply> {
        let resources = self.head.with(|cluster| cluster.resource_load(self.id));
        let resources = resources.ok_or_else(|| Status::unavailable("the raylet is gone"))?;
        Ok(Response::new(rpc::GetResourceLoadReply {
            resources: Some(resources),
        }))
    }
}
