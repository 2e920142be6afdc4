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
        let is_ask = matches!(order.step, ResizeStep::Ask(_));
        let is_off = || {
            let off = self.off.borrow();
            off.as_ref().is_some_and(|off| now < off.until)
        };
        let is_waiting = known.get(&order.pod).is_some_and(is_quiet);
        !(is_waiting || is_ask && is_off())
    }

    fn learn(&self, order: &ResizeOrder, resized: &Resized, known: &mut BTreeMap<PodName, Known>) {
        let now = self.clock.now();
        let failures = known.remove(&order.pod).map_or(0, |pod| pod.failures);
        match resized {
            Resized::Done | Resized::Stale => {}
            Resized::NotAllowed(why) => {
                let (until, why) = (now.plus_ms(OFF_MS), why.clone());
                self.off.send_replace(Some(ResizeOff { until, why }));
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
