//! Where pods stand, and mistakes in annotations.

use serde_json::{Value, json};

use super::{ResizeOff, resizing};
use crate::model::{
    Node, NodeId, NodeKind, NodeStatus, PodName, PodResize, PodSize, Problem, ResizeState,
    Resizing, Timestamp,
};
use crate::wire::pod::PodFacts;
use crate::wire::raycluster::RayCluster;

const NOW: Timestamp = Timestamp::from_ms(1_000_000);
const GI: i64 = 1 << 30;

/// Small: 500m/1 CPU, 1Gi/2Gi, up to 4 CPU and 8Gi within 300 s.
fn limits() -> Value {
    json!({"groups": {"small": {"max-cpu": "4", "max-memory": "8Gi", "resize-timeout": 300}}})
}

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": "500m", "memory": "1Gi"}})
}

fn cluster(annotation: &str, edits: &[(&str, Value)]) -> RayCluster {
    let container = json!({"name": "ray", "resources": resources("1", "2Gi")});
    let template = json!({"spec": {"containers": [container]}});
    let mut value = json!({
        "metadata": {"name": "c", "annotations": {"ray.io/ippr": annotation}},
        "spec": {"headGroupSpec": {"rayStartParams": {}, "template": template},
            "workerGroupSpecs": [
                {"groupName": "small", "rayStartParams": {}, "template": template},
                {"groupName": "other", "rayStartParams": {}, "template": template}]}});
    for (pointer, new) in edits {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[key] = new.clone();
    }
    RayCluster::from_value(&value).unwrap()
}

fn pod(edits: &[(&str, Value)]) -> PodFacts {
    let mut value = json!({
        "metadata": {"name": "w", "uid": "u", "annotations": {},
            "labels": {"ray.io/cluster": "c", "ray.io/node-type": "worker", "ray.io/group": "small"}},
        "spec": {"containers": [{"name": "ray", "resources": resources("1", "2Gi")}]},
        "status": {"conditions": [], "containerStatuses": [{"name": "ray", "resources": resources("1", "2Gi")}]}});
    for (pointer, new) in edits {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/");
        value.pointer_mut(parent).unwrap()[key] = new.clone();
    }
    PodFacts::from_value(&value).unwrap()
}

fn node() -> Node {
    Node {
        name: PodName::from("w"),
        node_id: NodeId::from_bytes(&[7; 28]),
        raylet_address: None,
        kind: NodeKind::Worker,
        group: "small".into(),
        replica: "w".into(),
        host_index: 0,
        status: NodeStatus::Running,
        total: Default::default(),
        available: Default::default(),
        labels: Default::default(),
        idle_since: None,
        created_at: None,
        waiting_reason: String::new(),
        pod_ip: String::new(),
    }
}

fn look(cluster: &RayCluster, pod: &PodFacts, off: Option<&ResizeOff>) -> (Resizing, Vec<Problem>) {
    let mut problems = Vec::new();
    let nodes = [node()];
    let found = resizing(cluster, (&[pod], &nodes), (NOW, off), &mut problems);
    (found, problems)
}

fn seen(edits: &[(&str, Value)]) -> PodResize {
    let (found, problems) = look(&cluster(&limits().to_string(), &[]), &pod(edits), None);
    assert_eq!(problems, []);
    found.pods[&PodName::from("w")].clone()
}

fn size(cpu_millis: i64, gibibytes: i64) -> PodSize {
    PodSize::of((cpu_millis, gibibytes * GI))
}

const SPEC: &str = "/spec/containers/0/resources";
const STATUS: &str = "/status/containerStatuses/0/resources";
const NOTE: &str = "/metadata/annotations/ray.io~1ippr-status";
const CONDITIONS: &str = "/status/conditions";

fn note(resizing_at: Value, failed_at: Value) -> Value {
    let raylet = NodeId::from_bytes(&[7; 28]).unwrap().to_string();
    json!(
        json!({"raylet-id": raylet, "resizing-at": resizing_at, "last-failed-at": failed_at})
            .to_string()
    )
}

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    json!([{"type": kind, "status": "True", "reason": reason, "message": message}])
}

