//! The minimal case of each deviation: what the profile `ray` makes of it, and what the default one.

use rayscaler::model::{
    Asked, GangWait, Going, Input, Missing, NodeStatus, PlacementStrategy, PodSize, ReplicaBounds,
    ScaleEvent, Timestamp,
};
use serde_json::{Value, json};

use crate::support::builders::{Cluster, group, running};

/// One case with what the profile `ray` and the default profile make of it.
pub(crate) struct Row {
    pub(crate) family: &'static str,
    pub(crate) cluster: Cluster,
    pub(crate) settings: Vec<(&'static str, Value)>,
    pub(crate) ray: &'static [&'static str],
    pub(crate) ours: &'static [&'static str],
}

pub(crate) fn row(
    family: &'static str,
    cluster: Cluster,
    ray: &'static [&'static str],
    ours: &'static [&'static str],
) -> Row {
    Row {
        family,
        cluster,
        settings: Vec::new(),
        ray,
        ours,
    }
}

pub(crate) fn cpu4() -> Cluster {
    Cluster::default().group(group("cpu4", "CPU=4"))
}

/// Rows about what nodes are good for.
fn node_rows() -> Vec<Row> {
    let mut draining = cpu4().idle("cpu4", "w1", 1).demand("CPU=4", 1);
    draining
        .history
        .drained_at
        .insert("w1".into(), draining.now);
    let mut leaving = cpu4().idle("cpu4", "w1", 9).idle("cpu4", "w2", 8);
    leaving = leaving.demand("CPU=4", 2).group(group("other", "CPU=4"));
    leaving.group_mut("cpu4").bounds = ReplicaBounds { min: 0, max: 1 };
    let mut early = running("cpu4", "w1", "");
    early.status = NodeStatus::Starting;
    let starting = cpu4()
        .node(early)
        .idle("cpu4", "w2", 300)
        .demand("CPU=2", 1);
    let mut gone = running("cpu4", "w1", "");
    gone.status = NodeStatus::Stopped;
    let mut stopped = cpu4().node(gone);
    let since = stopped.now.minus_ms(60_000);
    stopped.history.stopped_since.insert("w1".into(), since);
    let removed = &["cpu4 1 -> 1: stopped, tasks, remove w1"];
    let others = Cluster::default().group(group("large", "CPU=8 memory=8 disk=1"));
    let others = others.group(group("licensed", "CPU=4 memory=1 license=1"));
    let others = others.starting("large", "w1").starting("licensed", "w2");
    let others = others.demand("CPU=4 memory=1", 1);
    let rearranged = others.demand("CPU=3 license=1", 1);
    let mut grown = cpu4().replicas("cpu4", 1).demand("CPU=8", 1);
    let most = PodSize::of((8_000, 0));
    let groups = &mut grown.snapshot.resizing.groups;
    groups.insert("cpu4".into(), most);
    vec![
        row("draining", draining, &[], removed),
        row(
            "leaving",
            leaving,
            &["cpu4 2 -> 1: above_maximum, remove w1"],
            &[
                "cpu4 2 -> 1: above_maximum, remove w1",
                "other 0 -> 1: tasks",
            ],
        ),
        row(
            "running_first",
            starting,
            &["cpu4 2 -> 1: idle_timeout, remove w2"],
            &[],
        ),
        row("rearranged", rearranged, &["licensed 1 -> 2: tasks"], &[]),
        row("grown", grown, &["cpu4 1 -> 2: tasks"], &[]),
        row(
            "stopped",
            stopped,
            &[],
            &["cpu4 1 -> 0: stopped, remove w1"],
        ),
    ]
}

pub(crate) fn corrections() -> Vec<Row> {
    let mut constraint = cpu4().constraint("CPU=4", 5);
    constraint.group_mut("cpu4").bounds = ReplicaBounds { min: 0, max: 2 };
    let inside = format!("CPU_group_{}=1", "0123456789abcdef0123456789abcdef0123");
    let mut order = cpu4().demand("CPU=4", 1);
    for pod in ["w2", "w1"] {
        order = order.idle("cpu4", pod, 300);
    }
    let accelerators = Cluster::default().group(group("tpu", "CPU=1 TPU=4"));
    let accelerators = accelerators.group(group("cpu", "CPU=4 memory=4"));
    let mut rows = node_rows();
    rows.extend([
        row(
            "partial_constraint",
            constraint,
            &[],
            &["cpu4 0 -> 2: request_resources"],
        ),
        row(
            "group_shapes",
            cpu4().demand(&inside, 1),
            &["unserved"],
            &[],
        ),
        row(
            "order",
            order,
            &["cpu4 2 -> 1: idle_timeout, remove w1"],
            &["cpu4 2 -> 1: idle_timeout, remove w2"],
        ),
        row(
            "accelerators",
            accelerators.demand("CPU=1", 1),
            &["tpu 0 -> 1: tasks"],
            &["cpu 0 -> 1: tasks"],
        ),
        Row {
            settings: vec![("maximum", json!({"nodes_max": 1}))],
            ..row(
                "soft_cap",
                cpu4().idle("cpu4", "w1", 9).idle("cpu4", "w2", 8),
                &["cpu4 2 -> 1: above_total, remove w1"],
                &[],
            )
        },
    ]);
    rows.extend(coming_and_going());
    rows.extend(limits());
    rows
}

