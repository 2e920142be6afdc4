//! One run: trouble for some minutes, then quiet, in which everything has to come right; again and again.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::SimulatorError;
use super::faults::{FaultKind, Only};
use super::gangs::room;
use super::havoc::Havoc;
use super::pod_orders::is_to_go;
use super::random::Random;
use super::witness::{groups, list, number, text};
use super::workload::{Workload, whole};
use super::world::World;
use crate::embedded::ray::{Tasks, WorkId};
use crate::model::Timestamp;

/// How far a run goes between two looks. Units: milliseconds.
const STEP_MS: u64 = 1_000;

/// Trouble lasts this long. Units: milliseconds.
const TROUBLE_MS: (u64, u64) = (40_000, 100_000);

/// How long the sidecar may take for a pass when nothing goes wrong. Units: milliseconds.
const PASS_WITHIN_MS: u64 = 20_000;

/// How long it may take while sources hang: each call is given up after ten seconds. Units: milliseconds.
const PASS_WITHIN_TROUBLE_MS: u64 = 90_000;

/// What may pass, beside the head's boot, until the sidecar has decided once. Units: milliseconds.
const READY_WITHIN_MS: u64 = 120_000;

/// What may pass, beside boot and join, until all demand has its place after trouble: the longest back-offs
/// of sidecar and operator, half a minute each. Units: milliseconds.
pub(super) const SERVED_WITHIN_MS: u64 = 60_000;

/// The same after trouble that is over when it ends: calls of the API server and the GCS that are under way are given up
/// after ten seconds, and nobody waits for longer than five after such a failure. Units: milliseconds.
const CALLS_END_WITHIN_MS: u64 = 15_000;

/// How often Ray asks raylets for their load, before which no pass sees it. Units: milliseconds.
const LOAD_PULL_MS: u64 = 1_000;

/// Beginnings of the names of trouble that leaves something behind: pauses of groups and of the operator, raylets of
/// which nobody knows yet that they are dead or that come late, a head that starts anew, after a suspension once all
/// pods have ended.
const LEAVES_TRACES: [&str; 6] = [
    "pod",
    "operator",
    "head",
    "gcs-stopped",
    "gcs-replaced",
    "edit-suspend",
];

/// In how many bouts of a hundred two gangs are asked for at the end: they take as long as all else after trouble.
const GANGS_PERCENT: u64 = 50;

/// What may pass, beside the idle timeout, until everything is back at its minimum. Units: milliseconds.
pub(super) const SMALL_WITHIN_MS: u64 = 90_000;

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What must not be and was; `None` when all was well.
    pub problem: Option<String>,
    /// How often each kind of trouble was met.
    pub met: BTreeMap<FaultKind, u64>,
    /// Writes of the sidecar that were carried out.
    pub writes: u64,
    /// How often everything had to come right.
    pub checks: u64,
    /// The longest that demand waited after trouble, without boot and join. Units: milliseconds.
    pub served_ms_max: u64,
    /// The longest until everything was small again, without the idle timeout. Units: milliseconds.
    pub small_ms_max: u64,
    /// Bytes that the sidecar logged.
    pub log_bytes: u64,
    /// Stands for the trace.
    pub digest: u64,
    /// The trace, where it was kept.
    pub trace: Vec<u8>,
}

/// A run under way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) world: World,
    pub(super) havoc: Havoc,
    workload: Workload,
    pub(super) random: Random,
    pub(super) shapes: Random,
    /// Since when nothing has gone wrong.
    quiet_since: Timestamp,
    /// What may pass, beside boot and join, until all demand has its place after the last trouble.
    served_within_ms: u64,
    outcome: Outcome,
}

impl Run {
    /// Starts the sidecar, and waits for its first decision.
    pub(super) async fn begin(mut world: World, seed: u64) -> Result<Self, SimulatorError> {
        world.begin().await?;
        // The head's pod takes its time, too.
        let deadline = world.after(READY_WITHIN_MS + world.scenario.boot.as_ms());
        let workload = Workload::new(
            seed,
            &world.scenario,
            (world.ray.clone(), world.clock.now()),
        );
        let mut run = Self {
            havoc: Havoc::new(seed),
            random: Random::new(seed, "run"),
            shapes: Random::new(seed, "shapes"),
            quiet_since: world.clock.now(),
            served_within_ms: SERVED_WITHIN_MS,
            outcome: Outcome {
                seed,
                ..Outcome::default()
            },
            workload,
            world,
        };
        while run
            .world
            .admin()
            .is_none_or(|admin| admin.last_pass().is_none())
        {
            if run.world.clock.now() > deadline {
                return Err(SimulatorError::NoSidecar);
            }
            run.step().await?;
        }
        Ok(run)
    }

