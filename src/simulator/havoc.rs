//! Makes things go wrong when their time comes, and puts them right again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::SimulatorError;
use super::edits::Editor;
use super::faults::{FaultKind, Only};
use super::old_heads;
use super::pod_orders;
use super::random::Random;
use super::templates;
use super::world::World;
use crate::model::Timestamp;

/// Holds a pod against its deletion.
const FINALIZER: &str = "rayscaler.io/held-by-the-simulator";

/// In how many bouts of a hundred each kind is met that came later than the others.
const LATER_PERCENT: u64 = 15;

/// Something that will go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Timestamp,
    kind: FaultKind,
    ms: u64,
}

/// All that goes wrong by itself.
#[derive(Debug)]
pub(super) struct Havoc {
    random: Random,
    /// Dice of the kinds that came later.
    later: BTreeMap<FaultKind, Random>,
    templates: Random,
    heads: Random,
    editor: Editor,
    /// Whether pods of a group need not be what its template says.
    pub(super) has_edited_templates: bool,
    due: Vec<Due>,
    held: BTreeSet<String>,
}

impl Havoc {
    pub(super) fn new(seed: u64) -> Self {
        let later = FaultKind::LATER.iter();
        Self {
            random: Random::new(seed, "havoc"),
            later: later
                .map(|kind| (*kind, Random::new(seed, kind.name())))
                .collect(),
            templates: Random::new(seed, "templates"),
            has_edited_templates: false,
            heads: Random::new(seed, "heads"),
            editor: Editor::new(seed),
            due: Vec::new(),
            held: BTreeSet::new(),
        }
    }

    /// Draws what will go wrong in the next `ms`; returns the kinds.
    pub(super) fn plan(&mut self, only: &Only, now: Timestamp, ms: u64) -> Vec<FaultKind> {
        let is_later = |kind: &FaultKind| FaultKind::LATER.contains(kind);
        let (later, mut kinds): (Vec<_>, Vec<_>) = only.0.iter().copied().partition(is_later);
        let are_alone = kinds.is_empty();
        let count = usize::try_from(self.random.between(1, 4)).unwrap_or(1);
        while kinds.len() > count {
            let at = self.random.next() % u64::try_from(kinds.len()).unwrap_or(1);
            kinds.swap_remove(usize::try_from(at).unwrap_or(0));
        }
        for kind in &kinds {
            for _ in 0..self.random.between(1, 3) {
                let at = now.plus_ms(self.random.between(3_000, ms));
                let ms = self.random.between(2_000, 40_000);
                self.due.push(Due {
                    at,
                    kind: *kind,
                    ms,
                });
            }
        }
        for kind in later {
            let Some(die) = self.later.get_mut(&kind) else {
                continue;
            };
            if !are_alone && !die.chance(LATER_PERCENT) {
                continue;
            }
            for _ in 0..die.between(1, 2) {
                let at = now.plus_ms(die.between(3_000, ms));
                let ms = die.between(2_000, 40_000);
                self.due.push(Due { at, kind, ms });
            }
            kinds.push(kind);
        }
        self.due.sort();
        kinds
    }

    /// Begins and ends what is due.
    pub(super) async fn act(&mut self, world: &mut World) -> Result<(), SimulatorError> {
        let now = world.clock.now();
        for kind in world.board.end_due(now) {
            self.end(world, kind).await?;
        }
        while self.due.first().is_some_and(|due| due.at <= now) {
            let due = self.due.remove(0);
            if !world.board.is_on(due.kind) {
                self.begin(world, due.kind, now.plus_ms(due.ms)).await?;
            }
        }
        Ok(())
    }

    /// Ends everything.
    pub(super) async fn end_all(&mut self, world: &mut World) -> Result<(), SimulatorError> {
        self.due.clear();
        for kind in world.board.end_all() {
            self.end(world, kind).await?;
        }
        Ok(())
    }

    /// Makes one thing go wrong until then.
    pub(super) async fn begin(
        &mut self,
        world: &mut World,
        kind: FaultKind,
        until: Timestamp,
    ) -> Result<(), SimulatorError> {
        let ms = until.millis_since(world.clock.now());
        let words = match kind {
            FaultKind::PodVanish
            | FaultKind::PodEvicted
            | FaultKind::PodRestart
            | FaultKind::PodOrdered
            | FaultKind::PodProtected
            | FaultKind::PodTerminating => match self.meet_pod(world, kind).await {
                // It went while it was being chosen.
                Err(error) if error.is_not_found() => "a pod that is gone".to_owned(),
                met => met?,
            },
            FaultKind::GcsStopped | FaultKind::GcsReplaced => {
                world.ray.stop_gcs();
                String::new()
            }
            FaultKind::ClockJump => {
                let skew = i64::try_from(self.random.between(1, 7_200_000)).unwrap_or(0);
                world.skew_ms.store(skew - 3_600_000, Ordering::Relaxed);
                world.renew_token().await?;
                format!("by {} ms", skew - 3_600_000)
            }
            FaultKind::SidecarKilled => {
                world.kill_sidecar();
                String::new()
            }
            FaultKind::SidecarClock => {
                let skew = i64::try_from(self.random.between(1, 7_200_000)).unwrap_or(0);
                world.turn_clock(skew - 3_600_000).await?;
                format!("by {} ms", skew - 3_600_000)
            }
            FaultKind::HeadLost => lose_head(world).await?,
            FaultKind::HeadReplaced => old_heads::replace(world, &mut self.heads).await?,
            FaultKind::EditTemplate => {
                self.has_edited_templates = true;
                templates::edit(world, &mut self.templates).await?
            }
            kind if kind.name().starts_with("edit") => self.editor.edit(world, kind).await?,
            _ => String::new(),
        };
        if is_made(kind) {
            world.board.count(kind);
        }
        world
            .trace
            .say(&format!("begins {kind} for {ms} ms {words}"));
        world.board.begin(kind, until);
        Ok(())
    }

