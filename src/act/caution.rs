//! What waits while patches do not go through.
//!
//! A raylet that has accepted to end as idle ends, and nothing takes the place of its pod before that is named. So no
//! idle raylet is asked after a patch has failed, until one goes through. What else is to be written shows when that
//! is; where nothing is, a patch that changes no group does.
//!
//! Something may refuse even that, for what the RayCluster is already: a limit that came when it was above. It may
//! take a smaller one all the same, so one replica is tried then. Once its raylets are gone every further patch names
//! it, and no other one is asked. Where only some groups are refused what they are to become, only those wait that have
//! lost a replica already and may not name it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{GroupChange, Order, PatchOutcome};
use crate::model::{
    GroupDecision, NodeStatus, PodName, ReplicaRemoval, ScaleDecision, WorkerGroupName,
};

/// Says what became of the last patch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LastPatch {
    /// It was carried out, or there was none.
    #[default]
    Done,
    /// It was not, or nobody knows.
    Failed,
    /// It was to change no group, and was refused for what the RayCluster is.
    RefusedUnchanged,
}

/// Remembers whether patches go through.
#[derive(Debug, Default)]
pub(super) struct Caution {
    last: LastPatch,
    /// Groups that may not name what they have lost, while others are patched: until a patch names something in them.
    refused: BTreeSet<WorkerGroupName>,
}

impl Caution {
    /// Returns whether the last patch has failed.
    pub(super) fn is_on(&self) -> bool {
        self.last != LastPatch::Done
    }

    /// Takes in what became of a patch, and whether it was to change any group.
    pub(super) fn learn(&mut self, patch: &PatchOutcome, changes_groups: bool) {
        self.last = match patch {
            PatchOutcome::Nothing | PatchOutcome::Recorded(_) => return,
            PatchOutcome::Done { changes, .. } => {
                self.learn_named(changes);
                LastPatch::Done
            }
            PatchOutcome::Failed(error) if !changes_groups && error.is_about_content() => {
                LastPatch::RefusedUnchanged
            }
            PatchOutcome::Failed(_) => LastPatch::Failed,
        };
    }

    /// Takes in that patches go through, as these changes did, but for those of groups that are refused what they name.
    pub(super) fn learn_refused(
        &mut self,
        changes: &[GroupChange],
        groups: BTreeSet<WorkerGroupName>,
    ) {
        self.last = LastPatch::Done;
        self.learn_named(changes);
        self.refused.extend(groups);
    }

    fn learn_named(&mut self, changes: &[GroupChange]) {
        for change in changes.iter().filter(|change| !change.named.is_empty()) {
            self.refused.remove(&change.name);
        }
    }

    /// Returns a decision without the replicas whose raylets are not to be asked now, and how many those are.
    pub(super) fn spare<'a>(&self, order: &Order<'a>) -> (Cow<'a, ScaleDecision>, usize) {
        let decision = order.decision;
        if !self.is_on() && self.refused.is_empty() {
            return (Cow::Borrowed(decision), 0);
        }
        let nodes = order.snapshot.nodes.iter();
        let running = nodes.filter(|node| node.status == NodeStatus::Running);
        let running: BTreeSet<&PodName> = running.map(|node| &node.name).collect();
        let removals = || decision.groups.iter().flat_map(|group| &group.remove);
        let is_drained = |removal: &ReplicaRemoval| {
            let mut pods = removal.pods.iter();
            pods.any(|pod| order.history.ends_idle(pod))
        };
        let is_asked = |removal: &ReplicaRemoval| {
            let mut pods = removal.pods.iter();
            removal.cause.is_asked() && pods.any(|pod| running.contains(pod))
        };
        let tries_one = self.last == LastPatch::RefusedUnchanged;
        // Some host of it may have refused, and have work; it is the one that is tried all the same.
        let mut nodes = order.snapshot.nodes.iter();
        let may_try = tries_one && !nodes.any(|node| order.history.ends_idle(&node.name));
        let mut to_try = usize::from(may_try);
        let mut spared = 0;
        let mut asked = Cow::Borrowed(decision);
        if removals().any(is_asked) {
            // What was refused once and is not among what goes now is no reason to wait.
            let waits = |group: &GroupDecision| {
                let mut removals = group.remove.iter();
                let has_lost = removals.any(|it| !is_asked(it) || is_drained(it));
                self.is_on() || (self.refused.contains(&group.name) && has_lost)
            };
            let groups = asked.to_mut().groups.iter_mut();
            for group in groups.filter(|group| waits(group)) {
                group.remove.retain(|removal| {
                    let stays = !is_asked(removal)
                        || (tries_one && is_drained(removal))
                        || std::mem::take(&mut to_try) > 0;
                    spared += usize::from(!stays);
                    stays
                });
            }
        }
        (asked, spared)
    }
}

#[cfg(test)]
mod tests {
    use super::Caution;
    use crate::act::{ActError, Order, PatchOutcome};
    use crate::model::{
        ClusterSnapshot, Finish, GroupDecision, History, Input, Labels, Node, NodeKind, NodeStatus,
        RemovalCause, ReplicaRemoval, ResourceMap, ScaleDecision, Timestamp,
    };
    use crate::wire::kube_client::CallError;

