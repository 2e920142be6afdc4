//! Which demand Ray is told that no group could ever serve: it may cancel the tasks that wait for that.
//!
//! Demand is seen within a tenth of a second, while a RayCluster that may not be watched is read every few seconds. Who
//! adds a group and submits a job at once would find its tasks cancelled on what the RayCluster was before. So it has to
//! be read once more after demand was first found to fit nowhere. And where what a group's nodes have is a guess until
//! one has registered, nothing is proven.

use std::collections::BTreeMap;

use super::gcs_state::ENTRIES_MAX;
use super::pass::PassReport;
use crate::model::{Infeasible, Timestamp};

/// Codes of problems that say that a group's nodes are guessed at.
const GUESSED: [&str; 3] = ["computed_value", "cpu_unknown", "memory_unknown"];

/// How soon it is looked at again whether the RayCluster was read. Units: milliseconds.
const LOOK_AGAIN_MS: u64 = 1_000;

/// Remembers since when demand fits nowhere.
#[derive(Debug, Default)]
pub(super) struct Proven {
    since: BTreeMap<Infeasible, Timestamp>,
}

impl Proven {
    /// Returns what Ray is told, and when more may be known.
    pub(super) fn pass<'a>(
        &mut self,
        pass: &PassReport<'a>,
    ) -> (Vec<&'a Infeasible>, Option<Timestamp>) {
        let read_at = pass.snapshot.completeness.raycluster_at;
        let is_guessed = is_guessed(pass);
        let (mut since, mut told) = (BTreeMap::new(), Vec::new());
        let mut waits = false;
        for infeasible in pass.decision.infeasible.iter().take(ENTRIES_MAX) {
            let known = self.since.remove_entry(infeasible);
            let (key, at) = known.unwrap_or_else(|| (infeasible.clone(), pass.observed_at));
            let is_read = read_at.is_some_and(|read_at| read_at >= at);
            if is_read && !is_guessed {
                told.push(infeasible);
            }
            waits |= !is_read;
            since.insert(key, at);
        }
        self.since = since;
        let look_again = waits.then(|| pass.observed_at.plus_ms(LOOK_AGAIN_MS));
        (told, look_again)
    }
}

/// Returns whether what some group's nodes have is not known before one of them registers.
fn is_guessed(pass: &PassReport<'_>) -> bool {
    let mut problems = pass.snapshot.problems.iter();
    let has_told = |learnt: &crate::model::Learnt| learnt.taught_by.is_some();
    let mut groups = pass.snapshot.groups.iter();
    problems.any(|problem| GUESSED.contains(&problem.code.as_str()))
        && groups.any(|group| !pass.history.learnt.get(&group.name).is_some_and(has_told))
}

#[cfg(test)]
mod tests {
    use super::Proven;
    use crate::model::{Infeasible, Learnt, NodeTemplate, Problem, ResourceMap};
    use crate::report::fixtures::{Pass, at, demand, group, snapshot};

    fn infeasible() -> Pass {
        let mut pass = Pass::of(snapshot(vec![group("g", 0)], vec![]));
        pass.decision.infeasible = vec![Infeasible::Tasks(demand(&[("GPU", 8)], 3).request)];
        pass
    }

    /// Returns how much is told at a second, when the RayCluster was read at another one.
    fn told(proven: &mut Proven, pass: &mut Pass, (now, read_at): (u64, u64)) -> usize {
        pass.snapshot.completeness.raycluster_at = Some(at(read_at * 1_000));
        let mut report = pass.report();
        report.observed_at = at(now * 1_000);
        let (told, look_again) = proven.pass(&report);
        let waits = told.len() < pass.decision.infeasible.len() && now > read_at;
        assert_eq!(look_again.is_some(), waits);
        told.len()
    }

    #[test]
    fn the_raycluster_is_read_once_more_before_anything_is_infeasible() {
        let (mut proven, mut pass) = (Proven::default(), infeasible());
        assert_eq!(told(&mut proven, &mut pass, (10, 8)), 0);
        assert_eq!(told(&mut proven, &mut pass, (11, 8)), 0);
        assert_eq!(told(&mut proven, &mut pass, (12, 12)), 1);
        assert_eq!(told(&mut proven, &mut pass, (13, 12)), 1);
        // What comes later has a time of its own, and so has what comes again.
        let other = Infeasible::Tasks(demand(&[("TPU", 8)], 3).request);
        pass.decision.infeasible.push(other);
        assert_eq!(told(&mut proven, &mut pass, (14, 12)), 1);
        let all = std::mem::take(&mut pass.decision.infeasible);
        assert_eq!(told(&mut proven, &mut pass, (15, 15)), 0);
        pass.decision.infeasible = all;
        assert_eq!(told(&mut proven, &mut pass, (16, 15)), 0);
        // What is watched is read at every moment.
        let mut watched = Proven::default();
        assert_eq!(told(&mut watched, &mut pass, (17, 17)), 2);
    }

    #[test]
    fn a_guess_proves_nothing_until_a_node_has_told() {
        let (mut proven, mut pass) = (Proven::default(), infeasible());
        pass.snapshot.problems.push(Problem {
            code: "cpu_unknown".to_owned(),
            detail: String::new(),
        });
        assert_eq!(told(&mut proven, &mut pass, (10, 10)), 0);
        let mut learnt = Learnt {
            derived: NodeTemplate::default(),
            resources: ResourceMap::new(),
            since: at(0),
            is_edited: false,
            taught_by: None,
        };
        pass.history.learnt.insert("g".into(), learnt.clone());
        assert_eq!(told(&mut proven, &mut pass, (11, 11)), 0);
        learnt.taught_by = Some(at(1));
        pass.history.learnt.insert("g".into(), learnt);
        assert_eq!(told(&mut proven, &mut pass, (12, 12)), 1);
    }
}
