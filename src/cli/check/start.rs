//! How the head and the sidecar start, and what the operator lets them start with.

use serde_json::Value;

use super::finding::Found;
use super::subject::{Subject, shown, texts};

/// Longest name that survives the operator, which keeps the last 50 characters.
const NAME_KEPT: usize = 50;

const HEAD: &str = "headGroupSpec.template.spec";
const RAY_CONTAINER: &str = "headGroupSpec.template.spec.containers[0]";
const OPTIONS: &str = "autoscalerOptions";

/// Finds a head that starts Ray by itself, with Ray's own autoscaler.
pub(super) fn stock_autoscaler(subject: &Subject) -> Vec<Found> {
    let Some((path, words)) = head_command(subject) else {
        return Vec::new();
    };
    if !words.contains("ray start") || words.contains("--no-monitor") {
        return Vec::new();
    }
    let accepted = "`ray start` with --no-monitor, or $KUBERAY_GEN_RAY_START_CMD";
    vec![Found::at(
        subject.path(&path),
        shown(&words.into()),
        accepted,
    )]
}

/// Finds a head whose start command cannot be seen from here.
pub(super) fn start_command_overwritten(subject: &Subject) -> Vec<Found> {
    let annotation = "ray.io/overwrite-container-cmd";
    let value = subject.metadata("annotations", annotation);
    let words = head_command(subject).map(|(_, words)| words);
    let words = words.unwrap_or_default();
    let is_seen = ["KUBERAY_GEN_RAY_START_CMD", "ray start"]
        .iter()
        .any(|part| words.contains(part));
    match value {
        Some("true") if !is_seen => {
            let path = format!("metadata.annotations[{annotation}]");
            let accepted = "a command with $KUBERAY_GEN_RAY_START_CMD";
            vec![Found::at(path, "true", accepted)]
        }
        _ => Vec::new(),
    }
}

fn head_command(subject: &Subject) -> Option<(String, String)> {
    let parts = ["command", "args"].map(|key| {
        let path = format!("{RAY_CONTAINER}.{key}");
        let words = texts(subject.value(&path)).join(" ");
        (path, words)
    });
    let all: Vec<&str> = parts.iter().map(|(_, words)| words.as_str()).collect();
    let all = all.join(" ").trim().to_owned();
    let (path, _) = parts.into_iter().find(|(_, words)| !words.is_empty())?;
    Some((path, all))
}

fn options(subject: &Subject, key: &str) -> Option<(String, String)> {
    let path = format!("{OPTIONS}.{key}");
    let value = subject.value(&path)?;
    let is_empty = value.as_array().is_some_and(Vec::is_empty) || value.as_str() == Some("");
    (!is_empty).then(|| (subject.path(&path), shown(value)))
}

/// Finds an image whose start is left to the operator.
pub(super) fn image_without_command(subject: &Subject) -> Vec<Found> {
    let may_have_command = subject.surroundings.kuberay.is_none_or(|it| it >= (1, 7));
    match (options(subject, "image"), options(subject, "command")) {
        (Some((path, image)), None) if may_have_command => {
            let accepted = "autoscalerOptions.command and args beside it";
            vec![Found::at(path, image, accepted)]
        }
        _ => Vec::new(),
    }
}

/// Finds a command that runs in the image of the head.
pub(super) fn command_without_image(subject: &Subject) -> Vec<Found> {
    match (options(subject, "command"), options(subject, "image")) {
        (Some((path, command)), None) => {
            vec![Found::at(
                path,
                command,
                "autoscalerOptions.image beside it",
            )]
        }
        _ => Vec::new(),
    }
}

/// Finds a command to which the operator adds arguments, or arguments given to its shell.
pub(super) fn command_without_args(subject: &Subject) -> Vec<Found> {
    match (options(subject, "command"), options(subject, "args")) {
        (Some((path, command)), None) => {
            let accepted = "autoscalerOptions.args beside it";
            vec![Found::at(path, command, accepted)]
        }
        _ => Vec::new(),
    }
}

