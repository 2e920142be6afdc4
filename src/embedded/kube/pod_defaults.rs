//! What a pod leaves out is filled in.

use super::members::{fill, list, list_mut};
use serde_json::{Value, json};

/// The lists of containers in a pod's spec.
pub(super) const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

/// Fills in what counts as written by whoever writes the pod.
pub(super) fn default(pod: &mut Value) {
    let spec = &mut pod["spec"];
    let defaults = [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
        ("enableServiceLinks", json!(true)),
    ];
    for (name, value) in defaults {
        fill(spec, name, value);
    }
    if let Some(account) = spec["serviceAccountName"].as_str().map(str::to_owned) {
        spec["serviceAccount"] = json!(account);
    }
    for containers in CONTAINERS {
        list_mut(spec, containers).for_each(default_container);
    }
}

fn default_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let is_fixed =
        name.contains('@') || name.split_once(':').is_some_and(|(_, tag)| tag != "latest");
    let policy = if is_fixed { "IfNotPresent" } else { "Always" };
    let defaults = [
        ("imagePullPolicy", json!(policy)),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("resources", json!({})),
    ];
    for (name, value) in defaults {
        fill(container, name, value);
    }
    for port in list_mut(container, "ports") {
        fill(port, "protocol", json!("TCP"));
    }
    list_mut(container, "env").for_each(default_variable);
    let limits = container["resources"]["limits"].clone();
    for (name, amount) in limits.as_object().into_iter().flatten() {
        let requests = &mut container["resources"]["requests"];
        fill(requests, name, amount.clone());
    }
}

fn default_variable(variable: &mut Value) {
    if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
        fill(field, "apiVersion", json!("v1"));
    }
    // An empty text is the same as none.
    if let Some(members) = variable.as_object_mut() {
        members.retain(|name, value| name != "value" || value.as_str() != Some(""));
    }
}

/// Fills in what admission fills in, which nobody owns.
pub(super) fn admit(spec: &mut Value) {
    fill(spec, "priority", json!(0));
    fill(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    // Pods stay five minutes on a node that is not ready.
    fill(spec, "tolerations", json!([]));
    let keys = [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ];
    for key in keys {
        let covers =
            |it: &Value| it["key"] == key || (it["key"].is_null() && it["operator"] == "Exists");
        let is_covered = list(spec, "tolerations").iter().any(covers);
        if let (false, Some(tolerations)) = (is_covered, spec["tolerations"].as_array_mut()) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
}

/// Returns the class that follows from requests and limits.
pub(super) fn qos_class(pod: &Value) -> &'static str {
    let containers = || list(&pod["spec"], "containers").iter();
    let names = ["cpu", "memory"];
    let is_guaranteed = |container: &Value| {
        let resources = &container["resources"];
        names.iter().all(|name| {
            let limit = &resources["limits"][name];
            !limit.is_null() && *limit == resources["requests"][name]
        })
    };
    let has_any = |container: &Value| {
        let resources = &container["resources"];
        let mut amounts = ["limits", "requests"]
            .into_iter()
            .flat_map(|kind| names.map(|name| &resources[kind][name]));
        amounts.any(|amount| !amount.is_null())
    };
    if !containers().any(has_any) {
        "BestEffort"
    } else if containers().all(is_guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::{default, qos_class};
    use serde_json::json;

    #[test]
    fn a_pod_gets_defaults_and_a_class() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [
            {"name": "c", "image": "i:1", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        ]}});
        default(&mut pod);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["resources"]["requests"]["cpu"], "1");
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container.get("ports"), None);
        assert_eq!(qos_class(&pod), "Guaranteed");
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("500m");
        assert_eq!(qos_class(&pod), "Burstable");
        pod["spec"]["containers"][0]["resources"] = json!({});
        assert_eq!(qos_class(&pod), "BestEffort");
    }
}
