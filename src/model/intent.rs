//! What has to survive the sidecar, small enough for an annotation of the RayCluster.
//!
//! Most of what is remembered follows from the RayCluster and its pods. What does not is kept here:
//! what was asked for and is not there yet, drains that were accepted, when groups were scaled, asked for
//! more or failed to start, which are left alone because their pods do not come, and what was removed lately. It
//! goes with the patch that scales, so it costs no write of its own; whoever reads it may find it old, garbled or
//! wiped, and loses only patience by it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Asked, FailedStarts, History, Pace, PodName, ScaleEvent, Timestamp, WorkerGroupName};

/// The most an intent may take, in bytes: annotations are read with every object they stand on.
pub const INTENT_BYTES_MAX: usize = 4_096;

/// Annotation of the RayCluster that holds the intent.
pub const ANNOTATION_INTENT: &str = "rayscaler.io/intent";

/// How far back removals are kept as one; limits on them have shorter windows by default. Units: milliseconds.
const REMOVED_LATELY_MS: u64 = 300_000;

/// The version of the format.
const VERSION: u32 = 1;

/// Names a head pod; of two, the newer one's sidecar may write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeadPod {
    /// When it was created.
    #[serde(rename = "created")]
    pub created_at: Timestamp,
    /// `metadata.uid`.
    pub uid: String,
}

/// Holds what survives.
///
/// Units: moments in milliseconds before `at`, which are shorter to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    #[serde(rename = "v")]
    version: u32,
    /// When it was written, by the clock of its writer.
    pub at: Timestamp,
    /// The head pod whose sidecar wrote it; `None` where it did not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadPod>,
    /// Replicas asked for and not there yet, how many of them by us, and how long ago.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    asked: BTreeMap<WorkerGroupName, (u32, u32, u64)>,
    /// How long ago a pod's raylet accepted its drain.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    drained: BTreeMap<PodName, u64>,
    /// How much longer from `at` a pod that was told to go may finish its work.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    leaving: BTreeMap<PodName, u64>,
    /// How long ago a group was scaled up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    up: BTreeMap<WorkerGroupName, u64>,
    /// How long ago a group was scaled down.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    down: BTreeMap<WorkerGroupName, u64>,
    /// How long ago a pod of a group was found to start for too long.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    failed: BTreeMap<WorkerGroupName, u64>,
    /// How many times in a row pods of a group were given up, whether Kubernetes refused them, and how long ago.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    gave_up: BTreeMap<WorkerGroupName, (u32, bool, u64)>,
    /// What `replicas` was set to, and how many of them only make up for pods on their way out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    surge: BTreeMap<WorkerGroupName, (u32, u32)>,
    /// How many replicas were removed as idle within the last minutes, and how long ago the last ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    removed: BTreeMap<WorkerGroupName, (u32, u64)>,
    /// How long ago a group was asked for more: from when to when, the oldest first. Pods that came of it and that
    /// nothing needs are given up before they run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    launched: BTreeMap<WorkerGroupName, Vec<(u64, u64)>>,
    /// The same of the rest of the hour that limits may look back, in parts, the oldest first: each is twice as long
    /// as the one after it, and counts as if all had gone at its end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    removed_before: BTreeMap<WorkerGroupName, Vec<(u32, u64)>>,
    /// How many entries did not fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: usize,
}

/// One thing that survives, by its worth: what is first is kept longest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Leaving(PodName, u64),
    Removed(WorkerGroupName, u32),
    Drained(PodName),
    Asked(WorkerGroupName, u32, u32),
    Surge(WorkerGroupName, u32, u32),
    GaveUp(WorkerGroupName, u32, bool),
    Failed(WorkerGroupName),
    Up(WorkerGroupName),
    Down(WorkerGroupName),
    RemovedBefore(WorkerGroupName, Vec<(u32, u64)>),
    Launched(WorkerGroupName, Vec<(u64, u64)>),
}

impl Entry {
    /// Orders kinds of entries: lost time of live work costs most, then a limit that forgets (one entry a group), then
    /// a lost deletion; a lost scale time only costs some patience, and pods that nobody needs some minutes.
    const fn rank(&self) -> u8 {
        match self {
            Self::Leaving(..) => 0,
            Self::Removed(..) => 1,
            Self::Drained(_) => 2,
            Self::Asked(..) | Self::Surge(..) => 3,
            Self::GaveUp(..) | Self::Failed(_) | Self::RemovedBefore(..) => 4,
            Self::Up(_) | Self::Down(_) => 5,
            Self::Launched(..) => 6,
        }
    }
}