    /// Lets trouble and quiet follow each other for so long, or until something must not be.
    pub(super) async fn play(&mut self, only: &Only, ms: u64) -> Result<(), SimulatorError> {
        let ends_at = self.world.after(ms);
        while self.world.clock.now() < ends_at && self.is_well() {
            self.trouble(only).await?;
            self.come_right().await?;
            if self.is_well() && self.havoc.has_edited_templates {
                self.check_templates().await?;
            }
            if self.is_well() && self.random.chance(GANGS_PERCENT) {
                self.check_gangs().await?;
            }
        }
        Ok(())
    }

    /// Returns what came of it.
    pub(super) fn finish(mut self, log_bytes: u64) -> Outcome {
        let world = &self.world;
        self.outcome.problem = world.witness.problem();
        self.outcome.met = world.board.met();
        self.outcome.writes = world.witness.writes();
        self.outcome.digest = world.trace.digest();
        self.outcome.trace = world.trace.take();
        self.outcome.log_bytes = log_bytes;
        self.outcome
    }

    pub(super) fn is_well(&self) -> bool {
        self.world.witness.problem().is_none()
    }

    /// Lets one step pass.
    pub(super) async fn step(&mut self) -> Result<(), SimulatorError> {
        let at = self.world.after(STEP_MS);
        if let Some(ended) = self.world.sleep_until(at).await {
            self.world.witness.object(ended);
        }
        self.world.follow_container().await?;
        self.world.witness.note_demand();
        self.follow_old_heads();
        self.check_alive();
        Ok(())
    }

    /// Lets time pass in which nothing goes wrong.
    pub(super) async fn rest(&mut self, ms: u64) -> Result<(), SimulatorError> {
        let at = self.world.after(ms);
        if let Some(ended) = self.world.sleep_until(at).await {
            self.world.witness.object(ended);
        }
        self.check_alive();
        self.world.follow_container().await
    }

    /// Objects to decisions that broke a rule of the engine, whether or not another one was made in their place.
    fn check_rules(&self) {
        let Some(pass) = self.world.admin().and_then(|admin| admin.last_pass()) else {
            return;
        };
        let mut holds = pass.decision.holds.iter();
        let replaced = holds.find(|hold| hold.code == "invariant");
        let is_held = pass.outcome == "violated";
        let broken = replaced.map(|hold| hold.detail.clone());
        if let Some(broken) = broken.or(is_held.then_some(pass.outcome_detail)) {
            let text = format!("a decision broke a rule: {broken}");
            self.world.witness.object(text);
        }
    }

    fn check_alive(&mut self) {
        self.check_rules();
        let now = self.world.clock.now();
        if !self.world.board.is_quiet() || self.world.admin().is_none() {
            self.quiet_since = now;
        }
        let Some(age_ms) = self.world.pass_age_ms() else {
            return;
        };
        let quiet_ms = now.millis_since(self.quiet_since);
        let limit_ms = if quiet_ms > PASS_WITHIN_TROUBLE_MS {
            PASS_WITHIN_MS
        } else {
            PASS_WITHIN_TROUBLE_MS
        };
        if age_ms > limit_ms {
            self.world
                .witness
                .object(format!("no pass for {age_ms} ms"));
        }
    }

