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
pub struct InProcessKube(Arc<dyn Fn(CallObserver, Duration) -> KubeClient + Send + Sync>);

impl InProcessKube {
    /// Returns a way that asks `make` for the client: who is told of calls, and their deadline.
    pub fn new(
        make: impl Fn(CallObserver, Duration) -> KubeClient + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }

    /// Returns a client.
    pub fn client(&self, observer: CallObserver, timeout: Duration) -> KubeClient {
        (self.0)(observer, timeout)
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
