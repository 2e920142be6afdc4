//! Counts every answer to a drain, and writes a line where the answer is news.
//!
//! Why not a line each: a removal that is refused is asked for again in the next pass, so that a GCS that
//! stays away would have the same line written for each pod, once a second.

use std::collections::{BTreeMap, BTreeSet};

use super::changes::emit_some;
use super::events::Event;
use super::events_pass::{DrainAnswered, DrainTold};
use super::metrics::Metrics;
use super::pass::{DrainAnswer, DrainOutcome};
use crate::model::{PodName, Timestamp};

/// A pod that is refused for the same reason is told of again after this time. Long enough that a day of
/// it fits on a screen, short enough that the cause stands near the end of the log.
const TOLD_AGAIN_MS: u64 = 600_000;

/// Remembers which pods were told to stay, why, and when that was written.
#[derive(Debug, Default)]
pub(super) struct DrainWatch {
    /// Shape: by pod, outcome and code, so that reasons that take turns are each told once.
    told: BTreeMap<(PodName, &'static str, String), Timestamp>,
}

impl DrainWatch {
    /// Takes in the answers of one pass.
    pub(super) fn pass(&mut self, answers: &[DrainAnswer], metrics: &Metrics, now: Timestamp) {
        for answer in answers {
            DrainAnswered(answer).emit(metrics);
        }
        self.told
            .retain(|_, at| now.millis_since(*at) < TOLD_AGAIN_MS);
        // One raylet answers once in a pass, but a name may stand in two removals.
        let mut seen = BTreeSet::new();
        let news = answers.iter().filter(|it| seen.insert(&it.pod));
        let news: Vec<&DrainAnswer> = news.filter(|it| self.is_news(it, now)).collect();
        for kind in ["accepted", "refused", "failed"] {
            let lines = news.iter().filter(|it| it.outcome.as_str() == kind);
            emit_some(kind_of_lines(kind), lines.map(|it| DrainTold(it)), metrics);
        }
    }

    fn is_news(&mut self, answer: &DrainAnswer, now: Timestamp) -> bool {
        let code = match &answer.outcome {
            DrainOutcome::Accepted => {
                self.told.retain(|(pod, ..), _| *pod != answer.pod);
                return true;
            }
            // What follows the code may name an age, which is another one in each pass.
            DrainOutcome::Refused(text) | DrainOutcome::Failed(text) => {
                text.split(':').next().unwrap_or_default()
            }
        };
        let key = (answer.pod.clone(), answer.outcome.as_str(), code.to_owned());
        if self.told.contains_key(&key) {
            return false;
        }
        self.told.insert(key, now);
        true
    }
}

fn kind_of_lines(outcome: &str) -> &'static str {
    match outcome {
        "accepted" => "drain accepted",
        "refused" => "drain refused",
        _ => "drain failed",
    }
}

#[cfg(test)]
mod tests {
    use super::{DrainWatch, TOLD_AGAIN_MS};
    use crate::model::{PodName, WorkerGroupName};
    use crate::report::fixtures::{at, captured};
    use crate::report::pass::{DrainAnswer, DrainOutcome};
    use crate::report::{Metrics, changes::LINES_MAX};

    fn answer(pod: &str, outcome: DrainOutcome) -> DrainAnswer {
        DrainAnswer {
            group: WorkerGroupName::from("g"),
            pod: PodName::from(pod),
            outcome,
        }
    }

    fn stale(age_ms: u64) -> DrainOutcome {
        DrainOutcome::Refused(format!("stale: the GCS's state is {age_ms} ms old"))
    }

    /// Returns what was written of these passes, and how many refusals were counted.
    fn told(passes: &[(u64, Vec<DrainAnswer>)]) -> (String, String) {
        let (lines, subscriber) = captured();
        let metrics = Metrics::new();
        tracing::subscriber::with_default(subscriber, || {
            let mut watch = DrainWatch::default();
            for (ms, answers) in passes {
                watch.pass(answers, &metrics, at(*ms));
            }
        });
        let text = metrics.exposition(at(0));
        let refused = text
            .lines()
            .find(|it| it.starts_with("rayscaler_drains_total{group=\"g\",outcome=\"refused\""));
        let refused = refused.and_then(|it| it.rsplit(' ').next());
        (lines.text(), refused.unwrap_or("0").to_owned())
    }

    #[test]
    fn a_refusal_that_lasts_is_counted_each_time_and_written_once_in_ten_minutes() {
        let second = |at: u64| (at * 1_000, vec![answer("p", stale(2_000 + at))]);
        let (text, counted) = told(&(0..1_200).map(second).collect::<Vec<_>>());
        assert_eq!(counted, "1200");
        assert_eq!(text.matches("drain refused").count(), 2, "{text}");
        assert!(text.contains("2000 ms old"), "{text}");
    }

    #[test]
    fn another_reason_and_an_acceptance_are_written_at_once() {
        let busy = || DrainOutcome::Refused("busy_now: its raylet has work as of now".to_owned());
        let silent = || DrainOutcome::Failed("no_answer: timed out".to_owned());
        let outcomes = [
            stale(2_001),
            busy(),
            silent(),
            silent(),
            DrainOutcome::Accepted,
            busy(),
        ];
        let passes = outcomes.into_iter().enumerate();
        let passes = passes.map(|(at, outcome)| (at as u64, vec![answer("p", outcome)]));
        let (text, _) = told(&passes.collect::<Vec<_>>());
        assert_eq!(text.matches("drain refused").count(), 3, "{text}");
        assert_eq!(text.matches("drain failed").count(), 1, "{text}");
        assert_eq!(text.matches("drain accepted").count(), 1, "{text}");
    }

    #[test]
    fn reasons_that_take_turns_are_each_written_once() {
        let busy = || DrainOutcome::Refused("busy_now: its raylet has work as of now".to_owned());
        let turn = |at: u64| {
            if at.is_multiple_of(2) {
                busy()
            } else {
                stale(at)
            }
        };
        let second = |at: u64| (at * 1_000, vec![answer("p", turn(at))]);
        let (text, counted) = told(&(0..500).map(second).collect::<Vec<_>>());
        assert_eq!(counted, "500");
        assert_eq!(text.matches("drain refused").count(), 2, "{text}");
    }

    #[test]
    fn many_pods_at_once_are_some_lines_and_a_number() {
        let refused = |at: u32| answer(&format!("p{at}"), stale(2_500));
        let pass = |ms| (ms, (0..250).map(refused).collect::<Vec<_>>());
        let (text, counted) = told(&[pass(0), pass(1_000), pass(TOLD_AGAIN_MS - 1)]);
        assert_eq!(counted, "750");
        assert_eq!(text.matches("drain refused, ").count(), LINES_MAX, "{text}");
        assert_eq!(text.matches("more of the same").count(), 1, "{text}");
        assert!(text.contains("count=230"), "{text}");
    }
}
