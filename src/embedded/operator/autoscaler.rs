//! The container that the operator adds to the head pod when autoscaling is on.

use super::cluster::{AutoscalerOptions, RayCluster};
use k8s_openapi::api::core::v1::{Container, EnvVar, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;
use std::collections::BTreeMap;

/// The container's name.
pub(super) const NAME: &str = "autoscaler";
/// The variable with the command of the stock autoscaler, for users who write their own.
pub(super) const START_COMMAND: &str = "KUBERAY_GEN_AUTOSCALER_START_CMD";

/// Returns the container, with the user's changes; the image is the head's unless another is named.
pub(super) fn container(cluster: &RayCluster, head_image: Option<String>) -> Container {
    let command = "ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) \
                   --cluster-namespace $(RAY_CLUSTER_NAMESPACE)";
    let mut env = vec![
        field("RAY_CLUSTER_NAME", "metadata.labels['ray.io/cluster']"),
        field("RAY_CLUSTER_NAMESPACE", "metadata.namespace"),
        field("RAY_HEAD_POD_NAME", "metadata.name"),
        variable("KUBERAY_CRD_VER", "v1"),
        variable(START_COMMAND, command),
    ];
    env.extend(token_env(cluster));
    let amounts = [("cpu", "500m"), ("memory", "512Mi")];
    let amounts = amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
    let amounts = Some(BTreeMap::from(amounts));
    let resources = ResourceRequirements {
        limits: amounts.clone(),
        requests: amounts,
        ..Default::default()
    };
    let mut container = Container {
        name: NAME.to_owned(),
        image: head_image,
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(shell()),
        args: Some(vec![command.to_owned()]),
        env: Some(env),
        resources: Some(resources),
        ..Default::default()
    };
    if let Some(options) = cluster.spec.autoscaler_options.clone() {
        apply(options, &mut container);
    }
    container
}

/// Returns how generated commands are run.
pub(super) fn shell() -> Vec<String> {
    ["/bin/bash", "-c", "--"].map(str::to_owned).to_vec()
}

/// Returns a variable with a fixed value.
pub(super) fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.into()),
        value_from: None,
    }
}

/// Returns a variable that takes its value from the pod.
pub(super) fn field(name: &str, path: &str) -> EnvVar {
    let source = json!({"fieldRef": {"fieldPath": path}});
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: serde_json::from_value(source).ok(),
    }
}

/// Returns the variables that carry the token of a cluster with token authentication.
pub(super) fn token_env(cluster: &RayCluster) -> Vec<EnvVar> {
    if !cluster.spec.has_token_auth() {
        return Vec::new();
    }
    let source =
        json!({"secretKeyRef": {"name": super::access::secret_name(cluster), "key": "auth_token"}});
    let value_from = serde_json::from_value(source).ok();
    let token = EnvVar {
        name: "RAY_AUTH_TOKEN".to_owned(),
        value: None,
        value_from,
    };
    vec![variable("RAY_AUTH_MODE", "token"), token]
}

/// Lists are appended to, all else is replaced where it was given.
fn apply(options: AutoscalerOptions, container: &mut Container) {
    container.image = options.image.or(container.image.take());
    container.image_pull_policy = options
        .image_pull_policy
        .or(container.image_pull_policy.take());
    container.resources = options.resources.or(container.resources.take());
    container.security_context = options.security_context;
    container.env.get_or_insert_default().extend(options.env);
    container
        .env_from
        .get_or_insert_default()
        .extend(options.env_from);
    container
        .volume_mounts
        .get_or_insert_default()
        .extend(options.volume_mounts);
    if !options.command.is_empty() {
        container.command = Some(options.command);
    }
    if !options.args.is_empty() {
        container.args = Some(options.args);
    }
}

#[cfg(test)]
mod tests {
    use super::container;
    use crate::embedded::operator::cluster::{AutoscalerOptions, RayCluster};

    fn cluster(options: serde_json::Value) -> RayCluster {
        let options: AutoscalerOptions = serde_json::from_value(options).unwrap();
        let mut cluster = RayCluster::default();
        cluster.spec.autoscaler_options = Some(options);
        cluster
    }

    #[test]
    fn command_and_args_are_replaced_independently() {
        let default = container(&cluster(serde_json::json!({})), Some("ray".to_owned()));
        let line = "ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) \
                    --cluster-namespace $(RAY_CLUSTER_NAMESPACE)";
        assert_eq!(default.command.unwrap(), ["/bin/bash", "-c", "--"]);
        assert_eq!(default.args.unwrap(), [line]);
        assert_eq!(default.image.unwrap(), "ray");
        let own = container(
            &cluster(serde_json::json!({"command": ["/x"], "args": []})),
            None,
        );
        assert_eq!(own.command.unwrap(), ["/x"]);
        assert_eq!(own.args.unwrap(), [line]);
        let own = container(&cluster(serde_json::json!({"args": ["A"]})), None);
        assert_eq!(own.command.unwrap(), ["/bin/bash", "-c", "--"]);
        assert_eq!(own.args.unwrap(), ["A"]);
    }

    #[test]
    fn own_variables_come_last_and_resources_are_replaced_whole() {
        let options = serde_json::json!({
            "env": [{"name": "KUBERAY_CRD_VER", "value": "mine"}],
            "resources": {"limits": {"memory": "64Mi"}},
        });
        let container = container(&cluster(options), None);
        let env = container.env.unwrap();
        assert_eq!(env.last().unwrap().value.as_deref(), Some("mine"));
        assert_eq!(env.len(), 6);
        let resources = container.resources.unwrap();
        assert_eq!(resources.requests, None);
        assert_eq!(resources.limits.unwrap().len(), 1);
    }
}