    fn node(name: &str, status: NodeStatus) -> Node {
        Node {
            name: name.into(),
            raylet_address: None,
            node_id: None,
            kind: NodeKind::Worker,
            group: "g".into(),
            replica: name.into(),
            host_index: 0,
            status,
            total: ResourceMap::new(),
            available: ResourceMap::new(),
            labels: Labels::new(),
            idle_since: None,
            created_at: None,
            waiting_reason: String::new(),
            pod_ip: String::new(),
        }
    }

    fn refused(status: u16) -> PatchOutcome {
        PatchOutcome::Failed(ActError {
            namespace: "n".to_owned(),
            name: "c".to_owned(),
            source: CallError::refused(status, "denied the request"),
        })
    }

    fn removal(name: &str, pods: &[&str], cause: RemovalCause) -> ReplicaRemoval {
        ReplicaRemoval {
            replica: name.into(),
            pods: pods.iter().map(|pod| (*pod).into()).collect(),
            cause,
            idle_ms: 0,
            finish: Finish::default(),
        }
    }

    /// Returns which of these replicas of a group are dealt with, and how many are spared.
    fn spared(
        caution: &Caution,
        history: &History,
        (nodes, remove): (Vec<Node>, Vec<ReplicaRemoval>),
    ) -> (Vec<String>, usize) {
        let decision = ScaleDecision {
            groups: vec![GroupDecision {
                name: "g".into(),
                replicas_from: 4,
                replicas_to: 0,
                remove,
                forget: Vec::new(),
                reasons: Vec::new(),
            }],
            ..ScaleDecision::default()
        };
        let snapshot = ClusterSnapshot {
            nodes,
            ..ClusterSnapshot::default()
        };
        let order = Order {
            snapshot: &snapshot,
            decision: &decision,
            history,
        };
        let (asked, spared) = caution.spare(&order);
        let left = asked.groups[0].remove.iter();
        (left.map(|it| it.replica.to_string()).collect(), spared)
    }

    /// Returns which of four replicas are dealt with, and how many are spared; one goes for another reason than being
    /// idle, and one has no raylet any more.
    fn asked(caution: &Caution, history: &History) -> (Vec<String>, usize) {
        let causes = [
            ("a", RemovalCause::Idle),
            ("b", RemovalCause::Idle),
            ("max", RemovalCause::AboveMax),
            ("torn", RemovalCause::Idle),
        ];
        let status = |name| match name {
            "torn" => NodeStatus::Stopped,
            _ => NodeStatus::Running,
        };
        let nodes = causes.map(|(name, _)| node(name, status(name))).into();
        let remove = causes.map(|(name, cause)| removal(name, &[name], cause));
        spared(caution, history, (nodes, remove.into()))
    }

    #[test]
    fn idle_raylets_are_asked_again_once_a_patch_goes_through() {
        let (mut caution, history) = (Caution::default(), History::default());
        let all = ["a", "b", "max", "torn"].map(str::to_owned).to_vec();
        let some = ["max", "torn"].map(str::to_owned).to_vec();
        assert_eq!(asked(&caution, &history), (all.clone(), 0));
        for status in [403, 409, 422, 500] {
            caution.learn(&refused(status), true);
            assert_eq!(asked(&caution, &history), (some.clone(), 2), "{status}");
        }
        caution.learn(&PatchOutcome::Nothing, false);
        assert_eq!(asked(&caution, &history), (some, 2));
        let raycluster = serde_json::Value::Null;
        let changes = Vec::new();
        let done = PatchOutcome::Done {
            raycluster,
            changes,
        };
        caution.learn(&done, false);
        assert_eq!(asked(&caution, &history), (all, 0));
    }

    #[test]
    fn one_is_tried_where_even_an_unchanged_cluster_is_refused_and_no_second_one() {
        let (mut caution, mut history) = (Caution::default(), History::default());
        let one = ["a", "max", "torn"].map(str::to_owned).to_vec();
        let none = ["max", "torn"].map(str::to_owned).to_vec();
        caution.learn(&refused(500), false);
        assert_eq!(asked(&caution, &history), (none.clone(), 2));
        caution.learn(&refused(403), false);
        assert_eq!(asked(&caution, &history), (one, 1));
        history.absorb(&Input::DrainAccepted(&"torn".into()), Timestamp::from_ms(1));
        assert_eq!(asked(&caution, &history), (none, 2));
    }

    #[test]
    fn the_one_that_is_tried_is_the_one_of_which_a_host_has_ended() {
        let (mut caution, mut history) = (Caution::default(), History::default());
        caution.learn(&refused(403), false);
        let accepted = Input::DrainAccepted(&"h0".into());
        history.absorb(&accepted, Timestamp::from_ms(1));
        let nodes = || {
            vec![
                node("h0", NodeStatus::Stopped),
                node("h1", NodeStatus::Running),
                node("a", NodeStatus::Running),
            ]
        };
        let other = removal("a", &["a"], RemovalCause::Idle);
        let half = removal("half", &["h0", "h1"], RemovalCause::Idle);
        let both = (nodes(), vec![other.clone(), half]);
        let expected = (vec!["half".to_owned()], 1);
        assert_eq!(spared(&caution, &history, both), expected);
        // Its other host has work.
        let one = (nodes(), vec![other]);
        assert_eq!(spared(&caution, &history, one), (Vec::new(), 1));
    }
}