    async fn trouble(&mut self, only: &Only) -> Result<(), SimulatorError> {
        self.end_old_heads();
        let ms = self.random.between(TROUBLE_MS.0, TROUBLE_MS.1);
        let now = self.world.clock.now();
        let kinds = self.havoc.plan(only, now, ms);

        let leaves = |kind: &FaultKind| {
            let name = kind.name();
            LEAVES_TRACES.iter().any(|part| name.starts_with(part))
        };
        self.served_within_ms = if kinds.iter().any(leaves) {
            SERVED_WITHIN_MS
        } else {
            let pass_ms = self.world.pass_interval_ms() + LOAD_PULL_MS;
            CALLS_END_WITHIN_MS + 2 * pass_ms + STEP_MS
        };
        let is_in_sight = |kind: &FaultKind| {
            let name = kind.name();
            [
                "api", "watch", "gcs-un", "gcs-h", "gcs-sl", "sidecar", "drain",
            ]
            .iter()
            .any(|part| name.starts_with(part))
        };
        self.world
            .witness
            .check_launches(kinds.iter().all(is_in_sight));
        let blinds = |kind: &FaultKind| {
            let name = kind.name();
            ["api", "watch", "clock"]
                .iter()
                .any(|part| name.starts_with(part))
        };
        self.world
            .witness
            .check_protection(!kinds.iter().any(blinds));
        let ends_at = now.plus_ms(ms);
        while self.world.clock.now() < ends_at && self.is_well() {
            self.havoc.act(&mut self.world).await?;
            if let Some(asked) = self.workload.act(self.world.clock.now()) {
                self.world.trace.say(&asked);
            }
            self.step().await?;
        }
        Ok(())
    }

    /// Ends all trouble and all work, then asks for what each group can give, and sees it come and go.
    async fn come_right(&mut self) -> Result<(), SimulatorError> {
        if !self.is_well() {
            return Ok(());
        }
        self.havoc.end_all(&mut self.world).await?;
        self.workload.end();
        self.world.trace.say("quiet");
        if !self.wait_for_head().await? {
            return Ok(());
        }
        self.outcome.checks += 1;
        let mut probes = self.probe().await?;
        let mut asked_at = self.world.clock.now();
        let (mut seen_at, mut is_held) = (None, false);
        let scenario = &self.world.scenario;
        let slow_ms = scenario.boot.as_ms() + scenario.join.as_ms();
        while self.is_well() && !self.are_placed(&probes) {
            if self.are_lost(&probes) && self.wait_for_head().await? {
                probes = self.probe().await?;
                asked_at = self.world.clock.now();
                seen_at = None;
            }
            self.check_asked(&probes, asked_at, &mut seen_at).await?;
            let deadline = asked_at.plus_ms(slow_ms + self.served_within_ms);
            if self.world.clock.now() > deadline {
                if self.are_all_there_can_be(&probes).await? {
                    is_held = true;
                    break;
                }
                let text = self.describe(&probes).await?;
                self.world.witness.object(format!("not served: {text}"));
            }
            self.step().await?;
        }
        let waited_ms = self.world.clock.now().millis_since(asked_at);
        let beyond_ms = waited_ms.saturating_sub(slow_ms);
        self.outcome.served_ms_max = self.outcome.served_ms_max.max(beyond_ms);
        for (probe, _) in &probes {
            self.world.ray.cancel(*probe);
        }
        self.world
            .trace
            .say(&format!("served {beyond_ms} ms after boot and join"));
        self.see_small().await?;
        if is_held {
            // Now that the work has ended that held a half replica, there is room for everything.
            return Box::pin(self.come_right()).await;
        }
        Ok(())
    }

    /// Sees everything come back to its minimum, now that nothing is to be done.
    pub(super) async fn see_small(&mut self) -> Result<(), SimulatorError> {
        let freed_at = self.world.clock.now();
        let idle_ms = self.world.scenario.idle_timeout.as_ms();
        let deadline = freed_at.plus_ms(idle_ms + SMALL_WITHIN_MS);
        while self.is_well() {
            let large = self.what_is_large().await?;
            if large.is_empty() {
                break;
            }
            if self.world.clock.now() > deadline {
                let large = large.join(", ");
                let text = self.describe(&[]).await?;
                self.world
                    .witness
                    .object(format!("not small: {large}; {text}"));
            }
            self.step().await?;
        }
        let small_ms = self.world.clock.now().millis_since(freed_at);
        let small_ms = small_ms.saturating_sub(idle_ms);
        self.outcome.small_ms_max = self.outcome.small_ms_max.max(small_ms);
        self.world.trace.say(&format!("small after {small_ms} ms"));
        Ok(())
    }

