//! What happens to pods beside being written: they are admitted, bound, resized, evicted.

use super::State;
use super::delete::DeleteOptions;
use super::members::{fill, list, list_mut, set};
use super::pod_defaults::{self, CONTAINERS, qos_class};
use super::quantity::Quantity;
use super::refusal::{Cause, Refusal};
use super::request::{Query, Target};
use super::store::{Key, Object};
use crate::embedded::kube_time;
use crate::model::Timestamp;
use serde_json::{Value, json};

/// Adds what only the server writes to a new pod.
pub(super) fn prepare_create(pod: &mut Value, now: Timestamp) {
    pod_defaults::admit(&mut pod["spec"]);
    pod["status"] = json!({"phase": "Pending", "qosClass": qos_class(pod)});
    if !list(&pod["spec"], "schedulingGates").is_empty() {
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        });
        set_condition(pod, condition, now);
    }
}

/// What admission has decided stays.
pub(super) fn prepare_update(old: &Value, new: &mut Value) {
    for name in ["priority", "preemptionPolicy"] {
        if let Some(value) = old["spec"].get(name).cloned() {
            fill(&mut new["spec"], name, value);
        }
    }
    pod_defaults::admit(&mut new["spec"]);
}

/// Keeps everything of an update but the containers' resources.
pub(super) fn keep_all_but_resources(old: &Value, new: &mut Value) {
    let mut kept = old.clone();
    for containers in CONTAINERS {
        for container in list_mut(&mut kept["spec"], containers) {
            let wanted = list(&new["spec"], containers).iter();
            let wanted = wanted
                .into_iter()
                .find(|other| other["name"] == container["name"]);
            if let Some(wanted) = wanted {
                for name in ["resources", "resizePolicy"] {
                    set(container, name, wanted.get(name).cloned());
                }
            }
        }
    }
    *new = kept;
}

fn set_condition(pod: &mut Value, condition: Value, now: Timestamp) {
    let mut condition = condition;
    condition["lastTransitionTime"] = json!(kube_time(now));
    fill(&mut pod["status"], "conditions", json!([]));
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.retain(|one| one["type"] != condition["type"]);
        conditions.push(condition);
    }
}

/// The answer to a request that makes nothing to be read.
fn created() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

impl State {
    /// Carries out a POST of a Binding: the pod is put on a node.
    pub(super) fn bind(&mut self, target: &Target, body: &Value) -> Result<Value, Refusal> {
        let old = self.find(target)?;
        let node = body["target"]["name"].as_str().unwrap_or_default();
        let name = &target.name;
        let taken = old["spec"]["nodeName"]
            .as_str()
            .filter(|taken| !taken.is_empty());
        let problem = if !old["metadata"]["deletionTimestamp"].is_null() {
            Some(format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            ))
        } else if let Some(taken) = taken {
            Some(format!("pod {name} is already assigned to node {taken:?}"))
        } else if !list(&old["spec"], "schedulingGates").is_empty() {
            Some(format!("pod {name} has non-empty .spec.schedulingGates"))
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(Refusal::conflict_on("pods/binding", name, &problem));
        }
        let mut new = (*old).clone();
        new["spec"]["nodeName"] = json!(node);
        let condition = json!({"type": "PodScheduled", "status": "True"});
        set_condition(&mut new, condition, (self.now)());
        self.store.put(target.key(), new)?;
        Ok(created())
    }

    /// Carries out a POST of an Eviction: the pod is deleted and says why.
    pub(super) fn evict(&mut self, target: &Target, body: &Value) -> Result<Value, Refusal> {
        let target = target.object();
        let options = DeleteOptions::new(&body["deleteOptions"], &Query::default());
        let old = self.find(&target)?;
        let mut new = (*old).clone();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        });
        set_condition(&mut new, condition, (self.now)());
        self.store.put(target.key(), new)?;
        self.delete_object(&target, &options)?;
        Ok(created())
    }

    /// Refuses a resize that the pod or its node cannot take.
    pub(super) fn check_resize(
        &self,
        target: &Target,
        old: &Object,
        new: &Value,
    ) -> Result<(), Refusal> {
        if target.subresource != "resize" || old["spec"] == new["spec"] {
            return Ok(());
        }
        let invalid = |cause| Refusal::invalid(target.kind, &target.name, &[cause]);
        // A kubelet that can resize says which resources a running container has.
        let mut statuses = list(&old["status"], "containerStatuses").iter();
        let running = statuses.find(|status| status["state"]["running"].is_object());
        if running.is_some_and(|status| status["resources"].is_null()) {
            let problem = "Pod running on node without support for resize";
            return Err(invalid(Cause::forbidden("spec", problem)));
        }
        let class = qos_class(old);
        if class != qos_class(new) {
            let problem = "Pod QOS Class may not change as a result of resizing";
            return Err(invalid(Cause::invalid("spec", &json!(class), problem)));
        }
        let node = Key {
            plural: "nodes",
            namespace: String::new(),
            name: old["spec"]["nodeName"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        };
        let Some(node) = self.store.get(&node) else {
            return Ok(());
        };
        let amount = |value: &Value| {
            let quantity = Quantity::parse(value.as_str().unwrap_or("0"));
            quantity.map_or(0, Quantity::nanos)
        };
        for name in ["cpu", "memory"] {
            let room = amount(&node["status"]["allocatable"][name]);
            let containers = list(&new["spec"], "containers").iter();
            let wanted: i128 = containers
                .map(|container| amount(&container["resources"]["requests"][name]))
                .sum();
            if wanted > room {
                let problem = format!("node didn't have enough allocatable resources: {name}");
                return Err(Refusal::forbidden(target.kind, &target.name, &problem));
            }
        }
        Ok(())
    }
}
