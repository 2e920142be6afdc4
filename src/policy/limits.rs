//! Limits that a policy sets on the draft of a group before demand is placed.

use crate::model::WorkerGroupName;

use super::Plan;

impl Plan {
    /// Lets a group grow to at most `replicas` in this decision; of several limits the lowest counts.
    ///
    /// A minimum comes before it. Demand that it keeps from being served is reported with `code`.
    pub fn limit(
        &mut self,
        name: &WorkerGroupName,
        replicas: u32,
        code: &'static str,
        detail: &str,
    ) {
        let Some(at) = self.index.get(name).copied() else {
            return;
        };
        let Some(group) = self.groups.get_mut(at) else {
            return;
        };
        let most = group.ceiling.unwrap_or(group.bounds.max);
        if replicas < most.min(group.bounds.max) {
            group.ceiling = Some(replicas);
            self.pool.set_limited(at, (code, detail.to_owned()));
            self.update_room(at);
        }
    }

    /// Lets nothing come or go: only what is there and on its way serves, and nobody asks why the rest is not served.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.may_remove = false;
        for at in 0..self.groups.len() {
            if let Some(group) = self.groups.get_mut(at) {
                group.ceiling = Some(0);
            }
            self.update_room(at);
        }
    }

    /// Lets a group neither grow nor give up what is idle in this decision.
    pub fn freeze(&mut self, name: &WorkerGroupName, code: &'static str, detail: &str) {
        let replicas = self.replicas_to(name);
        self.limit(name, replicas, code, detail);
        let at = self.index.get(name).copied();
        if let Some(group) = at.and_then(|at| self.groups.get_mut(at)) {
            group.frozen = Some(code);
        }
    }

    /// Returns whether pods are to grow in place that have not been as large before: what is placed first may fit
    /// better elsewhere once they are, so that what nothing needs is known by the next look.
    #[must_use]
    pub(crate) fn has_yet_to_grow(&self) -> bool {
        self.pool.corrections().grown && !self.pool.resized().is_empty()
    }

    /// Returns why a group is frozen; `None` when it is not.
    #[must_use]
    pub fn frozen(&self, name: &WorkerGroupName) -> Option<&'static str> {
        self.group(name)?.frozen
    }
}
