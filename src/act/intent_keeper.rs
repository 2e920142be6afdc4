//! Whether patches carry the intent: what scales is worth more than what is remembered of it.
//!
//! An API server may refuse a patch for nothing but the annotation: the annotations of the RayCluster are near their
//! limit of 256 KiB, or an admission policy knows which annotations there may be. Such a patch is sent again without it.

use tokio::sync::watch;

use crate::model::Timestamp;

/// How long patches go without the intent once it was refused twice in a row; one refusal may have had another cause
/// that is over. Units: milliseconds.
const LEFT_OUT_FIRST_MS: u64 = 60_000;

/// The longest time that they do: whoever makes room is to be noticed, and each try costs a call. Units: milliseconds.
const LEFT_OUT_MAX_MS: u64 = 600_000;

/// Remembers whether the intent is accepted.
#[derive(Debug)]
pub(super) struct IntentKeeper {
    refusals: u32,
    left_out_until: Option<Timestamp>,
    refused: watch::Sender<Option<String>>,
}

impl Default for IntentKeeper {
    fn default() -> Self {
        Self {
            refusals: 0,
            left_out_until: None,
            refused: watch::Sender::new(None),
        }
    }
}

impl IntentKeeper {
    /// Returns what tells why the last patch went without the intent; `None` where it did not.
    pub(super) fn refused(&self) -> watch::Receiver<Option<String>> {
        self.refused.subscribe()
    }

    /// Returns whether a patch is to go without the intent now.
    pub(super) fn is_left_out(&self, now: Timestamp) -> bool {
        self.left_out_until.is_some_and(|until| now < until)
    }

    /// Takes in that a patch was refused with the intent and accepted without.
    pub(super) fn was_refused(&mut self, why: String, now: Timestamp) {
        self.refusals = self.refusals.saturating_add(1);
        self.left_out_until = self.refusals.checked_sub(2).map(|doublings| {
            let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
            let wait_ms = LEFT_OUT_FIRST_MS.saturating_mul(factor);
            now.plus_ms(wait_ms.min(LEFT_OUT_MAX_MS))
        });
        self.refused.send_replace(Some(why));
    }

    /// Takes in that the intent was written.
    pub(super) fn was_written(&mut self) {
        (self.refusals, self.left_out_until) = (0, None);
        self.refused.send_if_modified(|why| why.take().is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::IntentKeeper;
    use crate::model::Timestamp;

    #[test]
    fn what_is_refused_again_and_again_is_left_out_ever_longer_up_to_ten_minutes() {
        let mut keeper = IntentKeeper::default();
        let (mut now, refused) = (Timestamp::from_ms(1_000), keeper.refused());
        let mut left_out_secs = Vec::new();
        for _ in 0..8 {
            keeper.was_refused("too long".to_owned(), now);
            let began = now;
            while keeper.is_left_out(now) {
                now = now.plus_ms(1_000);
            }
            left_out_secs.push(now.millis_since(began) / 1_000);
        }
        assert_eq!(left_out_secs, [0, 60, 120, 240, 480, 600, 600, 600]);
        assert_eq!(refused.borrow().as_deref(), Some("too long"));
        keeper.was_written();
        assert_eq!(*refused.borrow(), None);
        keeper.was_refused("too long".to_owned(), now);
        assert!(!keeper.is_left_out(now));
    }
}
