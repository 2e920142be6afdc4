//! The RayCluster of a scenario.

use serde_json::{Map, Value, json};

use super::scenario::{Amounts, Group, Scenario};

/// Name of the RayCluster.
pub(crate) const CLUSTER: &str = "sandbox";

/// Where it lives.
pub(crate) const NAMESPACE: &str = "default";

/// Ray's version that the manifest names; the newest we know.
const RAY_VERSION: &str = "2.60.0";

/// A node selector that no machine meets.
const NO_MACHINE: &str = "rayscaler.io/no-such-machine";

/// Returns the RayCluster, as a user would write it.
pub(crate) fn ray_cluster(scenario: &Scenario) -> Value {
    let groups: Vec<Value> = scenario.groups.iter().map(worker_group).collect();
    let mut head = scenario.head.clone();
    // Without this Ray would offer the machine's own processors.
    head.entry("CPU".to_owned())
        .or_insert(super::scenario::Amount(0.0));
    json!({
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": CLUSTER, "namespace": NAMESPACE},
        "spec": {
            "rayVersion": RAY_VERSION,
            "enableInTreeAutoscaling": true,
            "autoscalerOptions": {
                "version": "v2",
                "idleTimeoutSeconds": scenario.idle_timeout.as_ms().div_ceil(1000),
                "image": "rayscaler",
                "command": ["/rayscaler"],
                "args": [
                    "run",
                    "--cluster-name=$(RAY_CLUSTER_NAME)",
                    "--cluster-namespace=$(RAY_CLUSTER_NAMESPACE)",
                ],
            },
            "headGroupSpec": {
                "rayStartParams": {},
                "resources": quantities(&head),
                "template": template(&Map::new()),
            },
            "workerGroupSpecs": groups,
        },
    })
}

fn worker_group(group: &Group) -> Value {
    let mut selector = Map::new();
    if !group.capacity {
        selector.insert(NO_MACHINE.to_owned(), json!(group.name));
    }
    let mut spec = json!({
        "groupName": group.name,
        "replicas": group.min,
        "minReplicas": group.min,
        "maxReplicas": group.max,
        "numOfHosts": group.hosts,
        "rayStartParams": {},
        "resources": quantities(&group.resources),
        "labels": group.labels,
        "template": template(&selector),
    });
    if group.priority != 0 {
        spec["priority"] = json!(group.priority);
    }
    if let Some(timeout) = group.idle_timeout {
        spec["idleTimeoutSeconds"] = json!(timeout.as_ms().div_ceil(1000));
    }
    spec
}

fn quantities(amounts: &Amounts) -> Value {
    let quantities = amounts.iter().map(|(name, amount)| {
        // Kubernetes knows no exponents such as 1e-7; three decimals are all it keeps.
        let text = format!("{:.3}", amount.0);
        let text = text.trim_end_matches('0').trim_end_matches('.');
        (name.clone(), json!(text))
    });
    Value::Object(quantities.collect())
}

fn template(node_selector: &Map<String, Value>) -> Value {
    let container = json!({"name": "ray", "image": format!("rayproject/ray:{RAY_VERSION}")});
    let mut spec = json!({"containers": [container]});
    if !node_selector.is_empty() {
        spec["nodeSelector"] = Value::Object(node_selector.clone());
    }
    json!({"spec": spec})
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{BUILT_IN, Scenario};
    use super::ray_cluster;
    use crate::model::ResourceName;
    use crate::observe::groups::worker_groups;
    use crate::wire::raycluster::RayCluster;

    #[test]
    fn the_sidecar_understands_every_group_as_the_scenario_means_it() {
        let scenario = Scenario::parse(BUILT_IN).unwrap();
        let raycluster = RayCluster::from_value(&ray_cluster(&scenario)).unwrap();
        let (groups, skipped, problems) = worker_groups(&raycluster);
        assert!(skipped.is_empty(), "{skipped:?}");
        assert!(problems.is_empty(), "{problems:?}");
        for (group, meant) in groups.iter().zip(&scenario.groups) {
            assert_eq!(group.bounds.max, meant.max);
            for (name, amount) in &meant.resources {
                let found = group
                    .template
                    .resources
                    .get(ResourceName::from(name.as_str()).as_str());
                assert_eq!(found.as_f64(), amount.0, "{name}");
            }
        }
    }
}
