//! What every decision keeps, over generated clusters.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use proptest::prelude::{Just, ProptestConfig, Strategy, any};
use proptest::test_runner::{Config, TestCaseError};
use proptest::{prop_assert, prop_assert_eq, proptest};
use rayscaler::engine::invariants::{Again, Violation};
use rayscaler::engine::{ChainEntry, Engine, Profile, apply, invariants};
use rayscaler::model::{
    GangWait, History, Input, Quantity, ResourceMap, ScaleDecision, ScaleEvent,
};
use rayscaler::placement::Caps;
use rayscaler::policy::{PolicyContext, Registry, policies};
use serde_json::json;
use support::builders::Cluster;
use support::strategies::clusters;

fn config() -> ProptestConfig {
    // A failing case is fixed and becomes a scenario; files with seeds would only pile up.
    Config {
        failure_persistence: None,
        ..Config::default()
    }
}

/// Returns the same cluster in another order.
fn shuffled(cluster: Cluster) -> impl Strategy<Value = (Cluster, Cluster)> {
    let snapshot = cluster.snapshot.clone();
    (
        Just(cluster.clone()),
        Just(snapshot.nodes).prop_shuffle(),
        Just(snapshot.demands).prop_shuffle(),
        Just(snapshot.gangs).prop_shuffle(),
    )
        .prop_map(move |(original, nodes, demands, gangs)| {
            let mut other = original.clone();
            other.snapshot.nodes = nodes;
            other.snapshot.demands = demands;
            other.snapshot.gangs = gangs;
            (original, other)
        })
}

/// Leaves out where demand stands in the snapshot: that is the order of the input itself.
fn without_positions(mut decision: ScaleDecision) -> ScaleDecision {
    for unserved in &mut decision.unserved {
        unserved.position = 0;
    }
    decision
}

/// How fast groups may change and have changed, as choices.
#[derive(Debug, Clone)]
struct Pace {
    up: (u32, u32),
    down: (u32, u32),
    share: (u32, u32),
    turns: u32,
    attempts: u32,
    windows: (&'static str, &'static str),
    nodes_max: u64,
    past: Vec<(u32, u32, u64)>,
    failed: u32,
    is_slow: bool,
    is_refused: bool,
}

fn pace() -> impl Strategy<Value = Pace> {
    let pair = || (1..6_u32, 1..120_u32);
    let past = proptest::collection::vec((0..5_u32, 0..5_u32, 0..120_000_u64), 0..6);
    let rest = (
        0..3_u32,
        1..4_u32,
        2..20_u64,
        0..4_u32,
        any::<(bool, bool)>(),
    );
    (pair(), pair(), pair(), past, rest).prop_map(
        |(up, down, share, past, (turns, attempts, nodes_max, failed, (is_slow, is_refused)))| {
            Pace {
                up,
                down,
                share,
                turns,
                attempts,
                windows: if is_slow { ("0s", "1m") } else { ("1m", "0s") },
                nodes_max,
                past,
                failed,
                is_slow,
                is_refused,
            }
        },
    )
}

impl Pace {
    fn engine(&self) -> Engine {
        let rates = |(nodes, percent): (u32, u32), select: &str| {
            json!({"select": select, "policies": [
                {"type": "nodes", "value": nodes, "period": "1m"},
                {"type": "percent", "value": percent, "period": "30s"}]})
        };
        let share = json!({"nodes": self.share.0, "percent": self.share.1});
        let settings = [
            (
                "rate_up",
                json!({"each": rates(self.up, "max"), "all": rates(self.down, "max")}),
            ),
            (
                "rate_down",
                json!({"each": rates(self.down, "min"), "all": rates(self.up, "max")}),
            ),
            (
                "blast_radius",
                json!({"each": share, "all": share, "window": "1m"}),
            ),
            (
                "runaway",
                json!({"turns": self.turns, "vain_each": self.nodes_max}),
            ),
            (
                "stabilization",
                json!({"up": self.windows.0, "down": self.windows.1}),
            ),
            ("maximum", json!({"nodes_max": self.nodes_max})),
            (
                "recycle",
                json!({"attempts": self.attempts, "pause": "20s", "unregistered_after": "1m"}),
            ),
            (
                "pending_idle",
                json!({"timeout": "5s", "ours_only": self.is_slow}),
            ),
            ("gangs", json!({"incomplete_after": "1m"})),
        ];
        let mut chain = ChainEntry::defaults();
        for (name, value) in settings {
            chain
                .iter_mut()
                .find(|entry| entry.name == name)
                .unwrap()
                .settings = value;
        }
        Engine::new(&chain, &Registry::default()).unwrap()
    }

