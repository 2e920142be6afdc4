//! Takes patches and keeps them to itself.

use std::collections::VecDeque;

use super::PatchPlan;

/// Enough to look at; the log and the metrics tell the rest.
const KEPT_MAX: usize = 16;

/// Records patches instead of sending them.
#[derive(Debug, Clone, Default)]
pub struct DryRun {
    recent: VecDeque<PatchPlan>,
    count: u64,
}

impl DryRun {
    /// Returns the latest patches, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &PatchPlan> {
        self.recent.iter()
    }

    /// Returns how many patches would have been sent.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Records `plan`.
    pub fn record(&mut self, plan: &PatchPlan) {
        if self.recent.len() == KEPT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(plan.clone());
        self.count = self.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::{DryRun, KEPT_MAX};
    use crate::act::PatchPlan;

    #[test]
    fn the_latest_patches_are_kept() {
        let mut dry_run = DryRun::default();
        for number in 0..20 {
            dry_run.record(&PatchPlan {
                ops: vec![number.into()],
                groups: Vec::new(),
            });
        }
        assert_eq!(dry_run.count(), 20);
        assert_eq!(dry_run.recent().count(), KEPT_MAX);
        assert_eq!(dry_run.recent().next().unwrap().ops, [4]);
    }
}