impl Intent {
    /// Returns what of `history` is to survive; the oldest and least valuable is left out first.
    #[must_use]
    pub fn of(history: &History, head: Option<&HeadPod>, at: Timestamp) -> Self {
        let entries = entries(history, at);
        let with = |count: usize| Self::with(entries.get(..count).unwrap_or_default(), head, at);
        let whole = with(entries.len());
        if whole.fits() {
            return whole;
        }
        // The most entries that fit; each one more makes it longer.
        let (mut fitting, mut too_many) = (0, entries.len());
        while too_many - fitting > 1 {
            let middle = fitting.midpoint(too_many);
            let mut tried = with(middle);
            tried.cut = entries.len() - middle;
            if tried.fits() {
                fitting = middle;
            } else {
                too_many = middle;
            }
        }
        let mut kept = with(fitting);
        kept.cut = entries.len() - fitting;
        kept
    }

    fn with(entries: &[(u64, Entry)], head: Option<&HeadPod>, at: Timestamp) -> Self {
        let mut intent = Self {
            version: VERSION,
            at,
            head: head.cloned(),
            asked: BTreeMap::new(),
            drained: BTreeMap::new(),
            leaving: BTreeMap::new(),
            up: BTreeMap::new(),
            down: BTreeMap::new(),
            failed: BTreeMap::new(),
            gave_up: BTreeMap::new(),
            surge: BTreeMap::new(),
            removed: BTreeMap::new(),
            removed_before: BTreeMap::new(),
            launched: BTreeMap::new(),
            cut: 0,
        };
        for (age_ms, entry) in entries {
            let age_ms = *age_ms;
            match entry.clone() {
                Entry::Leaving(pod, left_ms) => drop(intent.leaving.insert(pod, left_ms)),
                Entry::Drained(pod) => drop(intent.drained.insert(pod, age_ms)),
                Entry::Asked(group, replicas, ours) => {
                    intent.asked.insert(group, (replicas, ours, age_ms));
                }
                Entry::Surge(group, replicas, surge) => {
                    intent.surge.insert(group, (replicas, surge));
                }
                Entry::GaveUp(group, count, refused) => {
                    intent.gave_up.insert(group, (count, refused, age_ms));
                }
                Entry::Removed(group, count) => {
                    intent.removed.insert(group, (count, age_ms));
                }
                Entry::Failed(group) => drop(intent.failed.insert(group, age_ms)),
                Entry::Up(group) => drop(intent.up.insert(group, age_ms)),
                Entry::Down(group) => drop(intent.down.insert(group, age_ms)),
                Entry::RemovedBefore(group, parts) => {
                    intent.removed_before.insert(group, parts);
                }
                Entry::Launched(group, spans) => drop(intent.launched.insert(group, spans)),
            }
        }
        intent
    }

    fn fits(&self) -> bool {
        self.to_text().len() <= INTENT_BYTES_MAX
    }

    /// Returns the annotation's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Maps with text keys and numbers: nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the intent in an annotation's text.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let intent: Self = serde_json::from_str(text)
            .map_err(|error| format!("not readable ({error}); accepted: what rayscaler wrote"))?;
        if intent.version == VERSION {
            return Ok(intent);
        }
        Err(format!("version {}; accepted: {VERSION}", intent.version))
    }

    /// Writes what survived into `history`, where that does not know better.
    ///
    /// The writer's clock may be ahead: nothing lies in the future of `now`.
    pub(super) fn restore_to(&self, history: &mut History, now: Timestamp) {
        let at = |age_ms: u64| self.at.min(now).minus_ms(age_ms);
        for (group, (replicas, ours, age_ms)) in &self.asked {
            let asked = Asked {
                replicas: *replicas,
                ours: *ours,
                at: at(*age_ms),
            };
            history.asked.entry(group.clone()).or_insert(asked);
        }
        for (group, surge) in &self.surge {
            history.surges.entry(group.clone()).or_insert(*surge);
        }
        for (group, (count, refused, age_ms)) in &self.gave_up {
            let failed = FailedStarts::given_up(*count, *refused, at(*age_ms));
            history.starts.failed.entry(group.clone()).or_insert(failed);
        }
        self.restore_pace(&mut history.pace, &at);
        for (pod, age_ms) in &self.drained {
            let known = history.drained_at.entry(pod.clone());
            known.or_insert(at(*age_ms));
        }
        for (pod, left_ms) in &self.leaving {
            let known = history.finish_by.entry(pod.clone());
            known.or_insert(at(0).plus_ms(*left_ms));
        }
        let groups = [
            (&self.up, &mut history.scaled_up_at),
            (&self.down, &mut history.scaled_down_at),
            (&self.failed, &mut history.start_failed_at),
        ];
        for (kept, known) in groups {
            for (group, age_ms) in kept {
                let known = known.entry(group.clone()).or_insert(at(*age_ms));
                *known = (*known).max(at(*age_ms));
            }
        }
    }

    fn restore_pace(&self, pace: &mut Pace, at: &dyn Fn(u64) -> Timestamp) {
        let known = pace.groups().map(|(group, _)| group.clone());
        let known: BTreeSet<WorkerGroupName> = known.collect();
        let before = self.removed_before.iter();
        let before = before.flat_map(|(group, parts)| parts.iter().map(move |part| (group, part)));
        // The oldest first.
        for (group, (count, age_ms)) in before.chain(&self.removed) {
            if !known.contains(group) {
                let event = ScaleEvent {
                    removed: *count,
                    named: *count,
                    ..ScaleEvent::default()
                };
                pace.record(group, event, at(*age_ms));
            }
        }
        for (group, spans) in &self.launched {
            let spans = spans.iter();
            let spans = spans.map(|(first_ms, last_ms)| (at(*first_ms), at(*last_ms)));
            pace.restore_launches(group, spans.collect());
        }
    }
}

