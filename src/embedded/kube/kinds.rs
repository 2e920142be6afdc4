//! The kinds that are served, one row each.

use super::printing::Column;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event as CoreEvent, Namespace, Node, PersistentVolumeClaim, Pod, ResourceQuota,
    Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads an object as its Go type would: unknown fields are dropped, wrong types are errors.
type Read = fn(Value) -> Result<Value, serde_json::Error>;

/// One kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) singular: &'static str,
    pub(super) short_names: &'static [&'static str],
    pub(super) is_namespaced: bool,
    /// Objects count the changes of their spec.
    pub(super) has_generation: bool,
    pub(super) subresources: &'static [&'static str],
    /// Field selectors beside name and namespace: a JSON pointer with dots.
    pub(super) selectable: &'static [&'static str],
    /// None for custom resources, which their schema describes.
    pub(super) read: Option<Read>,
    /// What `kubectl get` shows.
    pub(super) columns: &'static [Column],
}

impl Kind {
    /// Returns `v1` or `group/version`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            return self.version.to_owned();
        }
        format!("{}/{}", self.group, self.version)
    }

    /// Returns the plural with its group, as messages have it.
    pub(super) fn qualified(&self) -> String {
        with_group(self.plural, self.group)
    }

    /// Returns the kind with its group, as messages about invalid objects have it.
    pub(super) fn qualified_kind(&self) -> String {
        with_group(self.kind, self.group)
    }

    pub(super) fn is_custom(&self) -> bool {
        self.read.is_none()
    }

    pub(super) fn has(&self, subresource: &str) -> bool {
        self.subresources.contains(&subresource)
    }

    /// Returns true for the kind of this Go type.
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }
}

/// Returns a word with its group after a dot.
pub(super) fn with_group(word: &str, group: &str) -> String {
    if group.is_empty() {
        return word.to_owned();
    }
    format!("{word}.{group}")
}

fn through<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<T>(value)?)
}

const CORE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    is_namespaced: true,
    has_generation: false,
    subresources: &[],
    selectable: &[],
    read: None,
    columns: &[],
};

const RBAC: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    ..CORE
};

/// Every kind, groups in the order of discovery.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        is_namespaced: false,
        subresources: &["status", "finalize"],
        selectable: &["status.phase"],
        read: Some(through::<Namespace>),
        columns: &[Column::text("Status", "/status/phase")],
        ..CORE
    },
    Kind {
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        is_namespaced: false,
        subresources: &["status"],
        selectable: &["spec.unschedulable"],
        read: Some(through::<Node>),
        columns: &[Column::NODE_STATUS],
        ..CORE
    },
    Kind {
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        has_generation: true,
        subresources: &["status", "binding", "resize", "eviction"],
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
        ],
        read: Some(through::<Pod>),
        columns: &[Column::POD_READY, Column::POD_STATUS, Column::POD_RESTARTS],
        ..CORE
    },
    Kind {
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        subresources: &["status"],
        read: Some(through::<Service>),
        columns: &[
            Column::text("Type", "/spec/type"),
            Column::text("Cluster-IP", "/spec/clusterIP"),
        ],
        ..CORE
    },
    Kind {
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        selectable: &["type"],
        read: Some(through::<Secret>),
        columns: &[
            Column::text("Type", "/type"),
            Column::count("Data", "/data"),
        ],
        ..CORE
    },
    Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        read: Some(through::<ConfigMap>),
        columns: &[Column::count("Data", "/data")],
        ..CORE
    },
    Kind {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        subresources: &["token"],
        read: Some(through::<ServiceAccount>),
        ..CORE
    },
    Kind {
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        subresources: &["status"],
        read: Some(through::<PersistentVolumeClaim>),
        columns: &[Column::text("Status", "/status/phase")],
        ..CORE
    },
    Kind {
        kind: "ResourceQuota",
        plural: "resourcequotas",
        singular: "resourcequota",
        short_names: &["quota"],
        subresources: &["status"],
        read: Some(through::<ResourceQuota>),
        ..CORE
    },
    Kind {
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        selectable: &[
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.uid",
            "reason",
            "type",
        ],
        read: Some(through::<CoreEvent>),
        columns: &[
            Column::text("Type", "/type"),
            Column::text("Reason", "/reason"),
            Column::text("Object", "/involvedObject/name"),
            Column::text("Message", "/message"),
        ],
        ..CORE
    },
    Kind {
        group: "events.k8s.io",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        selectable: &["regarding.kind", "regarding.name", "reason", "type"],
        read: Some(through::<k8s_openapi::api::events::v1::Event>),
        columns: &[
            Column::text("Type", "/type"),
            Column::text("Reason", "/reason"),
            Column::text("Object", "/regarding/name"),
            Column::text("Message", "/note"),
        ],
        ..CORE
    },
    Kind {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        read: Some(through::<Lease>),
        columns: &[Column::text("Holder", "/spec/holderIdentity")],
        ..CORE
    },
    Kind {
        kind: "Role",
        plural: "roles",
        singular: "role",
        read: Some(through::<Role>),
        columns: &[Column::text("Created At", "/metadata/creationTimestamp")],
        ..RBAC
    },
    Kind {
        kind: "RoleBinding",
        plural: "rolebindings",
        singular: "rolebinding",
        read: Some(through::<RoleBinding>),
        columns: &[Column::text("Role", "/roleRef/name")],
        ..RBAC
    },
    Kind {
        kind: "ClusterRole",
        plural: "clusterroles",
        singular: "clusterrole",
        is_namespaced: false,
        read: Some(through::<ClusterRole>),
        columns: &[Column::text("Created At", "/metadata/creationTimestamp")],
        ..RBAC
    },
    Kind {
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        singular: "clusterrolebinding",
        is_namespaced: false,
        read: Some(through::<ClusterRoleBinding>),
        columns: &[Column::text("Role", "/roleRef/name")],
        ..RBAC
    },
    Kind {
        group: "ray.io",
        kind: "RayCluster",
        plural: "rayclusters",
        singular: "raycluster",
        has_generation: true,
        subresources: &["status"],
        columns: &[
            Column::text("desired workers", "/status/desiredWorkerReplicas"),
            Column::text("available workers", "/status/availableWorkerReplicas"),
            Column::text("status", "/status/state"),
        ],
        ..CORE
    },
];

/// Returns the kind at a place in the API.
pub(super) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// Returns the kind that an RBAC rule or a review names.
pub(super) fn namespace_kind() -> &'static Kind {
    // The first row, as the table's own test says.
    &KINDS[0]
}

#[cfg(test)]
mod tests {
    use super::{KINDS, find, namespace_kind};
    use std::collections::BTreeSet;

    #[test]
    fn each_kind_has_one_row() {
        let places: BTreeSet<_> = KINDS
            .iter()
            .map(|kind| (kind.group, kind.version, kind.plural))
            .collect();
        assert_eq!(places.len(), KINDS.len());
        assert_eq!(namespace_kind().kind, "Namespace");
        assert_eq!(
            find("ray.io", "v1", "rayclusters").unwrap().kind,
            "RayCluster"
        );
        assert!(find("ray.io", "v1alpha1", "rayclusters").is_none());
    }
}
