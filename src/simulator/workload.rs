//! What users of Ray do: tasks, actors that stay, placement groups, `request_resources`, labels.

use super::random::Random;
use crate::embedded::ray::{
    Actor, Bundle, PlacementGroup, PlacementGroupId, RayHead, Tasks, WorkId,
};
use crate::model::{
    LabelConstraint, LabelOperator, LabelSelector, PlacementStrategy, Quantity, ResourceMap,
    ResourceName, Timestamp,
};
use crate::sandbox::scenario::{Group, Scenario};

/// The label by which some work asks for its node.
pub(super) const LABEL: &str = "zone";

/// Asks for things, and takes them back.
#[derive(Debug)]
pub(super) struct Workload {
    random: Random,
    ray: RayHead,
    groups: Vec<Group>,
    next_at: Timestamp,
    open: Vec<(Timestamp, Open)>,
    works: Vec<WorkId>,
}

/// Something that ends only when it is taken back.
#[derive(Debug, Clone, Copy)]
enum Open {
    Actor(WorkId),
    Group(PlacementGroupId),
    Constraint,
}

/// Returns what every node of a group has and no other: work that needs it runs there or nowhere.
pub(super) fn own_resource(group: &str) -> String {
    format!("{group}-own")
}

/// Returns amounts in whole units.
pub(super) fn whole(amounts: &[(&str, i64)]) -> ResourceMap {
    let amounts = amounts.iter();
    amounts
        .map(|(name, amount)| (ResourceName::from(*name), Quantity::from_whole(*amount)))
        .collect()
}

impl Workload {
    pub(super) fn new(seed: u64, scenario: &Scenario, (ray, now): (RayHead, Timestamp)) -> Self {
        Self {
            random: Random::new(seed, "workload"),
            ray,
            groups: scenario.groups.clone(),
            next_at: now,
            open: Vec::new(),
            works: Vec::new(),
        }
    }

    /// Takes back what is due, and asks for the next thing when its time has come.
    pub(super) fn act(&mut self, now: Timestamp) -> Option<String> {
        let due = |at: &Timestamp| *at <= now;
        let (over, open): (Vec<_>, Vec<_>) = self.open.drain(..).partition(|(at, _)| due(at));
        self.open = open;
        for (_, open) in over {
            self.take_back(open);
        }
        if self.next_at > now {
            return None;
        }
        self.next_at = now.plus_ms(self.random.between(3_000, 25_000));
        Some(self.ask(now))
    }

    /// Takes everything back.
    pub(super) fn end(&mut self) {
        for (_, open) in std::mem::take(&mut self.open) {
            self.take_back(open);
        }
        for work in std::mem::take(&mut self.works) {
            self.ray.cancel(work);
        }
        self.ray.request_resources(&[]);
    }

    fn take_back(&self, open: Open) {
        match open {
            Open::Actor(id) => self.ray.cancel(id),
            Open::Group(id) => self.ray.remove_placement_group(id),
            Open::Constraint => self.ray.request_resources(&[]),
        }
    }

    fn ask(&mut self, now: Timestamp) -> String {
        let kind = self.random.between(0, 9);
        let ends_at = now.plus_ms(self.random.between(15_000, 80_000));
        let resources = self.resources();
        match kind {
            0..=4 => self.tasks(resources),
            5 | 6 => {
                let count = self.random.between(1, 3);
                let text = format!("ask {count} actors {resources}");
                for _ in 0..count {
                    let actor = Actor {
                        resources: resources.clone(),
                        restarts: true,
                        ..Actor::default()
                    };
                    let id = self.ray.create_actor(actor);
                    self.open.push((ends_at, Open::Actor(id)));
                }
                text
            }
            7 | 8 => {
                let strategies = [
                    PlacementStrategy::Pack,
                    PlacementStrategy::Spread,
                    PlacementStrategy::StrictPack,
                    PlacementStrategy::StrictSpread,
                ];
                let strategy = self
                    .random
                    .pick(&strategies)
                    .copied()
                    .unwrap_or(PlacementStrategy::Pack);
                let bundle = Bundle {
                    resources: resources.clone(),
                    ..Bundle::default()
                };
                let count = self.random.between(2, 3);
                let bundles = (0..count).map(|_| bundle.clone()).collect();
                let group = PlacementGroup { strategy, bundles };
                let id = self.ray.create_placement_group(group);
                self.open.push((ends_at, Open::Group(id)));
                format!("ask {strategy:?} of {count} {resources}")
            }
            _ => {
                let count = self.random.between(1, 4);
                self.ray.request_resources(&[(resources.clone(), count)]);
                self.open.push((ends_at, Open::Constraint));
                format!("request {count} {resources}")
            }
        }
    }

    fn tasks(&mut self, resources: ResourceMap) -> String {
        let count = self.random.between(1, 8);
        let duration_ms = self.random.between(2_000, 40_000);
        let mut tasks = Tasks {
            resources,
            count,
            duration_ms: Some(duration_ms),
            ..Tasks::default()
        };
        if self.random.chance(20) {
            tasks.selectors.push(LabelSelector {
                constraints: vec![LabelConstraint {
                    key: LABEL.to_owned(),
                    operator: LabelOperator::In,
                    values: vec!["a".to_owned()],
                }],
            });
        }
        let text = format!(
            "ask {count} tasks {} of {duration_ms} ms {}",
            tasks.resources,
            if tasks.selectors.is_empty() {
                "anywhere"
            } else {
                "in zone a"
            }
        );
        self.works.push(self.ray.submit_tasks(tasks));
        text
    }

    fn resources(&mut self) -> ResourceMap {
        let group = self
            .random
            .pick(&self.groups)
            .map(|group| group.name.clone());
        let cpus = i64::from(self.random.size(1, 4));
        match (self.random.between(0, 3), group) {
            (0, Some(group)) => whole(&[(&own_resource(&group), 1)]),
            (1, _) if self.groups.iter().any(|group| group.name == "gpu") => whole(&[("GPU", 1)]),
            _ => whole(&[("CPU", cpus)]),
        }
    }
}
