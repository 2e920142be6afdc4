//! The decision: a chain of policies, and what no policy can switch off.
//!
//! `decide` is a pure function of snapshot, history and moment. It has no errors: demand that
//! cannot be served, input that is missing and groups that cannot be understood are answers.
#![deny(clippy::disallowed_types)]

mod apply;
mod deviations;
mod finish;
mod gate;
pub mod invariants;
mod notices;
mod nudge;
mod profile;
mod settings;
mod settle;
mod termination;
mod traps;
mod weak_points;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{ClusterSnapshot, History, ScaleDecision, Timestamp};
use crate::placement::{Carry, Corrections, ToCome};
use crate::policy::{Plan, Policy, PolicyContext, Registry, Stage, policies};

pub use apply::apply;
pub use deviations::{Against, DEVIATIONS, Deviation};
pub use profile::Profile;
pub use settings::EngineSettings;
pub use traps::is_doubtful;
pub use weak_points::{WEAK_POINTS, WeakPoint};

/// Names one policy of the chain, and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainEntry {
    /// The policy.
    pub name: String,
    /// Its settings; `null` for the defaults.
    #[serde(default)]
    pub settings: Value,
}

impl ChainEntry {
    /// Returns an entry with the default settings.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            settings: Value::Null,
        }
    }

    /// Returns the default chain: all policies of this crate.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        policies().map(|entry| Self::of(entry.name)).collect()
    }
}

/// Says what is wrong with an entry of the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policies[{index}] `{policy}`: {problem}")]
pub struct BuildError {
    /// Position in the chain.
    pub index: usize,
    /// The name that was given.
    pub policy: String,
    /// What is wrong, with what would be accepted.
    pub problem: String,
}

struct Link {
    name: String,
    stage: Stage,
    policy: Box<dyn Policy>,
}

/// Decides; built once and immutable.
pub struct Engine {
    chain: Vec<Link>,
    settings: EngineSettings,
    corrections: Corrections,
}

/// Holds the decision of one round.
struct Round {
    decision: ScaleDecision,
    /// Whether its launches would be chosen again.
    is_plain: bool,
    /// Whether replicas were asked for that have no pod yet.
    has_to_come: bool,
    carry: Option<Carry>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.chain().collect();
        f.debug_struct("Engine")
            .field("chain", &names)
            .field("settings", &self.settings)
            .finish()
    }
}

impl Default for Engine {
    fn default() -> Self {
        let registry = Registry::default();
        // The default settings always build; a test holds that.
        Self::new(&ChainEntry::defaults(), &registry).unwrap_or_else(|_| Self {
            chain: Vec::new(),
            settings: EngineSettings::default(),
            corrections: Corrections::default(),
        })
    }
}

impl Engine {
    /// Builds the chain: stages in their order, inside a stage as given.
    ///
    /// # Errors
    ///
    /// Every entry that cannot be built: unknown or repeated names, and settings with mistakes.
    pub fn new(chain: &[ChainEntry], registry: &Registry) -> Result<Self, Vec<BuildError>> {
        let mut links = Vec::new();
        let mut errors = Vec::new();
        let mut names = BTreeSet::new();
        for (index, entry) in chain.iter().enumerate() {
            let link = if names.insert(entry.name.as_str()) {
                build(entry, registry)
            } else {
                Err("stands in the chain twice; each policy may stand once".to_owned())
            };
            match link {
                Ok(link) => links.push(link),
                Err(problem) => {
                    let policy = entry.name.clone();
                    errors.push(BuildError {
                        index,
                        policy,
                        problem,
                    });
                }
            }
        }
        links.sort_by_key(|link| link.stage);
        if errors.is_empty() {
            Ok(Self {
                chain: links,
                settings: EngineSettings::default(),
                corrections: Corrections::default(),
            })
        } else {
            Err(errors)
        }
    }

    /// Returns the engine with other settings.
    #[must_use]
    pub fn with_settings(mut self, settings: EngineSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Returns the engine with the corrections of a profile; its chain is the caller's.
    ///
    /// Ray decides once, and on one reply of its GCS; only with the corrections is a decision repeated
    /// until it is stable, and confirmed before anything goes.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.corrections = profile.corrections();
        self.settings.settle &= profile != Profile::Ray;
        self.settings.seen_twice &= profile != Profile::Ray;
        self
    }

    /// Returns the names of the chain, in the order in which they run.
    pub fn chain(&self) -> impl Iterator<Item = &str> {
        self.chain.iter().map(|link| link.name.as_str())
    }

    /// Decides what every group should be.
    ///
    /// Deciding again after the decision is applied changes nothing.
    #[must_use]
    pub fn decide(
        &self,
        snapshot: &ClusterSnapshot,
        history: &History,
        now: Timestamp,
    ) -> ScaleDecision {
        self.decide_within(snapshot, history, now, u64::MAX)
    }

    /// Decides with at most `steps` placement steps.
    ///
    /// A decision that is cut short is feasible and marked: what was not looked at is reported as
    /// such, and nothing is removed that it might need.
    #[must_use]
    pub fn decide_within(
        &self,
        snapshot: &ClusterSnapshot,
        history: &History,
        now: Timestamp,
        steps: u64,
    ) -> ScaleDecision {
        let ctx = PolicyContext {
            snapshot,
            history,
            now,
        };
        let round = self.decide_round(ctx, steps, None);
        let mut decision = if round.is_plain && settle::is_stable(&round.decision) {
            round.decision
        } else {
            settle::settle(self, ctx, round, steps)
        };
        decision.notices = notices::due(ctx, &self.settings);
        decision.termination = termination::due(ctx, &self.settings);
        nudge::nudge(ctx, &mut decision);
        decision
    }

