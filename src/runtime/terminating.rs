//! Ends the cluster beside the loop, once, when nobody uses it.

use tokio::sync::{mpsc, watch};

use super::backoff::Backoff;
use crate::act::{Terminated, Terminator};
use crate::clock::Clock;
use crate::model::{TerminationPolicy, Timestamp};
use crate::observe::termination::{TerminationRefused, drivers};
use crate::report::Metrics;
use crate::report::events::{ClusterEnded, Event};

/// Pauses after attempts that brought no answer.
const RETRY: Backoff = Backoff {
    first_ms: 5_000,
    max_ms: 60_000,
};

/// How long it is not tried again where somebody does not let us: Roles and definitions change by hand.
/// Units: milliseconds.
const REFUSED_MS: u64 = 600_000;

/// Holds what the task needs.
pub(super) struct Terminating {
    pub(super) terminator: Terminator,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    /// Tells the sources that it cannot be done.
    pub(super) refused: watch::Sender<Option<TerminationRefused>>,
}

impl Terminating {
    /// Does what is handed over (policy, UID) until nobody hands anything over any more.
    pub(super) async fn run(self, mut orders: mpsc::Receiver<(TerminationPolicy, String)>) {
        let (mut failures, mut quiet_until) = (0, Timestamp::default());
        while let Some((policy, uid)) = orders.recv().await {
            if self.clock.now() < quiet_until {
                continue;
            }
            let is_used = |reply: &_| drivers(reply, Timestamp::default()).is_any;
            let ended = self.terminator.end((policy, &uid), is_used).await;
            let now = self.clock.now();
            match &ended {
                Terminated::Refused(why) => {
                    let until = now.plus_ms(REFUSED_MS);
                    let why = why.clone();
                    self.refused
                        .send_replace(Some(TerminationRefused { until, why }));
                    quiet_until = until;
                }
                Terminated::Failed(_) => failures += 1,
                Terminated::Done | Terminated::Stale => failures = 0,
            }
            // Also after success: the next look at the RayCluster has to be awaited.
            let pause_ms = RETRY.delay_ms(failures.max(1));
            quiet_until = quiet_until.max(now.plus_ms(pause_ms));
            ClusterEnded {
                policy: policy.code(),
                outcome: ended.code(),
                detail: ended.detail(),
            }
            .emit(&self.metrics);
        }
    }
}
