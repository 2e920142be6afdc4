//! What an intent keeps, and how much room it takes.

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::{HeadPod, INTENT_BYTES_MAX, Intent};
use crate::model::{
    Asked, FailedStarts, History, Input, PodName, ScaleEvent, Timestamp, WorkerGroupName,
};

const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);

fn head() -> HeadPod {
    HeadPod {
        created_at: NOW.minus_ms(5_000),
        uid: "11111111-2222-3333-4444-555555555555".to_owned(),
    }
}

fn restored(intent: &Intent, now: Timestamp) -> History {
    let mut history = History::default();
    history.absorb(&Input::Restored(intent), now);
    history
}

/// Names as Kubernetes allows them, and worse.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "\\PC{0,20}"]
}

fn histories(size: usize) -> impl Strategy<Value = History> {
    let time = || (0_u64..100_000_000).prop_map(|age| NOW.minus_ms(age));
    let groups = || {
        let group = name().prop_map(|name| WorkerGroupName::from(name.as_str()));
        btree_map(group, time(), 0..size)
    };
    let pods = btree_map(
        name().prop_map(|name| PodName::from(name.as_str())),
        time(),
        0..size,
    );
    let leaving = btree_map(
        name().prop_map(|name| PodName::from(name.as_str())),
        (0_u64..600_000).prop_map(|left| NOW.plus_ms(left)),
        0..size,
    );
    let asked = groups().prop_flat_map(|groups| {
        let count = groups.len();
        let counts = proptest::collection::vec(any::<(u32, u32)>(), count);
        counts.prop_map(move |counts| {
            let asked = groups.clone().into_iter().zip(counts);
            asked
                .map(|((group, at), (replicas, ours))| (group, Asked { replicas, ours, at }))
                .collect()
        })
    });
    let counts = (1..9_u32, any::<bool>(), 0..3_600_000_u64);
    let counts = proptest::collection::vec(counts, size);
    let pods = (pods, leaving);
    (asked, pods, groups(), groups(), groups(), counts).prop_map(
        |(
            asked,
            (drained_at, finish_by),
            scaled_up_at,
            scaled_down_at,
            start_failed_at,
            counts,
        )| {
            let mut history = History {
                asked,
                drained_at,
                finish_by,
                scaled_up_at,
                scaled_down_at,
                start_failed_at,
                ..History::default()
            };
            let groups: Vec<_> = history.scaled_up_at.keys().cloned().collect();
            for (group, (count, refused, age)) in groups.into_iter().zip(counts) {
                let at = NOW.minus_ms(age);
                history.surges.insert(group.clone(), (count + 1, count));
                let failed = FailedStarts::given_up(count, refused, at);
                history.starts.failed.insert(group.clone(), failed);
                let event = ScaleEvent {
                    removed: count,
                    named: count,
                    ..ScaleEvent::default()
                };
                history.pace.record(&group, event, at);
                let span = (at.minus_ms(age / 2), at);
                history.pace.restore_launches(&group, vec![span]);
            }
            history
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_fits_comes_back_as_it_was(history in histories(6)) {
        let head = head();
        let intent = Intent::of(&history, Some(&head), NOW);
        let text = intent.to_text();
        let read = Intent::parse(&text).unwrap();
        prop_assert_eq!(&read, &intent);
        if intent.cut == 0 {
            prop_assert_eq!(restored(&read, NOW.plus_ms(7)), history);
        }
    }

    #[test]
    fn it_never_takes_more_than_its_room(history in histories(60)) {
        let head = head();
        let intent = Intent::of(&history, Some(&head), NOW);
        prop_assert!(intent.to_text().len() <= INTENT_BYTES_MAX);
        let back = restored(&intent, NOW);
        let count = |history: &History| {
            history.asked.len() + history.drained_at.len() + history.finish_by.len() + history.scaled_up_at.len()
                + history.scaled_down_at.len() + history.start_failed_at.len()
                + history.surges.len() + history.starts.failed.len() + history.pace.groups().count()
                + history.pace.launches().len()
        };
        prop_assert_eq!(count(&back) + intent.cut, count(&history));
        // Nothing of more worth is left out for something of less.
        if back.drained_at.len() < history.drained_at.len() {
            prop_assert!(back.asked.is_empty() && back.scaled_up_at.is_empty());
        }
        let oldest_kept = back.drained_at.values().min();
        let left_out = history.drained_at.iter().filter(|(pod, _)| !back.drained_at.contains_key(*pod));
        for (_, at) in left_out {
            prop_assert!(oldest_kept.is_none_or(|oldest| at <= oldest));
        }
    }

    #[test]
    fn any_text_is_read_or_named(text in "\\PC{0,200}") {
        if let Err(problem) = Intent::parse(&text) {
            prop_assert!(problem.contains("accepted"));
        }
    }
}

#[test]
fn it_is_short_and_names_its_version() {
    let mut history = History::default();
    let group = WorkerGroupName::from("g");
    let (from, to) = (10, 15);
    let scaled = Input::Scaled {
        group: &group,
        from,
        to,
    };
    history.absorb(&scaled, NOW.minus_ms(1_200));
    let text = Intent::of(&history, Some(&head()), NOW).to_text();
    assert_eq!(
        text,
        r#"{"v":1,"at":1700000000000,"head":{"created":1699999995000,"uid":"11111111-2222-3333-4444-555555555555"},"asked":{"g":[15,5,1200]},"up":{"g":1200}}"#
    );
    let later = text.replace("\"v\":1", "\"v\":2");
    assert_eq!(Intent::parse(&later).unwrap_err(), "version 2; accepted: 1");
}

#[test]
fn a_writer_whose_clock_was_ahead_does_not_reach_into_the_future() {
    let mut history = History::default();
    let group = WorkerGroupName::from("g");
    let ahead = NOW.plus_ms(3_600_000);
    history.scaled_up_at.insert(group.clone(), ahead);
    let intent = Intent::of(&history, None, ahead);
    assert_eq!(restored(&intent, NOW).scaled_up_at[&group], NOW);
}

#[test]
fn what_is_known_already_is_not_made_older() {
    let group = WorkerGroupName::from("g");
    let mut old = History::default();
    old.scaled_up_at.insert(group.clone(), NOW.minus_ms(9_000));
    let intent = Intent::of(&old, None, NOW);
    let mut history = History::default();
    history.scaled_up_at.insert(group.clone(), NOW);
    history.absorb(&Input::Restored(&intent), NOW);
    assert_eq!(history.scaled_up_at[&group], NOW);
}

#[test]
fn what_was_removed_within_an_hour_is_kept_the_coarser_the_older_it_is() {
    let group = WorkerGroupName::from("g");
    let mut history = History::default();
    for (minutes, removed) in [
        (50, 1),
        (45, 2),
        (25, 3),
        (12, 4),
        (6, 5),
        (4, 6),
        (3, 0),
        (1, 7),
    ] {
        let event = ScaleEvent {
            removed,
            named: removed.max(1),
            ..ScaleEvent::default()
        };
        let at = NOW.minus_ms(minutes * 60_000);
        history.absorb(&Input::Paced(&group, event), at);
    }
    let intent = Intent::of(&history, None, NOW);
    let kept = [
        r#""removed":{"g":[13,60000]}"#,
        r#""removed_before":{"g":[[3,2700000],[3,1500000],[4,720000],[5,360000]]}"#,
    ];
    let text = intent.to_text();
    assert!(kept.iter().all(|part| text.contains(part)), "{text}");
    let back = restored(&Intent::parse(&text).unwrap(), NOW);
    let events = back.pace.events(&group).iter();
    let events: Vec<(u64, u32)> = events
        .map(|event| (NOW.millis_since(event.at) / 60_000, event.removed))
        .collect();
    assert_eq!(events, [(45, 3), (25, 3), (12, 4), (6, 5), (1, 13)]);
    // Who knows more already is told nothing.
    history.absorb(&Input::Restored(&intent), NOW);
    assert_eq!(history.pace.events(&group).len(), 8);
}
