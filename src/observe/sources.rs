//! Ray's and Kubernetes' news, awaited together and joined into a snapshot.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use tokio::sync::watch;

use super::SourceError;
use super::cluster::{ClusterChange, ClusterSource, ClusterWatch};
use super::departures::departures;
use super::failed_starts::failed_starts;
use super::fence::{self, OwnHead, PodsView};
use super::join::{JoinInput, join};
use super::pods::PodWatch;
use super::ray::{RayFacts, RayUpdate};
use super::ray_state::RayState;
use super::resizing::{ResizeOff, resizing};
use super::termination::{TerminationRefused, termination};
use crate::clock::Clock;
use crate::model::{ClusterSnapshot, Completeness, Timestamp};
use crate::wire::kube_client::Failure;
use crate::wire::pod::PodFacts;

/// Changes that are taken in before the loop is woken: a burst of pods is one piece of news.
const BURST_MAX: usize = 2_000;

/// Holds everything known at one moment.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// When the news behind it arrived.
    pub at: Timestamp,
    /// The joined view; `None` until the RayCluster was read.
    pub snapshot: Option<ClusterSnapshot>,
    /// Whether the GCS was found to be another cluster since the last time.
    pub is_gcs_replaced: bool,
    /// Whether the GCS started again since the last time.
    pub is_gcs_restarted: bool,
    /// Sources that are out of step.
    pub errors: Vec<SourceError>,
    /// What reports want to know of Ray.
    pub ray: RayFacts,
    /// Ray's session; empty until known.
    pub session_name: String,
}

