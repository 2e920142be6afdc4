//! Patches whose answer was lost: the RayCluster tells by the intent it shows whether they were carried out.
//!
//! Without this, limits on how fast groups change would forget what such a patch has changed.

use crate::act::{Unsure, remember, uncounted};
use crate::model::{History, IntentSeen, ScaleDecision, Timestamp};

/// So many are kept; more mean that the API server is away, and the newest are the likeliest.
const KEPT_MAX: usize = 8;

/// Keeps patches of which nobody knows whether they were carried out.
#[derive(Debug, Default)]
pub(super) struct UnsurePatches {
    kept: Vec<(Unsure, ScaleDecision, Timestamp)>,
}

impl UnsurePatches {
    /// Takes in a patch, what is remembered of its drains, and when it was given up.
    pub(super) fn add(
        &mut self,
        patch: &Unsure,
        (decision, history): (&ScaleDecision, &History),
        at: Timestamp,
    ) {
        if self.kept.len() == KEPT_MAX {
            self.kept.remove(0);
        }
        let counts = uncounted(decision, history).into_owned();
        self.kept.push((patch.clone(), counts, at));
    }

    /// Has `history` remember the patch whose intent is seen, if it is one of these; before the names
    /// that it wrote are seen, which would be somebody else's.
    pub(super) fn settle(&mut self, seen: &IntentSeen, history: &mut History) {
        let IntentSeen::Text(text) = seen else {
            return;
        };
        let is_done = |(patch, ..): &(Unsure, _, _)| patch.intent == *text;
        let Some(at) = self.kept.iter().position(is_done) else {
            return;
        };
        let (patch, decision, at) = self.kept.swap_remove(at);
        remember(history, &patch.changes, &decision, at);
        self.clear();
    }

    /// Forgets all: each patch tests the intent that it was made on, so where another one has been carried out
    /// none of these had been.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_MAX, UnsurePatches};
    use crate::act::{GroupChange, Unsure};
    use crate::model::{History, IntentSeen, ScaleDecision, Timestamp};

    fn patch(intent: &str) -> Unsure {
        let change = GroupChange {
            name: "g".into(),
            replicas_from: 9,
            replicas_to: 8,
            named: vec![intent.into()],
            forgotten: Vec::new(),
        };
        Unsure {
            intent: intent.to_owned(),
            changes: vec![change],
        }
    }

    #[test]
    fn a_patch_is_remembered_once_its_intent_is_seen_and_only_then() {
        let (mut patches, mut history) = (UnsurePatches::default(), History::default());
        let at = |ms| Timestamp::from_ms(1_000 + ms);
        for ms in 0..i64::try_from(KEPT_MAX).unwrap() + 2 {
            let (decision, drains) = (ScaleDecision::default(), History::default());
            patches.add(&patch(&format!("p{ms}")), (&decision, &drains), at(ms));
        }
        let seen = |text: &str| IntentSeen::Text(text.to_owned());
        let others = [IntentSeen::Absent, seen("another"), seen("p1")];
        for other in &others {
            patches.settle(other, &mut history);
            assert_eq!(history, History::default());
        }
        patches.settle(&seen("p4"), &mut history);
        let mut named = history.named_by_us.iter();
        assert_eq!(named.next(), Some(&"p4".into()));
        assert_eq!(named.next(), None);
        assert_eq!(history.scaled_down_at.get(&"g".into()), Some(&at(4)));
        // Of all that were sent on top of one state one is carried out.
        let before = history.clone();
        patches.settle(&seen("p5"), &mut history);
        patches.settle(&seen("p4"), &mut history);
        assert_eq!(history, before);
    }
}
