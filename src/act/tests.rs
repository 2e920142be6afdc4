//! What survives a patch.

use super::{Drained, GroupChange, Order, PatchPlan};
use crate::model::{
    ClusterSnapshot, History, INTENT_BYTES_MAX, Input, Intent, NodeTemplate, PodName,
    ReplicaBounds, ScaleDecision, ScaleEvent, Timestamp, WorkerGroup, WorkerGroupName,
};

const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);

fn pods(count: usize) -> Vec<PodName> {
    let name = |at| format!("a-cluster-of-some-size-workers-worker-{at:05}");
    let names = (0..count).map(name);
    names.map(|name| PodName::from(name.as_str())).collect()
}

/// What a sidecar knows that starts after these pods were named, or only drained, by a patch.
fn known_after(drained: &[PodName], named: Vec<PodName>, snapshot: &ClusterSnapshot) -> History {
    let group = WorkerGroupName::from("g");
    let mut history = History::default();
    let event = ScaleEvent {
        removed: 250,
        named: 250,
        ..ScaleEvent::default()
    };
    history.absorb(&Input::Paced(&group, event), NOW.minus_ms(60_000));
    let decision = ScaleDecision::default();
    let order = Order {
        snapshot,
        decision: &decision,
        history: &history,
    };
    let told = Drained {
        accepted: drained.to_vec(),
        ..Drained::default()
    };
    let count = u32::try_from(named.len()).unwrap();
    let mut plan = PatchPlan::nothing(snapshot);
    plan.groups = vec![GroupChange {
        name: group,
        replicas_from: 1_000,
        replicas_to: 1_000 - count,
        named,
        forgotten: Vec::new(),
    }];
    let text = order.intent(&told, (&plan, NOW)).to_text();
    assert!(text.len() <= INTENT_BYTES_MAX);
    let mut after = History::default();
    let intent = Intent::parse(&text).unwrap();
    after.absorb(&Input::Restored(&intent), NOW);
    after
}

#[test]
fn a_large_removal_leaves_room_for_what_limits_the_next() {
    let group = WorkerGroupName::from("g");
    let mut going = pods(300);
    let drained = going.clone();
    let unnamed = going.split_off(299);
    // Some were named by an earlier patch and are still there.
    let (earlier, named) = going.split_at(100);
    let mut listing = ClusterSnapshot::default();
    listing.groups.push(WorkerGroup {
        workers_to_delete: earlier.to_vec(),
        ..worker_group()
    });
    let after = known_after(&drained, named.to_vec(), &listing);
    assert!(!after.pace.events(&group).is_empty());
    assert!(after.scaled_down_at.contains_key(&group));
    let kept: Vec<&PodName> = after.drained_at.keys().collect();
    assert_eq!(kept, unnamed.iter().collect::<Vec<_>>());
}

#[test]
fn what_was_removed_lately_outlives_drains_of_many_that_stay_unnamed() {
    let after = known_after(&pods(300), Vec::new(), &ClusterSnapshot::default());
    let removed = after.pace.events(&WorkerGroupName::from("g"));
    assert_eq!(removed.iter().map(|it| it.removed).sum::<u32>(), 250);
    assert!(!after.drained_at.is_empty());
}

fn worker_group() -> WorkerGroup {
    WorkerGroup {
        surge: 0,
        has_replicas: true,
        name: "g".into(),
        index: 0,
        replicas: 1_000,
        bounds: ReplicaBounds { min: 0, max: 2_000 },
        num_of_hosts: 1,
        priority: 0,
        idle_timeout_ms: None,
        template: NodeTemplate::default(),
        workers_to_delete: Vec::new(),
        has_scale_strategy: true,
        has_workers_to_delete: true,
    }
}
