//! Which pods are given something else than the template of their group gives now.
//!
//! The operator leaves running pods as they are when a template is edited, so that one group has pods
//! of several templates. A pod's own spec tells them apart whenever we look, be it for the first time.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::PodName;
use crate::wire::KubeQuantity;
use crate::wire::pod::{PodAmounts, PodFacts};
use crate::wire::raycluster::{Container, RayCluster};

/// Returns the workers whose Ray container has other limits or requests than their group's template.
///
/// What the template does not say may come from defaults of the namespace, and is not compared.
pub(super) fn outdated(raycluster: &RayCluster, pods: &[&PodFacts]) -> BTreeSet<PodName> {
    let specs = raycluster.spec.worker_groups.iter().flatten();
    let templates: BTreeMap<&str, PodAmounts> = specs
        .filter_map(|spec| {
            let container = spec.template.ray_container()?;
            Some((spec.group_name.as_str(), amounts(container)))
        })
        .collect();
    let is_other = |pod: &&&PodFacts| {
        let template = templates.get(pod.group.as_str());
        template
            .filter(|_| pod.node_type == "worker")
            .is_some_and(|template| {
                let sizing = pod.sizing.as_ref();
                !has(&sizing.map(|it| it.spec).unwrap_or_default(), template)
            })
    };
    let others = pods.iter().filter(is_other);
    others.map(|pod| PodName::from(pod.name.as_str())).collect()
}

fn amounts(container: &Container) -> PodAmounts {
    let read = |amounts: &BTreeMap<String, String>, name: &str| {
        amounts.get(name).and_then(|it| KubeQuantity::parse(it))
    };
    let cpu = |amounts| read(amounts, "cpu").map(KubeQuantity::millis);
    let memory = |amounts| read(amounts, "memory").map(KubeQuantity::whole);
    PodAmounts {
        cpu_limit: cpu(&container.limits),
        cpu_request: cpu(&container.requests),
        memory_limit: memory(&container.limits),
        memory_request: memory(&container.requests),
    }
}

/// Returns whether a pod has everything that a template says.
fn has(pod: &PodAmounts, template: &PodAmounts) -> bool {
    let pairs = [
        (pod.cpu_limit, template.cpu_limit),
        (pod.cpu_request, template.cpu_request),
        (pod.memory_limit, template.memory_limit),
        (pod.memory_request, template.memory_request),
    ];
    pairs
        .iter()
        .all(|(own, said)| said.is_none() || own == said)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::outdated;
    use crate::wire::pod::PodFacts;
    use crate::wire::raycluster::RayCluster;

    fn is_outdated(template: &Value, own: &Value) -> bool {
        let container = |resources: &Value| json!([{"name": "ray", "resources": resources}]);
        let raycluster = RayCluster::from_value(&json!({"metadata": {"name": "c"}, "spec": {
            "workerGroupSpecs": [{"groupName": "g", "template": {"spec": {"containers": container(template)}}}]}}));
        let pod = PodFacts::from_value(&json!({
            "metadata": {"name": "w1", "labels": {"ray.io/node-type": "worker", "ray.io/group": "g"}},
            "spec": {"containers": container(own)}}));
        let found = outdated(&raycluster.unwrap(), &[&pod.unwrap()]);
        found.iter().any(|pod| pod.as_str() == "w1")
    }

    #[test]
    fn a_pod_of_an_older_template_is_told_by_its_own_spec() {
        let limits = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}});
        let cases = [
            (limits("4", "8Gi"), limits("4000m", "8192Mi"), false),
            (limits("8", "8Gi"), limits("4", "8Gi"), true),
            (limits("4", "8Gi"), limits("4", "4Gi"), true),
            (limits("4", "8Gi"), json!({}), true),
            (json!({}), limits("4", "8Gi"), false),
            (
                json!({"requests": {"cpu": "2"}}),
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "4"}}),
                false,
            ),
            (
                json!({"requests": {"cpu": "3"}}),
                json!({"requests": {"cpu": "2"}}),
                true,
            ),
        ];
        for (template, own, expected) in cases {
            assert_eq!(is_outdated(&template, &own), expected, "{template} {own}");
        }
    }
}
