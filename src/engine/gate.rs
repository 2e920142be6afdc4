//! What the state of the input allows, and the mode that follows from it.
//!
//! | mode | when | what is done |
//! |---|---|---|
//! | `normal` | everything is fresh | everything |
//! | `recovering` | the GCS was away, is another one, or has a new head, and nodes of before are missing | growth |
//! | `no-scale-down` | a source is stale, the GCS has not been read, no head runs, or the decision broke a rule | growth, if the GCS is fresh |
//! | `frozen` | pods or RayCluster were never read, are older than the longer limit, or there is nothing to scale | nothing |
//!
//! The config is no such source: the last good one is whole and stays in force, and its age is shown.
//!
//! It is worked out anew each time, so that it is left as soon as its cause is gone.

use crate::model::{Hold, ScalingMode, Timestamp};
use crate::policy::PolicyContext;

use super::EngineSettings;

/// Says what the state of the input allows.
#[derive(Debug)]
pub(super) struct Gate {
    /// Nothing is decided at all.
    pub(super) is_closed: bool,
    /// Something may be removed.
    pub(super) may_remove: bool,
    /// What both amount to.
    pub(super) mode: ScalingMode,
    pub(super) holds: Vec<Hold>,
    /// When time alone changes the answer: the oldest source will be stale, a recovery ends.
    pub(super) wake_at: Option<Timestamp>,
}

pub(super) fn gate(ctx: PolicyContext<'_>, settings: &EngineSettings) -> Gate {
    let snapshot = ctx.snapshot;
    let mut gate = Gate {
        is_closed: false,
        may_remove: true,
        mode: ScalingMode::Normal,
        holds: Vec::new(),
        wake_at: None,
    };
    if snapshot.is_deleting {
        gate.freeze("deleting", "the RayCluster is being deleted");
    }
    if snapshot.is_suspended {
        gate.freeze("suspended", "spec.suspend is set");
    }
    if let Some(why) = &snapshot.unreadable {
        gate.freeze("unreadable", why);
    }
    let known = &snapshot.completeness;
    let sources = [
        ("GCS", known.gcs_at),
        ("pods", known.pods_at),
        ("RayCluster", known.raycluster_at),
    ];
    for (source, at) in sources {
        gate.judge_source(ctx.now, settings, (source, at));
    }
    if known.is_complete() && !snapshot.is_head_running() {
        gate.close("head_not_running", "no raylet of the head is alive");
    }
    if let Some(why) = &snapshot.distrusted {
        gate.forbid("invariant", why);
    }
    gate.judge_recovery(ctx, settings);
    if let Some(why) = &snapshot.paused {
        // Deciding goes on, so that one can see what would be done; nothing is written meanwhile.
        gate.add("paused", why);
    }
    if let Some(why) = &snapshot.writing.fenced {
        gate.add("fenced", why);
    }
    for group in &snapshot.skipped {
        gate.holds.push(Hold {
            group: Some(group.name.clone()),
            code: "group_skipped".to_owned(),
            detail: format!("{}: {}", group.code, group.detail),
        });
    }
    for group in &snapshot.set_aside {
        gate.holds.push(Hold {
            group: Some(group.clone()),
            code: "invariant".to_owned(),
            detail: "left as it is: what was decided for it broke a rule".to_owned(),
        });
    }
    gate
}

impl Gate {
    fn judge_source(
        &mut self,
        now: Timestamp,
        settings: &EngineSettings,
        source: (&str, Option<Timestamp>),
    ) {
        let is_gcs = source.0 == "GCS";
        let (name, Some(at)) = source else {
            let detail = format!("{} has not been read yet", source.0);
            if is_gcs {
                self.close("incomplete", &detail);
            } else {
                self.freeze("incomplete", &detail);
            }
            return;
        };
        let stale_at = at.plus_ms(settings.stale_after.as_ms());
        let frozen_at = at.plus_ms(
            settings
                .frozen_after
                .as_ms()
                .max(settings.stale_after.as_ms()),
        );
        if now <= stale_at {
            self.wake(stale_at.plus_ms(1));
            return;
        }
        let detail = format!("{name} is {} ms old", now.millis_since(at));
        if is_gcs {
            // Demand that old may long be served.
            self.close("stale", &detail);
        } else if now <= frozen_at {
            self.forbid("stale", &detail);
            self.wake(frozen_at.plus_ms(1));
        } else {
            self.freeze("stale", &detail);
        }
    }

    fn judge_recovery(&mut self, ctx: PolicyContext<'_>, settings: &EngineSettings) {
        let within = (ctx.now, settings.recover_within.as_ms());
        if let Some(until) = ctx.history.recovers_until(ctx.snapshot, within) {
            self.may_remove = false;
            // What keeps all else from happening is worth more words than this.
            if self.mode == ScalingMode::Normal {
                self.mode = ScalingMode::Recovering;
                let left_ms = until.millis_since(ctx.now);
                let detail = format!(
                    "nodes of before may be missing; removals wait at most {left_ms} ms for them"
                );
                self.add("recovering", &detail);
            }
            self.wake(until);
        }
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }

    fn freeze(&mut self, code: &str, detail: &str) {
        self.close(code, detail);
        self.mode = ScalingMode::Frozen;
    }

    fn close(&mut self, code: &str, detail: &str) {
        self.is_closed = true;
        self.forbid(code, detail);
    }

    fn forbid(&mut self, code: &str, detail: &str) {
        self.may_remove = false;
        self.mode = self.mode.max(ScalingMode::NoScaleDown);
        self.add(code, detail);
    }

    fn add(&mut self, code: &str, detail: &str) {
        self.holds.push(Hold {
            group: None,
            code: code.to_owned(),
            detail: detail.to_owned(),
        });
    }
}
