//! Carries what reports want sent to Ray and Kubernetes, so that the loop never waits for it.

use std::collections::VecDeque;
use std::mem::discriminant;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::debug;

use super::telemetry::chain;
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::report::events::{Event, ReportFailed};
use crate::report::kv::{KvPut, at_start, v1_status};
use crate::report::{Metrics, kube_events};
use crate::wire::gcs::ray::rpc::autoscaler::AutoscalingState;
use crate::wire::gcs::{GcsClient, GcsError};

/// How long the API server may take for the events of one pass: the GCS is not told anything meanwhile.
const EVENTS_TAKE: Duration = Duration::from_secs(5);

/// Events of so many passes wait at most: they are a courtesy, and where Ray comes first the oldest news are enough.
const EVENTS_WAIT: usize = 16;

/// Holds something to send.
#[derive(Debug)]
pub enum Letter {
    /// What the GCS is told once, when it is first seen or is new.
    Hello {
        /// Address at which Prometheus finds our metrics.
        head_ip: String,
    },
    /// For `ReportAutoscalingState`.
    State(AutoscalingState),
    /// For the key that the first autoscaler's readers read.
    V1Status(String),
    /// For the API server.
    KubeEvents(Vec<serde_json::Value>),
}

/// Says what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The GCS has taken reports up to this version before.
    Continue {
        /// `autoscaler_state_version` that it holds.
        version: i64,
    },
    /// The GCS did not answer our greeting.
    NotGreeted,
    /// The GCS took the report.
    StateDelivered(Timestamp),
    /// It did not.
    StateFailed,
    /// The status was not put.
    V1StatusFailed,
}

/// Holds whom the courier knows.
pub struct Courier {
    /// The GCS.
    pub gcs: GcsClient,
    /// The API server.
    pub kube: kube::Client,
    /// What counts failures.
    pub metrics: Metrics,
    /// Tells the time.
    pub clock: Clock,
    /// Where our metrics are served, once they are.
    pub listening: watch::Receiver<Option<std::net::SocketAddr>>,
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Courier").finish_non_exhaustive()
    }
}

impl Courier {
    /// Carries letters until nobody writes any more.
    pub async fn run(
        self,
        mut letters: mpsc::Receiver<Letter>,
        deliveries: mpsc::Sender<Delivery>,
    ) {
        let mut failing: Vec<&'static str> = Vec::new();
        let mut waiting = VecDeque::new();
        while let Some(letter) = next(&mut waiting, &mut letters).await {
            let (target, result, delivery) = self.carry(letter).await;
            let is_repeated = failing.contains(&target);
            match result {
                Ok(()) => failing.retain(|other| *other != target),
                Err(error) => {
                    ReportFailed {
                        target,
                        error: &error,
                        is_repeated,
                    }
                    .emit(&self.metrics);
                    if !is_repeated {
                        failing.push(target);
                    }
                }
            }
            if let Some(delivery) = delivery {
                // A loop that is gone needs no answer.
                deliveries.send(delivery).await.unwrap_or_default();
            }
        }
    }

    async fn carry(&self, letter: Letter) -> (&'static str, Result<(), String>, Option<Delivery>) {
        match letter {
            Letter::Hello { head_ip } => {
                let greeted = self.greet(&head_ip).await;
                let delivery = match &greeted {
                    Ok(version) => Delivery::Continue { version: *version },
                    Err(_) => Delivery::NotGreeted,
                };
                (
                    "gcs_kv",
                    greeted.map(|_| ()).map_err(|error| chain(&error)),
                    Some(delivery),
                )
            }
            Letter::State(state) => {
                let sent = self.gcs.report_autoscaling_state(state).await;
                let delivery = match &sent {
                    Ok(()) => Delivery::StateDelivered(self.clock.now()),
                    Err(_) => Delivery::StateFailed,
                };
                (
                    "gcs_state",
                    sent.map_err(|error| chain(&error)),
                    Some(delivery),
                )
            }
            Letter::V1Status(status) => {
                let put = self.put(&v1_status(status)).await;
                let delivery = put.is_err().then_some(Delivery::V1StatusFailed);
                ("gcs_kv", put.map_err(|error| chain(&error)), delivery)
            }
            Letter::KubeEvents(events) => {
                let create = async {
                    for event in &events {
                        kube_events::create(&self.kube, event).await?;
                    }
                    Ok::<_, kube::Error>(())
                };
                let created = match tokio::time::timeout(EVENTS_TAKE, create).await {
                    Ok(created) => created.map_err(|error| chain(&error)),
                    Err(_) => Err(format!("no answer within {EVENTS_TAKE:?}")),
                };
                ("kubernetes_events", created, None)
            }
        }
    }

