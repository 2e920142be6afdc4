//! The full list of metrics, so that a rename shows up in review; and each of them moves.
#![cfg(feature = "sidecar")]
#![expect(clippy::unwrap_used, reason = "test")]

mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use rayscaler::model::{
    ClusterSnapshot, History, NodeStatus, ResourceDemand, ResourceRequest, ScaleDecision, Timestamp,
};
use rayscaler::report::events::{
    ApiCalled, ChildRestarted, ClusterEnded, ConfigRead, DepartureTold, Event, GcsCalled,
    GcsReplaced, PassFailed, PermissionsChecked, PodResized, RayletsCalled, ReportFailed,
    SourceFailed, SourceRead, Started,
};
use rayscaler::report::{
    Acted, Metrics, Outcome, PassReport, Phase, Report, ReportOptions, catalogue,
};

use inputs::{at, cluster, decision, node, patched, resources};

const EXPECTED: &str = "\
gauge autoscaler_active_nodes NodeType
gauge autoscaler_pending_nodes NodeType
gauge autoscaler_recently_failed_nodes NodeType
gauge autoscaler_cluster_resources resource
gauge autoscaler_pending_resources resource
gauge autoscaler_running_workers_nodes
gauge autoscaler_updating_nodes
gauge autoscaler_recovering_nodes
counter autoscaler_started_nodes_total
counter autoscaler_stopped_nodes_total
counter autoscaler_failed_create_nodes_total
counter autoscaler_failed_updates_total
counter autoscaler_successful_updates_total
counter autoscaler_failed_recoveries_total
counter autoscaler_successful_recoveries_total
counter autoscaler_update_loop_exceptions_total
counter autoscaler_node_launch_exceptions_total
counter autoscaler_reset_exceptions_total
counter autoscaler_config_validation_exceptions_total
counter autoscaler_drain_node_exceptions_total
histogram autoscaler_update_time_seconds
histogram autoscaler_worker_create_node_time_seconds
histogram autoscaler_worker_update_time_seconds
gauge rayscaler_build_info version
histogram rayscaler_pass_duration_seconds phase
counter rayscaler_pass_errors_total phase cause
gauge rayscaler_last_pass_age_seconds
gauge rayscaler_source_age_seconds source
counter rayscaler_source_errors_total source cause
counter rayscaler_gcs_replaced_total
gauge rayscaler_demand_requests class shape
gauge rayscaler_unserved_requests class code
gauge rayscaler_replicas_desired group
gauge rayscaler_replicas_requested group
gauge rayscaler_replicas_observed group
gauge rayscaler_replicas_max group
gauge rayscaler_nodes group status
gauge rayscaler_pods_waiting group reason
gauge rayscaler_groups_skipped code
gauge rayscaler_input_problems code
counter rayscaler_decisions_total group policy code
counter rayscaler_decisions_cut_total
gauge rayscaler_holds code
counter rayscaler_holds_total code
gauge rayscaler_idle_kept_nodes group code
gauge rayscaler_idle_kept_gpus code
counter rayscaler_replicas_added_total group
counter rayscaler_replicas_removed_total group cause
counter rayscaler_drains_total group outcome
counter rayscaler_departures_told_total group kind outcome
counter rayscaler_pod_resizes_total group step outcome
counter rayscaler_idle_terminations_total policy outcome
histogram rayscaler_demand_to_patch_seconds group
histogram rayscaler_demand_to_pod_seconds group
histogram rayscaler_demand_to_node_seconds group
counter rayscaler_api_calls_total verb status
counter rayscaler_gcs_calls_total method status
counter rayscaler_raylet_calls_total method status
counter rayscaler_invariant_violations_total id
counter rayscaler_config_reloads_total result
counter rayscaler_child_restarts_total cause
gauge rayscaler_mode mode
gauge rayscaler_dry_run
gauge rayscaler_paused
gauge rayscaler_rbac_missing verb resource
counter rayscaler_report_errors_total target
counter rayscaler_label_sets_dropped_total metric
";

#[test]
fn the_catalogue_is_this_list() {
    let lines = catalogue().into_iter().map(|metric| {
        let mut line = format!("{} {}", metric.kind.as_str(), metric.name);
        for label in metric.labels {
            line.push(' ');
            line.push_str(label);
        }
        line.push('\n');
        line
    });
    assert_eq!(lines.collect::<String>(), EXPECTED);
}

