//! The RayCluster: read again and again, or watched where the Role allows it.
//!
//! KubeRay's Role has `get` and `patch` only, so reading is the normal case. It is paced: often after
//! a change, seldom while nothing happens, and never for more than a hundredth of the time. Our own
//! patches answer with the object as it is now, which saves a read ([`RayClusterFollow::adopt`]).

use std::pin::Pin;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::time::Sleep;

use super::cluster::{ClusterError, ClusterName, FollowSettings};
use super::object_watch::{Now, ObjectWatch, Scope, Told, Watched, query_value};
use super::raycluster_pace::{Answer, Pace};
use crate::model::Timestamp;
use crate::wire::kube_client::{CallError, Failure, KubeClient};
use crate::wire::raycluster::RayCluster;

/// A watch that was refused is tried again after this time: Roles are changed by hand. Units: milliseconds.
const WATCH_AGAIN_MS: u64 = 300_000;

/// Says what happened to our view of the RayCluster.
#[derive(Debug)]
pub enum RayClusterChange {
    /// A field that we read has changed.
    Changed,
    /// The view is right (again), nothing has changed.
    InStep,
    /// The RayCluster could not be read; the last view stays.
    Lost(ClusterError),
}

/// Follows one RayCluster.
pub struct RayClusterFollow {
    client: KubeClient,
    cluster: ClusterName,
    now: Now,
    pace: Pace,
    mode: Mode,
    seed: u64,
    /// When a watch that was refused is tried again.
    watch_again_at: Option<Timestamp>,
    current: Option<RayCluster>,
    version: String,
    known_at: Option<Timestamp>,
    is_in_step: bool,
}

enum Mode {
    Waiting(Pin<Box<Sleep>>),
    Asking {
        asked_at: Timestamp,
        answer: BoxFuture<'static, Result<Value, CallError>>,
    },
    Watching(Box<ObjectWatch<Object>>),
}

/// A RayCluster as it came; read later, since that cannot fail halfway through a list.
#[derive(Clone)]
struct Object {
    value: Value,
    version: String,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let version = version_of(&value);
        Ok(Self { value, version })
    }
}

impl Watched for Object {
    fn version(&self) -> &str {
        &self.version
    }
}

fn version_of(value: &Value) -> String {
    let version = &value["metadata"]["resourceVersion"];
    version.as_str().unwrap_or_default().to_owned()
}

impl RayClusterFollow {
    pub(super) fn new(
        client: KubeClient,
        cluster: ClusterName,
        may_watch: bool,
        settings: &FollowSettings,
    ) -> Self {
        let mut follow = Self {
            seed: settings.seed,
            watch_again_at: None,
            mode: Mode::Waiting(Box::pin(tokio::time::sleep(std::time::Duration::ZERO))),
            now: settings.now.clone(),
            pace: Pace::new(settings.poll, settings.seed),
            current: None,
            version: String::new(),
            known_at: None,
            is_in_step: false,
            client,
            cluster,
        };
        if may_watch {
            follow.watch();
        }
        follow
    }

    /// Returns the RayCluster as it was last known; `None` before it was first read.
    #[must_use]
    pub const fn current(&self) -> Option<&RayCluster> {
        self.current.as_ref()
    }

    /// Returns the last moment at which the view was known to be right.
    #[must_use]
    pub fn known_at(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.mode {
            Mode::Watching(watch) => watch.known_at(now).max(self.known_at),
            _ => self.known_at,
        }
    }

    /// Returns whether the RayCluster is watched, not read again and again.
    #[must_use]
    pub const fn is_watching(&self) -> bool {
        matches!(self.mode, Mode::Watching(_))
    }

    /// Waits for the next change that matters; may be given up at any time without losing one.
    pub async fn next(&mut self) -> RayClusterChange {
        loop {
            let change = match &mut self.mode {
                Mode::Waiting(pause) => {
                    pause.await;
                    self.ask();
                    None
                }
                Mode::Asking { asked_at, answer } => {
                    let answer = answer.await;
                    let asked_at = *asked_at;
                    self.on_answer(answer, asked_at)
                }
                Mode::Watching(watch) => {
                    let told = watch.next().await;
                    self.on_told(told)
                }
            };
            if let Some(change) = change {
                return change;
            }
        }
    }

    /// Reads the RayCluster at once and returns whether a field that we read has changed.
    ///
    /// # Errors
    ///
    /// The RayCluster could not be read; the last view stays.
    pub async fn get_now(&mut self) -> Result<bool, ClusterError> {
        let answer = self.client.get::<Value>(&self.path()).await;
        match answer {
            Ok(value) => self.adopt(&value),
            Err(error) => {
                if let Mode::Watching(watch) = &mut self.mode {
                    // A watch in which nothing happens would never say that all is well again.
                    watch.list_after_failure();
                }
                Err(self.failed("get", error))
            }
        }
    }

    /// Takes over the RayCluster that a patch of ours answered with, and returns whether a field that
    /// we read has changed.
    ///
    /// # Errors
    ///
    /// It cannot be understood; the last view stays.
    pub fn adopt(&mut self, value: &Value) -> Result<bool, ClusterError> {
        let changed = self.take(value)?;
        if !self.is_watching() {
            // A read that is under way may have begun before the patch and would take us back.
            self.wait(Answer::Changed, 0);
        }
        Ok(changed)
    }

