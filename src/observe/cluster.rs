//! Kubernetes' view of the cluster: its pods and its RayCluster, and how old our knowledge is.

use super::access::Access;
use super::object_watch::Now;
use super::pods::{PodChange, PodWatch};
use super::raycluster_follow::{RayClusterChange, RayClusterFollow};
use super::raycluster_pace::PollBounds;
use crate::wire::kube_client::{CallError, Failure, KubeClient};
use crate::wire::raycluster::RayClusterError;

/// Names a RayCluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Says why Kubernetes' view is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The Role lacks a verb.
    #[error(
        "may not {verb} {resource} in namespace `{namespace}`: the Role of our ServiceAccount lacks it"
    )]
    Forbidden {
        /// The verb.
        verb: &'static str,
        /// The resource.
        resource: &'static str,
        /// The namespace.
        namespace: String,
        /// The server's words.
        #[source]
        source: CallError,
    },
    /// There is no such RayCluster.
    #[error("there is no RayCluster `{name}` in namespace `{namespace}`")]
    NotFound {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// A call failed.
    #[error("cannot {verb} {resource} in namespace `{namespace}`")]
    Call {
        /// The verb.
        verb: &'static str,
        /// The resource.
        resource: &'static str,
        /// The namespace.
        namespace: String,
        /// What happened.
        #[source]
        source: CallError,
    },
    /// The RayCluster makes no sense.
    #[error("cannot understand RayCluster `{name}`")]
    Unreadable {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: RayClusterError,
    },
}

impl ClusterError {
    pub(super) fn of(
        (verb, resource): (&'static str, &'static str),
        namespace: &str,
        source: CallError,
    ) -> Self {
        let namespace = namespace.to_owned();
        if source.failure() == Failure::Forbidden {
            return Self::Forbidden {
                verb,
                resource,
                namespace,
                source,
            };
        }
        Self::Call {
            verb,
            resource,
            namespace,
            source,
        }
    }

    /// Returns the cause as a metric label.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => Failure::Forbidden.label(),
            Self::NotFound { .. } => Failure::NotFound.label(),
            Self::Call { source, .. } => source.kind(),
            Self::Unreadable { .. } => Failure::Malformed.label(),
        }
    }
}

/// Names one of the two sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterSource {
    /// The pods.
    Pods,
    /// The RayCluster.
    RayCluster,
}

/// Says what happened to our view.
#[derive(Debug)]
pub enum ClusterChange {
    /// Something that we read has changed.
    Changed(ClusterSource),
    /// The source is in step (again), nothing has changed.
    InStep(ClusterSource),
    /// The source is out of step; the last view stays and grows old.
    Lost(ClusterSource, ClusterError),
}

/// Says how a cluster is followed.
#[derive(Clone)]
pub struct FollowSettings {
    /// How often the RayCluster is read where it may not be watched.
    pub poll: PollBounds,
    /// Spreads pauses after failures.
    pub seed: u64,
    /// Tells the time.
    pub now: Now,
}

/// Follows the pods and the RayCluster.
pub struct ClusterWatch {
    pods: PodWatch,
    raycluster: RayClusterFollow,
}

impl ClusterWatch {
    /// Returns a watch that has not begun.
    ///
    /// The RayCluster is watched where `access` allows it and read again and again where not.
    #[must_use]
    pub fn new(
        client: &KubeClient,
        cluster: &ClusterName,
        access: &Access,
        settings: &FollowSettings,
    ) -> Self {
        let clock = (settings.now.clone(), settings.seed);
        Self {
            pods: PodWatch::new(client.clone(), cluster, clock),
            raycluster: RayClusterFollow::new(
                client.clone(),
                cluster.clone(),
                access.may_watch_raycluster(),
                settings,
            ),
        }
    }

    /// Waits for the next change of either; may be given up at any time without losing one.
    pub async fn next(&mut self) -> ClusterChange {
        // The RayCluster goes first: it changes rarely, so it cannot starve the pods.
        tokio::select! {
            biased;
            change = self.raycluster.next() => change.into(),
            change = self.pods.next() => change.into(),
        }
    }

    /// Returns the pods as they were last known.
    #[must_use]
    pub const fn pods(&self) -> &PodWatch {
        &self.pods
    }

    /// Has all pods listed anew, at most once a minute; returns whether they will be.
    pub fn doubt_pods(&mut self) -> bool {
        self.pods.doubt()
    }

    /// Has all pods listed anew, however new the last list is, unless a list is under way; returns whether they will be.
    pub fn relist_pods(&mut self) -> bool {
        self.pods.relist()
    }

    /// Returns the RayCluster as it was last known.
    #[must_use]
    pub const fn raycluster(&self) -> &RayClusterFollow {
        &self.raycluster
    }

    /// Returns the RayCluster for [`RayClusterFollow::get_now`] and [`RayClusterFollow::adopt`].
    pub const fn raycluster_mut(&mut self) -> &mut RayClusterFollow {
        &mut self.raycluster
    }
}

impl From<PodChange> for ClusterChange {
    fn from(change: PodChange) -> Self {
        match change {
            PodChange::Changed => Self::Changed(ClusterSource::Pods),
            PodChange::InStep => Self::InStep(ClusterSource::Pods),
            PodChange::Lost(error) => Self::Lost(ClusterSource::Pods, error),
        }
    }
}

impl From<RayClusterChange> for ClusterChange {
    fn from(change: RayClusterChange) -> Self {
        match change {
            RayClusterChange::Changed => Self::Changed(ClusterSource::RayCluster),
            RayClusterChange::InStep => Self::InStep(ClusterSource::RayCluster),
            RayClusterChange::Lost(error) => Self::Lost(ClusterSource::RayCluster, error),
        }
    }
}
