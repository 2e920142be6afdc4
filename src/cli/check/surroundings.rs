//! Kueue, schedulers, network policies, roles, and the owners of a RayCluster.

use serde_json::Value;

use super::finding::Found;
use super::subject::{Subject, shown, texts};
use crate::observe::access::{RIGHTS, Right};

/// Finds a RayCluster that Kueue has to admit.
pub(super) fn kueue_queue(subject: &Subject) -> Vec<Found> {
    const QUEUE: &str = "kueue.x-k8s.io/queue-name";
    let queue = subject.metadata("labels", QUEUE);
    let found = queue.map(|queue| {
        let accepted = "no queue, or Kueue 0.14 and later with ElasticJobsViaWorkloadSlices";
        Found::at(format!("metadata.labels[{QUEUE}]"), queue, accepted)
    });
    found.into_iter().collect()
}

/// Finds pods that wait for somebody to lift a gate.
pub(super) fn scheduling_gates(subject: &Subject) -> Vec<Found> {
    let gates = subject.all_groups().into_iter().filter_map(|group| {
        let path = format!("{group}.template.spec.schedulingGates");
        let gates = subject.value(&path)?;
        let has_any = gates.as_array().is_some_and(|gates| !gates.is_empty());
        has_any.then(|| {
            let accepted = "no gates, unless somebody lifts them";
            Found::at(subject.path(&path), shown(gates), accepted)
        })
    });
    gates.collect()
}

/// Finds a scheduler that counts a gang which the autoscaler then changes.
pub(super) fn gang_scheduling(subject: &Subject) -> Vec<Found> {
    const GANG: &str = "ray.io/gang-scheduling-enabled";
    let enabled = subject.metadata("labels", GANG);
    let found = enabled.filter(|enabled| *enabled == "true").map(|enabled| {
        let path = format!("metadata.labels[{GANG}]");
        Found::at(path, enabled, "false or nothing while autoscaling is on")
    });
    found.into_iter().collect()
}

/// Finds policies under which the sidecar cannot reach the API server.
pub(super) fn network_policy(subject: &Subject) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(policy) = subject.value("networkPolicy") {
        let mode = policy.get("mode").and_then(Value::as_str);
        let denies = mode.is_none_or(|mode| mode != "DenyAllIngress");
        let rules = subject.value("networkPolicy.head.egressRules");
        let has_rules = rules.is_some_and(|rules| rules.as_array().is_none_or(|it| !it.is_empty()));
        if denies && !has_rules {
            let path = subject.path("networkPolicy.head.egressRules");
            let accepted = "rules for DNS and for the API server, or mode DenyAllIngress";
            found.push(Found::at(path, "absent", accepted));
        }
    }
    for policy in &subject.surroundings.network_policies {
        let name = policy.pointer("/metadata/name").and_then(Value::as_str);
        if denies_api(policy) {
            let path = format!("NetworkPolicy {} spec.egress", name.unwrap_or_default());
            let accepted = "a rule that lets port 443 or 6443 of the API server pass";
            let value = policy.pointer("/spec/egress");
            let value = value.map_or_else(|| "absent".to_owned(), shown);
            found.push(Found::at(path, value, accepted));
        }
    }
    found
}

/// Returns whether a NetworkPolicy keeps head pods from every API server.
fn denies_api(policy: &Value) -> bool {
    let types = texts(policy.pointer("/spec/policyTypes"));
    let selector = policy.pointer("/spec/podSelector/matchLabels/ray.io~1node-type");
    let is_of_workers = selector.is_some_and(|kind| kind == "worker");
    let rules = policy.pointer("/spec/egress").and_then(Value::as_array);
    // The API server is no pod: only a rule for everybody, or for addresses, reaches it.
    let reaches = |rule: &Value| {
        let to = rule.get("to").and_then(Value::as_array);
        to.is_none_or(|to| to.is_empty() || to.iter().any(|it| it.get("ipBlock").is_some()))
    };
    let lets_pass = |rule: &Value| {
        let ports = rule.get("ports").and_then(Value::as_array);
        ports.is_none_or(|ports| {
            ports.is_empty()
                || ports.iter().any(|it| {
                    let port = it.get("port");
                    port.is_none_or(|port| *port == 443 || *port == 6443 || *port == "https")
                })
        })
    };
    let is_let =
        rules.is_some_and(|rules| rules.iter().any(|rule| reaches(rule) && lets_pass(rule)));
    types.contains(&"Egress") && !is_of_workers && !is_let
}

