//! The life of one pod, from its binding to its end.

use super::environment;
use super::pod_status::{Containers, State};
use super::resize::ResizeRoom;
use super::{ContainerRuntime, Exit, Exits, Kubelet, node};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A call that failed for no reason of the pod's is tried again at this pace.
const RETRY: Duration = Duration::from_millis(200);

/// What became of a pod's object.
#[derive(Debug, Clone)]
pub(super) enum Update {
    /// It is there, in this form.
    Changed(Arc<Pod>),
    /// It is gone from the API.
    Gone,
}

/// Why a pod's work is over.
enum End {
    Deleted(Duration),
    Gone,
}

/// The life of a pod that has been seen for the first time.
pub(super) struct Life {
    uid: String,
    pod: Arc<Pod>,
    updates: watch::Receiver<Update>,
}

impl Life {
    pub(super) fn new(uid: String, pod: Arc<Pod>, updates: watch::Receiver<Update>) -> Self {
        Self { uid, pod, updates }
    }

    /// Runs the pod until its object is gone, and returns its uid.
    pub(super) async fn run<R: ContainerRuntime>(self, kubelet: &Kubelet<R>) -> String {
        let end = async {
            let end = ended(self.updates.clone());
            tokio::pin!(end);
            tokio::select! {
                biased;
                end = &mut end => return end,
                () = self.start_and_watch(kubelet) => {}
            }
            end.await
        };
        if let End::Deleted(grace) = end.await {
            kubelet.runtime.stop(&self.uid, grace).await;
            tokio::select! {
                biased;
                () = self.wait_until_gone() => {}
                () = self.delete(kubelet) => self.wait_until_gone().await,
            }
        } else {
            kubelet.runtime.stop(&self.uid, Duration::ZERO).await;
        }
        self.uid
    }

    async fn start_and_watch<R: ContainerRuntime>(&self, kubelet: &Kubelet<R>) {
        if !self.bind(kubelet).await {
            return;
        }
        let address = kubelet.next_address();
        let mut containers = Containers::new(&self.pod, (kubelet.now)());
        self.write(kubelet, || containers.status(address, (kubelet.now)()))
            .await;
        tokio::time::sleep(kubelet.settings.boot_delay).await;
        let (sender, mut exits) = mpsc::unbounded_channel();
        let exits_of = Exits(sender);
        for name in containers.names() {
            let state = self.start(kubelet, &name, (address, &exits_of)).await;
            containers.set(&name, state);
        }
        let mut restarts = FuturesUnordered::new();
        let mut updates = self.updates.clone();
        let room = kubelet.settings.resize_room.as_ref();
        loop {
            self.write(kubelet, || containers.status(address, (kubelet.now)()))
                .await;
            tokio::select! {
                biased;
                () = resized(&mut updates, &mut containers, room) => {}
                Some(exit) = exits.recv() => {
                    let name = exit.container.clone();
                    if containers.end(exit, (kubelet.now)()) {
                        let delay = kubelet.settings.restart_delay;
                        restarts.push(async move { tokio::time::sleep(delay).await; name });
                    }
                }
                Some(name) = restarts.next() => {
                    let state = self.start(kubelet, &name, (address, &exits_of)).await;
                    containers.set(&name, state);
                }
            }
        }
    }

    /// Binds the pod to the node; a pod that the node does not suit waits for its deletion.
    async fn bind<R>(&self, kubelet: &Kubelet<R>) -> bool {
        let spec = self.pod.spec.clone().unwrap_or_default();
        if spec.node_name.is_some() {
            return spec.node_name == Some(node::name(&kubelet.settings));
        }
        let mut updates = self.updates.clone();
        while is_gated(&updates.borrow().clone()) {
            if updates.changed().await.is_err() {
                return false;
            }
        }
        if !node::suits(&kubelet.settings, &spec) {
            self.write(kubelet, || node::unschedulable((kubelet.now)()))
                .await;
            return false;
        }
        let name = self.pod.name_any();
        let binding = json!({
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node::name(&kubelet.settings)},
        });
        until_answered(|| async {
            let params = kube::api::PostParams::default();
            let bound = kubelet
                .pods
                .create_subresource::<_, Value>("binding", &name, &params, &binding);
            bound.await.map(|_| ())
        })
        .await
    }

    async fn start<R: ContainerRuntime>(
        &self,
        kubelet: &Kubelet<R>,
        name: &str,
        (address, exits): (Ipv4Addr, &Exits),
    ) -> State {
        let start = environment::container_start(&kubelet.client, &self.pod, (name, address)).await;
        let started = match start {
            Ok(start) => kubelet.runtime.start(start, exits.clone()).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = started {
            let reason = Some(format!("StartError: {problem}"));
            exits.tell(Exit {
                container: name.to_owned(),
                code: 128,
                reason,
            });
        }
        State::Running {
            since: (kubelet.now)(),
        }
    }

    async fn write<R>(&self, kubelet: &Kubelet<R>, status: impl Fn() -> Value) {
        let name = self.pod.name_any();
        until_answered(|| async {
            // The uid keeps a status from a later pod of the same name.
            let patch = json!({"metadata": {"uid": self.uid}, "status": status()});
            let params = PatchParams::default();
            kubelet
                .pods
                .patch_status(&name, &params, &Patch::Merge(patch))
                .await
                .map(|_| ())
        })
        .await;
    }

    /// Deletes the object, again where the API server refused because of a write at the same time.
    async fn delete<R>(&self, kubelet: &Kubelet<R>) {
        let name = self.pod.name_any();
        let uid = Some(self.uid.clone());
        let preconditions = Some(Preconditions {
            uid,
            resource_version: None,
        });
        let params = DeleteParams {
            preconditions,
            ..DeleteParams::default()
        }
        .grace_period(0);
        while kubelet.pods.delete(&name, &params).await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Finalizers may hold the object after the containers are gone.
    async fn wait_until_gone(&self) {
        let mut updates = self.updates.clone();
        drop(
            updates
                .wait_for(|update| matches!(update, Update::Gone))
                .await,
        );
    }
}

/// Waits until the pod asks for other resources than it has, and something comes of it.
async fn resized(
    updates: &mut watch::Receiver<Update>,
    containers: &mut Containers,
    room: Option<&ResizeRoom>,
) {
    loop {
        let update = updates.borrow_and_update().clone();
        if let Update::Changed(pod) = update
            && containers.resize(&pod, room)
        {
            return;
        }
        if updates.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for the pod's deletion.
async fn ended(mut updates: watch::Receiver<Update>) -> End {
    let is_end = |update: &Update| match update {
        Update::Changed(pod) => pod.metadata.deletion_timestamp.is_some(),
        Update::Gone => true,
    };
    let update = updates.wait_for(is_end).await.map(|update| update.clone());
    let Ok(Update::Changed(pod)) = update else {
        return End::Gone;
    };
    let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    End::Deleted(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn is_gated(update: &Update) -> bool {
    let Update::Changed(pod) = update else {
        return false;
    };
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

/// Calls until the API server has said yes or no; returns true for yes.
async fn until_answered<F: Future<Output = kube::Result<()>>>(mut call: impl FnMut() -> F) -> bool {
    loop {
        match call().await {
            Ok(()) => return true,
            Err(kube::Error::Api(status))
                if (400..500).contains(&status.code) && status.code != 429 =>
            {
                return false;
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}
