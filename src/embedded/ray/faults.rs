//! What may go wrong between the callers and this head: asked at the door of every call.

use super::RayHead;
use crate::model::NodeId;
use crate::wire::gcs::ray::rpc::autoscaler::ClusterResourceState;
use http::Response;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tonic::body::Body;
use tonic::{Code, Status};

/// Who is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callee {
    /// The GCS.
    Gcs,
    /// The raylet of this node.
    Raylet(NodeId),
}

/// What becomes of a call in place of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFault {
    /// It is refused with this code.
    Refused(Code),
    /// It is never answered.
    Hangs,
    /// It is answered so much later.
    Late(Duration),
}

/// Says what goes wrong; by default nothing does.
///
/// Three methods, as a drain that a raylet refuses and a state that lacks half of its nodes are answers like
/// any other, and no failed call.
pub trait Faults: Send + Sync {
    /// Returns what becomes of a call of this method.
    fn on_call(&self, _callee: Callee, _method: &str) -> Option<CallFault> {
        None
    }

    /// Changes the state that the GCS is about to tell.
    fn on_state(&self, _state: &mut ClusterResourceState) {}

    /// Returns why the raylet that is told to drain refuses.
    fn refuses_drain(&self) -> Option<String> {
        None
    }
}

impl RayHead {
    /// Lets `faults` have a say in every call from now on.
    pub fn set_faults(&self, faults: Arc<dyn Faults>) {
        let slot = self.shared.faults.lock();
        *slot.unwrap_or_else(PoisonError::into_inner) = Some(faults);
    }

    pub(super) fn faults(&self) -> Option<Arc<dyn Faults>> {
        let slot = self.shared.faults.lock();
        slot.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets a call meet its fate; returns the answer of one that goes no further.
    pub(super) async fn meet(&self, callee: Callee, path: &str) -> Option<Response<Body>> {
        let faults = self.faults()?;
        let method = path.rsplit('/').next().unwrap_or_default();
        match faults.on_call(callee, method)? {
            CallFault::Refused(code) => Some(Status::new(code, "made to fail").into_http()),
            CallFault::Hangs => std::future::pending().await,
            CallFault::Late(by) => {
                tokio::time::sleep(by).await;
                None
            }
        }
    }
}