#[test]
fn a_pod_at_rest_may_grow_to_what_the_annotation_says() {
    let pod = seen(&[]);
    assert_eq!((pod.current, pod.max), (size(1_000, 2), size(4_000, 8)));
    assert!(pod.can_grow());
    let basis = pod.basis.unwrap();
    assert_eq!(basis.uid, "u");
    assert_eq!(basis.cpu_gap, Some(size(500, 0).cpu));
    assert_eq!(basis.memory_gap, Some(size(0, 1).memory));
    let (found, _) = look(&cluster(&limits().to_string(), &[]), &self::pod(&[]), None);
    assert_eq!(found.groups[&"small".into()], size(4_000, 8));
    assert_eq!(found.groups.len(), 1);
}

#[test]
fn each_stage_is_told_from_what_the_pod_shows() {
    let grown = || resources("4", "8Gi");
    let (asked, long_ago) = (note(json!(990), Value::Null), note(json!(699), Value::Null));
    let cases = [
        (
            "asked for",
            vec![(SPEC, grown()), (NOTE, asked.clone())],
            ResizeState::Asked,
        ),
        (
            "being done",
            vec![
                (SPEC, grown()),
                (NOTE, asked.clone()),
                (CONDITIONS, condition("PodResizeInProgress", "", "")),
            ],
            ResizeState::Asked,
        ),
        (
            "put off in words that suggest nothing",
            vec![
                (SPEC, grown()),
                (NOTE, asked.clone()),
                (
                    CONDITIONS,
                    condition("PodResizePending", "Deferred", "later"),
                ),
            ],
            ResizeState::Asked,
        ),
        (
            "too late",
            vec![(SPEC, grown()), (NOTE, long_ago)],
            ResizeState::Decided,
        ),
        (
            "put off by somebody else's resize",
            vec![
                (SPEC, grown()),
                (CONDITIONS, condition("PodResizePending", "Deferred", "")),
            ],
            ResizeState::Unsettled,
        ),
        (
            "failed once",
            vec![(NOTE, note(Value::Null, json!(5)))],
            ResizeState::Failed,
        ),
    ];
    for (what, edits, state) in cases {
        assert_eq!(seen(&edits).state, state, "{what}");
    }
}

#[test]
fn what_is_done_is_still_to_be_told_to_the_raylet() {
    let grown = || resources("4", "8Gi");
    let (asked, long_ago) = (note(json!(990), Value::Null), note(json!(699), Value::Null));
    let cases = [
        (
            "done",
            vec![(SPEC, grown()), (STATUS, grown()), (NOTE, asked.clone())],
            ResizeState::Resized,
        ),
        (
            "noted and never asked for",
            vec![(NOTE, asked)],
            ResizeState::Resized,
        ),
        (
            "done, late, and still to be told",
            vec![(SPEC, grown()), (STATUS, grown()), (NOTE, long_ago.clone())],
            ResizeState::Resized,
        ),
        (
            "done and told",
            vec![
                (SPEC, grown()),
                (STATUS, grown()),
                (NOTE, note(Value::Null, Value::Null)),
            ],
            ResizeState::Settled,
        ),
    ];
    for (what, edits, state) in cases {
        assert_eq!(seen(&edits).state, state, "{what}");
    }
}

#[test]
fn what_fails_or_takes_too_long_is_taken_back_and_not_tried_again() {
    let late = [
        (SPEC, resources("4", "8Gi")),
        (NOTE, note(json!(699), Value::Null)),
    ];
    let broken = [
        (SPEC, resources("4", "8Gi")),
        (NOTE, note(json!(999), Value::Null)),
        (
            CONDITIONS,
            condition("PodResizeInProgress", "Error", "no cgroup"),
        ),
    ];
    for (edits, reason) in [
        (&late[..], "the resize timed out"),
        (&broken[..], "no cgroup"),
    ] {
        let pod = seen(edits);
        assert_eq!(
            (pod.state, pod.desired),
            (ResizeState::Decided, size(1_000, 2))
        );
        let failure = pod.basis.unwrap().note.failure.unwrap();
        assert_eq!((failure.reason.as_str(), failure.at), (reason, NOW));
    }
}