    async fn greet(&self, head_ip: &str) -> Result<i64, GcsError> {
        let port = self.listening.borrow().map(|address| address.port());
        let address = port
            .filter(|_| !head_ip.is_empty())
            .map(|port| format!("{head_ip}:{port}"));
        for put in at_start(address.as_deref()) {
            self.put(&put).await?;
        }
        let status = self.gcs.get_cluster_status().await?;
        let version = status
            .autoscaling_state
            .map_or(0, |state| state.autoscaler_state_version);
        debug!(version, "continuing above the reports that the gcs has");
        Ok(version)
    }

    async fn put(&self, put: &KvPut) -> Result<(), GcsError> {
        let (namespace, key, value) = (
            put.namespace.as_bytes(),
            put.key.as_bytes(),
            put.value.clone().into_bytes(),
        );
        if !put.overwrite && self.gcs.internal_kv_get(namespace, key).await?.is_some() {
            return Ok(());
        }
        self.gcs
            .internal_kv_put(namespace, key, value)
            .await
            .map(|_| ())
    }
}

/// Returns the next letter: Ray's before Kubernetes', and of reports on a state, which say all anew, the last one alone.
async fn next(
    waiting: &mut VecDeque<Letter>,
    letters: &mut mpsc::Receiver<Letter>,
) -> Option<Letter> {
    if waiting.is_empty() {
        waiting.push_back(letters.recv().await?);
    }
    while let Ok(letter) = letters.try_recv() {
        if matches!(letter, Letter::State(_) | Letter::V1Status(_)) {
            waiting.retain(|other| discriminant(other) != discriminant(&letter));
        }
        let events = waiting.iter().filter(|other| !is_rays(other)).count();
        if is_rays(&letter) || events < EVENTS_WAIT {
            waiting.push_back(letter);
        }
    }
    let at = waiting.iter().position(is_rays).unwrap_or_default();
    waiting.remove(at)
}

/// Returns whether a letter is for Ray.
const fn is_rays(letter: &Letter) -> bool {
    !matches!(letter, Letter::KubeEvents(_))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::sync::mpsc;

    use super::{EVENTS_WAIT, Letter, next};
    use crate::wire::gcs::ray::rpc::autoscaler::AutoscalingState;

    #[tokio::test]
    async fn what_a_newer_report_says_anew_is_not_sent_and_ray_comes_first() {
        let (sender, mut letters) = mpsc::channel(64);
        let state = |version| {
            Letter::State(AutoscalingState {
                autoscaler_state_version: version,
                ..AutoscalingState::default()
            })
        };
        let hello = Letter::Hello {
            head_ip: "10.0.0.1".to_owned(),
        };
        let sent = [
            Letter::KubeEvents(Vec::new()),
            hello,
            state(1),
            Letter::V1Status("old".to_owned()),
            state(2),
            Letter::V1Status("new".to_owned()),
        ];
        for letter in sent {
            sender.send(letter).await.unwrap();
        }
        let mut waiting = VecDeque::new();
        let mut got = Vec::new();
        while got.len() < 4 {
            let letter = next(&mut waiting, &mut letters).await.unwrap();
            got.push(match letter {
                Letter::Hello { .. } => "hello".to_owned(),
                Letter::State(state) => format!("state {}", state.autoscaler_state_version),
                Letter::V1Status(text) => text,
                Letter::KubeEvents(_) => "events".to_owned(),
            });
        }
        assert_eq!(got, ["hello", "state 2", "new", "events"]);
        // Ray always has something; events do not pile up.
        for version in 0..30 {
            sender.send(Letter::KubeEvents(Vec::new())).await.unwrap();
            sender.send(state(version)).await.unwrap();
            next(&mut waiting, &mut letters).await.unwrap();
        }
        assert_eq!(waiting.len(), EVENTS_WAIT);
        waiting.clear();
        drop(sender);
        assert!(next(&mut waiting, &mut letters).await.is_none());
    }
}