/// Finds rights that the given roles lack.
pub(super) fn missing_verb(subject: &Subject) -> Vec<Found> {
    let roles = &subject.surroundings.roles;
    if roles.is_empty() {
        return Vec::new();
    }
    let lacking = RIGHTS.iter().filter(|right| right.is_default);
    let lacking = lacking.filter(|right| !roles.iter().any(|it| gives(it, right, &subject.name)));
    let found = lacking.map(|right| {
        let Right {
            verb,
            group,
            resource,
            without,
            ..
        } = right;
        let accepted = format!(
            "a rule with apiGroups: [\"{group}\"], resources: [{resource}], verbs: [{verb}]"
        );
        let mut found = Found::at(
            "rules".to_owned(),
            format!("without {verb} {resource}"),
            &accepted,
        );
        found.why = Some(format!(
            "without it {without}; if this Role is there in addition to the one that KubeRay makes, give both in one file"
        ));
        found
    });
    found.collect()
}

fn gives(role: &Value, right: &Right, cluster: &str) -> bool {
    let rules = role.get("rules").and_then(Value::as_array);
    let has = |rule: &Value, key: &str, word: &str| {
        let words = texts(rule.get(key));
        words.contains(&word) || words.contains(&"*")
    };
    let is_named = |rule: &Value| {
        let names = texts(rule.get("resourceNames"));
        // A list or watch of many is not given by a rule for one.
        names.is_empty() || (names.contains(&cluster) && ["get", "patch"].contains(&right.verb))
    };
    rules.into_iter().flatten().any(|rule| {
        has(rule, "apiGroups", right.group)
            && has(rule, "resources", right.resource)
            && has(rule, "verbs", right.verb)
            && is_named(rule)
    })
}

/// Reminds of the Role when none was given.
pub(super) fn role_not_given(subject: &Subject) -> Vec<Found> {
    if !subject.surroundings.roles.is_empty() {
        return Vec::new();
    }
    let rights = RIGHTS.iter().filter(|right| right.is_default);
    let rights: Vec<String> = rights
        .map(|it| format!("{} {}", it.verb, it.resource))
        .collect();
    let accepted = format!("--role FILE with a Role that has {}", rights.join(", "));
    vec![Found::at("the Role".to_owned(), "not given", &accepted)]
}

/// Finds a deletion policy that the operator refuses beside autoscaling.
pub(super) fn delete_workers_refused(subject: &Subject) -> Vec<Found> {
    if subject.kind != "RayJob" {
        return Vec::new();
    }
    let places = ["deletionStrategy", "deletionPolicy"];
    let found = places.iter().filter_map(|place| {
        let value = subject.object.get("spec")?.get(place)?;
        value.to_string().contains("\"DeleteWorkers\"").then(|| {
            let accepted = "DeleteCluster, DeleteSelf or DeleteNone while autoscaling is on";
            Found::at(format!("spec.{place}"), shown(value), accepted)
        })
    });
    found.collect()
}

/// Reminds of what an update of a RayService takes back.
pub(super) fn in_place_update_resets(subject: &Subject) -> Vec<Found> {
    if subject.kind != "RayService" {
        return Vec::new();
    }
    let path = subject.path("workerGroupSpecs");
    let accepted = "updates that add groups at quiet times only";
    vec![Found::at(path, "part of a RayService", accepted)]
}
