//! Heads that were replaced and live on: a machine that nobody reaches is given up, and what runs there runs on.
//!
//! The sidecar in such a head sees the same RayCluster as its successor. Once that one has written, the old one
//! has to leave everything alone, and to say so. Its GCS is gone, or lives on as one that keeps its state in Redis
//! does: then both sidecars see every node and all demand.

use futures_util::FutureExt as _;
use kube::ResourceExt as _;

use super::SimulatorError;
use super::faults::FaultKind;
use super::havoc::kill_raylet;
use super::random::Random;
use super::run::Run;
use super::world::{Sidecar, World};
use crate::model::Timestamp;

/// In how many replacements of a hundred the GCS lives on.
const KEEPS_PERCENT: u64 = 50;

/// Whoever got SIGTERM is ended so long after: a sidecar needs less. Units: milliseconds.
const TERM_TAKES_MS: u64 = 2_000;

/// What the old one may take to hear of its successor, while nothing keeps news from it. Units: milliseconds.
const HEARS_WITHIN_MS: u64 = 10_000;

/// Beginnings of the names of trouble that keeps news from a sidecar, or its own word from us.
const DEAFENS: [&str; 6] = ["api", "watch", "clock", "gcs", "raylet", "sidecar"];

/// Old heads that live on.
#[derive(Debug, Default)]
pub(super) struct OldHeads {
    heads: Vec<OldHead>,
    /// Since when nothing has kept news from them.
    hears_since: Option<Timestamp>,
}

#[derive(Debug)]
struct OldHead {
    pod: String,
    sidecar: Sidecar,
    /// When it ends, where it was told to.
    ends_at: Option<Timestamp>,
}

impl OldHeads {
    /// Takes in the sidecar of a head that is gone from the API server.
    pub(super) fn add(&mut self, pod: String, sidecar: Sidecar) {
        self.heads.push(OldHead {
            pod,
            sidecar,
            ends_at: None,
        });
    }

    fn take(&mut self, is_over: impl Fn(&OldHead) -> bool) -> Vec<OldHead> {
        let (over, rest) = std::mem::take(&mut self.heads)
            .into_iter()
            .partition(is_over);
        self.heads = rest;
        over
    }

    /// Returns what ended by itself, though nobody told it to.
    fn ended(&mut self) -> Option<String> {
        let heads = self.heads.iter_mut();
        let mut running = heads.filter(|head| head.ends_at.is_none());
        running.find_map(|head| {
            let ended = head.sidecar.tasks.next_ended().now_or_never().flatten()?;
            Some(format!("an old head's sidecar ended by itself: {ended:?}"))
        })
    }

    /// Returns what the sidecar of a head does that has not heard of its `successor`, which has written since then.
    fn unaware(&self, successor: (u64, Timestamp), now: Timestamp) -> Option<String> {
        let (number, wrote_at) = successor;
        let since = self.hears_since?.max(wrote_at);
        if now.millis_since(since) <= HEARS_WITHIN_MS {
            return None;
        }
        let heads = self.heads.iter();
        let mut older = heads.filter(|head| head.ends_at.is_none() && head.sidecar.head < number);
        older.find_map(|head| {
            let pass = head.sidecar.admin.last_pass()?;
            let says = format!("{} {}", pass.outcome, pass.outcome_detail);
            let pod = &head.pod;
            (pass.outcome != "fenced")
                .then(|| format!("{pod} was replaced, and its sidecar does not say so: {says}"))
        })
    }
}

impl Run {
    /// Ends old heads whose time has come, and objects to those that do not know what they are.
    pub(super) fn follow_old_heads(&mut self) {
        let now = self.world.clock.now();
        end_those(&mut self.world, |head| {
            head.ends_at.is_some_and(|at| at <= now)
        });
        let board = &self.world.board;
        let is_deaf = |kind: &&FaultKind| {
            let name = kind.name();
            DEAFENS.iter().any(|part| name.starts_with(part)) && board.is_on(**kind)
        };
        let old = &mut self.world.old_heads;
        if FaultKind::ALL.iter().any(|kind| is_deaf(&kind)) {
            old.hears_since = None;
        } else {
            old.hears_since.get_or_insert(now);
        }
        let witness = &self.world.witness;
        let successor = witness.last_head();
        let unaware = successor.and_then(|successor| old.unaware(successor, now));
        for problem in old.ended().into_iter().chain(unaware) {
            witness.object(problem);
        }
    }

    /// Ends all old heads.
    pub(super) fn end_old_heads(&mut self) {
        end_those(&mut self.world, |_| true);
    }
}

/// Deletes the head's pod as one whose machine nobody reaches: the sidecar there lives on.
pub(super) async fn replace(
    world: &mut World,
    random: &mut Random,
) -> Result<String, SimulatorError> {
    let keeps_gcs = random.chance(KEEPS_PERCENT);
    let heads = world.heads().await?;
    for head in &heads {
        if keeps_gcs {
            world.leave_running(head);
        }
        world.forget_pod(head).await?;
        if !keeps_gcs {
            kill_raylet(world, &head.name_any());
        }
    }
    world.outlive();
    let gcs = if keeps_gcs { "with" } else { "without" };
    Ok(format!("{} pods {gcs} their GCS", heads.len()))
}

/// Ends old heads at once, by SIGTERM, or not yet: then everything has to come right beside them.
pub(super) fn end(world: &mut World, random: &mut Random) {
    match random.between(1, 3) {
        1 => end_those(world, |_| true),
        2 => {
            let ends_at = world.after(TERM_TAKES_MS);
            for head in &mut world.old_heads.heads {
                head.sidecar.trigger.pull();
                head.ends_at.get_or_insert(ends_at);
            }
        }
        _ => {}
    }
}

fn end_those(world: &mut World, is_over: impl Fn(&OldHead) -> bool) {
    for head in world.old_heads.take(is_over) {
        world.trace.say(&format!("old head {} ends", head.pod));
        kill_raylet(world, &head.pod);
    }
}
