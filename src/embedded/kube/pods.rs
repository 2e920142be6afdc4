//! The rules that only pods have: defaults, what may change, binding, resizing.

use super::State;
use super::managed::Manager;
use super::names::label_value_problem;
use super::refusal::{Cause, Refusal};
use super::request::Target;
use super::store::{Key, Object};
use crate::embedded::kube_time;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The lists of containers in a pod's spec.
const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

fn fill(object: &mut Value, name: &str, value: Value) {
    if object[name].is_null() {
        object[name] = value;
    }
}

/// Fills in what a new pod leaves out.
pub(super) fn default(pod: &mut Value) {
    let spec = &mut pod["spec"];
    let defaults = [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
        ("enableServiceLinks", json!(true)),
        ("priority", json!(0)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
    ];
    for (name, value) in defaults {
        fill(spec, name, value);
    }
    if let Some(account) = spec["serviceAccountName"].as_str().map(str::to_owned) {
        spec["serviceAccount"] = json!(account);
    }
    tolerate_short_outages(spec);
    default_containers(pod);
    let class = qos_class(pod);
    pod["status"] = json!({"phase": "Pending", "qosClass": class});
}

/// Pods stay five minutes on a node that is not ready.
fn tolerate_short_outages(spec: &mut Value) {
    fill(spec, "tolerations", json!([]));
    let Some(tolerations) = spec["tolerations"].as_array_mut() else {
        return;
    };
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let covers =
            |it: &Value| it["key"] == key || (it["key"].is_null() && it["operator"] == "Exists");
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
}

/// Fills in what containers leave out.
pub(super) fn default_containers(pod: &mut Value) {
    for list in CONTAINERS {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            default_container(container);
        }
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
    for port in container["ports"].as_array_mut().into_iter().flatten() {
        fill(port, "protocol", json!("TCP"));
    }
    for variable in container["env"].as_array_mut().into_iter().flatten() {
        if variable["valueFrom"]["fieldRef"].is_object() {
            fill(
                &mut variable["valueFrom"]["fieldRef"],
                "apiVersion",
                json!("v1"),
            );
        }
        // An empty text is the same as none.
        if let Some(members) = variable.as_object_mut()
            && members
                .get("value")
                .is_some_and(|value| value.as_str() == Some(""))
        {
            members.remove("value");
        }
    }
    let limits = container["resources"]["limits"].clone();
    for (name, amount) in limits.as_object().into_iter().flatten() {
        fill(
            &mut container["resources"]["requests"],
            name,
            amount.clone(),
        );
    }
}

fn qos_class(pod: &Value) -> &'static str {
    let containers = || pod["spec"]["containers"].as_array().into_iter().flatten();
    let amount =
        |container: &Value, kind: &str, name: &str| container["resources"][kind][name].clone();
    let names = ["cpu", "memory"];
    let is_guaranteed = |container: &Value| {
        names.iter().all(|name| {
            let limit = amount(container, "limits", name);
            !limit.is_null() && limit == amount(container, "requests", name)
        })
    };
    let has_any = |container: &Value| {
        let kinds = ["limits", "requests"];
        kinds.iter().any(|kind| {
            names
                .iter()
                .any(|name| !amount(container, kind, name).is_null())
        })
    };
    if !containers().any(has_any) {
        "BestEffort"
    } else if containers().all(is_guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Returns what is wrong with a pod.
pub(super) fn validate(pod: &Value, old: Option<&Value>) -> Vec<Cause> {
    let Some(old) = old else {
        return validate_new(pod);
    };
    let mut causes = validate_spec_change(old, pod);
    causes.extend(validate_status_change(old, pod));
    causes
}

fn validate_new(pod: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &pod["spec"];
    let containers = spec["containers"].as_array();
    if containers.is_none_or(Vec::is_empty) {
        causes.push(Cause::required("spec.containers", ""));
    }
    let mut names = BTreeSet::new();
    for (index, container) in containers.into_iter().flatten().enumerate() {
        let at = |member: &str| format!("spec.containers[{index}].{member}");
        match container["name"].as_str() {
            None | Some("") => causes.push(Cause::required(&at("name"), "")),
            Some(name) if label_value_problem(name).is_some() || name.contains(['_', '.']) => {
                let problem = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
                               characters or '-', and must start and end with an alphanumeric character \
                               (e.g. 'my-name',  or '123-abc', regex used for validation is \
                               '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
                causes.push(Cause::invalid(&at("name"), &container["name"], problem));
            }
            Some(name) => {
                if !names.insert(name.to_owned()) {
                    let message = format!("Duplicate value: {name:?}");
                    causes.push(Cause::new("FieldValueDuplicate", &at("name"), message));
                }
            }
        }
        if container["image"].as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(&at("image"), ""));
        }
    }
    let policies = ["Always", "OnFailure", "Never"];
    let policy = &spec["restartPolicy"];
    if !policies.iter().any(|one| policy == one) {
        let supported: Vec<String> = policies.iter().map(|one| format!("{one:?}")).collect();
        causes.push(Cause::unsupported("spec.restartPolicy", policy, &supported));
    }
    causes
}

/// Little of a pod's spec may change.
fn validate_spec_change(old: &Value, new: &Value) -> Vec<Cause> {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        if let Some(members) = spec.as_object_mut() {
            for name in [
                "activeDeadlineSeconds",
                "terminationGracePeriodSeconds",
                "tolerations",
                "schedulingGates",
                "nodeName",
            ] {
                members.remove(name);
            }
        }
        for list in CONTAINERS {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                if let Some(members) = container.as_object_mut() {
                    members.remove("image");
                    members.remove("resources");
                }
            }
            if spec[list].is_null()
                && let Some(members) = spec.as_object_mut()
            {
                members.remove(list);
            }
        }
        spec
    };
    let gates = |pod: &Value| {
        pod["spec"]["schedulingGates"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let before = gates(old);
    let has_new_gate = gates(new).iter().any(|gate| !before.contains(gate));
    let mut causes = Vec::new();
    if has_new_gate {
        let problem = "only deletion is allowed, but found new scheduling gate";
        causes.push(Cause::forbidden("spec.schedulingGates", problem));
    }
    if fixed(old) != fixed(new) {
        let problem = "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
             existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
             previously negative)";
        causes.push(Cause::forbidden("spec", problem));
    }
    causes
}

