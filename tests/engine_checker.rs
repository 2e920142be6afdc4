//! The checker finds what a wrong engine would do: every rule is broken on purpose once.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use rayscaler::engine::invariants::{Again, check_again, check_of};
use rayscaler::engine::{ChainEntry, Engine};
use rayscaler::model::{
    LabelConstraint, LabelOperator, LabelSelector, NodeId, NodeStatus, PlacementStrategy,
    PodResize, PodSize, Reason, ResizeState, ScaleDecision, Unserved,
};
use rayscaler::policy::{Plan, Policy, PolicyContext, PolicyEntry, Registry, Stage};
use serde_json::{Value, json};
use support::builders::{Cluster, group, labels, lines};

fn ids(cluster: &Cluster, engine: &Engine, decision: &ScaleDecision) -> Vec<&'static str> {
    let found = check_of(engine, context(cluster), decision);
    let mut ids: Vec<&str> = found.iter().map(|violation| violation.id).collect();
    ids.dedup();
    ids
}

fn context(cluster: &Cluster) -> PolicyContext<'_> {
    PolicyContext {
        snapshot: &cluster.snapshot,
        history: &cluster.history,
        now: cluster.now,
    }
}

/// Returns the engine's own decision, which breaks nothing.
fn right(cluster: &Cluster) -> ScaleDecision {
    let decision = cluster.decide();
    assert_eq!(
        ids(cluster, &Engine::default(), &decision),
        Vec::<&str>::new()
    );
    decision
}

/// Takes back what was launched, and says nothing of what that was for.
fn launch_nothing(decision: &mut ScaleDecision) {
    for group in &mut decision.groups {
        group.replicas_to = group.replicas_from;
        group.reasons.clear();
    }
}

fn cpu4() -> Cluster {
    Cluster::default().group(group("cpu4", "CPU=4"))
}

#[test]
fn i7_tasks_that_count_as_served_need_room() {
    let cluster = cpu4().idle("cpu4", "w1", 1).demand("CPU=1", 5);
    let mut decision = right(&cluster);
    launch_nothing(&mut decision);
    assert_eq!(ids(&cluster, &Engine::default(), &decision), ["I7"]);
}

/// Each of them has room alone, both have not.
#[test]
fn i7_sums_count_over_all_requests() {
    let cluster = cpu4()
        .idle("cpu4", "w1", 1)
        .demand("CPU=4", 1)
        .demand("CPU=3", 1);
    let mut decision = right(&cluster);
    launch_nothing(&mut decision);
    assert_eq!(ids(&cluster, &Engine::default(), &decision), ["I7"]);
}

/// There are enough cores, but not where they are asked for.
#[test]
fn i7_room_is_where_the_labels_are() {
    let mut cluster = cpu4().idle("cpu4", "w1", 1);
    let mut zoned = group("zoned", "CPU=4");
    zoned.template.labels.extend(labels("zone=z1"));
    cluster = cluster.group(zoned).demand("CPU=1", 1);
    cluster.snapshot.demands[0].request.selectors = vec![LabelSelector {
        constraints: vec![LabelConstraint {
            key: "zone".into(),
            operator: LabelOperator::In,
            values: vec!["z1".into()],
        }],
    }];
    let mut decision = right(&cluster);
    launch_nothing(&mut decision);
    assert_eq!(ids(&cluster, &Engine::default(), &decision), ["I7"]);
}

#[test]
fn i7_a_constraint_that_counts_as_served_needs_room() {
    let cluster = cpu4().busy("cpu4", "w1").constraint("CPU=4", 2);
    let mut decision = right(&cluster);
    launch_nothing(&mut decision);
    assert_eq!(ids(&cluster, &Engine::default(), &decision), ["I7"]);
}