    /// Waits until head, GCS and sidecar are there again, which is not the sidecar's doing.
    async fn wait_for_head(&mut self) -> Result<bool, SimulatorError> {
        let deadline = self.world.after(180_000);
        while self.is_well() && !(self.world.ray.has_gcs() && self.world.admin().is_some()) {
            if self.world.clock.now() > deadline {
                self.world.witness.object("there is no head".to_owned());
            }
            self.step().await?;
        }
        Ok(self.is_well())
    }

    /// Asks for tasks that run on one group's nodes only, as many as it may have.
    async fn probe(&mut self) -> Result<Vec<(WorkId, String)>, SimulatorError> {
        let raycluster = self.world.raycluster().await?;
        let room = room(&raycluster);
        let mut probes = Vec::new();
        for (name, room) in room.into_iter().filter(|(_, room)| *room > 0) {
            let count = self.random.between(1, room.min(6));
            let id = self.world.ray.submit_tasks(Tasks {
                resources: whole(&[(&name, 1)]),
                count,
                ..Tasks::default()
            });
            self.world.trace.say(&format!("probe {count} {name}"));
            probes.push((id, name));
        }
        Ok(probes)
    }

    fn are_placed(&self, probes: &[(WorkId, String)]) -> bool {
        probes.iter().all(|(id, _)| self.is_placed(*id))
    }

    /// Returns whether all of this work has its place.
    pub(super) fn is_placed(&self, id: WorkId) -> bool {
        let view = self.world.ray.view();
        let mut works = view.works.iter();
        works.any(|work| work.id == id && work.placed_at.is_some())
    }

    /// Returns whether a head took what was asked for with it: one whose GCS is another cluster's starts its
    /// container anew a few seconds later.
    fn are_lost(&self, probes: &[(WorkId, String)]) -> bool {
        let view = self.world.ray.view();
        let is_there = |id: &WorkId| view.works.iter().any(|work| work.id == *id);
        probes.iter().any(|(id, _)| !is_there(id))
    }

    /// Returns what is not at its minimum, or still stands in a list.
    pub(super) async fn what_is_large(&self) -> Result<Vec<String>, SimulatorError> {
        let raycluster = self.world.raycluster().await?;
        let workers = self.world.workers(None).await?;
        let mut large = Vec::new();
        for spec in groups(&raycluster) {
            let name = text(&spec, "groupName");
            let (min, replicas) = (number(&spec, "minReplicas"), number(&spec, "replicas"));
            let is_of = |pod: &&Pod| pod.labels().get("ray.io/group") == Some(&name);
            let to_go = workers.iter().filter(is_of).filter(|pod| is_to_go(pod));
            large.extend(to_go.map(|pod| format!("{} is to go", pod.name_any())));
            let pods = workers.iter().filter(is_of).count();
            let hosts = number(&spec, "numOfHosts").max(1);
            let is_right = u64::try_from(pods).unwrap_or(0) == min * hosts;
            let listed = list(&spec);
            if replicas != min || !is_right || !listed.is_empty() {
                large.push(format!(
                    "{name}: minimum {min}, {replicas} replicas, {pods} pods, names {listed:?}"
                ));
            }
        }
        Ok(large)
    }

    /// Tells how things are, for whoever reads of a failure.
    pub(super) async fn describe(
        &self,
        probes: &[(WorkId, String)],
    ) -> Result<String, SimulatorError> {
        let view = self.world.ray.view();
        let waiting = probes.iter().filter_map(|(id, name)| {
            let work = view.works.iter().find(|work| work.id == *id)?;
            Some(format!(
                "{name}: {} wait, {} run",
                work.queued, work.running
            ))
        });
        let waiting: BTreeSet<String> = waiting.collect();
        let mut states = Vec::new();
        for pod in self.world.workers(None).await? {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let node = view.nodes.iter().rev().find(|node| node.pod == name);
            let phase = pod.status.and_then(|status| status.phase);
            let going = pod.metadata.deletion_timestamp.is_some();
            states.push(format!(
                "{name} {} {going} {:?}",
                phase.unwrap_or_default(),
                node.map(|node| node.condition)
            ));
        }
        let pass = self.world.admin().and_then(|admin| admin.last_pass());
        let pass = pass.map(|pass| format!("{} {:?}", pass.outcome, pass.decision));
        Ok(format!("{waiting:?}; pods {states:?}; last pass {pass:?}"))
    }
}