/// A container that has ended stays so, unless the pod restarts its containers.
fn validate_status_change(old: &Value, new: &Value) -> Vec<Cause> {
    let policy = old["spec"]["restartPolicy"].as_str().unwrap_or("Always");
    if policy == "Always" {
        return Vec::new();
    }
    let mut causes = Vec::new();
    let statuses = |pod: &Value| {
        pod["status"]["containerStatuses"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let after = statuses(new);
    for (index, before) in statuses(old).iter().enumerate() {
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

/// Keeps everything of an update but the containers' resources.
pub(super) fn keep_all_but_resources(old: &Value, new: &mut Value) {
    let mut kept = old.clone();
    for list in CONTAINERS {
        for container in kept["spec"][list].as_array_mut().into_iter().flatten() {
            let others = new["spec"][list].as_array().into_iter().flatten();
            let same = others
                .into_iter()
                .find(|other| other["name"] == container["name"]);
            if let Some(same) = same {
                container["resources"] = same["resources"].clone();
                if let Some(policy) = same.get("resizePolicy") {
                    container["resizePolicy"] = policy.clone();
                }
            }
        }
    }
    if let Some(managed) = new["metadata"].get("managedFields") {
        kept["metadata"]["managedFields"] = managed.clone();
    }
    // Indexing adds members to a map; a pod without init containers has no list of them.
    if let Some(spec) = kept["spec"].as_object_mut() {
        spec.retain(|_, member| !member.is_null());
    }
    *new = kept;
}

impl State {
    /// Carries out a POST of a Binding: the pod is put on a node.
    pub(super) fn bind(&mut self, target: &Target, body: &Value) -> Result<Value, Refusal> {
        let old = self.find(target)?;
        let node = body["target"]["name"].as_str().unwrap_or_default();
        let conflict = |problem: String| {
            let mut refusal = Refusal::conflict(target.kind, &target.name, &problem);
            refusal.message = refusal.message.replacen("on pods ", "on pods/binding ", 1);
            if let Some(details) = &mut refusal.details {
                details["kind"] = json!("pods/binding");
            }
            refusal
        };
        let name = &target.name;
        if !old["metadata"]["deletionTimestamp"].is_null() {
            let problem = format!("pod {name} is being deleted, cannot be assigned to a host");
            return Err(conflict(problem));
        }
        if let Some(taken) = old["spec"]["nodeName"]
            .as_str()
            .filter(|taken| !taken.is_empty())
        {
            let problem = format!("pod {name} is already assigned to node {taken:?}");
            return Err(conflict(problem));
        }
        if old["spec"]["schedulingGates"][0].is_object() {
            let problem = format!("pod {name} has non-empty .spec.schedulingGates");
            return Err(conflict(problem));
        }
        let mut new = (*old).clone();
        new["spec"]["nodeName"] = json!(node);
        set_scheduled(&mut new, json!(kube_time((self.now)())));
        let manager = Manager::server("kube-apiserver");
        super::managed::after_write(target.kind, Some(&old), &mut new, (&manager, (self.now)()));
        self.store.put(target.object().key(), new)?;
        Ok(
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        )
    }

    /// Refuses a resize that the pod's node cannot take.
    pub(super) fn check_resize(
        &self,
        target: &Target,
        old: &Object,
        new: &Value,
    ) -> Result<(), Refusal> {
        if target.subresource != "resize" || old["spec"] == new["spec"] {
            return Ok(());
        }
        let statuses = old["status"]["containerStatuses"].as_array();
        let has_resources = |status: &Value| !status["resources"].is_null();
        let is_supported = statuses.is_some_and(|all| all.iter().any(has_resources));
        if !is_supported && old["spec"]["nodeName"].is_string() {
            let problem = "Pod running on node without support for resize";
            let cause = Cause::forbidden("spec", problem);
            return Err(Refusal::invalid(target.kind, &target.name, &[cause]));
        }
        let name = old["spec"]["nodeName"].as_str().unwrap_or_default();
        let node = Key {
            plural: "nodes",
            namespace: String::new(),
            name: name.to_owned(),
        };
        let Some(node) = self.store.get(&node) else {
            return Ok(());
        };
        for name in ["cpu", "memory"] {
            let room = milli(&node["status"]["allocatable"][name]);
            let wanted: i128 = new["spec"]["containers"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|container| milli(&container["resources"]["requests"][name]))
                .sum();
            if wanted > room {
                let problem = format!(
                    "node didn't have enough capacity: {name}, requested: {wanted}, capacity: {room}"
                );
                return Err(Refusal::forbidden(target.kind, &target.name, &problem));
            }
        }
        Ok(())
    }
}

fn set_scheduled(pod: &mut Value, now: Value) {
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    fill(&mut pod["status"], "conditions", json!([]));
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.retain(|one| one["type"] != "PodScheduled");
        conditions.push(condition);
    }
}

/// Returns an amount in thousandths; what cannot be read counts as nothing.
fn milli(quantity: &Value) -> i128 {
    const UNITS: [(&str, i128); 12] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("m", 0),
        ("", 1),
    ];
    let text = quantity.as_str().unwrap_or("0");
    let found = UNITS
        .iter()
        .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (number, size) = found.unwrap_or((text, 1));
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let thousandths: String = part.chars().chain("000".chars()).take(3).collect();
    let number: i128 = format!("{whole}{thousandths}").parse().unwrap_or(0);
    if size == 0 {
        number / 1000
    } else {
        number * size
    }
}

/// Stands for what is written without a request of its own.
impl Manager {
    fn server(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_apply: false,
            subresource: "binding".to_owned(),
            applied: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{default, milli, validate};
    use serde_json::json;

    #[test]
    fn amounts_are_read_in_thousandths() {
        let rows = [
            ("1", 1000),
            ("500m", 500),
            ("1.5", 1500),
            ("1Ki", 1_024_000),
            ("2k", 2_000_000),
            ("x", 0),
        ];
        for (text, expected) in rows {
            assert_eq!(milli(&json!(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_pod_gets_defaults_and_a_class() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [
            {"name": "c", "image": "i:1", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        ]}});
        default(&mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"]["requests"]["cpu"],
            "1"
        );
        assert_eq!(
            pod["spec"]["containers"][0]["imagePullPolicy"],
            "IfNotPresent"
        );
        assert_eq!(
            pod["status"],
            json!({"phase": "Pending", "qosClass": "Guaranteed"})
        );
        assert_eq!(validate(&pod, None), []);
        let mut other = pod.clone();
        other["spec"]["restartPolicy"] = json!("Never");
        assert_eq!(validate(&other, Some(&pod))[0].field, "spec");
    }
}
