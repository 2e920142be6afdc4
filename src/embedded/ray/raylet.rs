//! One raylet: what it has, what is taken of it, whether it is idle or drains.

use crate::embedded::news;
use crate::model::{
    Labels, NodeId, Quantity, ResourceMap, ResourceName, ResourceRequest, Timestamp,
};
use std::sync::Arc;

/// The total by which Ray marks its head.
const HEAD_RESOURCE: &str = "node:__internal_head__";

/// Describes a node as `ray start` registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// `RAY_CLOUD_INSTANCE_ID`, the name of the pod.
    pub pod: String,
    /// `RAY_NODE_TYPE_NAME`, the name of the group.
    pub group: String,
    /// What flags and machine give; Ray's own entries are added.
    pub resources: ResourceMap,
    /// The labels given by flag.
    pub labels: Labels,
    /// The node's IP address.
    pub address: String,
    /// The port of the raylet's own service.
    pub port: u16,
    /// Whether it is the head's.
    pub is_head: bool,
}

/// Says how a raylet's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With code 0: `ray start --block` takes that as graceful, and its container stays.
    Gracefully,
    /// In any other way: the container ends, too.
    Crashed,
}

/// Why a node stops, as its death is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Expected,
    Unexpected,
    Preempted,
    Idle,
}

/// Holds an order to end with the last work; the deadline binds nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drain {
    pub(super) cause: Cause,
    pub(super) message: String,
    pub(super) deadline: Option<Timestamp>,
}

/// Requests of one shape that wait at one raylet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) request: ResourceRequest,
    /// Leases that fit some node, but not now.
    pub(super) ready: u64,
    /// Leases that fit no node.
    pub(super) infeasible: u64,
    /// Requests beyond the leases that a caller asks for at one time.
    pub(super) backlog: u64,
}

/// Holds what a raylet says of itself.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) at: Timestamp,
    pub(super) total: ResourceMap,
    pub(super) available: ResourceMap,
    pub(super) idle_ms: u64,
    pub(super) drain: Option<Drain>,
    pub(super) waiting: Vec<Waiting>,
    /// What it was last busy with; Ray does not take it back.
    pub(super) activity: Vec<String>,
}

/// A raylet that runs.
#[derive(Debug)]
pub(super) struct Raylet {
    pub(super) spec: Arc<NodeSpec>,
    pub(super) labels: Labels,
    /// The how manieth raylet it is.
    pub(super) number: u64,
    pub(super) total: ResourceMap,
    pub(super) available: ResourceMap,
    pub(super) drain: Option<Drain>,
    pub(super) ended: news::Sender<Option<Ended>>,
    idle_since: Option<Timestamp>,
    activity: Vec<String>,
}

impl Raylet {
    pub(super) fn new(id: NodeId, spec: Arc<NodeSpec>, (number, now): (u64, Timestamp)) -> Self {
        let mut total = spec.resources.clone();
        let one = Quantity::from_whole(1);
        total.set(
            ResourceName::from(format!("node:{}", spec.address).as_str()),
            one,
        );
        if spec.is_head {
            total.set(ResourceName::from(HEAD_RESOURCE), one);
        }
        // A resource of which there is none is not registered.
        let none: Vec<ResourceName> = total
            .iter()
            .filter(|(_, amount)| amount.is_zero())
            .map(|(name, _)| name.clone())
            .collect();
        for name in &none {
            total.remove(name.as_str());
        }
        let mut labels = spec.labels.clone();
        labels.insert("ray.io/node-id".to_owned(), id.to_string());
        labels.insert("ray.io/node-group".to_owned(), spec.group.clone());
        Self {
            spec,
            labels,
            number,
            available: total.clone(),
            total,
            drain: None,
            ended: news::Sender::new(None),
            idle_since: Some(now),
            activity: Vec::new(),
        }
    }

    /// Returns whether new work may come here.
    pub(super) const fn takes_work(&self) -> bool {
        self.drain.is_none()
    }

    /// Returns whether nothing is taken.
    pub(super) const fn is_idle(&self) -> bool {
        self.idle_since.is_some()
    }

    /// Returns how long nothing has been taken, in milliseconds.
    pub(super) fn idle_ms(&self, now: Timestamp) -> u64 {
        self.idle_since.map_or(0, |since| now.millis_since(since))
    }

    /// Returns whether an empty node of this kind could hold these.
    pub(super) fn could_hold(&self, resources: &ResourceMap) -> bool {
        holds(&self.total, resources)
    }

    /// Takes these.
    pub(super) fn take(&mut self, resources: &ResourceMap, now: Timestamp) {
        self.available.subtract(resources, 1);
        self.note_use(now);
    }

    /// Gives these back.
    pub(super) fn give_back(&mut self, resources: &ResourceMap, now: Timestamp) {
        self.available.add(resources);
        self.note_use(now);
    }

    /// Adds resources that a bundle brings.
    pub(super) fn extend(&mut self, resources: &ResourceMap) {
        self.total.add(resources);
        self.available.add(resources);
    }

