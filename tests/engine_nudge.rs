//! An operator that waits out a back-off after pods were refused is called now and then.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::model::{History, Intent, IntentSeen};
use support::builders::{Cluster, group};
use support::passes::{see, wait};

/// A group below its minimum, whose pods a quota refuses.
fn refused() -> Cluster {
    let mut cluster = Cluster::default().group(group("quota", "CPU=4"));
    cluster.group_mut("quota").bounds.min = 2;
    let mut cluster = cluster.replicas("quota", 2);
    cluster.snapshot.replica_failure = Some("exceeded quota: pods=0".to_owned());
    see(&mut cluster);
    cluster
}

#[test]
fn after_two_minutes_without_a_write_the_operator_is_to_look_again() {
    let mut cluster = refused();
    wait(&mut cluster, 119);
    let decision = cluster.decide();
    assert!(!decision.nudge && !decision.is_work(), "{decision:?}");
    assert_eq!(decision.next_check_at, Some(cluster.now.plus_ms(1_000)));
    wait(&mut cluster, 1);
    let decision = cluster.decide();
    assert!(decision.nudge && !decision.is_change() && decision.is_work());

    // It is written, which the annotation shows.
    let intent = Intent::of(&History::default(), None, cluster.now);
    cluster.snapshot.writing.seen = IntentSeen::Text(intent.to_text());
    assert!(!cluster.decide().nudge);
    wait(&mut cluster, 119);
    assert!(!cluster.decide().nudge);
    wait(&mut cluster, 1);
    assert!(cluster.decide().nudge);
}

#[test]
fn the_operator_is_left_alone_where_nothing_is_refused_missing_or_to_be_written() {
    let mut fine = refused();
    fine.snapshot.replica_failure = None;
    let mut whole = refused();
    whole.settle();
    let mut suspended = refused();
    suspended.snapshot.is_suspended = true;
    for cluster in [&mut fine, &mut whole, &mut suspended] {
        wait(cluster, 600);
        assert!(!cluster.decide().nudge);
    }
    let mut cluster = refused();
    wait(&mut cluster, 600);
    assert!(cluster.decide().nudge);
    // What is written anyway calls it, too.
    let other = group("free", "Custom=1");
    let mut cluster = cluster.group(other).demand("Custom=1", 5);
    see(&mut cluster);
    let decision = cluster.decide();
    assert!(decision.is_change() && !decision.nudge, "{decision:?}");
}
