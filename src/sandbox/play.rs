//! Plays a scenario: lets things happen when they are due, and shows every moment to a screen.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::SandboxError;
use super::autoscaler::Autoscaler;
use super::demand::{Asked, what};
use super::scenario::Scenario;
use super::tally::{Tally, Workers, conditions, count};
use super::timeline::Timeline;
use super::world::{Cluster, World};
use crate::admin::AdminState;
use crate::embedded::ray::HeadView;
use crate::model::{ClusterSnapshot, Timestamp};

/// How far the scenario goes between two looks. Units: milliseconds.
const STEP_MS: u64 = 100;

/// The head and the autoscaler are there within seconds, or never.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Holds one moment.
pub(super) struct Frame<'a> {
    /// How the scenario is called.
    pub(super) name: &'a str,
    /// How long it lasts; `None` until the user leaves.
    pub(super) duration_ms: Option<u64>,
    /// The worker groups.
    pub(super) groups: &'a [GroupSize],
    /// When it began.
    pub(super) began_at: Timestamp,
    /// This moment.
    pub(super) now: Timestamp,
    /// What users asked for so far.
    pub(super) asked: &'a [Asked],
    /// The workers of each group.
    pub(super) workers: &'a BTreeMap<String, Workers>,
    /// The sidecar's snapshot; `None` for the stock autoscaler.
    pub(super) snapshot: Option<Arc<ClusterSnapshot>>,
    /// What happened.
    pub(super) timeline: &'a Timeline,
    /// What it cost so far.
    pub(super) tally: &'a Tally,
}

/// How large a worker group is. Units: replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupSize {
    /// Its name.
    pub(super) name: String,
    /// `replicas` of the RayCluster.
    pub(super) replicas: u32,
    /// Its maximum.
    pub(super) max: u32,
}

/// Returns the groups of a scenario, as the sidecar last saw them.
pub(super) fn group_sizes(
    scenario: &Scenario,
    snapshot: Option<&ClusterSnapshot>,
) -> Vec<GroupSize> {
    let size = |group: &super::scenario::Group| {
        let known = snapshot.and_then(|snapshot| {
            let mut groups = snapshot.groups.iter();
            groups.find(|known| known.name.as_str() == group.name)
        });
        GroupSize {
            name: group.name.clone(),
            replicas: known.map_or(group.min, |known| known.replicas),
            max: group.max,
        }
    };
    scenario.groups.iter().map(size).collect()
}