/// Awaits and joins.
pub struct Sources {
    ray: watch::Receiver<RayUpdate>,
    cluster: ClusterWatch,
    clock: Clock,
    errors: [Option<SourceError>; 2],
    is_out_of_date: bool,
    seen_replaced: u64,
    seen_restarted: u64,
    own: OwnHead,
    resize_off: watch::Receiver<Option<ResizeOff>>,
    refused_end: watch::Receiver<Option<TerminationRefused>>,
    wants_drivers: watch::Sender<bool>,
    intent_refused: watch::Receiver<Option<String>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Sources {
    /// Returns sources that have told nothing yet.
    #[must_use]
    pub fn new(ray: watch::Receiver<RayUpdate>, cluster: ClusterWatch, clock: Clock) -> Self {
        let (errors, is_out_of_date) = (Default::default(), false);
        Self {
            ray,
            cluster,
            clock,
            errors,
            is_out_of_date,
            seen_replaced: 0,
            seen_restarted: 0,
            own: OwnHead::default(),
            resize_off: watch::channel(None).1,
            refused_end: watch::channel(None).1,
            wants_drivers: watch::channel(false).0,
            intent_refused: watch::channel(None).1,
        }
    }

    /// Returns sources that know which head pod we run in.
    #[must_use]
    pub fn in_head(mut self, own: OwnHead) -> Self {
        self.own = own;
        self
    }

    /// Returns sources that hear when pods cannot be resized.
    #[must_use]
    pub fn resizing(mut self, off: watch::Receiver<Option<ResizeOff>>) -> Self {
        self.resize_off = off;
        self
    }

    /// Returns sources that hear when the cluster cannot be ended, and that say when anybody wants
    /// to know of drivers.
    #[must_use]
    pub fn terminating(
        mut self,
        refused: watch::Receiver<Option<TerminationRefused>>,
        wants_drivers: watch::Sender<bool>,
    ) -> Self {
        (self.refused_end, self.wants_drivers) = (refused, wants_drivers);
        self
    }

    /// Returns sources that hear why patches go without the intent.
    #[must_use]
    pub fn remembering(mut self, refused: watch::Receiver<Option<String>>) -> Self {
        self.intent_refused = refused;
        self
    }

    /// Waits for news, or until `wake_at`, and returns everything known then; can be cancelled.
    pub async fn next(&mut self, wake_at: Option<Timestamp>) -> Observed {
        if self.is_out_of_date {
            let read = self.cluster.raycluster_mut().get_now().await;
            self.is_out_of_date = false;
            self.errors[1] = read
                .err()
                .map(|error| SourceError::new("raycluster", error.kind(), &error));
        } else {
            self.wait(wake_at).await;
        }
        self.take_in_burst().await;
        self.observed()
    }

    /// Takes in what a patch taught: the object it returned, or that ours is out of date.
    pub fn adopt(&mut self, raycluster: Option<&serde_json::Value>) {
        let is_taken =
            raycluster.is_some_and(|value| self.cluster.raycluster_mut().adopt(value).is_ok());
        self.is_out_of_date = !is_taken;
        if is_taken {
            self.errors[1] = None;
        }
    }

    /// Has everything that the API server knows read anew, at most once a minute.
    pub fn doubt(&mut self) {
        self.is_out_of_date |= self.cluster.doubt_pods();
    }

    /// Gives back the watch of the cluster, for a look before Ray is known.
    pub fn cluster(&self) -> &ClusterWatch {
        &self.cluster
    }

    async fn wait(&mut self, wake_at: Option<Timestamp>) {
        let clock = self.clock.clone();
        let timer = async move {
            match wake_at {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let change = tokio::select! {
            biased;
            changed = self.ray.changed() => {
                if changed.is_err() {
                    // The task that asks Ray is gone; its owner ends the process. Until then: no news.
                    std::future::pending::<()>().await;
                }
                None
            }
            change = self.cluster.next() => Some(change),
            Ok(()) = self.resize_off.changed() => None,
            () = timer => None,
        };
        if let Some(change) = change {
            self.note(change);
        }
    }

    /// Takes in what is there without waiting for more.
    async fn take_in_burst(&mut self) {
        for _ in 0..BURST_MAX {
            let Some(change) = now_or_never(self.cluster.next()).await else {
                break;
            };
            self.note(change);
        }
        self.ray.mark_unchanged();
    }

    fn note(&mut self, change: ClusterChange) {
        let at = |source| usize::from(source == ClusterSource::RayCluster);
        let name = |source| {
            if source == ClusterSource::Pods {
                "pods"
            } else {
                "raycluster"
            }
        };
        match change {
            ClusterChange::Changed(source) | ClusterChange::InStep(source) => {
                self.errors[at(source)] = None
            }
            ClusterChange::Lost(source, error) => {
                self.errors[at(source)] =
                    Some(SourceError::new(name(source), error.kind(), &error));
            }
        }
    }

    /// Returns why the RayCluster cannot be read, where asking again would be answered the same.
    fn unreadable(&self) -> Option<String> {
        let [_, raycluster] = &self.errors;
        let refused = raycluster.as_ref().filter(|error| {
            error.kind == Failure::Forbidden.label() || error.kind == Failure::NotFound.label()
        });
        refused.map(|error| error.message.clone())
    }

    fn observed(&mut self) -> Observed {
        let now = self.clock.now();
        let update = self.ray.borrow().clone();
        let is_gcs_replaced = update.replaced > self.seen_replaced;
        let is_gcs_restarted = update.restarted > self.seen_restarted;
        (self.seen_replaced, self.seen_restarted) = (update.replaced, update.restarted);
        let unread = RayState::default();
        let ray = update.state.as_deref().unwrap_or(&unread);
        let completeness = Completeness {
            gcs_at: update.state.as_ref().map(|state| state.received_at),
            pods_at: self.cluster.pods().known_at(now),
            raycluster_at: self.cluster.raycluster().known_at(now),
        };
        let pods: Vec<_> = self.cluster.pods().pods().collect();
        let unreadable = self.unreadable();
        let snapshot = self.cluster.raycluster().current().map(|raycluster| {
            let input = JoinInput {
                ray,
                raycluster,
                pods: &pods,
                completeness,
            };
            let mut snapshot = join(&input);
            let departed = |name: &str| self.cluster.pods().departed(name);
            snapshot.departures = departures(&input, &departed);
            snapshot.failed_starts = failed_starts(&input, self.cluster.pods().ended());
            let view = pods_view(&pods, (self.cluster.pods(), now));
            snapshot.writing = self.own.look(raycluster, view, &mut snapshot.problems);
            let without = self.intent_refused.borrow();
            let without = without.as_deref().map(fence::refused);
            snapshot.problems.extend(without);
            snapshot.unreadable = unreadable;
            let refused = self.refused_end.borrow().clone();
            let refused = refused.filter(|refused| now < refused.until);
            let asked = (ray.drivers, refused.as_ref());
            snapshot.termination = termination(raycluster, asked, &mut snapshot.problems);
            self.wants_drivers.send_if_modified(|wanted| {
                std::mem::replace(wanted, snapshot.termination.is_some())
                    != snapshot.termination.is_some()
            });
            let off = self.resize_off.borrow_and_update().clone();
            snapshot.resizing = resizing(
                raycluster,
                (&pods, &snapshot.nodes),
                (now, off.as_ref()),
                &mut snapshot.problems,
            );
            snapshot
        });
        if self.own.doubts_pods() {
            // Nobody scales until then; whatever this list says, it settles it.
            self.is_out_of_date |= self.cluster.relist_pods();
        }
        let errors = update
            .error
            .iter()
            .chain(self.errors.iter().flatten())
            .cloned()
            .collect();
        let session_name = ray.session_name.clone();
        Observed {
            at: now,
            snapshot,
            is_gcs_replaced,
            is_gcs_restarted,
            errors,
            ray: update.facts,
            session_name,
        }
    }
}

fn pods_view<'a>(pods: &'a [&'a PodFacts], (watch, now): (&PodWatch, Timestamp)) -> PodsView<'a> {
    PodsView {
        pods,
        is_in_step: watch.is_in_step(),
        listed_from: watch.listed_from(),
        now,
    }
}

/// Polls a future once.
async fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
