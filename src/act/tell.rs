//! Tells the GCS of nodes that are gone or about to go.
//!
//! A raylet that lives and is called dead ends itself, with all that it runs. So the API server is
//! asked once more just before: a pod may also have left a watch because somebody took its label.

use std::time::Duration;

use crate::clock::Clock;
use crate::model::{Departure, DepartureKind};
use crate::wire::gcs::ray::rpc::NodeDeathInfo;
use crate::wire::gcs::ray::rpc::autoscaler::{DrainNodeReason, DrainNodeRequest};
use crate::wire::gcs::ray::rpc::node_death_info::Reason;
use crate::wire::gcs::{GcsClient, GcsError};
use crate::wire::kube_client::{CallError, Failure, KubeClient};
use crate::wire::pod::PodObject;

/// How long the GCS may take: a healthy one answers in milliseconds, and the drain of a raylet that
/// crashed is not answered before the GCS has noticed.
const ANSWER: Duration = Duration::from_secs(2);

/// Says what came of telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Telling {
    /// The GCS knows now.
    Told,
    /// The pod is there after all; nothing was told.
    StillThere,
    /// The raylet does not want to go.
    Refused(String),
    /// Nobody knows: the API server or the GCS did not answer.
    Failed(String),
}

impl Telling {
    /// Returns the stable word for metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::StillThere => "still_there",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }

    /// Returns the words of whoever did not want to; empty when all went well.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Told => "",
            Self::StillThere => "the pod is there",
            Self::Refused(text) | Self::Failed(text) => text,
        }
    }
}

/// Tells the GCS.
#[derive(Debug, Clone)]
pub struct Teller {
    gcs: GcsClient,
    kube: KubeClient,
    namespace: String,
    clock: Clock,
}

impl Teller {
    /// Returns a teller for the pods of a namespace.
    #[must_use]
    pub fn new(gcs: &GcsClient, kube: KubeClient, namespace: &str, clock: Clock) -> Self {
        Self {
            gcs: gcs.clone().with_deadline(ANSWER),
            kube,
            namespace: namespace.to_owned(),
            clock,
        }
    }

    /// Tells of one node.
    pub async fn tell(&self, departure: &Departure) -> Telling {
        match departure.kind {
            DepartureKind::Gone => match self.is_gone(departure).await {
                Ok(true) => self.unregister(departure).await,
                Ok(false) => Telling::StillThere,
                Err(error) => Telling::Failed(error.to_string()),
            },
            DepartureKind::Leaving { until } => self.drain(departure, until.as_ms()).await,
        }
    }

    async fn is_gone(&self, departure: &Departure) -> Result<bool, CallError> {
        let (namespace, name) = (&self.namespace, departure.pod.as_str());
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        match self.kube.get::<PodObject>(&path).await {
            Ok(pod) => {
                let facts = pod.facts();
                Ok(facts.uid != departure.pod_uid || facts.ray_has_ended())
            }
            Err(error) if error.failure() == Failure::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn unregister(&self, departure: &Departure) -> Telling {
        let death = NodeDeathInfo {
            reason: Reason::UnexpectedTermination.into(),
            reason_message: format!("Pod {} of this node is gone.", departure.pod),
        };
        let node_id = departure.node_id.as_bytes().to_vec();
        match self.gcs.unregister_node(node_id, death).await {
            Ok(()) => Telling::Told,
            Err(error) => failed(&error),
        }
    }

    async fn drain(&self, departure: &Departure, until_ms: i64) -> Telling {
        // 0 means no deadline, and one that is over is as good as now.
        let earliest = self.clock.now().plus_ms(1).as_ms();
        let request = DrainNodeRequest {
            node_id: departure.node_id.as_bytes().to_vec(),
            reason: DrainNodeReason::Preemption.into(),
            reason_message: format!("Pod {} of this node is being deleted.", departure.pod),
            deadline_timestamp_ms: until_ms.max(earliest),
        };
        match self.gcs.drain_node(request).await {
            Ok(reply) if reply.is_accepted => Telling::Told,
            Ok(reply) => Telling::Refused(reply.rejection_reason_message),
            Err(error) => failed(&error),
        }
    }
}

fn failed(error: &GcsError) -> Telling {
    Telling::Failed(error.to_string())
}