/// What a decision says is not served needs no room, but it must not have been served before.
#[test]
fn i7_nothing_goes_that_serves() {
    let idle = || cpu4().idle("cpu4", "w1", 120).replicas("cpu4", 1);
    let removal = right(&idle());
    assert_eq!(removal.groups[0].remove.len(), 1, "{removal:#?}");
    let pack = PlacementStrategy::Pack;
    let asked = [
        ("tasks", idle().demand("CPU=4", 1)),
        ("placement_group", idle().gang("a", pack, &[("CPU=2", 2)])),
        ("request_resources", idle().constraint("CPU=4", 1)),
    ];
    for (class, cluster) in asked {
        let mut decision = removal.clone();
        decision.unserved.push(not_served(class));
        let ids = ids(&cluster, &Engine::default(), &decision);
        assert_eq!(ids, ["I7"], "{class}");
    }
}

/// A node for one task makes nothing good that another task loses.
#[test]
fn i7_what_is_launched_hides_no_loss() {
    let gpu = || group("gpu", "GPU=1");
    let idle = || {
        let cluster = cpu4().group(gpu()).idle("cpu4", "w1", 1);
        let pack = PlacementStrategy::Pack;
        cluster
            .idle("gpu", "w2", 120)
            .gang("a", pack, &[("CPU=4", 1)])
            .demand("CPU=4", 1)
    };
    let mut decision = right(&idle());
    assert_eq!(decision.groups[0].replicas_to, 2, "{decision:#?}");
    assert_eq!(decision.groups[1].remove.len(), 1, "{decision:#?}");
    let cluster = idle().demand("GPU=1", 1);
    let mut unserved = not_served("tasks");
    unserved.position = 1;
    decision.unserved.push(unserved);
    assert_eq!(ids(&cluster, &Engine::default(), &decision), ["I7"]);
}

/// A placement group that has its last node only now takes the place that a task could have had before.
#[test]
fn i7_nothing_is_lost_by_what_is_launched() {
    let mut cpu4 = group("cpu4", "CPU=4");
    cpu4.bounds.max = 2;
    let cluster = Cluster::default().group(cpu4).group(group("cpu2", "CPU=2"));
    let cluster = cluster.idle("cpu4", "w1", 1).idle("cpu2", "w2", 120);
    let pack = PlacementStrategy::Pack;
    let cluster = cluster.gang("a", pack, &[("CPU=4", 2)]).demand("CPU=4", 1);
    let decision = right(&cluster);
    assert_eq!(decision.groups[0].replicas_to, 2, "{decision:#?}");
    assert_eq!(decision.groups[1].remove.len(), 1, "{decision:#?}");
    assert_eq!(decision.unserved.len(), 1, "{decision:#?}");
}

/// One node comes in place of another at its group's maximum; that excuses nothing elsewhere.
#[test]
fn i7_what_makes_room_hides_no_loss_of_others() {
    let swapped = || {
        let mut cpu4 = group("cpu4", "CPU=4");
        cpu4.bounds.max = 2;
        let cluster = Cluster::default().group(cpu4).group(group("gpu", "GPU=1"));
        let mut cluster = cluster.busy("cpu4", "w1").busy("cpu4", "w2");
        cluster.node_mut("w2").idle_since = Some(cluster.now.minus_ms(120_000));
        cluster.idle("gpu", "w3", 120).demand("CPU=4", 2)
    };
    let mut decision = right(&swapped());
    let goes: Vec<usize> = decision.groups.iter().map(|it| it.remove.len()).collect();
    assert_eq!(goes, [1, 1], "{decision:#?}");
    assert_eq!(decision.groups[0].replicas_to, 2, "{decision:#?}");
    let cluster = swapped().demand("GPU=1", 1);
    let mut unserved = not_served("tasks");
    unserved.position = 1;
    decision.unserved.push(unserved);
    assert_eq!(ids(&cluster, &Engine::default(), &decision), ["I7"]);
}

fn not_served(class: &str) -> Unserved {
    Unserved {
        what: class.to_owned(),
        class: class.to_owned(),
        position: 0,
        count: 1,
        code: "work_budget".to_owned(),
        detail: String::new(),
    }
}

