//! Which raylets are asked for their load in this round.
//!
//! All of them while they are few. In a large cluster: the head's (drivers run there, and what
//! fits nowhere waits at the raylet of its caller), those where drivers run, those that had load
//! when last seen (so that no old load is believed), and the rest in turn.

use std::collections::BTreeSet;

use crate::model::NodeId;

/// Bounds how many raylets are asked at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RayletBudget {
    /// Up to so many alive nodes, all are asked.
    pub all_up_to: usize,
    /// With more, so many are asked in one round.
    pub per_round: usize,
}

/// Holds what is known of a raylet before it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The raylet.
    pub node_id: NodeId,
    /// Whether it is the head's.
    pub is_head: bool,
    /// Whether a driver runs on its node.
    pub has_driver: bool,
    /// Whether it queued requests when last seen.
    pub had_load: bool,
}

/// Remembers whose turn it is.
#[derive(Debug, Clone, Default)]
pub struct Rotation {
    last: Option<NodeId>,
}

impl Rotation {
    /// Returns the raylets to ask now.
    ///
    /// Shape: at most `per_round` of them once there are more than `all_up_to`.
    pub fn choose(&mut self, candidates: &[Candidate], budget: RayletBudget) -> BTreeSet<NodeId> {
        if candidates.len() <= budget.all_up_to {
            return candidates
                .iter()
                .map(|candidate| candidate.node_id)
                .collect();
        }
        let wanted: [fn(&Candidate) -> bool; 3] = [|c| c.is_head, |c| c.has_driver, |c| c.had_load];
        let mut chosen = BTreeSet::new();
        // However many are likely, the others have their turn.
        let likely_max = budget.per_round - (budget.per_round / 4).min(budget.per_round);
        for is_wanted in wanted {
            let some = candidates.iter().filter(|candidate| is_wanted(candidate));
            for candidate in some {
                if chosen.len() < likely_max {
                    chosen.insert(candidate.node_id);
                }
            }
        }
        let mut others: Vec<NodeId> = candidates
            .iter()
            .map(|candidate| candidate.node_id)
            .collect();
        others.sort_unstable();
        let start = self
            .last
            .map_or(0, |last| others.partition_point(|id| *id <= last));
        // `partition_point` is at most the length, so this cannot be out of range.
        others.rotate_left(start);
        for id in others {
            if chosen.len() >= budget.per_round {
                break;
            }
            chosen.insert(id);
            self.last = Some(id);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Candidate, RayletBudget, Rotation};
    use crate::model::NodeId;

    fn candidates(count: u8) -> Vec<Candidate> {
        let one = |n| Candidate {
            node_id: NodeId::from_bytes(&[n; 28]).unwrap(),
            is_head: n == 3,
            has_driver: n == 5,
            had_load: n == 7,
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn few_raylets_are_all_asked() {
        let budget = RayletBudget {
            all_up_to: 8,
            per_round: 2,
        };
        assert_eq!(Rotation::default().choose(&candidates(8), budget).len(), 8);
        assert!(Rotation::default().choose(&[], budget).is_empty());
    }

    #[test]
    fn of_many_the_likely_ones_always_and_the_rest_in_turn() {
        let (all, budget) = (
            candidates(100),
            RayletBudget {
                all_up_to: 8,
                per_round: 8,
            },
        );
        let mut rotation = Rotation::default();
        let mut seen = BTreeSet::new();
        for _ in 0..25 {
            let chosen = rotation.choose(&all, budget);
            assert_eq!(chosen.len(), 8);
            for always in [3, 5, 7] {
                assert!(chosen.contains(&all[always].node_id));
            }
            seen.extend(chosen);
        }
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn the_budget_holds_even_for_the_likely_ones() {
        let budget = RayletBudget {
            all_up_to: 1,
            per_round: 2,
        };
        let mut all = candidates(50);
        all.iter_mut()
            .for_each(|candidate| candidate.had_load = true);
        let chosen = Rotation::default().choose(&all, budget);
        assert_eq!(chosen.len(), 2);
        assert!(chosen.contains(&all[3].node_id) && chosen.contains(&all[5].node_id));
    }

    #[test]
    fn however_many_are_likely_the_others_have_their_turn() {
        let budget = RayletBudget {
            all_up_to: 8,
            per_round: 8,
        };
        let mut all = candidates(60);
        for candidate in all.iter_mut().take(20) {
            candidate.had_load = true;
        }
        let mut rotation = Rotation::default();
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            let chosen = rotation.choose(&all, budget);
            assert_eq!(chosen.len(), 8);
            seen.extend(chosen);
        }
        assert_eq!(seen.len(), 60);
    }
}
