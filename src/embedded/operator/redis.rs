//! Where a head keeps what outlives it: `gcsFaultToleranceOptions`, as the operator passes them to Ray.
//!
//! Left out: certificates, and the job that cleans up when the RayCluster is deleted.

use super::autoscaler::variable;
use super::cluster::{RayCluster, env_of};
use k8s_openapi::api::core::v1::{Container, EnvVar};
use serde_json::Value;
use std::collections::BTreeMap;

/// The parts of credentials: the key of the options, the variable, the flag of `ray start`.
const CREDENTIALS: [(&str, &str, &str); 2] = [
    ("redisUsername", "REDIS_USERNAME", "redis-username"),
    ("redisPassword", "REDIS_PASSWORD", "redis-password"),
];

/// Returns the `rayStartParams` of the head with what names Redis' credentials.
pub(super) fn with_credentials(
    cluster: &RayCluster,
    params: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut params = params.clone();
    if let Some(options) = &cluster.spec.gcs_fault_tolerance_options {
        for (_, name, flag) in CREDENTIALS
            .iter()
            .filter(|(key, ..)| options.get(key).is_some())
        {
            params.insert((*flag).to_owned(), format!("${name}"));
        }
    }
    params
}

/// Adds the variables by which Ray finds Redis.
pub(super) fn add_variables(cluster: &RayCluster, container: &mut Container) {
    let Some(options) = &cluster.spec.gcs_fault_tolerance_options else {
        return;
    };
    let namespace = options
        .get("externalStorageNamespace")
        .and_then(Value::as_str);
    let namespace = namespace.or(cluster.metadata.uid.as_deref());
    let plain = [
        ("RAY_external_storage_namespace", namespace),
        (
            "RAY_REDIS_ADDRESS",
            options.get("redisAddress").and_then(Value::as_str),
        ),
    ];
    let plain = plain
        .into_iter()
        .filter_map(|(name, value)| Some(variable(name, value?)));
    let credentials = CREDENTIALS.iter().filter_map(|(key, name, _)| {
        // `value` or `valueFrom`, as in a container.
        let mut entry = options.get(key)?.clone();
        entry
            .as_object_mut()?
            .insert("name".to_owned(), Value::from(*name));
        serde_json::from_value::<EnvVar>(entry).ok()
    });
    for variable in plain.chain(credentials) {
        if env_of(container, &variable.name).is_none() {
            container.env.get_or_insert_default().push(variable);
        }
    }
}