#[test]
fn i10_a_placement_group_is_served_whole_or_not_at_all() {
    let spread = |strategy| cpu4().gang("a", strategy, &[("CPU=1", 3)]);
    let cluster = spread(PlacementStrategy::StrictSpread);
    let mut decision = right(&cluster);
    // Two nodes hold three bundles, but not each on a node of its own.
    decision.groups[0].replicas_to = 2;
    decision.groups[0].reasons[0].to = 2;
    assert_eq!(ids(&cluster, &Engine::default(), &decision), ["I10"]);
    let cluster = spread(PlacementStrategy::Pack);
    let mut decision = right(&cluster);
    launch_nothing(&mut decision);
    assert!(ids(&cluster, &Engine::default(), &decision).contains(&"I10"));
}

fn engine_with(name: &str, settings: Value) -> Engine {
    let mut chain = ChainEntry::defaults();
    let entry = chain.iter_mut().find(|entry| entry.name == name).unwrap();
    entry.settings = settings;
    Engine::new(&chain, &Registry::default()).unwrap()
}

#[test]
fn i12_growth_keeps_within_the_caps_over_all_groups() {
    let cluster = cpu4().idle("cpu4", "w1", 1).demand("CPU=4", 3);
    let decision = right(&cluster);
    assert_eq!(decision.groups[0].replicas_to, 3);
    let nodes = engine_with("maximum", json!({"nodes_max": 2}));
    assert_eq!(ids(&cluster, &nodes, &decision), ["I12"]);
    let resources = engine_with("maximum", json!({"resources_max": {"CPU": 11}}));
    assert_eq!(ids(&cluster, &resources, &decision), ["I12"]);
    let enough = engine_with(
        "maximum",
        json!({"nodes_max": 3, "resources_max": {"CPU": 12}}),
    );
    assert_eq!(ids(&cluster, &enough, &decision), Vec::<&str>::new());
}

#[test]
fn i12_pods_that_grow_keep_within_the_caps_over_all_groups() {
    let size = |cores: i64| PodSize::of((cores * 1_000, 0));
    let mut cluster = cpu4().busy("cpu4", "w1").demand("CPU=4", 1);
    let pod = PodResize {
        current: size(4),
        desired: size(4),
        max: size(8),
        ..PodResize::default()
    };
    let resizing = &mut cluster.snapshot.resizing;
    resizing.groups.insert("cpu4".into(), size(8));
    resizing.pods.insert("w1".into(), pod);
    cluster.node_mut("w1").node_id = NodeId::from_bytes(&[7; 28]);
    let decision = right(&cluster);
    assert_eq!(decision.resizes.len(), 1, "{decision:#?}");
    let resources = |cores: u32| engine_with("maximum", json!({"resources_max": {"CPU": cores}}));
    assert_eq!(ids(&cluster, &resources(7), &decision), ["I12"]);
    let enough = ids(&cluster, &resources(8), &decision);
    assert_eq!(enough, Vec::<&str>::new());
}

/// Raises the first group: by one each time that it is asked, or when the first node is `w1`.
struct Odd(&'static str);

static CALLS: AtomicU32 = AtomicU32::new(0);

impl Policy for Odd {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        let name = plan.groups().remove(0);
        let is_due = match self.0 {
            "moody" => CALLS.fetch_add(1, Ordering::Relaxed) == 0,
            "by_order" => ctx.snapshot.nodes[0].name.as_str() == "w1",
            _ => true,
        };
        if is_due {
            plan.launch(&name, 1, "odd");
        }
    }
}

fn odd(build: fn(&Value) -> Result<Box<dyn Policy>, String>) -> Engine {
    let entry = PolicyEntry {
        name: "odd",
        stage: Stage::Propose,
        summary: "does what no policy may do",
        build,
        default_settings: || Value::Null,
        schema: rayscaler::policy::schema_of::<u8>,
    };
    let registry = Registry::default().register(entry);
    Engine::new(&[ChainEntry::of("odd")], &registry).unwrap()
}

