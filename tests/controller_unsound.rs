//! What the loop writes when a decision breaks a rule.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod core;
#[path = "support/loop_world.rs"]
mod loop_world;

use std::sync::Arc;

use core::builders::{Cluster, group};
use loop_world::{World, seen, waiting};
use rayscaler::config::Config;
use rayscaler::engine::{ChainEntry, Engine};
use rayscaler::model::{RemovalCause, WorkerGroupName};
use rayscaler::policy::{Plan, Policy, PolicyContext, PolicyEntry, Registry, Release, Stage};
use rayscaler::runtime::controller::ControllerSettings;

/// Changes a group without saying why, which breaks invariant I8.
struct Wordless;

impl Policy for Wordless {
    fn apply(&self, _ctx: PolicyContext<'_>, plan: &mut Plan) {
        for name in plan.groups() {
            plan.retarget(&name, 2, "");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_breaks_an_invariant_is_not_written() {
    let registry = Registry::default().register(PolicyEntry {
        name: "wordless",
        stage: Stage::Shape,
        summary: "breaks a rule",
        build: |_| Ok(Box::new(Wordless)),
        default_settings: || serde_json::Value::Null,
        schema: schemars::Schema::default,
    });
    let broken = Engine::new(&[ChainEntry::of("wordless")], &registry).unwrap();
    let mut settings = ControllerSettings::of(&Config::default()).unwrap();
    settings.engine = Arc::new(broken);
    let world = World::start_with(Vec::new(), settings);
    world.tell(seen(waiting(3)));
    world.until(6_000).await;
    assert_eq!(world.times_of("pass invariant"), [0, 5_000]);
    assert!(world.times_of("act").is_empty());
    world.change_settings(|settings| settings.engine = Arc::new(Engine::default()));
    world.until(6_001).await;
    assert_eq!(world.times_of("act 3"), [6_000]);
}

/// Takes what is busy, which breaks invariant I1.
struct Reckless;

impl Policy for Reckless {
    fn apply(&self, ctx: PolicyContext<'_>, plan: &mut Plan) {
        for node in &ctx.snapshot.nodes {
            let release = Release {
                replica: &node.replica,
                cause: RemovalCause::Idle,
                code: "idle_timeout",
                idle_ms: 1,
            };
            plan.release(ctx, &node.group, release);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_place_of_a_decision_that_breaks_an_invariant_one_is_made_that_removes_nothing() {
    let registry = Registry::default().register(PolicyEntry {
        name: "reckless",
        stage: Stage::Settle,
        summary: "takes live work",
        build: |_| Ok(Box::new(Reckless)),
        default_settings: || serde_json::Value::Null,
        schema: schemars::Schema::default,
    });
    let mut chain = ChainEntry::defaults();
    chain.push(ChainEntry::of("reckless"));
    let mut settings = ControllerSettings::of(&Config::default()).unwrap();
    settings.engine = Arc::new(Engine::new(&chain, &registry).unwrap());
    let world = World::start_with(Vec::new(), settings);
    let busy = Cluster::default()
        .group(group("g", "CPU=1"))
        .busy("g", "w1")
        .demand("CPU=1", 2);
    world.tell(seen(busy));
    world.until(1_000).await;
    // One is busy and stays, two more are needed.
    let notes = world.notes.lock().unwrap().clone();
    assert_eq!(world.times_of("act 3"), [0], "{notes:?}");
}

/// Changes one group without saying why, which breaks invariant I8.
struct WordlessOnce;

impl Policy for WordlessOnce {
    fn apply(&self, _ctx: PolicyContext<'_>, plan: &mut Plan) {
        plan.retarget(&WorkerGroupName::from("bad"), 2, "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_breaks_a_rule_even_without_removals_does_not_hold_the_others_back() {
    let registry = Registry::default().register(PolicyEntry {
        name: "wordless_once",
        stage: Stage::Settle,
        summary: "breaks a rule",
        build: |_| Ok(Box::new(WordlessOnce)),
        default_settings: || serde_json::Value::Null,
        schema: schemars::Schema::default,
    });
    let mut chain = ChainEntry::defaults();
    chain.push(ChainEntry::of("wordless_once"));
    let mut settings = ControllerSettings::of(&Config::default()).unwrap();
    settings.engine = Arc::new(Engine::new(&chain, &registry).unwrap());
    // What is noted is what the first group gets.
    for (first, expected) in [("good", "act 2"), ("bad", "act 0")] {
        let world = World::start_with(Vec::new(), settings.clone());
        let mut groups = [group("good", "CPU=1"), group("bad", "GPU=1")];
        groups.sort_by_key(|group| group.name.as_str() != first);
        let [one, other] = groups;
        let cluster = Cluster::default().group(one).group(other);
        world.tell(seen(cluster.demand("CPU=1", 2)));
        world.until(1_000).await;
        let notes = world.notes.lock().unwrap().clone();
        assert_eq!(world.times_of(expected), [0], "{notes:?}");
        assert!(world.times_of("pass invariant").is_empty(), "{notes:?}");
    }
}
