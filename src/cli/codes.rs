//! The engine's stable words, explained where a word alone says too little.

/// Explains why an idle node stays; empty for a word that is not known here.
pub(super) fn kept_idle(code: &str) -> &'static str {
    match code {
        "idle_timeout" => " (not yet idle for long enough)",
        "needed_by_demand" => " (waiting tasks or actors fit on it)",
        "needed_by_placement_group" => " (a waiting placement group fits on it)",
        "needed_by_constraint" => " (request_resources asks for it)",
        "minimum" => " (minReplicas)",
        "replica_busy" => " (another host of its replica is busy)",
        "replica_incomplete" => " (its replica is not complete)",
        "seen_once" => " (it goes if the next reply of the GCS agrees)",
        "protected" => " (annotation rayscaler.io/protect of its replica)",
        "drain_refused" => " (its raylet refused to drain: work has come)",
        "blast_radius" => " (enough has been removed within the last minute)",
        "rate_down" => " (the group shrinks no faster than its rate policies allow)",
        "stabilization" => " (the group was to be larger a moment ago)",
        "runaway" => " (its group is frozen: it has changed too much in too short a time)",
        "stale" => " (a source is too old to remove anything)",
        "pods_grow" => " (pods are about to grow in place; what is needed then is not known yet)",
        "replaces_lost" => " (work of a lost node is about to move there)",
        "group_unknown" => " (its group cannot be scaled)",
        _ => "",
    }
}

/// Explains why demand finds no place; empty for a word that is not known here.
pub(super) fn unserved(code: &str) -> &'static str {
    match code {
        "infeasible" => "no group could ever serve it",
        "at_maximum" => "every group that could serve it is at its maxReplicas",
        "at_total_cap" => "the cap over all groups is reached",
        "not_together" => "some of it fits, but not all of it at one time",
        "nodes_busy" => "only nodes that are busy could serve it, and no group",
        "nodes_differ" => "the spec of a group promises enough, and its nodes have less",
        "growth_slice" => "pods are asked for in slices, as fast as they appear",
        "upscaling_mode" => "groups grow step by step (upscalingMode: Conservative)",
        "rate_up" => "groups grow no faster than their rate policies allow",
        "fair_share" => "the cap over all groups is short, and other groups have a share of it",
        "stabilization" => "the demand has not lasted for long enough",
        "group_open" => "the pods of the groups that could serve it do not come up",
        "group_locked" => {
            "the operator makes no pods of the groups that could serve it until a deleted pod is gone"
        }
        "behind_refused_pods" => {
            "the operator does not get to the groups that could serve it: a group before them is refused its minimum"
        }
        "runaway" => {
            "the groups that could serve it are frozen: they have changed too much in too short a time"
        }
        "group_skipped" => "the group it may be made for cannot be scaled",
        _ => "",
    }
}
