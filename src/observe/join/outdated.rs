//! Which pods are given something else than the template of their group gives now.
//!
//! The operator leaves running pods as they are when a template is edited, so that one group has pods
//! of several templates. A pod's own spec tells them apart whenever we look, be it for the first time; what a group
//! says beside its template shows in what a raylet has registered.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Node, NodeKind, NodeStatus, PodName, Quantity, WorkerGroup};
use crate::wire::KubeQuantity;
use crate::wire::pod::{PodAmounts, PodFacts};
use crate::wire::raycluster::{Container, RayCluster, WorkerGroupSpec};

/// What a group may say in `resources` or `rayStartParams` and a raylet registers as it is: its name, and the flag.
const SAID: [(&str, &str); 2] = [("CPU", "num-cpus"), ("memory", "memory")];

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

/// Returns the workers that have registered other amounts than their group says in `resources` or `rayStartParams`.
///
/// What is derived from something else may be wrong: then it is the node that knows.
pub(super) fn registered_otherwise(
    raycluster: &RayCluster,
    groups: &[WorkerGroup],
    nodes: &[Node],
) -> BTreeSet<PodName> {
    let specs = raycluster.spec.worker_groups.iter().flatten();
    let said: BTreeMap<&str, Vec<&str>> = specs
        .map(|spec| (spec.group_name.as_str(), said(spec)))
        .filter(|(_, names)| !names.is_empty())
        .collect();
    let promised: BTreeMap<&str, Vec<(&str, Quantity)>> = groups
        .iter()
        .filter_map(|group| {
            let names = said.get(group.name.as_str())?.iter();
            let amounts = names.map(|name| (*name, group.template.resources.get(name)));
            Some((group.name.as_str(), amounts.collect()))
        })
        .collect();
    let is_other = |node: &&Node| {
        let mut amounts = promised.get(node.group.as_str()).into_iter().flatten();
        node.kind == NodeKind::Worker
            && node.status == NodeStatus::Running
            && !node.total.is_empty()
            && amounts.any(|(name, amount)| node.total.get(name) != *amount)
    };
    let others = nodes.iter().filter(is_other);
    others.map(|node| node.name.clone()).collect()
}

/// Returns what a group says; nothing where its pods have a command of their own, which may say otherwise.
fn said(spec: &WorkerGroupSpec) -> Vec<&'static str> {
    let container = spec.template.ray_container();
    let has_command = |it: &Container| !it.command.is_empty() || !it.args.is_empty();
    if container.is_some_and(has_command) {
        return Vec::new();
    }
    let is_said = |(name, flag): &(&str, &str)| {
        let mut names = spec.resources.keys();
        // What a shell computes in the pod is no number here.
        let param = spec.ray_start_params.get(*flag);
        let is_number = |text: &String| text.trim().parse::<u64>().is_ok();
        names.any(|said| said.eq_ignore_ascii_case(name)) || param.is_some_and(is_number)
    };
    let said = SAID.iter().filter(|said| is_said(said));
    said.map(|(name, _)| *name).collect()
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

    use super::{outdated, registered_otherwise};
    use crate::model::{Labels, Node, NodeKind, NodeStatus, Quantity, ResourceMap, ResourceName};
    use crate::observe::groups::worker_groups;
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

    /// Returns whether a node with 4 processors and 8 GiB has another shape than this group says.
    fn registered(group: &Value) -> bool {
        let mut spec =
            json!({"groupName": "g", "template": {"spec": {"containers": [{"name": "ray"}]}}});
        for (key, value) in group.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let raycluster = RayCluster::from_value(&json!({"metadata": {"name": "c"},
            "spec": {"workerGroupSpecs": [spec]}}))
        .unwrap();
        let (groups, skipped, _) = worker_groups(&raycluster);
        assert!(skipped.is_empty(), "{skipped:?}");
        let total: ResourceMap = [("CPU", 4), ("memory", 8 << 30)]
            .map(|(name, amount)| (ResourceName::from(name), Quantity::from_whole(amount)))
            .into_iter()
            .collect();
        let node = Node {
            name: "w1".into(),
            node_id: None,
            raylet_address: None,
            kind: NodeKind::Worker,
            group: "g".into(),
            replica: "w1".into(),
            host_index: 0,
            status: NodeStatus::Running,
            total,
            available: ResourceMap::new(),
            labels: Labels::new(),
            idle_since: None,
            created_at: None,
            waiting_reason: String::new(),
            pod_ip: String::new(),
        };
        !registered_otherwise(&raycluster, &groups, &[node]).is_empty()
    }

    #[test]
    fn a_raylet_of_an_older_template_is_told_by_what_it_has_registered() {
        let container = |more: Value| json!({"spec": {"containers": [more]}});
        let cases = [
            (json!({"resources": {"CPU": "8"}}), true),
            (json!({"resources": {"cpu": "4", "memory": "8Gi"}}), false),
            (json!({"resources": {"CPU": "4", "memory": "16Gi"}}), true),
            (json!({"rayStartParams": {"num-cpus": "2"}}), true),
            (json!({"rayStartParams": {"num-cpus": "4"}}), false),
            (json!({"rayStartParams": {"num-cpus": "$(nproc)"}}), false),
            (json!({"rayStartParams": {"num-gpus": "1"}}), false),
            (
                json!({"template": container(json!({"name": "ray", "resources": {"limits": {"cpu": "8"}}}))}),
                false,
            ),
            (
                json!({"rayStartParams": {"num-cpus": "8"},
                    "template": container(json!({"name": "ray", "args": ["ray start --num-cpus=4"]}))}),
                false,
            ),
        ];
        for (group, expected) in cases {
            assert_eq!(registered(&group), expected, "{group}");
        }
    }
}
