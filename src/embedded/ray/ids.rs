//! Ids that look random and are the same for the same seed.

use crate::model::NodeId;
use std::fmt::{self, Write as _};

/// Makes ids.
#[derive(Debug)]
pub(super) struct Ids {
    state: u64,
}

impl Ids {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns the next bytes.
    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let next = self.next().to_le_bytes();
            chunk.copy_from_slice(next.get(..chunk.len()).unwrap_or_default());
        }
        bytes
    }

    /// Returns the id of a new node.
    pub(super) fn node(&mut self) -> NodeId {
        // 28 bytes are what a node id has, so the other branch is never taken.
        NodeId::from_bytes(&self.bytes::<28>()).unwrap_or_else(|| self.node())
    }

    fn next(&mut self) -> u64 {
        // SplitMix64: one addition of state, any seed will do.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

/// Identifies a placement group; 18 bytes, shown as 36 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlacementGroupId(pub(super) [u8; 18]);

impl fmt::Display for PlacementGroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PlacementGroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlacementGroupId({self})")
    }
}

/// Returns bytes as lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::Ids;

    #[test]
    fn the_seed_decides_and_ids_differ() {
        let mut ids = Ids::new(7);
        let (first, second) = (ids.node(), ids.node());
        assert_ne!(first, second);
        assert_eq!(Ids::new(7).node(), first);
        assert_ne!(Ids::new(8).node(), first);
        assert_eq!(ids.bytes::<18>().len(), 18);
    }
}
