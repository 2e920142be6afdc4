//! Stand-ins for what a cluster has and a test or sandbox lacks: KubeRay's operator, scheduler, kubelet.
//!
//! They are clients of the Kubernetes API like the originals, so they work on any API server. They read
//! no clock and roll no dice: time comes from a [`Now`], names from a seed.

pub mod kube;
pub(crate) mod lean;
pub mod news;
pub mod operator;
pub mod pods;
pub mod ports;
pub mod process;
pub mod ray;

use crate::model::Timestamp;
use ::kube::api::Api;
use ::kube::runtime::watcher::{Config, Event, watcher};
use futures_util::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// A watch that cannot be opened is tried again at this pace.
const WATCH_RETRY: Duration = Duration::from_millis(100);

/// Tells the time; whoever starts a stand-in brings it.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Returns a moment as Kubernetes writes it, in whole seconds.
fn kube_time(at: Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(at.as_secs()).unwrap_or_default())
}

/// Returns the events of a watch, which goes on by itself after errors.
///
/// The watcher's own delay after errors is random; a fixed one repeats.
pub(crate) fn watched<K>(api: Api<K>, config: Config) -> impl Stream<Item = Event<K>> + Send
where
    K: ::kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config).filter_map(|event| async {
        if event.is_err() {
            tokio::time::sleep(WATCH_RETRY).await;
        }
        event.ok()
    })
}