#[test]
fn names_end_as_their_kind_asks() {
    for metric in catalogue() {
        let is_counter = metric.kind.as_str() == "counter";
        assert_eq!(
            metric.name.ends_with("_total"),
            is_counter,
            "{}",
            metric.name
        );
        assert!(
            !metric.meaning.is_empty() && !metric.meaning.ends_with('.'),
            "{}",
            metric.name
        );
        if metric.kind.as_str() == "histogram" {
            assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
        }
    }
}

#[test]
fn every_invariant_is_counted_from_0_so_that_its_first_violation_is_seen() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine");
    let mut files = vec![engine.join("invariants.rs")];
    let parts = fs::read_dir(engine.join("invariants")).unwrap();
    files.extend(parts.map(|part| part.unwrap().path()));
    let mut ids = BTreeSet::new();
    for file in files {
        let source = fs::read_to_string(file).unwrap();
        let quoted = source.split('"').map(str::to_owned);
        ids.extend(quoted.filter(|word| {
            let number = word.strip_prefix('I').unwrap_or_default();
            number.parse::<u32>().is_ok()
        }));
    }
    assert!(ids.contains("I1"), "{ids:?}");
    let text = Metrics::new().exposition(at(0));
    let start = "rayscaler_invariant_violations_total{id=\"";
    let counted: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix(start)?.strip_suffix("\"} 0"))
        .map(str::to_owned)
        .collect();
    assert_eq!(counted, ids);
}

/// Metrics of things that KubeRay never does: they stand at 0 and say so.
const ALWAYS_ZERO: [&str; 6] = [
    "autoscaler_updating_nodes",
    "autoscaler_recovering_nodes",
    "autoscaler_failed_updates_total",
    "autoscaler_successful_updates_total",
    "autoscaler_failed_recoveries_total",
    "autoscaler_successful_recoveries_total",
];

#[test]
fn every_metric_moves_in_a_scenario_made_to_move_it_and_no_other_is_exported() {
    let metrics = Metrics::new();
    emit_events(&metrics);
    run_scenario(&metrics);
    let text = metrics.exposition(at(90_000));
    let exported = families(&text);
    let known: BTreeMap<_, _> = catalogue().into_iter().map(|it| (it.name, it)).collect();
    for (name, kind) in &exported {
        assert_eq!(
            known.get(name.as_str()).map(|it| it.kind.as_str()),
            Some(kind.as_str()),
            "{name}"
        );
    }
    for (name, metric) in &known {
        assert!(exported.contains_key(*name), "{name} is not exported");
        let samples: Vec<&str> = text
            .lines()
            .filter(|line| is_sample_of(line, name))
            .collect();
        assert!(!samples.is_empty(), "{name} has no sample");
        let has_moved = samples
            .iter()
            .any(|line| !line.ends_with(" 0") && !line.ends_with(" 0.0"));
        assert_eq!(
            has_moved,
            !ALWAYS_ZERO.contains(name),
            "{name}: {samples:?}"
        );
        for sample in samples {
            let labels = label_names(sample);
            let mut expected: BTreeSet<&str> = metric.labels.iter().copied().collect();
            if metric.is_stock() {
                expected.insert("SessionName");
            }
            assert_eq!(labels, expected, "{sample}");
        }
    }
}

/// Drives the reporter through everything that can happen.
fn run_scenario(metrics: &Metrics) {
    let mut report = Report::new(metrics.clone(), ReportOptions::default());
    let (idle, history) = (ScaleDecision::default(), History::default());
    let mut pass = |snapshot: &ClusterSnapshot, decision: &ScaleDecision, acted: &Acted, now| {
        let pass = PassReport {
            observed_at: at(now),
            snapshot,
            decision,
            history: &history,
            acted,
            phases: &[
                (Phase::Observe, Duration::from_millis(3)),
                (Phase::Act, Duration::from_secs(1)),
            ],
            session_name: "session_1",
            is_dry_run: true,
        };
        report.pass(&pass, at(now));
    };
    // Workers that are there at first are no news; then one ends early and one goes.
    pass(
        &cluster(0, vec![node("gone", NodeStatus::Running)]),
        &idle,
        &Acted::default(),
        0,
    );
    pass(
        &cluster(0, vec![node("bad", NodeStatus::Failed)]),
        &idle,
        &Acted::default(),
        100,
    );
    let mut wanting = cluster(1, vec![]);
    wanting.demands.push(ResourceDemand {
        request: ResourceRequest::of(resources(&[("GPU", 1)])),
        count: 2,
    });
    let violated = Acted {
        outcome: Outcome::Violated(vec!["I1".to_owned()]),
        ..Acted::default()
    };
    pass(&wanting, &decision(), &violated, 200);
    let failed = Outcome::Failed {
        cause: "forbidden",
        detail: "no".to_owned(),
    };
    pass(
        &wanting,
        &decision(),
        &Acted {
            outcome: failed,
            ..Acted::default()
        },
        300,
    );
    pass(&wanting, &decision(), &patched(), 400);
    pass(
        &cluster(2, vec![node("new", NodeStatus::Starting)]),
        &idle,
        &Acted::default(),
        500,
    );
    let mut last = cluster(
        3,
        vec![
            node("new", NodeStatus::Running),
            node("slow", NodeStatus::Starting),
        ],
    );
    last.demands = wanting.demands;
    last.paused = Some("maintenance".to_owned());
    pass(&last, &decision(), &Acted::default(), 9_000);
}

