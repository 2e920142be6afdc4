//! Resizes pods beside the loop: a hanging answer must not keep it from deciding.

use std::collections::BTreeMap;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};

use super::backoff::Backoff;
use crate::act::resize::{ResizeOrder, ResizeStep, Resized, Resizer};
use crate::clock::Clock;
use crate::model::{PodName, Timestamp};
use crate::observe::resizing::ResizeOff;
use crate::report::Metrics;
use crate::report::events::{Event, PodResized};

/// Steps that are under way at the same time.
const AT_ONCE: usize = 16;

/// Pauses of one pod after steps that went wrong.
const RETRY: Backoff = Backoff {
    first_ms: 1_000,
    max_ms: 60_000,
};

/// How long nobody is asked again who allows no resize at all: Roles and versions change by hand, and
/// demand has waited in vain each time. Units: milliseconds.
const OFF_MS: u64 = 300_000;

/// How long after its pause a pod is remembered: much longer than any pause. Units: milliseconds.
const FORGOTTEN_MS: u64 = 600_000;

/// Holds what a task needs.
pub(super) struct Resizing {
    pub(super) resizer: Resizer,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    /// Tells the sources that no pod can be resized.
    pub(super) off: watch::Sender<Option<ResizeOff>>,
}

/// Holds what is known of one pod.
#[derive(Debug, Default)]
struct Known {
    is_under_way: bool,
    failures: u32,
    quiet_until: Timestamp,
}

impl Resizing {
    /// Carries out what is handed over until nobody hands anything over any more.
    pub(super) async fn run(self, mut orders: mpsc::Receiver<Vec<ResizeOrder>>) {
        let resizer = &self.resizer;
        let carry_out = async |order: ResizeOrder| {
            let resized = resizer.carry_out(&order).await;
            (order, resized)
        };
        let mut known: BTreeMap<PodName, Known> = BTreeMap::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                batch = orders.recv() => match batch {
                    Some(batch) => {
                        self.forget(&mut known);
                        for order in batch {
                            if under_way.len() < AT_ONCE && self.is_due(&order, &known) {
                                known.entry(order.pod.clone()).or_default().is_under_way = true;
                                under_way.push(carry_out(order));
                            }
                        }
                    }
                    None => return,
                },
                Some((order, resized)) = under_way.next() => self.learn(&order, &resized, &mut known),
            }
        }
    }

    /// Forgets pods that nobody has asked to resize for long: most of them are gone.
    fn forget(&self, known: &mut BTreeMap<PodName, Known>) {
        let now = self.clock.now();
        known.retain(|_, pod| pod.is_under_way || now < pod.quiet_until.plus_ms(FORGOTTEN_MS));
    }

    fn is_due(&self, order: &ResizeOrder, known: &BTreeMap<PodName, Known>) -> bool {
        let now = self.clock.now();
        let is_quiet = |pod: &Known| pod.is_under_way || now < pod.quiet_until;
        let is_waiting = known.get(&order.pod).is_some_and(is_quiet);
        !(is_waiting || is_off(self.off.borrow().as_ref(), (order.step, now)))
    }

    fn learn(&self, order: &ResizeOrder, resized: &Resized, known: &mut BTreeMap<PodName, Known>) {
        let now = self.clock.now();
        let failures = known.remove(&order.pod).map_or(0, |pod| pod.failures);
        match resized {
            Resized::Done | Resized::Stale => {}
            Resized::NotAllowed(why) => {
                let refused = (order.step, why.as_str());
                self.off.send_if_modified(|off| turn_off(off, refused, now));
            }
            Resized::Refused(_) | Resized::Failed(_) => {
                let failures = failures.saturating_add(1);
                let pod = Known {
                    is_under_way: false,
                    failures,
                    quiet_until: now.plus_ms(RETRY.delay_ms(failures)),
                };
                known.insert(order.pod.clone(), pod);
            }
        }
        PodResized {
            group: order.group.as_str(),
            pod: order.pod.as_str(),
            step: order.step.code(),
            outcome: resized.code(),
            detail: resized.detail(),
        }
        .emit(&self.metrics);
    }
}

/// Returns whether a step is not even tried: raylets may be told although no pod can be resized.
fn is_off(off: Option<&ResizeOff>, (step, now): (ResizeStep, Timestamp)) -> bool {
    let off = off.filter(|off| now < off.until);
    off.is_some_and(|off| off.is_deaf || matches!(step, ResizeStep::Ask(_)))
}

/// Takes over that a step is not allowed at all; returns whether that is news.
///
/// The news have a decision made at once. Whatever pods hear the same later must not do so again: each decision
/// would have them asked anew.
fn turn_off(off: &mut Option<ResizeOff>, (step, why): (ResizeStep, &str), now: Timestamp) -> bool {
    let held = off.take().filter(|held| now < held.until);
    let was_deaf = held.as_ref().is_some_and(|held| held.is_deaf);
    let is_deaf = was_deaf || step == ResizeStep::Tell;
    let is_news = held.is_none() || is_deaf != was_deaf;
    *off = Some(ResizeOff {
        until: now.plus_ms(OFF_MS),
        why: why.to_owned(),
        is_deaf,
    });
    is_news
}

#[cfg(test)]
mod tests {
    use super::{OFF_MS, ResizeStep, is_off, turn_off};
    use crate::model::{PodSize, Timestamp};

    const ASK: ResizeStep = ResizeStep::Ask(PodSize::of((1_000, 1)));
    const NOW: Timestamp = Timestamp::from_ms(1_000);

    #[test]
    fn where_no_pod_can_be_resized_raylets_are_still_told() {
        let mut off = None;
        assert!(turn_off(&mut off, (ASK, "the Role says no"), NOW));
        assert!(is_off(off.as_ref(), (ASK, NOW)));
        assert!(!is_off(off.as_ref(), (ResizeStep::Tell, NOW)));
        let over = NOW.plus_ms(OFF_MS);
        assert!(!is_off(off.as_ref(), (ASK, over)));
    }

    #[test]
    fn where_raylets_cannot_be_told_nobody_is_asked_again_and_it_is_news_once() {
        let mut off = None;
        assert!(turn_off(&mut off, (ASK, "no"), NOW));
        assert!(turn_off(&mut off, (ResizeStep::Tell, "no"), NOW));
        for step in [ASK, ResizeStep::Tell] {
            assert!(is_off(off.as_ref(), (step, NOW)), "{step:?}");
            assert!(!turn_off(&mut off, (step, "no"), NOW), "{step:?}");
            assert!(off.as_ref().is_some_and(|off| off.is_deaf), "{step:?}");
        }
        let over = NOW.plus_ms(OFF_MS);
        assert!(!is_off(off.as_ref(), (ResizeStep::Tell, over)));
        assert!(turn_off(&mut off, (ASK, "no"), over));
        assert!(!is_off(off.as_ref(), (ResizeStep::Tell, over)));
    }
}