    /// Returns what is remembered: changes lately, pods on their way for long, starts that failed.
    fn history(&self, cluster: &Cluster) -> History {
        let mut history = cluster.history.clone();
        let began = cluster
            .now
            .minus_ms(if self.is_slow { 90_000 } else { 1_000 });
        history.absorb(&Input::Observed(&cluster.snapshot), began);
        let mut past = self.past.clone();
        past.sort_by_key(|(_, _, ago)| std::cmp::Reverse(*ago));
        for (group, (launched, removed, ago)) in cluster.snapshot.groups.iter().cycle().zip(past) {
            let event = ScaleEvent {
                launched,
                removed,
                named: removed,
                ..ScaleEvent::default()
            };
            let at = cluster.now.minus_ms(ago);
            history.absorb(&Input::Paced(&group.name, event), at);
        }
        if let Some(group) = cluster.snapshot.groups.first() {
            let gave_up = Input::GaveUp {
                group: &group.name,
                refused: self.is_refused,
            };
            (0..self.failed).for_each(|_| history.absorb(&gave_up, began));
        }
        for (group, (more, _, _)) in cluster.snapshot.groups.iter().zip(&self.past) {
            let scaled = Input::Scaled {
                group: &group.name,
                from: group.replicas.saturating_sub(*more),
                to: group.replicas,
            };
            history.absorb(&scaled, began);
        }
        for (gang, (ready, tries, ago)) in cluster.snapshot.gangs.iter().zip(&self.past) {
            let id = gang.details.split(':').next().unwrap().to_owned();
            let wait = GangWait {
                since: cluster.now.minus_ms(*ago),
                ready: u64::from(*ready),
                tries: *tries,
                paused_until: self
                    .is_slow
                    .then(|| cluster.now.plus_ms(30_000).minus_ms(*ago)),
            };
            history.gang_waits.insert(id, wait);
        }
        history.absorb(&Input::Observed(&cluster.snapshot), cluster.now);
        history
    }
}

/// Returns the rules that a decision of an engine breaks.
fn broken(engine: &Engine, cluster: &Cluster, decision: &ScaleDecision) -> Vec<Violation> {
    let ctx = PolicyContext {
        snapshot: &cluster.snapshot,
        history: &cluster.history,
        now: cluster.now,
    };
    invariants::check_of(engine, ctx, decision)
}