    async fn end(&mut self, world: &mut World, kind: FaultKind) -> Result<(), SimulatorError> {
        world.trace.say(&format!("ends {kind}"));
        match kind {
            FaultKind::PodTerminating => self.let_go(world).await?,
            FaultKind::PodProtected => pod_orders::let_go(world).await?,
            FaultKind::GcsStopped => world.ray.start_gcs(true),
            FaultKind::GcsReplaced => world.ray.start_gcs(false),
            FaultKind::ClockJump => {
                world.skew_ms.store(0, Ordering::Relaxed);
                world.renew_token().await?;
            }
            FaultKind::SidecarKilled => world.start_sidecar().await?,
            // Or it stays off, and everything has to come right like that.
            FaultKind::SidecarClock if self.random.chance(50) => world.turn_clock(0).await?,
            FaultKind::EditSuspend => self.editor.resume(world).await?,
            FaultKind::HeadReplaced => old_heads::end(world, &mut self.heads),
            _ => {}
        }
        Ok(())
    }

    async fn meet_pod(&mut self, world: &World, kind: FaultKind) -> Result<String, SimulatorError> {
        let mut pods = world.workers(None).await?;
        pods.retain(|pod: &Pod| pod.metadata.deletion_timestamp.is_none());
        let Some(pod) = self.random.pick(&pods) else {
            return Ok("no pod".to_owned());
        };
        let name = pod.name_any();
        let api = world.pod_api();
        match kind {
            FaultKind::PodVanish => {
                let at_once = DeleteParams::default().grace_period(0);
                api.delete(&name, &at_once).await?;
                kill_raylet(world, &name);
            }
            FaultKind::PodRestart => kill_raylet(world, &name),
            FaultKind::PodOrdered => pod_orders::drain(world, pod).await?,
            FaultKind::PodProtected => pod_orders::protect(world, pod).await?,
            FaultKind::PodTerminating => {
                let held = json!({"metadata": {"finalizers": [FINALIZER]}});
                api.patch(&name, &PatchParams::default(), &Patch::Merge(held))
                    .await?;
                api.delete(&name, &DeleteParams::default()).await?;
                self.held.insert(name.clone());
            }
            _ => {
                api.delete(&name, &DeleteParams::default()).await?;
            }
        }
        Ok(name)
    }

    async fn let_go(&mut self, world: &World) -> Result<(), SimulatorError> {
        let free = json!({"metadata": {"finalizers": null}});
        for name in std::mem::take(&mut self.held) {
            let params = PatchParams::default();
            match world
                .pod_api()
                .patch(&name, &params, &Patch::Merge(&free))
                .await
            {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                done => drop(done?),
            }
        }
        Ok(())
    }
}

/// Returns whether it happens once, and not to whoever comes by.
fn is_made(kind: FaultKind) -> bool {
    let name = kind.name();
    let is_once = matches!(
        kind,
        FaultKind::PodVanish
            | FaultKind::PodEvicted
            | FaultKind::PodRestart
            | FaultKind::PodTerminating
            | FaultKind::PodOrdered
            | FaultKind::PodProtected
            | FaultKind::GcsStopped
            | FaultKind::GcsReplaced
            | FaultKind::ClockJump
            | FaultKind::SidecarKilled
            | FaultKind::SidecarClock
            | FaultKind::HeadLost
            | FaultKind::HeadReplaced
    );
    is_once || name.starts_with("edit")
}

pub(super) fn kill_raylet(world: &World, pod: &str) {
    let view = world.ray.view();
    for node in view.nodes.iter().filter(|node| node.pod == pod) {
        world.ray.kill_node(node.id);
    }
}

async fn lose_head(world: &mut World) -> Result<String, SimulatorError> {
    world.lose_container();
    let heads = world.heads().await?;
    for head in &heads {
        world.forget_pod(head).await?;
        kill_raylet(world, &head.name_any());
    }
    Ok(format!("{} pods", heads.len()))
}
