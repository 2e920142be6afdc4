//! Replicas that were asked for earlier and have no pod yet.

use crate::model::{LEAVING, WorkerGroupName};
use crate::placement::Origin;

use super::Plan;

impl Plan {
    /// Asks for `leaving` more where pods are missing: so many pods of the group are on their way out and
    /// count for the operator until they are gone.
    ///
    /// What is wanted stays as it is; as soon as the pods in their place are there the number goes back,
    /// so that none comes a second time when the old ones are gone.
    pub(crate) fn make_up(&mut self, name: &WorkerGroupName, leaving: u32) {
        let at = self.index.get(name).copied();
        let Some(group) = at.and_then(|at| self.groups.get_mut(at)) else {
            return;
        };
        let staying = u32::try_from(group.staying().count()).unwrap_or(u32::MAX);
        if group.target <= staying {
            return;
        }
        let to = group.target.saturating_add(leaving).min(group.bounds.max);
        let detail = format!("{leaving} pods on their way out count until they are gone");
        if to > group.target {
            group.change("engine", LEAVING, to, &detail);
        }
    }

    /// Takes back up to `replicas` replicas that were asked for earlier and have no pod yet, as far as
    /// nothing was placed on them and the minimum allows; returns how many.
    pub(super) fn call_off(
        &mut self,
        name: &WorkerGroupName,
        replicas: u32,
        code: &str,
        detail: &str,
    ) -> u32 {
        let Some(at) = self.index.get(name).copied().filter(|_| self.may_remove) else {
            return 0;
        };
        let unused = self.unused_to_come(name);
        let Some(group) = self.groups.get_mut(at) else {
            return 0;
        };
        let above = group.target.saturating_sub(group.bounds.min);
        let less = replicas.min(unused).min(group.to_come).min(above);
        if less == 0 {
            return 0;
        }
        group.to_come = group.to_come.saturating_sub(less);
        let to = group.target.saturating_sub(less);
        group.change(&self.author, code, to, detail);
        let nodes = u64::from(less).saturating_mul(self.pool.hosts(at));
        self.pool.withdraw_unused(at, Origin::ToCome, nodes);
        self.update_room(at);
        less
    }

    /// Keeps replicas of a group that have no pod yet from serving anything; they stay asked for.
    pub(super) fn bar_to_come(&mut self, name: &WorkerGroupName) {
        if let Some(at) = self.index.get(name).copied() {
            self.pool.bar_to_come(at);
        }
    }

    /// Returns how many replicas of a group without any pod nothing was placed on.
    pub(super) fn unused_to_come(&self, name: &WorkerGroupName) -> u32 {
        let at = self.index.get(name).copied();
        let Some((at, group)) = at.and_then(|at| Some((at, self.groups.get(at)?))) else {
            return 0;
        };
        let hosts = self.pool.hosts(at).max(1);
        let slots = self.pool.slots().iter();
        let to_come = slots.filter(|slot| slot.group == Some(at) && slot.origin == Origin::ToCome);
        let used: u64 = to_come
            .filter(|slot| !slot.uses.is_empty())
            .map(|slot| slot.count)
            .sum();
        // One used host keeps its replica; of those that are incomplete nobody knows which is whose.
        let used = u32::try_from(used.min(u64::from(u32::MAX))).unwrap_or(u32::MAX);
        let used = if hosts == 1 {
            used
        } else {
            used.min(group.to_come)
        };
        group.to_come.saturating_sub(used)
    }
}