fn emit_events(metrics: &Metrics) {
    Started {
        version: "1.2.3",
        is_dry_run: true,
        at: Timestamp::from_ms(0),
    }
    .emit(metrics);
    ApiCalled {
        verb: "patch",
        status: "200",
    }
    .emit(metrics);
    GcsCalled {
        method: "GetClusterResourceState",
        status: "ok",
    }
    .emit(metrics);
    RayletsCalled {
        method: "GetResourceLoad",
        status: "ok",
        count: 3,
    }
    .emit(metrics);
    SourceRead {
        source: "raylets",
        at: at(0),
    }
    .emit(metrics);
    SourceFailed {
        source: "raycluster",
        cause: "timeout",
        error: "e",
        is_repeated: false,
    }
    .emit(metrics);
    GcsReplaced {
        session_name: "session_1",
    }
    .emit(metrics);
    emit_events_of_the_session(metrics);
}

/// Emits what moves stock counters too: those of an older session are gone.
fn emit_events_of_the_session(metrics: &Metrics) {
    DepartureTold {
        group: "g",
        pod: "w1",
        kind: "gone",
        outcome: "told",
        detail: "",
    }
    .emit(metrics);
    ClusterEnded {
        policy: "suspend",
        outcome: "done",
        detail: "",
    }
    .emit(metrics);
    PodResized {
        group: "g",
        pod: "w1",
        step: "ask",
        outcome: "done",
        detail: "",
    }
    .emit(metrics);
    SourceFailed {
        source: "raycluster",
        cause: "timeout",
        error: "e",
        is_repeated: true,
    }
    .emit(metrics);
    PassFailed {
        phase: Phase::Observe,
        cause: "malformed",
        error: "e",
        is_repeated: false,
    }
    .emit(metrics);
    ConfigRead {
        problems: Some("a: b"),
        path: "p",
        in_use: "none",
    }
    .emit(metrics);
    ConfigRead {
        problems: None,
        path: "p",
        in_use: "this one",
    }
    .emit(metrics);
    ChildRestarted {
        cause: "signal",
        count: 2,
    }
    .emit(metrics);
    let missing = [("create".to_owned(), "events".to_owned())];
    PermissionsChecked { missing: &missing }.emit(metrics);
    ReportFailed {
        target: "gcs_state",
        error: "e",
        is_repeated: false,
    }
    .emit(metrics);
    // More causes than a metric may have label sets.
    for at in 0..6_000 {
        let cause = at.to_string();
        ChildRestarted {
            cause: &cause,
            count: 0,
        }
        .emit(metrics);
    }
}

/// Returns name and kind of each family of an exposition.
fn families(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            (name.to_owned(), kind.to_owned())
        })
        .collect()
}

fn is_sample_of(line: &str, name: &str) -> bool {
    let rest = line.strip_prefix(name);
    rest.is_some_and(|rest| {
        let rest = rest.strip_prefix("_count").unwrap_or(rest);
        rest.starts_with('{') || rest.starts_with(' ')
    })
}

fn label_names(sample: &str) -> BTreeSet<&str> {
    let inside = sample
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let labels = inside.map_or("", |(labels, _)| labels);
    labels
        .split(',')
        .filter_map(|label| label.split_once('=').map(|(name, _)| name))
        .collect()
}