    fn watch(&mut self) {
        let name = query_value(&format!("metadata.name={}", self.cluster.name));
        let scope = Scope {
            path: self.list_path(),
            selector: format!("fieldSelector={name}"),
        };
        let clock = (self.now.clone(), self.seed);
        let watch = ObjectWatch::new(self.client.clone(), scope, clock);
        self.mode = Mode::Watching(Box::new(watch));
        self.watch_again_at = None;
    }

    fn list_path(&self) -> String {
        let namespace = &self.cluster.namespace;
        format!("/apis/ray.io/v1/namespaces/{namespace}/rayclusters")
    }

    fn path(&self) -> String {
        format!("{}/{}", self.list_path(), self.cluster.name)
    }

    fn ask(&mut self) {
        let client = self.client.clone();
        let path = self.path();
        self.mode = Mode::Asking {
            asked_at: (self.now)(),
            answer: Box::pin(async move { client.get::<Value>(&path).await }),
        };
    }

    fn wait(&mut self, answer: Answer, took_ms: u64) {
        let pause = self.pace.after(answer, took_ms);
        self.mode = Mode::Waiting(Box::pin(tokio::time::sleep(pause)));
    }

    fn on_answer(
        &mut self,
        answer: Result<Value, CallError>,
        asked_at: Timestamp,
    ) -> Option<RayClusterChange> {
        let took_ms = (self.now)().millis_since(asked_at);
        let was_in_step = self.is_in_step;
        match answer {
            Ok(value) => {
                let taken = self.take(&value);
                let answer = match taken {
                    Ok(true) => Answer::Changed,
                    _ => Answer::Same,
                };
                self.wait(answer, took_ms);
                if self.watch_again_at.is_some_and(|at| at <= (self.now)()) {
                    self.watch();
                }
                match taken {
                    Ok(true) => Some(RayClusterChange::Changed),
                    Ok(false) => (!was_in_step).then_some(RayClusterChange::InStep),
                    Err(error) => Some(RayClusterChange::Lost(error)),
                }
            }
            Err(error) => {
                let asked_for = match &error {
                    CallError::RateLimited { retry_after, .. } => *retry_after,
                    _ => None,
                };
                self.wait(Answer::Failed(asked_for), took_ms);
                Some(RayClusterChange::Lost(self.failed("get", error)))
            }
        }
    }

    fn on_told(&mut self, told: Told<Object>) -> Option<RayClusterChange> {
        let was_in_step = self.is_in_step;
        let object = match told {
            Told::Listed(objects) => objects.into_iter().next(),
            Told::Applied(object) if is_older(&object.version, &self.version) => return None,
            Told::Applied(object) => Some(object),
            Told::Deleted(_) => None,
            Told::InStep => {
                self.is_in_step = true;
                return Some(RayClusterChange::InStep);
            }
            Told::Lost(verb, error) => {
                if error.failure() == Failure::Forbidden {
                    // The Role was narrowed, or the review was wrong: reading is always allowed.
                    self.watch_again_at = Some((self.now)().plus_ms(WATCH_AGAIN_MS));
                    if self.is_in_step {
                        // Nothing is lost before that has been refused, too.
                        self.ask();
                        return None;
                    }
                    self.wait(Answer::Changed, 0);
                }
                return Some(RayClusterChange::Lost(self.failed(verb, error)));
            }
        };
        let Some(object) = object else {
            self.is_in_step = false;
            return Some(RayClusterChange::Lost(self.not_found()));
        };
        match self.take(&object.value) {
            Ok(true) => Some(RayClusterChange::Changed),
            Ok(false) => (!was_in_step).then_some(RayClusterChange::InStep),
            Err(error) => Some(RayClusterChange::Lost(error)),
        }
    }

    /// Takes over an object and returns whether it differs in a field that we read.
    fn take(&mut self, value: &Value) -> Result<bool, ClusterError> {
        let version = version_of(value);
        if self.is_in_step && !version.is_empty() && version == self.version {
            self.known_at = Some((self.now)());
            return Ok(false);
        }
        let mut read = RayCluster::from_value(value).map_err(|source| {
            self.is_in_step = false;
            ClusterError::Unreadable {
                name: self.cluster.name.clone(),
                source,
            }
        })?;
        // Every write changes the version, and most of them only the status of pods.
        read.metadata.resource_version = String::new();
        let differs = self.current.as_ref() != Some(&read);
        self.current = Some(read);
        self.version = version;
        self.known_at = Some((self.now)());
        self.is_in_step = true;
        Ok(differs)
    }

    fn failed(&mut self, verb: &'static str, error: CallError) -> ClusterError {
        self.is_in_step = false;
        if error.failure() == Failure::NotFound {
            return self.not_found();
        }
        ClusterError::of((verb, "rayclusters"), &self.cluster.namespace, error)
    }

    fn not_found(&self) -> ClusterError {
        ClusterError::NotFound {
            namespace: self.cluster.namespace.clone(),
            name: self.cluster.name.clone(),
        }
    }
}

/// Returns whether a watch event is older than what a patch of ours has answered with.
fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