#[test]
fn what_the_kubelet_could_give_is_asked_for_instead() {
    let deferred =
        "Node didn't have enough resource: cpu, requested: 4000, used: 5000, capacity: 8000";
    let infeasible = "Node didn't have enough capacity: memory, requested: 9, capacity: 5368709120";
    let pod = seen(&[
        (SPEC, resources("4", "8Gi")),
        (NOTE, note(json!(999), Value::Null)),
        (
            CONDITIONS,
            condition("PodResizePending", "Deferred", deferred),
        ),
    ]);
    // 3 processors are left, and the limit is half of one above the request.
    assert_eq!(
        (pod.state, pod.desired),
        (ResizeState::Decided, size(3_500, 8))
    );
    assert_eq!(
        (pod.max, pod.basis.unwrap().note.suggested_memory),
        (size(3_500, 8), None)
    );
    let pod = seen(&[
        (SPEC, resources("4", "8Gi")),
        (NOTE, note(json!(999), Value::Null)),
        (
            CONDITIONS,
            condition("PodResizePending", "Infeasible", infeasible),
        ),
    ]);
    assert_eq!(
        (pod.state, pod.desired),
        (ResizeState::Decided, size(4_000, 6))
    );
}

#[test]
fn a_raylet_that_was_started_again_is_told_again() {
    let other = json!(json!({"raylet-id": "0102"}).to_string());
    let grown = resources("4", "8Gi");
    let pod = seen(&[(SPEC, grown.clone()), (STATUS, grown), (NOTE, other)]);
    assert_eq!(pod.state, ResizeState::Resized);
}

#[test]
fn a_mistake_costs_its_own_group_only_and_is_named() {
    let group = |edits: &[(&str, Value)]| {
        let mut group = limits()["groups"]["small"].clone();
        for (key, value) in edits {
            group[*key] = value.clone();
        }
        group
    };
    let cases = [
        (
            group(&[("max-cpu", json!("much"))]),
            r#"metadata.annotations[ray.io/ippr].groups.other.max-cpu is "much"; accepted: a quantity such as 4 or 3500m"#,
        ),
        (
            group(&[("max-memory", json!([1]))]),
            "metadata.annotations[ray.io/ippr].groups.other.max-memory is [1]; accepted: a quantity such as 8Gi",
        ),
        (
            group(&[("resize-timeout", json!("5m"))]),
            r#"metadata.annotations[ray.io/ippr].groups.other.resize-timeout is "5m"; accepted: a whole number of seconds"#,
        ),
        (
            group(&[("max-cpu", json!(0.5))]),
            "metadata.annotations[ray.io/ippr].groups.other.max-cpu is 0.5; accepted: at least what the template gives",
        ),
        (
            json!({}),
            "metadata.annotations[ray.io/ippr].groups.other.max-cpu is absent; accepted: a quantity such as 4 or 3500m",
        ),
        (
            json!(7),
            "metadata.annotations[ray.io/ippr].groups.other.max-cpu is absent; accepted: a quantity such as 4 or 3500m",
        ),
    ];
    for (other, detail) in cases {
        let mut text = limits();
        text["groups"]["other"] = other;
        let (found, problems) = look(&cluster(&text.to_string(), &[]), &pod(&[]), None);
        assert_eq!(found.groups.len(), 1, "{detail}");
        assert!(found.pods[&PodName::from("w")].can_grow());
        let told: Vec<_> = problems
            .iter()
            .map(|it| (it.code.as_str(), it.detail.as_str()))
            .collect();
        assert_eq!(told, [("bad_resize_limits", detail)]);
    }
}

