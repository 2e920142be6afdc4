//! Tells what is new in a pass from what was so before: a line is written once per change.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::MetricId;
use super::events::Event;
use super::events_pass::{
    DemandUnserved, GroupDecided, GroupSkipped, HoldBegan, HoldEnded, InputRefused, LinesOmitted,
    ModeChanged, OperatorCalled,
};
use super::metrics::Metrics;
use super::pass::{Outcome, PassReport};
use crate::model::{GroupDecision, PodName, ScalingMode, WorkerGroupName};

/// Most lines of one kind in one pass: a workload that invents a shape a second fills no disk.
pub(super) const LINES_MAX: usize = 20;

/// Holds what is so now, and says what changed.
#[derive(Debug)]
struct Seen<K>(BTreeSet<K>);

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Ord + Clone> Seen<K> {
    /// Returns what began and what ended.
    fn update(&mut self, now: BTreeSet<K>) -> (BTreeSet<K>, BTreeSet<K>) {
        let began = now.difference(&self.0).cloned().collect();
        let ended = self.0.difference(&now).cloned().collect();
        self.0 = now;
        (began, ended)
    }
}

/// Identifies a group's decision with what came of it.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    from: u32,
    to: u32,
    remove: Vec<PodName>,
    codes: Vec<String>,
    outcome: &'static str,
}

impl Decided {
    fn of(group: &GroupDecision, outcome: &Outcome) -> Self {
        let removed = group.remove.iter().flat_map(|removal| &removal.pods);
        Self {
            from: group.replicas_from,
            to: group.replicas_to,
            remove: removed.cloned().collect(),
            codes: group.reasons.iter().map(|it| it.code.clone()).collect(),
            outcome: outcome.as_str(),
        }
    }
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Changes {
    decided: BTreeMap<WorkerGroupName, Decided>,
    holds: Seen<(String, String)>,
    unserved: Seen<(String, String)>,
    mode: ScalingMode,
    skipped: Seen<(usize, String, String)>,
    problems: Seen<(String, String)>,
}

impl Changes {
    /// Writes the lines and counts of what is new in this pass.
    pub(super) fn pass(&mut self, pass: &PassReport<'_>, metrics: &Metrics) {
        let from = std::mem::replace(&mut self.mode, pass.decision.mode);
        if from != self.mode {
            let to = self.mode;
            ModeChanged { from, to }.emit(metrics);
        }
        let acted = pass.acted;
        if pass.decision.nudge && acted.outcome == Outcome::Patched && acted.scaled.is_empty() {
            OperatorCalled.emit(metrics);
        }
        metrics.add(MetricId::DecisionsCut, &[], u64::from(pass.decision.is_cut));
        self.decisions(pass, metrics);
        self.holds(pass, metrics);
        let unserved = pass.decision.unserved.iter();
        let (began, _) = self.unserved.update(
            unserved
                .clone()
                .map(|it| (it.what.clone(), it.code.clone()))
                .collect(),
        );
        let new = unserved.filter(|it| began.contains(&(it.what.clone(), it.code.clone())));
        emit_some("demand", new.map(DemandUnserved), metrics);
        let skipped = pass.snapshot.skipped.iter();
        let key = |it: &crate::model::SkippedGroup| (it.index, it.code.clone(), it.detail.clone());
        let (began, _) = self.skipped.update(skipped.clone().map(key).collect());
        let new = skipped.filter(|it| began.contains(&key(it)));
        emit_some("group", new.map(GroupSkipped), metrics);
        let problems = pass.snapshot.problems.iter();
        let key = |it: &crate::model::Problem| (it.code.clone(), it.detail.clone());
        let (began, _) = self.problems.update(problems.clone().map(key).collect());
        let new = problems.filter(|it| began.contains(&key(it)));
        emit_some("input", new.map(InputRefused), metrics);
    }

    fn decisions(&mut self, pass: &PassReport<'_>, metrics: &Metrics) {
        let mut decided = BTreeMap::new();
        for group in pass.decision.groups.iter().filter(|group| is_told(group)) {
            let scaled = pass.acted.scaled.iter().find(|it| it.group == group.name);
            let now = Decided::of(group, &pass.acted.outcome);
            // What was written is a change each time; what was not is told once.
            if scaled.is_some() || self.decided.get(&group.name) != Some(&now) {
                let outcome = &pass.acted.outcome;
                GroupDecided {
                    group,
                    outcome,
                    scaled,
                }
                .emit(metrics);
            }
            decided.insert(group.name.clone(), now);
        }
        self.decided = decided;
    }

    fn holds(&mut self, pass: &PassReport<'_>, metrics: &Metrics) {
        let key = |hold: &crate::model::Hold| {
            let group = hold.group.as_ref().map_or("*", |group| group.as_str());
            (group.to_owned(), hold.code.clone())
        };
        let holds = pass.decision.holds.iter();
        let (began, ended) = self.holds.update(holds.clone().map(key).collect());
        let new = holds.filter(|hold| began.contains(&key(hold)));
        emit_some("hold", new.map(HoldBegan), metrics);
        let ended = ended.iter().map(|(group, code)| HoldEnded { group, code });
        emit_some("hold", ended, metrics);
    }
}

/// Returns whether people want to read of it; names that are cleared after their pods are gone are housekeeping.
fn is_told(group: &GroupDecision) -> bool {
    group.replicas_from != group.replicas_to || !group.remove.is_empty()
}

/// Writes a line for each event, up to [`LINES_MAX`], and then how many there were more.
pub(super) fn emit_some<E: Event>(
    kind: &'static str,
    events: impl Iterator<Item = E>,
    metrics: &Metrics,
) {
    let mut count = 0;
    for event in events {
        count += 1;
        if count <= LINES_MAX {
            event.emit(metrics);
        }
    }
    if count > LINES_MAX {
        let count = count - LINES_MAX;
        LinesOmitted { kind, count }.emit(metrics);
    }
}

#[cfg(test)]
mod tests {
    use super::Changes;
    use crate::model::{Hold, Problem, ScalingMode, Timestamp};
    use crate::report::Metrics;
    use crate::report::fixtures::{Pass, group, grow, patched, snapshot};
    use crate::report::pass::{Acted, Outcome};