/// Holds that a decision keeps every rule, and that deciding again after it changes nothing.
fn is_sound_and_stable(engine: &Engine, cluster: &Cluster) -> Result<(), TestCaseError> {
    let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
    prop_assert_eq!(broken(engine, cluster, &decision), []);
    let after = apply(&cluster.snapshot, &decision);
    let again = engine.decide(&after, &cluster.history, cluster.now);
    prop_assert!(
        !again.is_change(),
        "first {:#?}\nthen {:#?}",
        decision.groups,
        again.groups
    );
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn invariants_hold(cluster in clusters()) {
        let engine = Engine::default();
        let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
        prop_assert_eq!(broken(&engine, &cluster, &decision), []);
        if let Some(at) = decision.next_check_at {
            prop_assert!(at > cluster.now);
        }
    }

    /// What production checks accepts every decision, each way of deciding again included.
    #[test]
    fn the_production_check_accepts_every_decision(cluster in clusters(), is_best in any::<bool>(), nodes_max in 0..40_u64) {
        let profile = if is_best { Profile::Best } else { Profile::Default };
        let mut chain = profile.chain();
        let maximum = chain.iter_mut().find(|entry| entry.name == "maximum").unwrap();
        maximum.settings = json!({"nodes_max": nodes_max, "resources_max": {"CPU": 64, "memory": 50e9}});
        let engine = Engine::new(&chain, &Registry::default()).unwrap().with_profile(profile);
        let ctx = PolicyContext { snapshot: &cluster.snapshot, history: &cluster.history, now: cluster.now };
        let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
        prop_assert_eq!(invariants::check_of(&engine, ctx, &decision), []);
        for again in Again::ALL {
            prop_assert_eq!(invariants::check_again(&engine, ctx, &decision, again), None);
        }
    }

    #[test]
    fn i4_deciding_again_changes_nothing(cluster in clusters()) {
        let engine = Engine::default();
        let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
        let after = apply(&cluster.snapshot, &decision);
        let again = engine.decide(&after, &cluster.history, cluster.now);
        prop_assert!(!again.is_change(), "first {:#?}\nthen {:#?}", decision.groups, again.groups);
    }

    #[test]
    fn i5_same_input_same_bytes(cluster in clusters()) {
        let bytes = |engine: &Engine| {
            let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
            serde_json::to_vec(&decision).unwrap()
        };
        let engine = Engine::default();
        prop_assert_eq!(bytes(&engine), bytes(&engine));
        prop_assert_eq!(bytes(&engine), bytes(&Engine::default()));
    }

    #[test]
    fn i5_same_bytes_on_every_thread(cluster in clusters()) {
        let bytes = || {
            let decision = Engine::default().decide(&cluster.snapshot, &cluster.history, cluster.now);
            serde_json::to_vec(&decision).unwrap()
        };
        let alone = bytes();
        let together = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(bytes)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        prop_assert!(together.iter().all(|other| *other == alone));
    }

    /// A decision that is cut short is feasible and says so, and nothing goes that may be needed.
    #[test]
    fn a_cut_decision_keeps_all_but_i4(cluster in clusters(), steps in 0..12_u64) {
        let engine = Engine::default();
        let decision = engine.decide_within(&cluster.snapshot, &cluster.history, cluster.now, steps);
        prop_assert_eq!(broken(&engine, &cluster, &decision), []);
        let is_marked = decision.holds.iter().any(|hold| hold.code == "work_budget");
        prop_assert_eq!(is_marked, decision.is_cut);
        let whole = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
        prop_assert!(!whole.is_cut);
        for again in [invariants::Again::Same, invariants::Again::Reordered] {
            let ctx = PolicyContext { snapshot: &cluster.snapshot, history: &cluster.history, now: cluster.now };
            let made = (&decision, steps);
            prop_assert_eq!(invariants::check_again_within(&engine, ctx, made, again), None);
        }
        if !decision.is_cut {
            prop_assert_eq!(decision, whole);
        }
    }

    /// The other profiles keep what every decision keeps.
    #[test]
    fn the_best_profile_keeps_the_invariants(cluster in clusters()) {
        let chain = Profile::Best.chain();
        let engine = Engine::new(&chain, &Registry::default()).unwrap().with_profile(Profile::Best);
        is_sound_and_stable(&engine, &cluster)?;
    }

    #[test]
    fn the_best_profile_keeps_them_at_any_price(
        cluster in clusters(),
        prices in proptest::collection::vec(proptest::sample::select(vec![0.0, 1.0, 2.5, 4.0, 10.0]), 8),
    ) {
        let groups = cluster.snapshot.groups.iter().zip(prices);
        let prices: serde_json::Map<String, serde_json::Value> = groups
            .map(|(group, price)| (group.name.as_str().to_owned(), json!(price)))
            .collect();
        let mut chain = Profile::Best.chain();
        for entry in chain.iter_mut().filter(|entry| entry.name == "packing") {
            entry.settings = json!({"scoring": "price", "node_prices": prices});
        }
        let engine = Engine::new(&chain, &Registry::default()).unwrap().with_profile(Profile::Best);
        is_sound_and_stable(&engine, &cluster)?;
    }

    #[test]
    fn i9_the_order_of_the_input_does_not_matter((one, other) in clusters().prop_flat_map(shuffled)) {
        let engine = Engine::default();
        let first = engine.decide(&one.snapshot, &one.history, one.now);
        let second = engine.decide(&other.snapshot, &other.history, other.now);
        prop_assert_eq!(without_positions(first), without_positions(second));
    }

    #[test]
    fn i10_a_placement_group_is_planned_whole(mut cluster in clusters()) {
        cluster.snapshot.demands.clear();
        cluster.snapshot.constraint = None;
        cluster.snapshot.gangs.truncate(1);
        cluster.snapshot.upscaling_mode = rayscaler::model::UpscalingMode::Unlimited;
        let engine = Engine::default();
        let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
        let grew = |code: &str| {
            let reasons = decision.groups.iter().flat_map(|group| &group.reasons);
            reasons.filter(|reason| reason.code == code).count() > 0
        };
        prop_assert!(!grew("placement_group") || decision.unserved.is_empty(), "{decision:#?}");
        let after = apply(&cluster.snapshot, &decision);
        let again = engine.decide(&after, &cluster.history, cluster.now);
        prop_assert!(!grew("placement_group") || again.unserved.is_empty(), "{again:#?}");
    }

    #[test]
    fn i12_caps_hold_over_all_groups(cluster in clusters(), nodes_max in 0..12_u64) {
        let mut chain = ChainEntry::defaults();
        let entry = chain.iter_mut().find(|entry| entry.name == "maximum").unwrap();
        entry.settings = json!({"nodes_max": nodes_max, "resources_max": {"CPU": 64}});
        let engine = Engine::new(&chain, &Registry::default()).unwrap();
        let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
        prop_assert_eq!(broken(&engine, &cluster, &decision), []);
        let mut resources_max = ResourceMap::new();
        resources_max.set("CPU".into(), Quantity::from_whole(64));
        let caps = Caps { nodes_max: Some(nodes_max), resources_max };
        prop_assert_eq!(invariants::check_caps(&cluster.snapshot, &cluster.history, &decision, &caps), []);
    }

    /// Pods that grow in place count as large as they become, at every stage of it.
    #[test]
    fn i12_caps_on_resources_hold_and_are_met_once(cluster in clusters(), cpu_max in 1..48_i64) {
        let mut chain = ChainEntry::defaults();
        let entry = chain.iter_mut().find(|entry| entry.name == "maximum").unwrap();
        entry.settings = json!({"resources_max": {"CPU": cpu_max}});
        let engine = Engine::new(&chain, &Registry::default()).unwrap();
        is_sound_and_stable(&engine, &cluster)?;
    }

    /// `engine::finish` cannot be switched off: whatever the chain is, bounds and knowledge count.
    #[test]
    fn any_chain_keeps_the_invariants(cluster in clusters(), keep in proptest::collection::vec(any::<bool>(), policies().count())) {
        // Without the three that see demand an idle removal takes what demand needs, as asked for.
        let sees_demand = |name: &str| ["constraint", "gangs", "demand"].contains(&name);
        let kept = policies().zip(keep).filter(|(entry, keep)| *keep || sees_demand(entry.name));
        let chain: Vec<ChainEntry> = kept.map(|(entry, _)| ChainEntry::of(entry.name)).collect();
        let engine = Engine::new(&chain, &Registry::default()).unwrap();
        let decision = engine.decide(&cluster.snapshot, &cluster.history, cluster.now);
        prop_assert_eq!(broken(&engine, &cluster, &decision), []);
    }

    /// Limits on the pace of groups, and pods that do not come up, break no rule either.
    #[test]
    fn any_pace_keeps_the_invariants(mut cluster in clusters(), pace in pace()) {
        let engine = pace.engine();
        cluster.snapshot.replica_failure = pace.is_refused.then(|| "exceeded quota".to_owned());
        let history = pace.history(&cluster);
        let decision = engine.decide(&cluster.snapshot, &history, cluster.now);
        prop_assert_eq!(invariants::check(&cluster.snapshot, &history, &decision), [], "{:#?}", decision);
        if let Some(at) = decision.next_check_at {
            prop_assert!(at > cluster.now);
        }
        let after = apply(&cluster.snapshot, &decision);
        let again = engine.decide(&after, &history, cluster.now);
        prop_assert!(!again.is_change(), "first {:#?}\nthen {:#?}", decision.groups, again.groups);
    }

    /// Everything asked for is served or reported, and every idle node goes or is explained.
    #[test]
    fn nothing_is_left_unexplained(cluster in clusters()) {
        let decision = Engine::default().decide(&cluster.snapshot, &cluster.history, cluster.now);
        if decision.holds.iter().any(|hold| !["paused", "group_skipped", "stale", "protected"].contains(&hold.code.as_str()))
            || decision.holds.iter().any(|hold| hold.detail.starts_with("GCS"))
        {
            return Ok(());
        }
        let removed: Vec<_> = decision
            .groups
            .iter()
            .flat_map(|group| group.remove.iter().flat_map(|removal| removal.pods.clone()))
            .collect();
        let live = |node: &rayscaler::model::Node| {
            let replicas = cluster.snapshot.replicas_of(&node.group);
            replicas.iter().any(|replica| replica.is_live() && *replica.name == node.replica)
        };
        for node in cluster.snapshot.nodes.iter().filter(|node| node.idle_since.is_some() && live(node)) {
            let is_kept = decision.kept_idle.iter().any(|kept| kept.pod == node.name);
            let is_removed = removed.contains(&node.name);
            prop_assert!(is_kept != is_removed, "{} kept {is_kept} removed {is_removed}", node.name);
        }
    }
}