#[test]
fn templates_that_cannot_be_resized_are_named() {
    let container = "/spec/workerGroupSpecs/0/template/spec/containers/0";
    let cases = [
        (
            (
                "/spec/workerGroupSpecs/0/rayStartParams".to_owned(),
                json!({"num-cpus": "1"}),
            ),
            "spec.workerGroupSpecs[0].rayStartParams.num-cpus is `1`; accepted: nothing while the annotation ray.io/ippr names the group",
        ),
        (
            (
                format!("{container}/resources"),
                json!({"limits": {"cpu": 1, "memory": 1}}),
            ),
            "spec.workerGroupSpecs[0].template.spec.containers[0].resources.requests.cpu is absent; accepted: a quantity",
        ),
        (
            (
                format!("{container}/resizePolicy"),
                json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]),
            ),
            "spec.workerGroupSpecs[0].template.spec.containers[0].resizePolicy of memory is `RestartContainer`; accepted: NotRequired",
        ),
    ];
    for ((pointer, value), detail) in cases {
        let cluster = cluster(&limits().to_string(), &[(&pointer, value)]);
        let (found, problems) = look(&cluster, &pod(&[]), None);
        assert_eq!(found, Resizing::default());
        assert_eq!(problems[0].detail, detail);
    }
}

#[test]
fn an_annotation_that_cannot_be_read_turns_resizing_off_and_is_named() {
    for text in ["{", "[]", "{\"groups\": 7}"] {
        let (found, problems) = look(&cluster(text, &[]), &pod(&[]), None);
        assert_eq!(found, Resizing::default());
        assert_eq!(problems[0].code, "bad_resize_limits");
        let start =
            format!("metadata.annotations[ray.io/ippr] is `{text}`; accepted: JSON such as");
        assert!(
            problems[0].detail.starts_with(&start),
            "{}",
            problems[0].detail
        );
    }
    let unknown = json!({"groups": {"nobody": {}}}).to_string();
    let (_, problems) = look(&cluster(&unknown, &[]), &pod(&[]), None);
    assert_eq!(
        problems[0].detail,
        "metadata.annotations[ray.io/ippr].groups.nobody is no group; accepted: the name of a worker group, or headgroup"
    );
    let (found, problems) = look(&cluster("", &[]), &pod(&[]), None);
    assert_eq!((found, problems), (Resizing::default(), Vec::new()));
}

#[test]
fn while_nobody_allows_it_nothing_counts_on_growth_and_what_runs_is_seen_to_its_end() {
    let off = ResizeOff {
        until: NOW.plus_ms(1),
        why: "the Role says no".to_owned(),
        is_deaf: false,
    };
    let cluster = cluster(&limits().to_string(), &[]);
    let (found, problems) = look(&cluster, &pod(&[]), Some(&off));
    assert_eq!(found, Resizing::default());
    assert_eq!(problems[0].code, "resize_refused");
    let asked = pod(&[(NOTE, note(json!(999), Value::Null))]);
    let (found, _) = look(&cluster, &asked, Some(&off));
    assert_eq!(found.pods.len(), 1);
    let over = ResizeOff { until: NOW, ..off };
    assert!(look(&cluster, &pod(&[]), Some(&over)).0.pods[&PodName::from("w")].can_grow());
}

/// A pod counts with what it is to have until its raylet has heard of it: that must not go on where none ever does.
#[test]
fn while_raylets_cannot_be_told_pods_count_as_they_are() {
    let grown = || resources("4", "8Gi");
    let asked = note(json!(999), Value::Null);
    let cases = [
        ("noted", vec![(NOTE, asked.clone())]),
        ("asked for", vec![(SPEC, grown()), (NOTE, asked.clone())]),
        (
            "done",
            vec![(SPEC, grown()), (STATUS, grown()), (NOTE, asked)],
        ),
    ];
    let cluster = cluster(&limits().to_string(), &[]);
    let mut off = ResizeOff {
        until: NOW.plus_ms(1),
        why: "this Ray does not know how".to_owned(),
        is_deaf: true,
    };
    for (what, edits) in cases {
        let (found, problems) = look(&cluster, &pod(&edits), Some(&off));
        let seen = &found.pods[&PodName::from("w")];
        assert_eq!(seen.state, ResizeState::Unsettled, "{what}");
        assert_eq!(problems[0].code, "resize_refused");
    }
    // Where they can be told, they are; and nobody is asked for more.
    off.is_deaf = false;
    let noted = [(NOTE, note(json!(999), Value::Null))];
    let (found, _) = look(&cluster, &pod(&noted), Some(&off));
    let seen = &found.pods[&PodName::from("w")];
    assert_eq!(seen.state, ResizeState::Resized);
    assert_eq!(seen.expected(), size(1_000, 2));
}