#[test]
fn i4_i5_and_i9_are_broken_by_policies_that_go_on_that_vary_and_that_look_at_the_order() {
    let cluster = cpu4().idle("cpu4", "w1", 1).idle("cpu4", "w2", 1);
    let mut cluster = cluster;
    cluster.group_mut("cpu4").bounds.max = 1_000;
    cluster
        .snapshot
        .nodes
        .retain(|node| node.name.as_str() != "head");
    let head = Cluster::default().snapshot.nodes.remove(0);
    cluster.snapshot.nodes.push(head);
    let engines: [(&str, Engine, Again); 3] = [
        ("I4", odd(|_| Ok(Box::new(Odd("greedy")))), Again::Applied),
        ("I5", odd(|_| Ok(Box::new(Odd("moody")))), Again::Same),
        (
            "I9",
            odd(|_| Ok(Box::new(Odd("by_order")))),
            Again::Reordered,
        ),
    ];
    for (id, engine, again) in engines {
        let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
        let found = check_again(&engine, context(&cluster), &decision, again);
        assert_eq!(found.map(|violation| violation.id), Some(id));
        let sound = Engine::default();
        let decision = sound.decide(&cluster.snapshot, &cluster.history, cluster.now);
        let found = check_again(&sound, context(&cluster), &decision, again);
        assert_eq!(found, None);
    }
}

/// A decision that was cut short promises nothing about the next one.
#[test]
fn a_cut_decision_is_not_made_again() {
    let cluster = cpu4().demand("CPU=4", 3);
    let mut decision = right(&cluster);
    decision.is_cut = true;
    decision.groups[0].replicas_to = 1;
    decision.groups[0].reasons = vec![Reason {
        to: 1,
        ..decision.groups[0].reasons[0].clone()
    }];
    for again in Again::ALL {
        let found = check_again(&Engine::default(), context(&cluster), &decision, again);
        assert_eq!(found, None);
    }
}

/// What is told to nodes that go by somebody else's hand cannot be refused.
#[test]
fn what_we_name_ourselves_is_asked_and_never_told() {
    let engine = engine_with("maximum", json!({"nodes_max": 2}));
    // The idle nodes have to go before there is room for what the demand needs.
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=1"))
        .group(group("gpu", "GPU=1"))
        .idle("cpu", "w1", 900)
        .idle("cpu", "w2", 900)
        .demand("GPU=1", 2);
    cluster.node_mut("w1").node_id = NodeId::from_bytes(&[1; 28]);
    cluster.node_mut("w2").node_id = NodeId::from_bytes(&[2; 28]);
    let decision = cluster.decide_with(&engine);
    assert_eq!(
        lines(&decision)[..3],
        [
            "cpu 2 -> 0: idle_timeout",
            "remove w1 (Idle)",
            "remove w2 (Idle)"
        ],
        "{decision:#?}"
    );
    assert_eq!(
        decision.groups[1].replicas_to, 2,
        "in the same decision: {decision:#?}"
    );
    assert_eq!(decision.drains, []);
}

#[test]
fn names_and_sizes_of_two_pods_stand_in_an_order_of_their_own() {
    let mut cluster = Cluster::default()
        .group(group("cpu", "CPU=1"))
        .busy("cpu", "w1")
        .busy("cpu", "w2")
        .busy("cpu", "w3")
        .busy("cpu", "w4")
        .demand("CPU=1", 3);
    for (at, name) in ["w1", "w2", "w3", "w4"].into_iter().enumerate() {
        let id = u8::try_from(at + 1).unwrap();
        cluster.node_mut(name).node_id = NodeId::from_bytes(&[id; 28]);
    }
    cluster.group_mut("cpu").workers_to_delete = vec!["w2".into(), "w1".into()];
    for name in ["w1", "w2"] {
        cluster.node_mut(name).status = NodeStatus::Deleting;
    }
    for name in ["w3", "w4"] {
        let grown = PodResize {
            state: ResizeState::Resized,
            ..PodResize::default()
        };
        cluster.snapshot.resizing.pods.insert(name.into(), grown);
    }
    cluster.snapshot.sort();
    let decision = cluster.decide();
    assert!(decision.is_change(), "{decision:#?}");
    assert_eq!(decision.drains, ["w1".into(), "w2".into()]);
    assert_eq!(decision.resized, ["w3".into(), "w4".into()]);
    for again in Again::ALL {
        let broken = check_again(&Engine::default(), context(&cluster), &decision, again);
        assert_eq!(broken, None);
    }
}