    /// Removes resources that a bundle brought.
    pub(super) fn shrink(&mut self, resources: &ResourceMap) {
        for map in [&mut self.total, &mut self.available] {
            map.subtract(resources, 1);
            for (name, _) in resources.iter() {
                if map.get(name.as_str()) <= Quantity::ZERO {
                    map.remove(name.as_str());
                }
            }
        }
    }

    /// Sets the total of one resource, never below what is taken; the idle clock starts anew.
    pub(super) fn resize(&mut self, name: &str, wanted: Quantity, now: Timestamp) {
        let taken = self
            .total
            .get(name)
            .saturating_sub(self.available.get(name));
        let total = wanted.max(taken);
        let name = ResourceName::from(name);
        self.available
            .set(name.clone(), total.saturating_sub(taken));
        self.total.set(name, total);
        self.idle_since = self.idle_since.map(|_| now);
    }

    /// Returns how much of the scarcest of CPU, memory and object store is taken, in 1/1000.
    pub(super) fn utilization(&self) -> i128 {
        let share = |name: &str| {
            let total = i128::from(self.total.get(name).units());
            let taken = total - i128::from(self.available.get(name).units());
            if total > 0 { taken * 1000 / total } else { 0 }
        };
        ["CPU", "memory", "object_store_memory"]
            .into_iter()
            .map(share)
            .fold(0, i128::max)
    }

    /// Returns what it would say of itself now.
    pub(super) fn report(&self, waiting: Vec<Waiting>, now: Timestamp) -> Report {
        Report {
            at: now,
            total: self.total.clone(),
            available: self.available.clone(),
            idle_ms: self.idle_ms(now),
            drain: self.drain.clone(),
            waiting,
            activity: self.activity.clone(),
        }
    }

    fn note_use(&mut self, now: Timestamp) {
        let taken = self
            .total
            .iter()
            .filter(|(name, total)| self.available.get(name.as_str()) != *total);
        let names: Vec<&str> = taken.map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            self.idle_since.get_or_insert(now);
            return;
        }
        let uses = names
            .iter()
            .map(|name| format!("Resource: {name} currently in use."));
        self.activity = std::iter::once("Busy workers on node.".to_owned())
            .chain(uses)
            .collect();
        self.idle_since = None;
    }
}

/// Returns whether `have` is enough for `wanted`.
pub(super) fn holds(have: &ResourceMap, wanted: &ResourceMap) -> bool {
    wanted
        .iter()
        .all(|(name, amount)| amount <= have.get(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::{NodeSpec, Raylet};
    use crate::model::{Labels, NodeId, Quantity, ResourceMap, ResourceName, Timestamp};
    use std::sync::Arc;

    fn map(amounts: &[(&str, i64)]) -> ResourceMap {
        let amounts = amounts.iter();
        amounts
            .map(|(name, amount)| (ResourceName::from(*name), Quantity::from_whole(*amount)))
            .collect()
    }

    fn raylet() -> Raylet {
        let spec = NodeSpec {
            pod: "w-0".to_owned(),
            group: "small".to_owned(),
            resources: map(&[("CPU", 4), ("GPU", 0)]),
            labels: Labels::from([("zone".to_owned(), "a".to_owned())]),
            address: "10.0.0.7".to_owned(),
            port: 1,
            is_head: false,
        };
        let id = NodeId::from_bytes(&[1; 28]).unwrap();
        Raylet::new(id, Arc::new(spec), (0, Timestamp::from_ms(0)))
    }

    #[test]
    fn it_registers_what_it_has_and_ray_adds() {
        let raylet = raylet();
        assert_eq!(raylet.total.to_string(), "{CPU: 4, node:10.0.0.7: 1}");
        assert_eq!(raylet.labels["zone"], "a");
        assert_eq!(raylet.labels["ray.io/node-group"], "small");
        assert_eq!(raylet.labels["ray.io/node-id"], "01".repeat(28));
    }

    #[test]
    fn it_is_idle_since_the_last_work_was_given_back() {
        let mut raylet = raylet();
        let at = Timestamp::from_ms;
        assert_eq!(raylet.idle_ms(at(5)), 5);
        raylet.take(&map(&[("CPU", 1)]), at(10));
        assert_eq!((raylet.is_idle(), raylet.idle_ms(at(15))), (false, 0));
        assert_eq!(raylet.utilization(), 250);
        raylet.give_back(&map(&[("CPU", 1)]), at(20));
        assert_eq!(raylet.idle_ms(at(25)), 5);
        assert!(raylet.report(Vec::new(), at(25)).activity[1].contains("CPU"));
    }

    #[test]
    fn it_shrinks_no_further_than_its_work_allows() {
        let mut raylet = raylet();
        raylet.take(&map(&[("CPU", 3)]), Timestamp::from_ms(0));
        raylet.resize("CPU", Quantity::from_whole(1), Timestamp::from_ms(1));
        assert_eq!(raylet.total.get("CPU"), Quantity::from_whole(3));
        assert_eq!(raylet.available.get("CPU"), Quantity::ZERO);
        raylet.resize("CPU", Quantity::from_whole(8), Timestamp::from_ms(1));
        assert_eq!(raylet.available.get("CPU"), Quantity::from_whole(5));
    }
}
