//! Every check, in one place: its code, how much it hurts, and what it leads to.
//!
//! Codes are stable: people put them into scripts. A test reads this table, and asks of every check
//! one case in which it speaks and one in which it does not.

use super::finding::Severity::{Error, Note, Warning};
use super::finding::{Finding, Found, Severity};
use super::subject::Subject;
use super::{command, keys, scaling, shapes, start, surroundings, versions};

/// Describes one check.
pub(super) struct Check {
    /// Its stable word.
    pub(super) code: &'static str,
    /// How much a finding hurts.
    pub(super) severity: Severity,
    /// What a finding leads to.
    pub(super) why: &'static str,
    find: Find,
}

/// Says who finds it.
enum Find {
    /// The sidecar itself, in the way in which it reads a live RayCluster.
    Observed,
    /// A function of this folder.
    Manifest(fn(&Subject) -> Vec<Found>),
}

const fn observed(code: &'static str, severity: Severity, why: &'static str) -> Check {
    Check {
        code,
        severity,
        why,
        find: Find::Observed,
    }
}

const fn manifest(
    (code, severity): (&'static str, Severity),
    find: fn(&Subject) -> Vec<Found>,
    why: &'static str,
) -> Check {
    Check {
        code,
        severity,
        why,
        find: Find::Manifest(find),
    }
}

const SKIPPED: &str = "this group is not scaled; the others are";
const NOT_STARTED: &str =
    "no pod of this group is made, and the groups behind it in the list have to wait";

/// All checks, in the order in which findings of equal severity are shown.
pub(super) const CHECKS: &[Check] = &[
    observed(
        "operator_refuses",
        Error,
        "the operator stops working on the whole RayCluster, and says so in an event only",
    ),
    observed(
        "autoscaling_off",
        Error,
        "no autoscaler is started, and the operator deletes pods of its own choice",
    ),
    observed(
        "managed_elsewhere",
        Warning,
        "KubeRay's operator leaves the RayCluster alone",
    ),
    observed("unreadable", Error, SKIPPED),
    observed("empty_name", Error, SKIPPED),
    observed("reserved_name", Error, SKIPPED),
    observed(
        "duplicate_name",
        Error,
        "groups of one name share their pods: none of them is scaled",
    ),
    observed(
        "suspended",
        Error,
        "the operator stops working on the whole RayCluster: a suspended group and autoscaling exclude each other",
    ),
    observed(
        "no_hosts",
        Error,
        "the operator makes no pods for it, and the group is not scaled",
    ),
    observed(
        "negative_bound",
        Error,
        "the operator stops working on the whole RayCluster",
    ),
    observed("bound_out_of_range", Error, SKIPPED),
    observed(
        "min_above_max",
        Error,
        "the operator stops working on the whole RayCluster",
    ),
    observed("no_container", Error, SKIPPED),
    observed(
        "bad_resources",
        Error,
        "no raylet would start with it, and the group is not scaled",
    ),
    observed(
        "quantity_ignored",
        Warning,
        "the operator passes it over without a word",
    ),
    observed(
        "ambiguous_resource",
        Warning,
        "the operator takes any one of them",
    ),
    observed(
        "accelerators_lost",
        Warning,
        "the operator gives Ray neither GPUs nor TPUs then, without a word",
    ),
    observed(
        "computed_value",
        Warning,
        "demand for it starts no node until one has registered",
    ),
    observed(
        "cpu_unknown",
        Warning,
        "one CPU is assumed until a node has registered",
    ),
    observed(
        "memory_unknown",
        Warning,
        "Ray asks the machine; demand for memory starts no node until one has registered",
    ),
    manifest(
        ("misspelt_key", Warning),
        keys::misspelt_key,
        "KubeRay does not know it: kubectl refuses it, other clients drop it without a word",
    ),
    manifest(
        ("upscaling_mode_unknown", Error),
        keys::upscaling_mode_unknown,
        "the API server refuses the whole object",
    ),
    manifest(
        ("stock_autoscaler_still_runs", Error),
        start::stock_autoscaler,
        "Ray's own autoscaler runs beside this one, and both write to the RayCluster",
    ),
    manifest(
        ("start_command_overwritten", Warning),
        start::start_command_overwritten,
        "whether the head passes --no-monitor cannot be seen; without it Ray's own autoscaler runs beside this one",
    ),
    manifest(
        ("no_service_account_token", Error),
        start::no_service_account_token,
        "the sidecar has no credentials for the API server",
    ),
    manifest(
        ("service_account_clipped", Error),
        start::service_account_clipped,
        "the operator keeps 50 characters of it, and no such ServiceAccount exists",
    ),
    manifest(
        ("service_account_must_exist", Note),
        start::service_account_must_exist,
        "without it the operator does nothing more for the RayCluster; edited later, the RoleBinding still names the old one",
    ),
    manifest(
        ("reserved_env", Error),
        start::reserved_env,
        "the operator refuses the RayCluster",
    ),
    manifest(
        ("image_without_command", Warning),
        start::image_without_command,
        "the container starts `/bin/bash -c -- 'ray kuberay-autoscaler ...'`: the image needs both names, as the image of rayscaler has",
    ),
    manifest(
        ("command_without_image", Warning),
        start::command_without_image,
        "the command runs in the image of the head",
    ),
    manifest(
        ("command_without_args", Warning),
        start::command_without_args,
        "the operator adds `ray kuberay-autoscaler ...` as one argument; rayscaler reads it, other programs do not",
    ),
    manifest(
        ("args_without_command", Warning),
        start::args_without_command,
        "they are given to `/bin/bash -c --`, which runs the first of them as a script",
    ),
    manifest(
        ("starts_something_else", Error),
        command::starts_something_else,
        "the image holds no such program: the container does not start, and nothing is scaled",
    ),
    manifest(
        ("program_not_in_path", Warning),
        command::program_not_in_path,
        "the image has it there, and its PATH is /usr/bin:/bin",
    ),
    manifest(
        ("start_refused", Error),
        command::start_refused,
        "the container ends at once, and nothing is scaled",
    ),
    manifest(
        ("scales_another_cluster", Error),
        command::scales_another_cluster,
        "the sidecar scales a cluster of that name, or none, and not this one",
    ),
    manifest(
        ("restart_policy_with_v1", Warning),
        start::restart_policy_with_v1,
        "the operator warns in each of its passes, and a container that restarts in place is a new Ray node under an old name",
    ),
    manifest(
        ("tmp_ray_on_one_side", Warning),
        start::tmp_ray_on_one_side,
        "head and sidecar do not share /tmp/ray any more: no monitor.log, and nothing is told to drivers",
    ),
    manifest(
        ("default_resources", Note),
        start::default_resources,
        "the operator requests 500m CPU and 512Mi for the sidecar, which is what the stock autoscaler needs",
    ),
    manifest(
        ("no_worker_groups", Warning),
        scaling::no_worker_groups,
        "there is nothing to scale",
    ),
    manifest(
        ("group_name_unusable", Error),
        scaling::group_name_unusable,
        NOT_STARTED,
    ),
    manifest(
        ("group_name_uppercase", Warning),
        scaling::group_name_uppercase,
        "pods carry the name in lower case, and with a networkPolicy the operator refuses the RayCluster",
    ),
    manifest(
        ("names_clipped", Warning),
        scaling::names_clipped,
        "the operator cuts it: names of pods, of the Role and of the ServiceAccount do not show it whole",
    ),
    manifest(
        ("no_resources", Warning),
        scaling::no_resources,
        "no task fits on its nodes unless it asks for nothing, so that the group never grows",
    ),
    manifest(
        ("group_cannot_grow", Warning),
        scaling::group_cannot_grow,
        "the group never has a node",
    ),
    manifest(
        ("max_unbounded", Warning),
        scaling::max_unbounded,
        "demand alone decides how much is paid for",
    ),
    manifest(
        ("replicas_null", Warning),
        scaling::replicas_null,
        "the API server stores 0, and each apply takes back what was scaled",
    ),
    manifest(
        ("replicas_outside_bounds", Warning),
        scaling::replicas_outside_bounds,
        "the operator takes the nearer bound for it",
    ),
    manifest(
        ("workers_to_delete_given", Warning),
        scaling::workers_to_delete_given,
        "the operator deletes pods of these names, of whatever cluster, each time the manifest is applied",
    ),
    manifest(
        ("recreate_upgrade", Warning),
        scaling::recreate_upgrade,
        "any change of autoscalerOptions or of a group makes all pods anew, the head too",
    ),
    manifest(
        ("cluster_suspended", Warning),
        scaling::cluster_suspended,
        "nothing runs, the autoscaler neither, until somebody takes it away",
    ),
    manifest(
        ("accelerator_not_counted", Warning),
        shapes::accelerator_not_counted,
        "the operator does not count it as a GPU: demand for GPUs never starts this group",
    ),
    manifest(
        ("several_gpu_kinds", Warning),
        shapes::several_gpu_kinds,
        "the operator counts the first kind in the order of names, never the sum",
    ),
    manifest(
        ("stock_derives_differently", Note),
        shapes::stock_derives_differently,
        "Ray's own autoscaler plans this group with other resources than its nodes have; rayscaler follows the operator",
    ),
    manifest(
        ("kueue_queue", Warning),
        surroundings::kueue_queue,
        "other versions and settings of Kueue refuse RayClusters that scale themselves",
    ),
    manifest(
        ("scheduling_gates", Warning),
        surroundings::scheduling_gates,
        "each new pod waits until somebody lifts its gates",
    ),
    manifest(
        ("gang_scheduling", Warning),
        surroundings::gang_scheduling,
        "the scheduler counts a gang of minReplicas, or of the size at creation, and never learns of what is scaled",
    ),
    manifest(
        ("network_policy_denies_api", Warning),
        surroundings::network_policy,
        "calls to the API server time out: nothing is scaled",
    ),
    manifest(
        ("missing_verb", Error),
        surroundings::missing_verb,
        "the sidecar cannot work",
    ),
    manifest(
        ("role_not_given", Note),
        surroundings::role_not_given,
        "the operator makes it once and never again: a Role of another origin, or of an old operator, may have less",
    ),
    manifest(
        ("delete_workers_refused", Error),
        surroundings::delete_workers_refused,
        "the operator refuses the RayJob",
    ),
    manifest(
        ("in_place_update_resets", Note),
        surroundings::in_place_update_resets,
        "an update of the RayService in place writes replicas and annotations anew; they are scaled again from there",
    ),
    manifest(
        ("field_dropped", Warning),
        versions::field_dropped,
        "the stated KubeRay drops it without a word",
    ),
    manifest(
        ("hosts_not_kept_whole", Warning),
        versions::hosts_not_kept_whole,
        "the stated KubeRay counts hosts one by one, and does not tell which belong together",
    ),
    manifest(
        ("ray_version_unserved", Warning),
        versions::ray_version_unserved,
        "nobody has tried this version",
    ),
];

/// Returns everything that was found, errors first.
pub(super) fn findings(subject: &Subject) -> Vec<Finding> {
    let observed = observations(subject);
    let mut findings = Vec::new();
    for check in CHECKS {
        let found = match check.find {
            Find::Observed => of_code(&observed, check.code),
            Find::Manifest(find) => find(subject),
        };
        findings.extend(found.into_iter().map(|found| Finding {
            code: check.code.to_owned(),
            severity: check.severity,
            path: found.path,
            value: found.value,
            accepted: found.accepted,
            why: found.why.unwrap_or_else(|| check.why.to_owned()),
        }));
    }
    findings.extend(not_in_table(observed));
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// Returns what the sidecar says under a word that the table lacks: better told late than never.
fn not_in_table(observed: Vec<(String, Found)>) -> impl Iterator<Item = Finding> {
    let is_new = |(code, _): &(String, Found)| CHECKS.iter().all(|check| check.code != code);
    observed
        .into_iter()
        .filter(is_new)
        .map(|(code, found)| Finding {
            code,
            severity: Warning,
            path: found.path,
            value: found.value,
            accepted: found.accepted,
            why: found.why.unwrap_or_default(),
        })
}

fn of_code(observed: &[(String, Found)], code: &str) -> Vec<Found> {
    let same = observed.iter().filter(|(known, _)| known == code);
    same.map(|(_, found)| found.clone()).collect()
}

/// Returns what the sidecar would say of it, by code; of two that name one path the more exact one.
fn observations(subject: &Subject) -> Vec<(String, Found)> {
    let snapshot = &subject.snapshot;
    let skipped = snapshot.skipped.iter().map(|it| (&it.code, &it.detail));
    let skipped = skipped.map(|(code, detail)| (code.clone(), found(subject, detail)));
    let mut observed: Vec<(String, Found)> = skipped.collect();
    for problem in &snapshot.problems {
        let found = found(subject, &problem.detail);
        let is_told = observed.iter().any(|(_, known)| known.path == found.path);
        if !is_told || problem.code != "operator_refuses" {
            observed.push((problem.code.clone(), found));
        }
    }
    observed
}

/// Takes a message apart: `path is value; accepted: what`, or a path and words.
fn found(subject: &Subject, detail: &str) -> Found {
    let parts = detail
        .split_once(" is ")
        .filter(|(path, _)| !path.contains(' '))
        .and_then(|(path, rest)| Some((path, rest.split_once("; accepted: ")?)));
    if let Some((path, (value, accepted))) = parts {
        return Found::at(subject.outer_path(path), value, accepted);
    }
    let path = detail.split([' ', ':']).next().unwrap_or_default();
    Found {
        path: subject.outer_path(path),
        why: Some(detail.to_owned()),
        ..Found::default()
    }
}