    /// Decides once, and again where something is launched although replicas are to come: as if those were launched,
    /// too, which repeats the decision that asked for them.
    fn decide_round(&self, ctx: PolicyContext<'_>, steps: u64, carry: Option<Carry>) -> Round {
        let mut round = self.decide_once(ctx, steps, (carry, ToCome::Lined));
        // What an earlier decision has launched is kept for it where this one goes on.
        let is_whole = ctx.history.resume.is_none() && !round.decision.is_cut;
        let is_tried = self.corrections.rearranged && is_whole;
        if !round.has_to_come || !is_tried {
            return round;
        }
        for to_come in [ToCome::First, ToCome::InTurn] {
            if !round.decision.is_growth() {
                break;
            }
            // Whether it is better must not depend on how many steps are left.
            let mut again = self.decide_once(ctx, u64::MAX, (round.carry, to_come));
            let spent = round.decision.steps.saturating_add(again.decision.steps);
            if !again.decision.launches_less(&round.decision) {
                again.decision = round.decision;
                again.is_plain = round.is_plain;
            }
            again.decision.steps = spent;
            round = again;
        }
        round
    }

    /// Decides once; `carry` is that of the round before, if there was one, and `to_come` says when replicas without
    /// a pod are used.
    fn decide_once(
        &self,
        ctx: PolicyContext<'_>,
        steps: u64,
        (carry, to_come): (Option<Carry>, ToCome),
    ) -> Round {
        let gate = gate::gate(ctx, &self.settings);
        if gate.is_closed {
            return Round {
                decision: finish::nothing(ctx, gate),
                is_plain: true,
                has_to_come: false,
                carry,
            };
        }
        let mut plan = Plan::starting_from(ctx, (self.corrections, to_come), carry);
        plan.pool_mut().set_budget(steps);
        if !gate.may_remove {
            plan.forbid_removals();
        }
        if self.settings.seen_twice {
            plan.confirm_removals();
        }
        for link in &self.chain {
            plan.set_author(&link.name);
            link.policy.apply(ctx, &mut plan);
        }
        plan.set_author("engine");
        let (is_plain, has_to_come) = (plan.is_plain(), plan.pool().has_to_come());
        let (decision, carry) = finish::conclude(ctx, plan, gate, &self.settings);
        Round {
            decision,
            is_plain,
            has_to_come,
            carry: Some(carry),
        }
    }
}

fn build(entry: &ChainEntry, registry: &Registry) -> Result<Link, String> {
    let Some(known) = registry.get(&entry.name) else {
        let names: Vec<&str> = registry.iter().map(|entry| entry.name).collect();
        return Err(format!("unknown policy; accepted are {}", names.join(", ")));
    };
    let policy = (known.build)(&entry.settings).map_err(|problem| format!("settings.{problem}"))?;
    Ok(Link {
        name: entry.name.clone(),
        stage: known.stage,
        policy,
    })
}

#[cfg(test)]
mod tests {
    use super::{ChainEntry, Engine};
    use crate::policy::{Registry, policies};
    use serde_json::json;

    #[test]
    fn the_default_chain_builds_and_runs_in_stage_order() {
        let engine = Engine::default();
        let names: Vec<&str> = engine.chain().collect();
        assert_eq!(names.len(), policies().count());
        assert_eq!(names.first(), Some(&"group_priority"));
        assert_eq!(names.last(), Some(&"blast_radius"));
    }

    #[test]
    fn a_stage_wins_over_the_order_in_the_configuration() {
        let chain = ["idle", "demand", "minimum", "gangs"].map(ChainEntry::of);
        let engine = Engine::new(&chain, &Registry::default()).expect("valid");
        assert_eq!(
            engine.chain().collect::<Vec<_>>(),
            ["minimum", "demand", "gangs", "idle"]
        );
    }

    #[test]
    fn all_mistakes_of_a_chain_are_returned() {
        let mut wrong = ChainEntry::of("idle");
        wrong.settings = json!({"timeout": "soon", "tiemout": "1s"});
        let mut caps = ChainEntry::of("maximum");
        caps.settings = json!({"resources_max": {"CPU": -1}});
        let chain = [
            ChainEntry::of("demnad"),
            wrong,
            caps,
            ChainEntry::of("demand"),
            ChainEntry::of("demand"),
        ];
        let errors = Engine::new(&chain, &Registry::default()).expect_err("mistakes");
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 4, "{text:#?}");
        assert!(text[0].starts_with("policies[0] `demnad`: unknown policy; accepted are"));
        assert!(text[1].contains("tiemout: unknown field") && text[1].contains("timeout: `soon`"));
        assert!(text[2].contains("resources_max.CPU: -1"));
        assert!(text[3].starts_with("policies[4] `demand`: stands in the chain twice"));
    }

    #[test]
    fn the_defaults_that_are_shown_are_accepted() {
        for entry in policies() {
            let defaults = (entry.default_settings)();
            assert!(
                (entry.build)(&defaults).is_ok(),
                "{}: {defaults}",
                entry.name
            );
            let unknown = json!({"nonsense": 1});
            assert!(
                (entry.build)(&unknown).is_err(),
                "{} accepts anything",
                entry.name
            );
            assert!(
                (entry.schema)()
                    .as_object()
                    .is_some_and(|schema| schema.contains_key("type"))
            );
        }
    }
}