/// Returns everything that is to survive with its age, the most valuable and newest first.
fn entries(history: &History, at: Timestamp) -> Vec<(u64, Entry)> {
    let of_groups = [
        (
            &history.start_failed_at,
            Entry::Failed as fn(WorkerGroupName) -> Entry,
        ),
        (&history.scaled_up_at, Entry::Up),
        (&history.scaled_down_at, Entry::Down),
    ];
    let mut entries: Vec<(u64, Entry)> = Vec::new();
    for (times, entry) in of_groups {
        entries.extend(
            times
                .iter()
                .map(|(group, time)| (at.millis_since(*time), entry(group.clone()))),
        );
    }
    let drained = history.drained_at.iter();
    entries
        .extend(drained.map(|(pod, time)| (at.millis_since(*time), Entry::Drained(pod.clone()))));
    let leaving = history.finish_by.iter();
    entries.extend(leaving.map(|(pod, by)| (0, Entry::Leaving(pod.clone(), by.millis_since(at)))));
    let asked = history.asked.iter();
    entries.extend(asked.map(|(group, asked)| {
        let entry = Entry::Asked(group.clone(), asked.replicas, asked.ours);
        (at.millis_since(asked.at), entry)
    }));
    let surges = history.surges.iter();
    entries.extend(
        surges
            .map(|(group, (replicas, surge))| (0, Entry::Surge(group.clone(), *replicas, *surge))),
    );
    // Pods that end at once show within seconds whether they still do.
    let gave_up = history.starts.failed.iter();
    let gave_up = gave_up.filter(|(_, failed)| !failed.ended);
    entries.extend(gave_up.map(|(group, failed)| {
        let entry = Entry::GaveUp(group.clone(), failed.count, failed.refused);
        (at.millis_since(failed.at), entry)
    }));
    entries.extend(paced(&history.pace, at));
    entries.sort_by(|(age, entry), (other_age, other)| {
        (entry.rank(), age, entry).cmp(&(other.rank(), other_age, other))
    });
    entries
}

/// Returns what is to survive of how fast groups were changed.
fn paced(pace: &Pace, at: Timestamp) -> Vec<(u64, Entry)> {
    let groups = pace.groups();
    let removed = groups.flat_map(|(group, events)| removed(group, events, at));
    let launched = pace.launches().into_iter().filter_map(|(group, spans)| {
        let ages = spans.iter();
        let ages = ages.map(|(first, last)| (at.millis_since(*first), at.millis_since(*last)));
        let ages: Vec<(u64, u64)> = ages.collect();
        let (_, last_ms) = *ages.last()?;
        Some((last_ms, Entry::Launched(group.clone(), ages)))
    });
    removed.chain(launched).collect()
}

/// Returns what was removed of a group.
fn removed(
    group: &WorkerGroupName,
    events: &[ScaleEvent],
    at: Timestamp,
) -> impl Iterator<Item = (u64, Entry)> {
    // How many, and how long ago the last ones; what went lately is the first part.
    let mut parts: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    for event in events.iter().filter(|event| event.removed > 0) {
        let age_ms = at.millis_since(event.at);
        let doublings = (age_ms / REMOVED_LATELY_MS).checked_ilog2();
        let part = doublings.map_or(0, |doublings| doublings.saturating_add(1));
        let (count, last_ms) = parts.entry(part).or_insert((0, age_ms));
        *count = count.saturating_add(event.removed);
        *last_ms = age_ms.min(*last_ms);
    }
    let lately = parts.remove(&0);
    let lately = lately.map(|(count, last_ms)| (last_ms, Entry::Removed(group.clone(), count)));
    let before: Vec<(u32, u64)> = parts.into_values().rev().collect();
    let before = before.last().copied().map(|(_, last_ms)| {
        let entry = Entry::RemovedBefore(group.clone(), before);
        (last_ms, entry)
    });
    lately.into_iter().chain(before)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests;
