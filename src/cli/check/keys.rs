//! Keys that KubeRay does not know, where one that it knows was probably meant.
//!
//! A key that is near no other one is not told: it may well be of a later KubeRay.

use serde_json::Value;

use super::finding::Found;
use super::subject::{Subject, shown};
use crate::config::closest;

/// The keys of KubeRay 1.7, and what we know of later ones, by their place in the RayCluster's spec;
/// `*` stands for every group.
const KEYS: [(&str, &[&str]); 8] = [
    (
        "",
        &[
            "authOptions",
            "autoscalerOptions",
            "enableInTreeAutoscaling",
            "gcsFaultToleranceOptions",
            "headGroupSpec",
            "headServiceAnnotations",
            "historyServerOptions",
            "idleSuspend",
            "idleTerminationOptions",
            "managedBy",
            "networkPolicy",
            "rayVersion",
            "suspend",
            "tlsOptions",
            "upgradeStrategy",
            "workerGroupSpecs",
        ],
    ),
    (
        "autoscalerOptions",
        &[
            "args",
            "command",
            "env",
            "envFrom",
            "idleTimeoutSeconds",
            "image",
            "imagePullPolicy",
            "resources",
            "securityContext",
            "upscalingMode",
            "version",
            "volumeMounts",
        ],
    ),
    ("idleTerminationOptions", &["policy", "timeoutSeconds"]),
    ("upgradeStrategy", &["type"]),
    (
        "gcsFaultToleranceOptions",
        &[
            "backend",
            "externalStorageNamespace",
            "redisAddress",
            "redisPassword",
            "redisUsername",
            "storage",
        ],
    ),
    (
        "headGroupSpec",
        &[
            "enableIngress",
            "headService",
            "ingressOptions",
            "labels",
            "rayStartParams",
            "resources",
            "serviceType",
            "template",
        ],
    ),
    (
        "*",
        &[
            "groupName",
            "idleTimeoutSeconds",
            "labels",
            "maxReplicas",
            "minReplicas",
            "numOfHosts",
            "priority",
            "rayStartParams",
            "replicas",
            "resources",
            "scaleStrategy",
            "suspend",
            "template",
        ],
    ),
    ("*.scaleStrategy", &["scaleGate", "workersToDelete"]),
];

const UPSCALING_MODES: [&str; 3] = ["Default", "Aggressive", "Conservative"];

/// Finds keys that are not known and look like one that is.
pub(super) fn misspelt_key(subject: &Subject) -> Vec<Found> {
    let mut found = Vec::new();
    for (place, known) in KEYS {
        let places = match place.strip_prefix('*') {
            Some(rest) => {
                let groups = subject.groups().into_iter();
                groups.map(|group| format!("{group}{rest}")).collect()
            }
            None => vec![place.to_owned()],
        };
        for place in places {
            found.extend(at(subject, &place, known));
        }
    }
    found
}

fn at(subject: &Subject, place: &str, known: &[&str]) -> Vec<Found> {
    let (members, begin) = match place {
        "" => (subject.spec(), String::new()),
        _ => (subject.value(place), format!("{place}.")),
    };
    let members = members.and_then(Value::as_object).into_iter().flatten();
    let unknown = members.filter(|(key, _)| !known.contains(&key.as_str()));
    let found = unknown.filter_map(|(key, value)| {
        let meant = closest(key, known)?;
        let path = subject.path(&format!("{begin}{key}"));
        Some(Found::at(path, told(place, value), &format!("`{meant}`")))
    });
    found.collect()
}

/// Returns what may be shown of a value: nobody knows what stands under a key that is not known, a password perhaps.
fn told(place: &str, value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(_) if place == "gcsFaultToleranceOptions" => "a text".to_owned(),
        _ => shown(value),
    }
}

/// Finds an `upscalingMode` that there is not.
pub(super) fn upscaling_mode_unknown(subject: &Subject) -> Vec<Found> {
    let path = "autoscalerOptions.upscalingMode";
    let mode = subject.text(path);
    let wrong = mode.filter(|mode| !UPSCALING_MODES.contains(mode));
    let found = wrong.map(|mode| {
        let accepted = match closest(mode, &UPSCALING_MODES) {
            Some(meant) => format!("`{meant}`"),
            None => UPSCALING_MODES.join(", "),
        };
        Found::at(subject.path(path), mode, &accepted)
    });
    found.into_iter().collect()
}
