//! The environment and the command line of a container, as the kubelet resolves them.

use super::ContainerStart;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};
use kube::api::Api;
use kube::{Client, ResourceExt};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

type Env = BTreeMap<String, String>;

/// Returns what it takes to start the container of this name at this address.
///
/// Errors: what the kubelet would show, such as a Secret that is not there.
pub(super) async fn container_start(
    client: &Client,
    pod: &Arc<Pod>,
    (name, address): (&str, Ipv4Addr),
) -> Result<ContainerStart, String> {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let container = containers.find(|container| container.name == name).cloned();
    let container = container.ok_or_else(|| format!("no container {name}"))?;
    let mut env = Env::new();
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &env)),
            (None, Some(source)) => resolve(client, pod, (source, address)).await?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.insert(variable.name.clone(), value);
        }
    }
    let argv = argv(&container, &env);
    Ok(ContainerStart {
        pod: pod.clone(),
        container,
        env,
        argv,
        address,
    })
}

fn argv(container: &Container, env: &Env) -> Vec<String> {
    let words = container.command.iter().chain(&container.args).flatten();
    words.map(|word| expand(word, env)).collect()
}

/// Replaces `$(NAME)` by what was set before; unknown names stay, `$$` is a plain dollar.
fn expand(text: &str, env: &Env) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, from_dollar) = rest.split_at(dollar);
        expanded.push_str(before);
        if let Some(after) = from_dollar.strip_prefix("$$") {
            expanded.push('$');
            rest = after;
            continue;
        }
        let name = from_dollar
            .strip_prefix("$(")
            .and_then(|inner| inner.split_once(')'));
        match name.and_then(|(name, after)| Some((env.get(name)?, after))) {
            Some((value, after)) => {
                expanded.push_str(value);
                rest = after;
            }
            None => {
                expanded.push('$');
                rest = from_dollar.get(1..).unwrap_or_default();
            }
        }
    }
    expanded + rest
}

async fn resolve(
    client: &Client,
    pod: &Pod,
    (source, address): (&EnvVarSource, Ipv4Addr),
) -> Result<Option<String>, String> {
    let namespace = pod.namespace().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        let path = &field.field_path;
        return field_of(pod, path, address)
            .map(Some)
            .ok_or_else(|| format!("no field {path}"));
    }
    if let Some(key) = &source.secret_key_ref {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        let secret = secrets
            .get_opt(&key.name)
            .await
            .map_err(|error| error.to_string())?;
        let bytes = secret.and_then(|secret| secret.data?.remove(&key.key));
        let text = bytes.and_then(|bytes| String::from_utf8(bytes.0).ok());
        return found(text, key.optional, &key.name);
    }
    if let Some(key) = &source.config_map_key_ref {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
        let map = maps
            .get_opt(&key.name)
            .await
            .map_err(|error| error.to_string())?;
        return found(
            map.and_then(|map| map.data?.remove(&key.key)),
            key.optional,
            &key.name,
        );
    }
    Err("resource fields are not resolved here".to_owned())
}

fn found(
    text: Option<String>,
    optional: Option<bool>,
    name: &str,
) -> Result<Option<String>, String> {
    if text.is_some() || optional == Some(true) {
        return Ok(text);
    }
    Err(format!("no such key in `{name}`"))
}

fn field_of(pod: &Pod, path: &str, address: Ipv4Addr) -> Option<String> {
    let of_map = |prefix: &str, map: &BTreeMap<String, String>| {
        let key = path
            .strip_prefix(prefix)?
            .strip_prefix("['")?
            .strip_suffix("']")?;
        Some(map.get(key).cloned().unwrap_or_default())
    };
    match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "spec.serviceAccountName" => pod.spec.as_ref()?.service_account_name.clone(),
        "spec.nodeName" => pod.spec.as_ref()?.node_name.clone(),
        "status.podIP" | "status.hostIP" => Some(address.to_string()),
        _ => of_map("metadata.labels", pod.labels())
            .or_else(|| of_map("metadata.annotations", pod.annotations())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Env, expand, field_of};
    use serde_json::json;
    use std::net::Ipv4Addr;

    #[test]
    fn names_in_parentheses_are_replaced() {
        let env = Env::from([("A".to_owned(), "1".to_owned())]);
        let cases = [
            ("x $(A)$(A)", "x 11"),
            ("$(B) $A ${A}", "$(B) $A ${A}"),
            ("$$(A) $", "$(A) $"),
            ("$(A", "$(A"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &env), expected, "{text}");
        }
    }

    #[test]
    fn fields_come_from_the_pod() {
        let metadata = json!({"name": "p", "labels": {"ray.io/cluster": "c"}});
        let pod = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        let field = |path| field_of(&pod, path, Ipv4Addr::new(10, 0, 0, 7));
        assert_eq!(
            field("metadata.labels['ray.io/cluster']").as_deref(),
            Some("c")
        );
        assert_eq!(field("metadata.labels['absent']").as_deref(), Some(""));
        assert_eq!(field("metadata.name").as_deref(), Some("p"));
        assert_eq!(field("status.podIP").as_deref(), Some("10.0.0.7"));
        assert_eq!(field("status.phase"), None);
    }
}
