//! What can go wrong, and what goes wrong now.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::random::Random;
use crate::embedded::{Now, news};
use crate::model::Timestamp;

macro_rules! kinds {
    ($($kind:ident $name:literal $about:literal,)*) => {
        /// What can go wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind {
            $(#[doc = $about] $kind,)*
        }

        impl FaultKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Returns its name on the command line and in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    Api401 "api-401" "Calls of the API server are refused: nobody knows the token.",
    Api403 "api-403" "Calls are refused: no right to do it.",
    Api404 "api-404" "Calls are refused: no such object.",
    Api409 "api-409" "Writes are refused: a conflict.",
    Api410 "api-410" "Reads are refused: too old.",
    Api422 "api-422" "Writes are refused: not valid.",
    Api429 "api-429" "Calls are refused: too many, with `Retry-After`.",
    Api500 "api-500" "Calls are refused: an error of the server's.",
    Api503 "api-503" "Calls are refused: no server.",
    ApiHang "api-hang" "Calls are not answered; writes may have been carried out.",
    ApiReset "api-reset" "Connections break; writes may have been carried out.",
    ApiPartial "api-partial" "Answers end in the middle; writes have been carried out.",
    ApiStale "api-stale" "Reads show how things were when this began.",
    ApiSlow "api-slow" "Every call takes a second more.",
    WatchReordered "watch-reordered" "Two events of a watch change places.",
    WatchDoubled "watch-doubled" "Events of a watch come twice.",
    WatchDropped "watch-dropped" "Events of a watch are lost; it ends with 410 afterwards.",
    WatchClosed "watch-closed" "Watches end soon after they were opened.",
    WatchGone "watch-gone" "Watches end with 410.",
    WatchSilent "watch-silent" "Watches tell nothing, not even bookmarks.",
    GcsUnavailable "gcs-unavailable" "The GCS refuses calls.",
    GcsHang "gcs-hang" "The GCS does not answer.",
    GcsSlow "gcs-slow" "The GCS answers seconds later.",
    GcsHalf "gcs-half" "The GCS tells of half the nodes only.",
    GcsStale "gcs-stale" "The GCS tells how things were when this began.",
    GcsStopped "gcs-stopped" "The GCS stops, and starts again with what it knew.",
    GcsReplaced "gcs-replaced" "The GCS stops, and starts again as another cluster's.",
    RayletUnavailable "raylet-unavailable" "Raylets refuse calls.",
    RayletHang "raylet-hang" "Raylets do not answer.",
    DrainRefused "drain-refused" "Raylets refuse to drain.",
    DrainHang "drain-hang" "Drains are not answered.",
    PodPending "pod-pending" "Pods get no machine.",
    PodCreating "pod-creating" "Containers are not created.",
    PodCrash "pod-crash" "Containers end as soon as they start.",
    PodLate "pod-late" "Raylets join long after their containers run.",
    PodTerminating "pod-terminating" "A deleted pod stays, held by a finalizer.",
    PodVanish "pod-vanish" "A machine goes with everything on it.",
    PodEvicted "pod-evicted" "A pod is deleted by somebody else.",
    PodRestart "pod-restart" "A raylet dies in its container.",
    PodOrdered "pod-ordered" "Somebody asks that a pod finishes and goes, with an annotation.",
    PodProtected "pod-protected" "Somebody asks that a pod stays, with an annotation.",
    OperatorDown "operator-down" "The operator reaches no API server.",
    ClockJump "clock-jump" "The API server's clock is off by up to an hour.",
    SidecarKilled "sidecar-killed" "The sidecar dies where it stands, and starts again.",
    SidecarClock "sidecar-clock" "The sidecar starts again, and its clock is off by up to an hour.",
    HeadLost "head-lost" "The head's pod goes, sidecar and GCS with it.",
    HeadReplaced "head-replaced" "The head's pod is replaced, and the sidecar in the old one lives on for a while.",
    EditReplicas "edit-replicas" "Somebody sets a group's replicas.",
    EditReset "edit-reset" "Somebody sets all replicas back to what they were at first.",
    EditBounds "edit-bounds" "Somebody sets a group's minimum and maximum.",
    EditTemplate "edit-template" "Somebody edits what a group's pods are made of; those that are there stay as they are.",
    EditAddGroup "edit-add-group" "Somebody adds a group.",
    EditRemoveGroup "edit-remove-group" "Somebody removes a group.",
    EditRename "edit-rename" "Somebody renames a group.",
    EditReorder "edit-reorder" "Somebody changes the order of groups.",
    EditDelete "edit-delete" "Somebody names a pod in workersToDelete.",
    EditSuspend "edit-suspend" "Somebody suspends the cluster and resumes it.",
    EditAnnotations "edit-annotations" "Somebody wipes all annotations.",
    EditApply "edit-apply" "Somebody applies the RayCluster as it was written at first.",
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FaultKind {
    /// Those that are drawn with a die of their own, so that seeds of before them meet the same trouble as before.
    pub(super) const LATER: &[Self] = &[Self::HeadReplaced, Self::EditTemplate];
}

/// The kinds that a run may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Only(pub Vec<FaultKind>);

impl Default for Only {
    fn default() -> Self {
        Self(FaultKind::ALL.to_vec())
    }
}

impl FromStr for Only {
    type Err = String;

    /// Reads a kind or the beginning of several: `api-409`, `edit`; `none` for a run without faults.
    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = FaultKind::ALL.iter().copied();
        let chosen: Vec<_> = kinds
            .filter(|kind| text.split(',').any(|part| kind.name().starts_with(part)))
            .collect();
        if chosen.is_empty() && text != "none" {
            let names: Vec<_> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
            return Err(format!(
                "accepted: `none`, or beginnings of: {}",
                names.join(", ")
            ));
        }
        Ok(Self(chosen))
    }
}

/// What goes wrong now; all that can make something go wrong look here.
pub(super) struct Board {
    state: Mutex<State>,
    seed: u64,
    now: Now,
    changed: news::Sender<()>,
}

#[derive(Debug)]
struct State {
    until: BTreeMap<FaultKind, Timestamp>,
    met: BTreeMap<FaultKind, u64>,
    /// One die for each kind, so that what one of them meets does not shuffle the others.
    dice: BTreeMap<FaultKind, Random>,
}

impl Board {
    /// Returns a board on which nothing goes wrong.
    pub(super) fn new(seed: u64, now: Now) -> Arc<Self> {
        let state = State {
            until: BTreeMap::new(),
            met: BTreeMap::new(),
            dice: BTreeMap::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            seed,
            now,
            changed: news::Sender::new(()),
        })
    }

    /// Has this go wrong until then.
    pub(super) fn begin(&self, kind: FaultKind, until: Timestamp) {
        self.state().until.insert(kind, until);
        self.changed.send(());
    }

    /// Ends what is over; returns those kinds.
    pub(super) fn end_due(&self, now: Timestamp) -> Vec<FaultKind> {
        self.end(|until| until <= now)
    }

    /// Ends everything.
    pub(super) fn end_all(&self) -> Vec<FaultKind> {
        self.end(|_| true)
    }

    fn end(&self, is_over: impl Fn(Timestamp) -> bool) -> Vec<FaultKind> {
        let mut state = self.state();
        let over = state.until.iter().filter(|(_, until)| is_over(**until));
        let over: Vec<_> = over.map(|(kind, _)| *kind).collect();
        for kind in &over {
            state.until.remove(kind);
        }
        drop(state);
        if !over.is_empty() {
            self.changed.send(());
        }
        over
    }

    /// Returns whether this goes wrong now.
    pub(super) fn is_on(&self, kind: FaultKind) -> bool {
        self.state().until.contains_key(&kind)
    }

    /// Returns whether nothing goes wrong now.
    pub(super) fn is_quiet(&self) -> bool {
        self.state().until.is_empty()
    }

    /// Returns whether this goes wrong here, so many times in a hundred, and counts it then.
    pub(super) fn hits(&self, kind: FaultKind, percent: u64) -> bool {
        let mut state = self.state();
        let die = || Random::new(self.seed, kind.name());
        let hits = state.until.contains_key(&kind)
            && state.dice.entry(kind).or_insert_with(die).chance(percent);
        if hits {
            *state.met.entry(kind).or_default() += 1;
        }
        hits
    }

    /// Counts one that was made to happen.
    pub(super) fn count(&self, kind: FaultKind) {
        *self.state().met.entry(kind).or_default() += 1;
    }

    /// Returns a number that depends on the moment and on what for, and on nothing that happened before: a call
    /// more than last time shuffles no other.
    pub(super) fn roll(&self, what_for: &str, low: u64, high: u64) -> u64 {
        let moment = (self.now)().as_ms().unsigned_abs();
        Random::new(self.seed ^ moment.rotate_left(32), what_for).between(low, high)
    }

    /// Returns how often each kind was met.
    pub(super) fn met(&self) -> BTreeMap<FaultKind, u64> {
        self.state().met.clone()
    }

    /// Waits until this goes wrong no longer.
    pub(super) async fn until_over(&self, kind: FaultKind) {
        let mut changes = self.changes();
        while self.is_on(kind) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Is told when something begins or ends.
    pub(super) fn changes(&self) -> news::Receiver<()> {
        self.changed.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{FaultKind, Only};

    #[test]
    fn kinds_are_chosen_by_the_beginnings_of_their_names() {
        let only: Only = "api-5,gcs-half".parse().unwrap();
        let expected = [FaultKind::Api500, FaultKind::Api503, FaultKind::GcsHalf];
        assert_eq!(only.0, expected);
        assert!("none".parse::<Only>().unwrap().0.is_empty());
        let error = "apo".parse::<Only>().unwrap_err();
        assert!(error.contains("watch-silent"), "{error}");
    }
}
