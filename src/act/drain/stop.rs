//! What becomes of drains when this process has to stop.
//!
//! A drain that was accepted cannot be taken back, so that its pod is still to be named. That must not wait for
//! raylets that do not answer: the loop has 1.5 s to end.

use std::future::pending;

use tokio::sync::watch;

use super::Drainer;

/// How long drains in flight are waited for; a healthy raylet answers in 5 ms, and two thirds of the time are left for
/// the patch. Units: milliseconds.
const STOP_TAKES_MS: u64 = 500;

impl Drainer {
    /// Returns a drainer that begins nothing more once it is told to stop, and soon waits for nobody.
    #[must_use]
    pub fn stopped_by(mut self, stopping: watch::Receiver<bool>) -> Self {
        self.stopping = Some(stopping);
        self
    }

    pub(super) fn is_stopping(&self) -> bool {
        let told = self.stopping.as_ref();
        told.is_some_and(|told| *told.borrow())
    }

    /// Waits until this process was told to stop, and a while longer; for ever where nobody can say so any more.
    pub(super) async fn has_to_stop(&self) {
        let Some(mut told) = self.stopping.clone() else {
            return pending().await;
        };
        let is_told = told.wait_for(|is_told| *is_told).await.is_ok();
        if !is_told {
            return pending().await;
        }
        let until = self.clock.now().plus_ms(STOP_TAKES_MS);
        self.clock.sleep_until(until).await;
    }
}
