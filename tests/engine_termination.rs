//! When a cluster's time is over since nobody uses it, and that it is not while anything is unsure.
#![expect(clippy::unwrap_used, reason = "test")]

#[path = "support/core/mod.rs"]
mod support;

use rayscaler::engine::Engine;
use rayscaler::model::{Drivers, IdleTermination, Input, TerminationPolicy};
use support::builders::{Cluster, group};

/// A cluster that is to be suspended after ten seconds without a driver, which it has none of.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default().group(group("cpu", "CPU=1"));
    cluster.snapshot.termination = Some(IdleTermination {
        timeout_ms: 10_000,
        policy: TerminationPolicy::Suspend,
        is_suspending: false,
        drivers: None,
        refused: None,
    });
    cluster
}

fn asked(cluster: &mut Cluster) -> &mut IdleTermination {
    cluster.snapshot.termination.as_mut().unwrap()
}

/// Lets time pass and looks: all sources are read, and these are the drivers (any, last end).
fn later(
    cluster: &mut Cluster,
    ms: u64,
    drivers: Option<(bool, u64)>,
) -> Option<TerminationPolicy> {
    cluster.now = cluster.now.plus_ms(ms);
    let now = cluster.now;
    let known = &mut cluster.snapshot.completeness;
    (known.gcs_at, known.pods_at, known.raycluster_at) = (Some(now), Some(now), Some(now));
    asked(cluster).drivers = drivers.map(|(is_any, ended_at_ms)| Drivers {
        at: now,
        is_any,
        ended_at_ms,
    });
    decided(cluster)
}

fn decided(cluster: &mut Cluster) -> Option<TerminationPolicy> {
    let (snapshot, now) = (&cluster.snapshot, cluster.now);
    cluster.history.absorb(&Input::Observed(snapshot), now);
    Engine::default()
        .decide(snapshot, &cluster.history, now)
        .termination
}

const NOBODY: Option<(bool, u64)> = Some((false, 7));

#[test]
fn it_ends_when_there_was_no_driver_for_so_long_and_says_so_until_it_is_done() {
    let mut cluster = cluster().busy("cpu", "w1");
    assert_eq!(later(&mut cluster, 0, NOBODY), None);
    assert_eq!(later(&mut cluster, 9_999, NOBODY), None);
    let suspend = Some(TerminationPolicy::Suspend);
    assert_eq!(later(&mut cluster, 1, NOBODY), suspend);
    assert_eq!(later(&mut cluster, 100, NOBODY), suspend);
    asked(&mut cluster).is_suspending = true;
    assert_eq!(later(&mut cluster, 100, NOBODY), None);
}

#[test]
fn a_driver_starts_the_time_anew_and_so_does_one_that_came_and_went_between_two_looks() {
    for someone in [Some((true, 7)), Some((false, 8)), None] {
        let mut cluster = cluster();
        later(&mut cluster, 0, NOBODY);
        assert_eq!(later(&mut cluster, 9_000, someone), None);
        let last = someone.map_or(7, |(_, ended)| ended);
        assert_eq!(later(&mut cluster, 1_000, Some((false, last))), None);
        assert_eq!(
            later(&mut cluster, 8_999, Some((false, last))),
            None,
            "{someone:?}"
        );
        assert!(later(&mut cluster, 1_001, Some((false, last))).is_some());
    }
}

#[test]
fn zero_seconds_end_it_at_the_first_look() {
    let mut cluster = cluster();
    asked(&mut cluster).timeout_ms = 0;
    assert!(later(&mut cluster, 0, NOBODY).is_some());
}

#[test]
fn whatever_is_unsure_means_that_it_stays() {
    let due = || {
        let mut cluster = cluster();
        later(&mut cluster, 0, NOBODY);
        assert!(later(&mut cluster, 10_000, NOBODY).is_some());
        cluster
    };
    let mut cluster = due();
    cluster.snapshot.completeness.pods_at = Some(cluster.now.minus_ms(20_000));
    assert_eq!(decided(&mut cluster), None, "pods out of date");
    let mut cluster = due();
    cluster.now = cluster.now.plus_ms(11_000);
    cluster.snapshot.completeness.gcs_at = Some(cluster.now);
    assert_eq!(decided(&mut cluster), None, "drivers out of date");
    let mut cluster = due();
    let now = cluster.now;
    cluster.history.absorb(&Input::GcsRestarted, now);
    assert_eq!(later(&mut cluster, 100, NOBODY), None, "a restarted GCS");
    let mut cluster = due();
    cluster.snapshot.is_deleting = true;
    assert_eq!(later(&mut cluster, 100, NOBODY), None, "on its way out");
    let mut cluster = due();
    asked(&mut cluster).refused = Some("no".to_owned());
    assert_eq!(later(&mut cluster, 100, NOBODY), None, "nobody lets us");
    let mut cluster = due();
    cluster.snapshot.termination = None;
    assert_eq!(decided(&mut cluster), None, "not asked for");
}
