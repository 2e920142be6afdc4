//! A cluster on which a scenario is played by hand: for failures that somebody has seen and told of.

use serde_json::Value;

use super::SimulatorError;
use super::edits::replace;
use super::faults::FaultKind;
use super::run::Run;
use super::witness::{groups, list, number, text};
use crate::admin::LastPass;
use crate::embedded::ray::{HeadView, RayHead};

/// A cluster with the whole sidecar, whose every write is judged.
#[derive(Debug)]
pub struct Stage {
    run: Run,
}

/// Shows one worker group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// `replicas`.
    pub replicas: u64,
    /// `workersToDelete`.
    pub named: Vec<String>,
    /// Its pods, those that are being deleted among them.
    pub pods: Vec<String>,
}

impl Stage {
    pub(super) const fn new(run: Run) -> Self {
        Self { run }
    }

    /// Returns the Ray head.
    #[must_use]
    pub fn ray(&self) -> &RayHead {
        &self.run.world.ray
    }

    /// Returns how things are at Ray's.
    #[must_use]
    pub fn view(&self) -> HeadView {
        self.run.world.ray.view()
    }

    /// Returns the last pass of the sidecar.
    #[must_use]
    pub fn last_pass(&self) -> Option<LastPass> {
        self.run.world.admin().and_then(|admin| admin.last_pass())
    }

    /// Returns what must not be and was.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.run.world.witness.problem()
    }

    /// Returns how many writes of the sidecar have changed something.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.run.world.witness.writes()
    }

    /// Returns what the sidecar has lately set a group's `replicas` to, the oldest first.
    #[must_use]
    pub fn sizes(&self, group: &str) -> Vec<u64> {
        self.run.world.witness.sizes(group)
    }

    /// Has something go wrong for so long; `pass` lets it end.
    ///
    /// # Errors
    ///
    /// A refusal of the stand-ins.
    pub async fn begin(&mut self, kind: FaultKind, ms: u64) -> Result<(), SimulatorError> {
        let until = self.run.world.after(ms);
        self.run.havoc.begin(&mut self.run.world, kind, until).await
    }

    /// Lets time pass.
    ///
    /// # Errors
    ///
    /// A refusal of the stand-ins.
    pub async fn pass(&mut self, ms: u64) -> Result<(), SimulatorError> {
        self.wait(ms, |_| false).await.map(|_| ())
    }

    /// Lets time pass until something is so, at most `ms`; returns whether it is.
    ///
    /// # Errors
    ///
    /// A refusal of the stand-ins.
    pub async fn wait(
        &mut self,
        ms: u64,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Result<bool, SimulatorError> {
        let ends_at = self.run.world.after(ms);
        while !is_so(self) {
            if self.run.world.clock.now() >= ends_at || self.problem().is_some() {
                return Ok(false);
            }
            self.run.havoc.act(&mut self.run.world).await?;
            self.run.step().await?;
        }
        Ok(true)
    }

    /// Lets time pass until a group is so, at most `ms`; returns whether it is.
    ///
    /// # Errors
    ///
    /// A refusal of the stand-ins.
    pub async fn wait_for_group(
        &mut self,
        (name, ms): (&str, u64),
        mut is_so: impl FnMut(&GroupView) -> bool,
    ) -> Result<bool, SimulatorError> {
        let ends_at = self.run.world.after(ms);
        while !is_so(&self.group(name).await?) {
            if self.run.world.clock.now() >= ends_at || self.problem().is_some() {
                return Ok(false);
            }
            self.run.havoc.act(&mut self.run.world).await?;
            self.run.step().await?;
        }
        Ok(true)
    }

    /// Returns a worker group as it is; one that is not in the RayCluster has no replicas.
    ///
    /// # Errors
    ///
    /// A refusal of the stand-ins.
    pub async fn group(&self, name: &str) -> Result<GroupView, SimulatorError> {
        let specs = groups(&self.run.world.raycluster().await?);
        let spec = specs.iter().find(|spec| text(spec, "groupName") == name);
        let pods = self.run.world.workers(Some(name)).await?;
        let names = pods.into_iter().filter_map(|pod| pod.metadata.name);
        Ok(GroupView {
            replicas: spec.map_or(0, |spec| number(spec, "replicas")),
            named: spec.map(list).unwrap_or_default(),
            pods: names.collect(),
        })
    }

    /// Changes the RayCluster as its user does.
    ///
    /// # Errors
    ///
    /// A refusal of the stand-ins.
    pub async fn edit(&mut self, change: impl Fn(&mut Value)) -> Result<(), SimulatorError> {
        let change = |object: &mut Value| {
            change(object);
            String::new()
        };
        replace(&self.run.world, change).await.map(|_| ())
    }

    /// Lets the sidecar patch RayClusters, or takes the right away; it may read as before.
    ///
    /// # Errors
    ///
    /// A refusal of the stand-ins.
    pub async fn let_patch(&mut self, may: bool) -> Result<(), SimulatorError> {
        self.run.world.let_patch(may).await
    }

    /// Ends the raylet in a pod without a word.
    pub fn kill_raylet(&self, pod: &str) {
        for node in self.view().nodes.iter().filter(|node| node.pod == pod) {
            self.ray().kill_node(node.id);
        }
    }
}
