//! Raylets that were told of a resize, and are still as small as before for the GCS.
//!
//! Once a raylet has heard of a resize, its pod says so at once, and the GCS only when the raylet has reported to it and
//! was asked again. A node taken as it was meanwhile looks full, and one is launched for what it has room for.

use super::super::{ClusterSnapshot, PodName, ResizeState, Timestamp};
use super::History;

/// How old the last look may be that found a raylet not told, for the GCS's word on its size not to count: the raylet is
/// told within a second or two of that look, and reports several times a second. What the GCS says later holds.
const HEARD_OF_MS: u64 = 10_000;

impl History {
    /// Returns whether the GCS may not have heard yet that a pod was resized.
    #[must_use]
    pub fn is_just_resized(&self, pod: &PodName, snapshot: &ClusterSnapshot) -> bool {
        let seen = self.resized_at.get(pod);
        seen.is_some_and(|at| is_older(snapshot, *at))
    }

    /// Remembers which raylets have to hear of a resize.
    pub(super) fn observe_resized(&mut self, snapshot: &ClusterSnapshot, at: Timestamp) {
        let pods = &snapshot.resizing.pods;
        self.resized_at
            .retain(|pod, seen| pods.contains_key(pod) && is_older(snapshot, *seen));
        let untold = pods
            .iter()
            .filter(|(_, pod)| pod.state == ResizeState::Resized);
        self.resized_at
            .extend(untold.map(|(name, _)| (name.clone(), at)));
    }
}

/// Returns whether what the GCS says may be older than a raylet's report of the size that it was told after `seen`.
fn is_older(snapshot: &ClusterSnapshot, seen: Timestamp) -> bool {
    let gcs_at = snapshot.completeness.gcs_at;
    gcs_at.is_none_or(|gcs_at| gcs_at < seen.plus_ms(HEARD_OF_MS))
}
