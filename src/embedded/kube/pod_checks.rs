//! What can be wrong with a pod, and with a change of one.

use super::members::{list, list_mut};
use super::names::dns_label_problem;
use super::pod_defaults::CONTAINERS;
use super::refusal::Cause;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];

/// What little of a running pod's spec may change, as the API server says it.
const FIXED: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Returns what is wrong with a new pod.
pub(super) fn of_new(pod: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &pod["spec"];
    let containers = list(spec, "containers");
    if containers.is_empty() {
        causes.push(Cause::required("spec.containers", ""));
    }
    let mut names = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let at = |member: &str| format!("spec.containers[{index}].{member}");
        match container["name"].as_str() {
            None | Some("") => causes.push(Cause::required(&at("name"), "")),
            Some(name) => {
                let problem = dns_label_problem(name);
                let problem = problem.map(|it| Cause::invalid(&at("name"), &json!(name), it));
                causes.extend(problem);
                if !names.insert(name) {
                    let message = format!("Duplicate value: {name:?}");
                    causes.push(Cause::new("FieldValueDuplicate", &at("name"), message));
                }
            }
        }
        if container["image"].as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(&at("image"), ""));
        }
    }
    let policy = &spec["restartPolicy"];
    if !POLICIES.iter().any(|one| policy == one) {
        let supported = POLICIES.map(|one| format!("{one:?}"));
        causes.push(Cause::unsupported("spec.restartPolicy", policy, &supported));
    }
    causes
}

/// Returns what is wrong with a pod in the place of `old`.
pub(super) fn of_update(pod: &Value, old: &Value, is_resize: bool) -> Vec<Cause> {
    let mut causes = gate_problems(pod, old);
    let count = |pod: &Value| CONTAINERS.map(|containers| list(&pod["spec"], containers).len());
    if count(pod) != count(old) {
        let problem = "pod updates may not add or remove containers";
        causes.push(Cause::forbidden("spec.containers", problem));
    } else if fixed_part(pod, is_resize) != fixed_part(old, is_resize) {
        causes.push(Cause::forbidden("spec", FIXED));
    }
    causes.extend(status_problems(pod, old));
    causes
}

fn gate_problems(pod: &Value, old: &Value) -> Vec<Cause> {
    let before = list(&old["spec"], "schedulingGates");
    let gates = list(&pod["spec"], "schedulingGates").iter().enumerate();
    let new = gates.filter(|(_, gate)| !before.contains(gate));
    new.map(|(index, gate)| {
        let name = gate["name"].as_str().unwrap_or_default();
        let problem = format!("only deletion is allowed, but found new scheduling gate '{name}'");
        Cause::forbidden(&format!("spec.schedulingGates[{index}].name"), &problem)
    })
    .collect()
}

/// Returns the spec without what may change.
fn fixed_part(pod: &Value, is_resize: bool) -> Value {
    let mut spec = pod["spec"].clone();
    for containers in CONTAINERS {
        for container in list_mut(&mut spec, containers) {
            let may_change = if is_resize { "resources" } else { "image" };
            if let Some(members) = container.as_object_mut() {
                members.retain(|name, _| name != may_change);
            }
        }
    }
    if let Some(members) = spec.as_object_mut() {
        let may_change = [
            "activeDeadlineSeconds",
            "terminationGracePeriodSeconds",
            "tolerations",
            "schedulingGates",
        ];
        members.retain(|name, _| !may_change.contains(&name.as_str()));
    }
    spec
}

/// A container that has ended stays so, unless the pod restarts its containers.
fn status_problems(pod: &Value, old: &Value) -> Vec<Cause> {
    let policy = old["spec"]["restartPolicy"].as_str().unwrap_or("Always");
    if policy == "Always" {
        return Vec::new();
    }
    let mut causes = Vec::new();
    let after = list(&pod["status"], "containerStatuses");
    for (index, before) in list(&old["status"], "containerStatuses").iter().enumerate() {
        let ended = &before["state"]["terminated"];
        let is_restarted = policy == "OnFailure" && ended["exitCode"] != 0;
        if ended.is_null() || is_restarted {
            continue;
        }
        let same = after.iter().find(|status| status["name"] == before["name"]);
        if same.is_some_and(|status| status["state"]["terminated"].is_null()) {
            let field = format!("status.containerStatuses[{index}].state");
            let problem = "may not be transitioned to non-terminated state";
            causes.push(Cause::forbidden(&field, problem));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::{of_new, of_update};
    use serde_json::{Value, json};

    fn fields(causes: &[super::Cause]) -> Vec<&str> {
        causes.iter().map(|cause| cause.field.as_str()).collect()
    }

    #[test]
    fn every_mistake_of_a_new_pod_is_named() {
        let containers = json!([{"name": "A", "image": "i"}, {"name": "A"}, {}]);
        let pod = json!({"spec": {"containers": containers, "restartPolicy": "Sometimes"}});
        let expected = [
            "spec.containers[0].name",
            "spec.containers[1].name",
            "spec.containers[1].name",
            "spec.containers[1].image",
            "spec.containers[2].name",
            "spec.containers[2].image",
            "spec.restartPolicy",
        ];
        assert_eq!(fields(&of_new(&pod)), expected);
    }

    #[test]
    fn only_some_of_a_pod_may_change() {
        let pod = |spec: Value| json!({"spec": spec, "status": {}});
        let old = pod(json!({"containers": [{"name": "a", "image": "1"}], "nodeName": "n"}));
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = json!("2");
        new["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        assert!(of_update(&new, &old, false).is_empty());
        new["spec"]["nodeName"] = json!("m");
        assert_eq!(fields(&of_update(&new, &old, false)), ["spec"]);
        new["spec"]["schedulingGates"] = json!([{"name": "g"}]);
        new["spec"]["containers"] = json!([]);
        assert_eq!(
            fields(&of_update(&new, &old, false)),
            ["spec.schedulingGates[0].name", "spec.containers"]
        );
    }
}