    fn value(metrics: &Metrics, start: &str) -> Option<String> {
        let text = metrics.exposition(Timestamp::default());
        let line = text.lines().find(|line| line.starts_with(start))?;
        line.rsplit(' ').next().map(str::to_owned)
    }

    fn acted(outcome: Outcome) -> Acted {
        Acted {
            outcome,
            ..Acted::default()
        }
    }

    #[test]
    fn a_repeated_decision_counts_once_and_each_patch_counts() {
        let (mut changes, metrics) = (Changes::default(), Metrics::new());
        let decisions = "rayscaler_decisions_total{group=\"g\",policy=\"demand\",code=\"tasks\"}";
        let failed = acted(Outcome::Failed {
            cause: "forbidden",
            detail: "no".to_owned(),
        });
        let pass =
            |acted| Pass::of(snapshot(vec![group("g", 0)], vec![])).with(grow("g", 0, 2), acted);
        for _ in 0..3 {
            changes.pass(&pass(failed.clone()).report(), &metrics);
        }
        assert_eq!(value(&metrics, decisions).unwrap(), "1");
        changes.pass(&pass(patched("g", 0, 2)).report(), &metrics);
        changes.pass(&pass(patched("g", 0, 2)).report(), &metrics);
        assert_eq!(value(&metrics, decisions).unwrap(), "3");
    }

    #[test]
    fn each_decision_that_was_cut_short_counts() {
        let (mut changes, metrics) = (Changes::default(), Metrics::new());
        let mut pass = Pass::of(snapshot(vec![], vec![]));
        for is_cut in [true, true, false, true] {
            pass.decision.is_cut = is_cut;
            changes.pass(&pass.report(), &metrics);
        }
        let counted = value(&metrics, "rayscaler_decisions_cut_total");
        assert_eq!(counted.as_deref(), Some("3"));
    }

    #[test]
    fn a_hold_counts_when_it_begins_whatever_its_detail_says() {
        let (mut changes, metrics) = (Changes::default(), Metrics::new());
        let mut pass = Pass::of(snapshot(vec![], vec![]));
        for age in 0..3 {
            pass.decision.holds = vec![Hold {
                group: None,
                code: "stale".to_owned(),
                detail: format!("{age} s"),
            }];
            changes.pass(&pass.report(), &metrics);
        }
        assert_eq!(value(&metrics, "rayscaler_holds_total{").unwrap(), "1");
        pass.decision.holds.clear();
        changes.pass(&pass.report(), &metrics);
        pass.decision.holds.push(Hold {
            group: None,
            code: "stale".to_owned(),
            detail: String::new(),
        });
        changes.pass(&pass.report(), &metrics);
        assert_eq!(value(&metrics, "rayscaler_holds_total{").unwrap(), "2");
    }

    #[test]
    fn a_mode_is_told_when_it_changes() {
        let (lines, subscriber) = crate::report::fixtures::captured();
        tracing::subscriber::with_default(subscriber, || {
            let (mut changes, metrics) = (Changes::default(), Metrics::new());
            let mut pass = Pass::of(snapshot(vec![], vec![]));
            let (normal, frozen) = (ScalingMode::Normal, ScalingMode::Frozen);
            for mode in [normal, frozen, frozen, normal, normal] {
                pass.decision.mode = mode;
                changes.pass(&pass.report(), &metrics);
            }
        });
        let text = lines.text();
        assert_eq!(text.matches("mode changed").count(), 2, "{text}");
        assert!(
            text.contains("to=\"frozen\"") && text.contains("to=\"normal\""),
            "{text}"
        );
    }

    #[test]
    fn a_patch_without_a_change_says_what_it_is_for() {
        let (lines, subscriber) = crate::report::fixtures::captured();
        tracing::subscriber::with_default(subscriber, || {
            let (mut changes, metrics) = (Changes::default(), Metrics::new());
            let mut pass = Pass::of(snapshot(vec![], vec![]));
            for (nudge, outcome) in [
                (true, Outcome::Patched),
                (true, Outcome::Nothing),
                (false, Outcome::Patched),
            ] {
                (pass.decision.nudge, pass.acted) = (nudge, acted(outcome));
                changes.pass(&pass.report(), &metrics);
            }
        });
        let text = lines.text();
        assert_eq!(text.matches("tries again").count(), 1, "{text}");
    }

    #[test]
    fn only_some_lines_of_one_kind_are_written_in_one_pass() {
        let (lines, subscriber) = crate::report::fixtures::captured();
        tracing::subscriber::with_default(subscriber, || {
            let (mut changes, metrics) = (Changes::default(), Metrics::new());
            let mut pass = Pass::of(snapshot(vec![], vec![]));
            let problem = |at: u32| Problem {
                code: "bad_label".to_owned(),
                detail: at.to_string(),
            };
            pass.snapshot.problems = (0..500).map(problem).collect();
            changes.pass(&pass.report(), &metrics);
            changes.pass(&pass.report(), &metrics);
        });
        let text = lines.text();
        assert_eq!(
            text.matches("input cannot be used").count(),
            super::LINES_MAX
        );
        assert_eq!(text.matches("more of the same").count(), 1);
        assert!(text.contains("count=480"));
    }
}