/// Finds arguments that go to the operator's shell.
pub(super) fn args_without_command(subject: &Subject) -> Vec<Found> {
    match (options(subject, "args"), options(subject, "command")) {
        (Some((path, args)), None) => {
            let accepted = "autoscalerOptions.command beside them";
            vec![Found::at(path, args, accepted)]
        }
        _ => Vec::new(),
    }
}

/// Finds a sidecar that is given what the stock one needs.
pub(super) fn default_resources(subject: &Subject) -> Vec<Found> {
    if subject.value("autoscalerOptions.resources").is_some() {
        return Vec::new();
    }
    let accepted = "requests and limits of its own, such as {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 128Mi}}";
    let path = subject.path("autoscalerOptions.resources");
    vec![Found::at(path, "absent", accepted)]
}

/// Finds a volume that only one of head and sidecar sees at `/tmp/ray`.
pub(super) fn tmp_ray_on_one_side(subject: &Subject) -> Vec<Found> {
    let mounts = |path: &str| {
        let mounts = subject.value(path).and_then(Value::as_array);
        let mut mounts = mounts.into_iter().flatten();
        mounts.any(|mount| mount["mountPath"] == "/tmp/ray" || mount["mountPath"] == "/tmp/ray/")
    };
    let (head, sidecar) = (
        format!("{RAY_CONTAINER}.volumeMounts"),
        format!("{OPTIONS}.volumeMounts"),
    );
    let path = match (mounts(&head), mounts(&sidecar)) {
        (true, false) => head,
        (false, true) => sidecar,
        _ => return Vec::new(),
    };
    let accepted = "the same volume on both, or on neither";
    vec![Found::at(subject.path(&path), "/tmp/ray", accepted)]
}

/// Finds a head pod without credentials.
pub(super) fn no_service_account_token(subject: &Subject) -> Vec<Found> {
    let path = format!("{HEAD}.automountServiceAccountToken");
    match subject.value(&path) {
        Some(Value::Bool(false)) => {
            vec![Found::at(subject.path(&path), "false", "true or nothing")]
        }
        _ => Vec::new(),
    }
}

/// Finds a ServiceAccount whose name the operator cuts.
pub(super) fn service_account_clipped(subject: &Subject) -> Vec<Found> {
    let path = format!("{HEAD}.serviceAccountName");
    match subject.text(&path) {
        Some(name) if name.len() > NAME_KEPT => {
            vec![Found::at(
                subject.path(&path),
                name,
                "at most 50 characters",
            )]
        }
        _ => Vec::new(),
    }
}

/// Finds a ServiceAccount that somebody else has to make.
pub(super) fn service_account_must_exist(subject: &Subject) -> Vec<Found> {
    let path = format!("{HEAD}.serviceAccountName");
    match subject.text(&path) {
        Some(name) if !name.is_empty() => {
            let accepted = "a ServiceAccount that is there before the RayCluster";
            vec![Found::at(subject.path(&path), name, accepted)]
        }
        _ => Vec::new(),
    }
}

/// Finds an environment variable that is the operator's own.
pub(super) fn reserved_env(subject: &Subject) -> Vec<Found> {
    const RESERVED: &str = "KUBERAY_GEN_AUTOSCALER_START_CMD";
    let env = subject
        .value("autoscalerOptions.env")
        .and_then(Value::as_array);
    let at = env.and_then(|env| env.iter().position(|it| it["name"] == RESERVED));
    let found = at.map(|at| {
        let path = subject.path(&format!("autoscalerOptions.env[{at}].name"));
        Found::at(path, RESERVED, "any other name")
    });
    found.into_iter().collect()
}

/// Finds pods that are started again in place although the operator advises against it.
pub(super) fn restart_policy_with_v1(subject: &Subject) -> Vec<Found> {
    if subject.text("autoscalerOptions.version") != Some("v1") {
        return Vec::new();
    }
    let policies = subject.all_groups().into_iter().filter_map(|group| {
        let path = format!("{group}.template.spec.restartPolicy");
        let policy = subject.text(&path).filter(|policy| *policy != "Never")?;
        Some(Found::at(subject.path(&path), policy, "Never or nothing"))
    });
    policies.collect()
}
