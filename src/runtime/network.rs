//! How the sidecar reaches the API server, the GCS and the raylets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;

use crate::wire::gcs::ChannelTo;
use crate::wire::kube_client::{CallObserver, KubeClient};

/// Says who of the others is in this process; the rest is behind sockets, as flags, environment and
/// RayCluster say.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// The API server.
    pub kube: Option<InProcessKube>,
    /// The GCS and its raylets.
    pub ray: Option<InProcessRay>,
}

/// Reaches an API server in this process.
#[derive(Clone)]
pub struct InProcessKube {
    make: Arc<dyn Fn(CallObserver, Duration) -> KubeClient + Send + Sync>,
    pod_uid: Option<String>,
}

impl InProcessKube {
    /// Returns a way that asks `make` for the client: who is told of calls, and their deadline.
    pub fn new(
        make: impl Fn(CallObserver, Duration) -> KubeClient + Send + Sync + 'static,
    ) -> Self {
        Self {
            make: Arc::new(make),
            pod_uid: None,
        }
    }

    /// Returns the way that the pod with this UID takes: what its token would say.
    #[must_use]
    pub fn of_pod(mut self, uid: Option<String>) -> Self {
        self.pod_uid = uid;
        self
    }

    /// Returns the UID of the pod that takes it; `None` where nobody said.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&str> {
        self.pod_uid.as_deref()
    }

    /// Returns a client.
    pub fn client(&self, observer: CallObserver, timeout: Duration) -> KubeClient {
        (self.make)(observer, timeout)
    }
}

impl fmt::Debug for InProcessKube {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessKube").finish_non_exhaustive()
    }
}

/// Reaches Ray in this process.
#[derive(Clone)]
pub struct InProcessRay {
    /// Makes the connection to the GCS.
    pub gcs: Arc<dyn Fn() -> Channel + Send + Sync>,
    /// Makes the connection to a raylet.
    pub raylets: ChannelTo,
}

impl fmt::Debug for InProcessRay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessRay").finish_non_exhaustive()
    }
}