/// Shows a scenario while it is played.
///
/// Two methods, since between a moment and the next others on this thread get their turns: an admin
/// port and an API server that are asked from outside.
pub(super) trait Screen {
    /// Shows a moment; breaks when nobody sees it.
    fn show(&mut self, frame: &Frame<'_>) -> ControlFlow<()>;

    /// Holds the thread for a few milliseconds, while it is too early for what comes after `now`.
    ///
    /// Continues with whether it still is; breaks when the user has had enough.
    fn hold(&mut self, now: Timestamp) -> ControlFlow<(), bool>;
}

/// Shows nothing and never waits.
pub(super) struct Blind;

impl Screen for Blind {
    fn show(&mut self, _: &Frame<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn hold(&mut self, _: Timestamp) -> ControlFlow<(), bool> {
        ControlFlow::Continue(false)
    }
}

/// Holds what came of a scenario.
#[derive(Debug)]
pub(super) struct Played {
    /// When it ended.
    pub(super) ended_at: Timestamp,
    /// What users asked for.
    pub(super) asked: Vec<Asked>,
    /// What it cost.
    pub(super) tally: Tally,
    /// Patches of the RayCluster that changed something.
    pub(super) patches: u64,
}

/// Waits until the autoscaler has decided once.
pub(super) async fn wait_until_ready(
    cluster: &mut Cluster,
    autoscaler: &Autoscaler,
) -> Result<(), SandboxError> {
    let ready = async {
        while !autoscaler.is_ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ready = tokio::time::timeout(READY_WITHIN, ready) => {
            ready.map_err(|_| SandboxError::NoAutoscaler)
        }
        Some(ended) = cluster.tasks.next_ended() => Err(SandboxError::TaskEnded(ended.name)),
    }
}

/// Plays the scenario to its end.
pub(super) async fn play(
    (world, autoscaler): (&mut World, &Autoscaler),
    scenario: &Scenario,
    screen: &mut impl Screen,
) -> Result<Played, SandboxError> {
    let began_at = world.cluster.clock.now();
    let generation_at_start = generation(&world.cluster).await?;
    let mut player = Player {
        began_at,
        next_event: 0,
        asked: Vec::new(),
        timeline: Timeline::default(),
        tally: Tally::default(),
    };
    let mut events: Vec<&super::scenario::Event> = scenario.events.iter().collect();
    events.sort_by_key(|event| event.at);
    loop {
        let now = world.cluster.clock.now();
        let elapsed_ms = now.millis_since(began_at);
        if elapsed_ms >= scenario.duration.as_ms() {
            break;
        }
        while let Some(event) = events.get(player.next_event)
            && event.at.as_ms() <= elapsed_ms
        {
            player.next_event += 1;
            player.begin(world, event).await?;
        }
        let view = world.ray.view();
        let workers = count(&world.cluster.pods(), &conditions(&view));
        player.look(world, autoscaler, &view, &workers);
        let snapshot = autoscaler.admin().and_then(AdminState::snapshot);
        let frame = Frame {
            name: &scenario.name,
            duration_ms: Some(scenario.duration.as_ms()),
            groups: &group_sizes(scenario, snapshot.as_deref()),
            began_at,
            now,
            asked: &player.asked,
            workers: &workers,
            snapshot,
            timeline: &player.timeline,
            tally: &player.tally,
        };
        if screen.show(&frame).is_break() || hold(screen, now).await.is_break() {
            break;
        }
        tokio::select! {
            () = world.cluster.clock.sleep_until(now.plus_ms(STEP_MS)) => {}
            Some(ended) = world.cluster.tasks.next_ended() => return Err(SandboxError::TaskEnded(ended.name)),
        }
    }
    Ok(Played {
        ended_at: world.cluster.clock.now(),
        asked: player.asked,
        tally: player.tally,
        patches: generation(&world.cluster)
            .await?
            .saturating_sub(generation_at_start),
    })
}

/// Waits until the screen wants the next moment.
pub(super) async fn hold(screen: &mut impl Screen, now: Timestamp) -> ControlFlow<()> {
    while screen.hold(now)? {
        tokio::task::yield_now().await;
    }
    ControlFlow::Continue(())
}

/// Every patch that changes the spec counts one up, whoever sends it.
async fn generation(cluster: &Cluster) -> Result<u64, SandboxError> {
    let generation = cluster.raycluster().await?.metadata.generation.unwrap_or(0);
    Ok(u64::try_from(generation).unwrap_or(0))
}

struct Player {
    began_at: Timestamp,
    next_event: usize,
    asked: Vec<Asked>,
    timeline: Timeline,
    tally: Tally,
}

impl Player {
    async fn begin(
        &mut self,
        world: &World,
        event: &super::scenario::Event,
    ) -> Result<(), SandboxError> {
        let now = world.cluster.clock.now();
        let asked = Asked::ask(event, &world.ray, now);
        self.timeline.asked(now, &asked.name, &what(event));
        if let Some(lose) = &event.lose_pods {
            for pod in world.lose(lose).await? {
                self.timeline.lost(now, &pod);
            }
        }
        self.asked.push(asked);
        Ok(())
    }

    fn look(
        &mut self,
        world: &World,
        autoscaler: &Autoscaler,
        view: &HeadView,
        workers: &BTreeMap<String, Workers>,
    ) {
        for asked in &mut self.asked {
            let was_placed = asked.placed_at.is_some();
            asked.follow(view, &world.ray);
            if let (Some(at), false, true) = (asked.placed_at, was_placed, asked.is_demand) {
                self.timeline.placed(at, &asked.name, asked.waited_ms(at));
            }
        }
        if let Some(admin) = autoscaler.admin() {
            self.timeline.decisions(self.began_at, &admin.history());
            if let Some(decided) = admin.last_decided() {
                self.timeline.waiting(&decided);
                self.timeline.holds(&decided);
            }
        }
        self.timeline.workers(view.at, workers);
        self.tally.add(workers, STEP_MS);
    }
}