/// A group in which a pod does not go that its list names, and another one.
fn locked(since: Timestamp) -> Cluster {
    let mut locked = cpu4().group(group("other", "CPU=4")).busy("cpu4", "w1");
    locked.group_mut("cpu4").replicas = 0;
    locked.group_mut("cpu4").workers_to_delete = vec!["w1".into()];
    locked.node_mut("w1").status = NodeStatus::Terminating;
    let going = Going {
        since,
        group: "cpu4".into(),
    };
    locked.history.operator.going.insert("w1".into(), going);
    locked.demand("CPU=4", 1)
}

/// Rows about nodes that do not come, or go by themselves.
fn coming_and_going() -> Vec<Row> {
    let mut stuck = cpu4().starting("cpu4", "w1").demand("CPU=4", 1);
    stuck.node_mut("w1").waiting_reason = "CrashLoopBackOff".to_owned();
    let since = stuck.now.minus_ms(600_000);
    stuck.history.starts.since.insert("w1".into(), since);
    let mut refused = cpu4().group(group("other", "CPU=4"));
    refused = refused.replicas("cpu4", 1).demand("CPU=4", 1);
    refused.snapshot.replica_failure = Some("exceeded quota".to_owned());
    let missing = Missing {
        since,
        pods: 0,
        replicas: 1,
    };
    let waits = &mut refused.history.operator.missing;
    waits.insert("cpu4".into(), missing);
    let mut withdrawn = cpu4().replicas("cpu4", 1);
    let asked = Asked {
        replicas: 1,
        ours: 1,
        at: since,
    };
    withdrawn.history.asked.insert("cpu4".into(), asked);
    let unneeded = &mut withdrawn.history.unneeded_since;
    unneeded.insert("cpu4".into(), vec![since]);
    let bundles = &[("CPU=4", 3)];
    let mut incomplete = cpu4().gang("aa", PlacementStrategy::StrictSpread, bundles);
    incomplete = incomplete.idle("cpu4", "w1", 1);
    let wait = GangWait {
        since: incomplete.now.minus_ms(1_200_000),
        ready: 1,
        ..GangWait::default()
    };
    let waits = &mut incomplete.history.gang_waits;
    waits.insert("aa".to_owned(), wait);
    let mut evicted = cpu4().node(running("cpu4", "w1", ""));
    evicted.node_mut("w1").status = NodeStatus::Terminating;
    vec![
        row(
            "stuck_pods",
            stuck,
            &[],
            &["cpu4 1 -> 1: crash_loop, recycled, remove w1"],
        ),
        row(
            "refused_pods",
            refused,
            &[],
            &["cpu4 1 -> 0: pods_refused", "other 0 -> 1: tasks"],
        ),
        row(
            "locked_group",
            locked(since),
            &["cpu4 0 -> 1: tasks"],
            &["other 0 -> 1: tasks"],
        ),
        row("withdrawn", withdrawn, &[], &["cpu4 1 -> 0: pending_idle"]),
        row(
            "incomplete_gang",
            incomplete,
            &["cpu4 1 -> 3: placement_group"],
            &[],
        ),
        row("evicted", evicted, &[], &["cpu4 1 -> 2: leaving"]),
    ]
}

/// Rows about how much is done at once.
fn limits() -> Vec<Row> {
    let shared = Cluster::default().group(group("a", "CPU=4"));
    let shared = shared.group(group("b", "GPU=1"));
    let shared = shared.demand("CPU=4", 4).demand("GPU=1", 4);
    let mut large = cpu4().demand("CPU=4", 150);
    large.group_mut("cpu4").bounds.max = 200;
    let mut idle = cpu4();
    idle.group_mut("cpu4").bounds.max = 20;
    for pod in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"] {
        idle = idle.idle("cpu4", pod, 300);
    }
    let mut vain = cpu4().demand("CPU=4", 1);
    let event = ScaleEvent {
        launched: 60,
        ..ScaleEvent::default()
    };
    let paced = Input::Paced(&"cpu4".into(), event);
    vain.history.absorb(&paced, vain.now.minus_ms(60_000));
    vec![
        Row {
            settings: vec![("maximum", json!({"nodes_max": 2}))],
            ..row(
                "fair_share",
                shared,
                &["a 0 -> 2: tasks"],
                &["a 0 -> 1: tasks", "b 0 -> 1: tasks"],
            )
        },
        row(
            "growth_slice",
            large,
            &["cpu4 0 -> 150: tasks"],
            &["cpu4 0 -> 100: tasks, growth_slice"],
        ),
        row(
            "blast_radius",
            idle,
            &[
                "cpu4 11 -> 0: idle_timeout, remove a, remove b, remove c, remove d, remove e, remove f, remove g, remove h, remove i, remove j, remove k",
            ],
            &[
                "cpu4 11 -> 1: idle_timeout, blast_radius, remove a, remove b, remove c, remove d, remove e, remove f, remove g, remove h, remove i, remove j",
            ],
        ),
        row("runaway", vain, &["cpu4 0 -> 1: tasks"], &["unserved"]),
    ]
}
