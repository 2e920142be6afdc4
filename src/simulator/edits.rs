//! What people do to a RayCluster while it is being scaled.

use kube::api::{DynamicObject, PostParams};
use kube::core::Status;
use serde_json::{Value, json};

use super::SimulatorError;
use super::faults::FaultKind;
use super::random::Random;
use super::witness::{groups, number, text};
use super::world::World;
use crate::sandbox::manifest::CLUSTER;

/// A write at the same time is met again this often at most.
const TRIES: u32 = 5;

/// Edits with a die of their own.
#[derive(Debug)]
pub(super) struct Editor {
    random: Random,
    names: u32,
}

impl Editor {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed, "edits"),
            names: 0,
        }
    }

    /// Edits the RayCluster; returns what was done, in words.
    pub(super) async fn edit(
        &mut self,
        world: &World,
        kind: FaultKind,
    ) -> Result<String, SimulatorError> {
        let pod = self.some_pod(world).await?;
        replace(world, |object| {
            self.change(world, kind, (object, pod.as_deref()))
        })
        .await
    }

    /// Resumes a suspended cluster.
    pub(super) async fn resume(&self, world: &World) -> Result<(), SimulatorError> {
        let resume = |object: &mut Value| {
            object["spec"]["suspend"] = json!(false);
            String::new()
        };
        replace(world, resume).await.map(|_| ())
    }

    async fn some_pod(&mut self, world: &World) -> Result<Option<String>, SimulatorError> {
        let pods = world.workers(None).await?;
        let pod = self.random.pick(&pods);
        Ok(pod.and_then(|pod| pod.metadata.name.clone()))
    }

    fn change(
        &mut self,
        world: &World,
        kind: FaultKind,
        (object, pod): (&mut Value, Option<&str>),
    ) -> String {
        let written = &world.manifest["spec"]["workerGroupSpecs"];
        let count = groups(object).len();
        let at = usize::try_from(self.random.next() % u64::try_from(count.max(1)).unwrap_or(1));
        let at = at.unwrap_or(0);
        let Some(specs) = object["spec"]["workerGroupSpecs"].as_array_mut() else {
            return "there are no groups".to_owned();
        };
        match kind {
            FaultKind::EditReplicas | FaultKind::EditBounds => self.resize(kind, &mut specs[at]),
            FaultKind::EditReset => {
                for spec in specs.iter_mut() {
                    spec["replicas"] = spec["minReplicas"].clone();
                }
                "replicas as they were".to_owned()
            }
            FaultKind::EditAddGroup if count < 6 => {
                let mut added = specs[at].clone();
                let name = self.name();
                added["groupName"] = json!(name);
                added["replicas"] = added["minReplicas"].clone();
                added["scaleStrategy"] = json!({});
                specs.insert(at, added);
                format!("adds {name}")
            }
            FaultKind::EditRemoveGroup if count > 1 => {
                let removed = specs.remove(at);
                format!("removes {}", text(&removed, "groupName"))
            }
            FaultKind::EditRename => {
                let name = self.name();
                let old = text(&specs[at], "groupName");
                specs[at]["groupName"] = json!(name);
                format!("{old} is {name} now")
            }
            FaultKind::EditReorder => {
                specs.rotate_left(at.max(1) % count.max(1));
                "order".to_owned()
            }
            FaultKind::EditDelete => order(world, specs, pod),
            FaultKind::EditSuspend => {
                object["spec"]["suspend"] = json!(true);
                "suspends".to_owned()
            }
            FaultKind::EditAnnotations => {
                object["metadata"]["annotations"] = json!({});
                "wipes annotations".to_owned()
            }
            FaultKind::EditApply => {
                object["spec"]["workerGroupSpecs"] = written.clone();
                "applies what was written at first".to_owned()
            }
            _ => "nothing to edit".to_owned(),
        }
    }

    fn resize(&mut self, kind: FaultKind, spec: &mut Value) -> String {
        let name = text(spec, "groupName");
        if kind == FaultKind::EditReplicas {
            let max = number(spec, "maxReplicas");
            let replicas = self.random.between(0, max.saturating_add(2));
            spec["replicas"] = json!(replicas);
            return format!("{name} replicas {replicas}");
        }
        let max = self.random.between(1, 6);
        let min = self.random.between(0, max.min(2));
        spec["minReplicas"] = json!(min);
        spec["maxReplicas"] = json!(max);
        format!("{name} bounds {min} to {max}")
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("new-{}", self.names)
    }
}

/// Changes the RayCluster, again where somebody else has written meanwhile; returns what was done, in words.
pub(super) async fn replace(
    world: &World,
    mut change: impl FnMut(&mut Value) -> String,
) -> Result<String, SimulatorError> {
    for _ in 0..TRIES {
        let before = world.raycluster().await?;
        let mut after = before.clone();
        let words = change(&mut after);
        let object: DynamicObject = serde_json::from_value(after.clone())?;
        let params = PostParams::default();
        match world.rayclusters().replace(CLUSTER, &params, &object).await {
            Ok(_) => {
                note_bounds(world, &before, &after);
                return Ok(words);
            }
            Err(kube::Error::Api(status)) if is_conflict(&status) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok("gave up".to_owned())
}

/// Names a pod in the list of its group.
fn order(world: &World, specs: &mut [Value], pod: Option<&str>) -> String {
    let Some(pod) = pod else {
        return "there is no pod to name".to_owned();
    };
    let is_of = |spec: &&mut Value| {
        pod.starts_with(&format!("{CLUSTER}-{}-worker-", text(spec, "groupName")))
    };
    let Some(spec) = specs.iter_mut().find(is_of) else {
        return format!("{pod} has no group");
    };
    let mut list = super::witness::list(spec);
    list.push(pod.to_owned());
    list.dedup();
    spec["scaleStrategy"]["workersToDelete"] = json!(list);
    world.witness.on_order(pod);
    format!("names {pod}")
}

fn note_bounds(world: &World, before: &Value, after: &Value) {
    for group in groups(after) {
        let name = text(&group, "groupName");
        let old = groups(before);
        let old = old.iter().find(|old| text(old, "groupName") == name);
        let bounds = |group: &Value| (number(group, "minReplicas"), number(group, "maxReplicas"));
        let Some(old) = old.map(bounds) else {
            world.witness.on_bounds(&name, false);
            continue;
        };
        if old != bounds(&group) {
            world.witness.on_bounds(&name, bounds(&group).1 < old.1);
        }
    }
}

fn is_conflict(status: &Status) -> bool {
    status.code == 409
}
