//! A Ray head and its raylets without processes: they serve Ray's protocols, and behind them tasks,
//! actors and placement groups find nodes, nodes become idle, drain, refuse to drain and die.
//!
//! What the GCS answers is what it last heard: raylets are asked for their load once in a while, as
//! real ones are, and only a raylet itself tells how things are now. Tests run the same questions
//! against this head and against a real one.
//!
//! # Why a state that is told the time
//!
//! Nothing here has a clock, a thread or dice of its own (2026-11): a request first lets happen what
//! should have happened until now, then asks. So a head does the same under a test's virtual time, in
//! a simulator with faults, and on a real clock, where [`RayHead::run`] looks after it.

mod agenda;
mod cluster;
mod connections;
mod demand;
mod drains;
mod faults;
mod gcs;
mod ids;
mod placement_group;
mod ray_start;
mod raylet;
mod replies;
mod runtime;
mod scheduling;
mod services;
#[cfg(test)]
mod tests;
mod view;
mod work;

pub use faults::{CallFault, Callee, Faults};
pub use gcs::JobId;
pub use ids::PlacementGroupId;
pub use placement_group::{Bundle, PlacementGroup, PlacementGroupState};
pub use raylet::{Ended, NodeSpec};
pub use runtime::{RayRuntime, Reach, RuntimeSettings};
pub use view::{HeadView, NodeCondition, NodeView, PlacementGroupView, WorkView};
pub use work::{Actor, SchedulingStrategy, Tasks, WorkId};

use super::{Now, news};
use crate::model::{NodeId, ResourceMap, Timestamp};
use crate::wire::gcs::ChannelTo;
use cluster::Cluster;
use gcs::Job;
use ids::hex;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::transport::Channel;

/// Which GCS serves; `None` while none does.
type Incarnation = Option<u64>;

/// Holds what may differ between heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Decides all ids.
    pub seed: u64,
    /// Ray's version, as it is told.
    pub version: String,
    /// The name of the first session; later ones get a number behind it.
    pub session_name: String,
    /// The folder below which the head would keep its logs, as it is told.
    pub temp_dir: String,
    /// `RAY_enable_autoscaler_v2`.
    pub autoscaler_v2: bool,
    /// The token that calls have to carry.
    pub token: Option<String>,
    /// How often the GCS asks raylets for their load.
    pub load_pull_ms: u64,
    /// How often the GCS looks whether a raylet lives.
    pub health_check_period_ms: u64,
    /// After how many failures in a row it is dead.
    pub health_check_failures: u32,
}

impl Default for Settings {
    /// Ray's own numbers.
    fn default() -> Self {
        Self {
            seed: 0,
            version: "2.60.0".to_owned(),
            session_name: "session_embedded".to_owned(),
            temp_dir: String::new(),
            autoscaler_v2: true,
            token: None,
            load_pull_ms: 1_000,
            health_check_period_ms: 3_000,
            health_check_failures: 5,
        }
    }
}

/// A Ray head with its raylets; clones are the same one.
#[derive(Clone)]
pub struct RayHead {
    shared: Arc<Shared>,
}

struct Shared {
    now: Now,
    cluster: Mutex<Cluster>,
    changes: news::Sender<u64>,
    faults: Mutex<Option<Arc<dyn Faults>>>,
}

impl fmt::Debug for RayHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RayHead").finish_non_exhaustive()
    }
}

impl RayHead {
    /// Returns a head whose GCS serves and that has no node yet, not even its own.
    #[must_use]
    pub fn new(settings: Settings, now: Now) -> Self {
        let cluster = Mutex::new(Cluster::new(settings, now()));
        let changes = news::Sender::new(0);
        Self {
            shared: Arc::new(Shared {
                now,
                cluster,
                changes,
                faults: Mutex::default(),
            }),
        }
    }

    /// Lets happen what happens until now, does `act`, and places what can be placed then.
    fn with<T>(&self, act: impl FnOnce(&mut Cluster) -> T) -> T {
        let now = (self.shared.now)();
        let mut cluster = self
            .shared
            .cluster
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        cluster.advance(now);
        let answer = act(&mut cluster);
        cluster.settle();
        let revision = cluster.revision;
        drop(cluster);
        self.shared.changes.send_if(|known| {
            let is_new = *known != revision;
            *known = revision;
            is_new
        });
        answer
    }

    fn changes(&self) -> news::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn incarnation(&self) -> news::Receiver<Incarnation> {
        self.with(|cluster| cluster.incarnation.subscribe())
    }

    fn credentials(&self) -> (Option<String>, String) {
        self.with(|cluster| (cluster.settings.token.clone(), hex(&cluster.gcs.cluster_id)))
    }

    /// Lets happen what happens until now.
    pub fn advance(&self) {
        self.with(|_| ());
    }

    /// Returns when something happens next by itself.
    #[must_use]
    pub fn next_event_at(&self) -> Timestamp {
        self.with(|cluster| cluster.next_event_at())
    }

    /// Lets things happen when they are due, until it is dropped.
    pub async fn run(&self) {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let wait = self.next_event_at().millis_since((self.shared.now)());
            tokio::select! {
                biased;
                _changed = changes.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(wait.max(1))) => {}
            }
        }
    }
}

/// Ways in.
impl RayHead {
    /// Returns a channel to the GCS that never leaves the process.
    ///
    /// It connects by itself, and again when there is another GCS.
    #[must_use]
    pub fn gcs_channel(&self) -> Channel {
        let head = self.clone();
        connections::channel(move |io| head.gcs_connection(io))
    }

    /// Returns a channel to the raylet at `address` (`ip:port`) that never leaves the process.
    #[must_use]
    pub fn raylet_channel(&self, address: &str) -> Channel {
        let (head, address) = (self.clone(), address.to_owned());
        connections::channel(move |io| head.raylet_connection(head.raylet_at(&address)?, io))
    }

    /// Returns what gives a client of raylets its channels.
    #[must_use]
    pub fn raylet_channels(&self) -> ChannelTo {
        let head = self.clone();
        Arc::new(move |address| head.raylet_channel(address))
    }

    /// Serves the GCS on a listener, for as long as it is polled.
    ///
    /// While there is no GCS, connections are closed at once.
    pub fn serve_gcs(&self, listener: TcpListener) -> impl Future<Output = ()> + Send + use<> {
        let head = self.clone();
        connections::accept(listener, move |io| head.gcs_connection(io))
    }

    /// Serves a raylet on a listener, for as long as it is polled.
    pub fn serve_raylet(
        &self,
        id: NodeId,
        listener: TcpListener,
    ) -> impl Future<Output = ()> + Send + use<> {
        let head = self.clone();
        connections::accept(listener, move |io| head.raylet_connection(id, io))
    }

    fn raylet_at(&self, address: &str) -> Option<NodeId> {
        self.with(|cluster| {
            let mut raylets = cluster.raylets.iter();
            let is_there = |spec: &NodeSpec| format!("{}:{}", spec.address, spec.port) == address;
            raylets
                .find(|(_, raylet)| is_there(&raylet.spec))
                .map(|(id, _)| *id)
        })
    }
}

/// Nodes and the GCS's own life.
impl RayHead {
    /// Starts a raylet; it joins at once, or when there is a GCS again.
    pub fn start_node(&self, spec: NodeSpec) -> NodeId {
        self.with(|cluster| cluster.start_node(spec))
    }

    /// Tells how a raylet ends; `None` when it does not run any more.
    #[must_use]
    pub fn node_ended(&self, id: NodeId) -> Option<news::Receiver<Option<Ended>>> {
        self.with(|cluster| Some(cluster.raylets.get(&id)?.ended.subscribe()))
    }

    /// Has a raylet stop as SIGTERM does: it takes no new work, and ends when it is idle or after `patience_ms`.
    ///
    /// Ray tells the death of such a node as one by preemption.
    pub fn stop_node(&self, id: NodeId, patience_ms: u64) {
        self.with(|cluster| cluster.terminate(id, patience_ms));
    }

    /// Ends a raylet without a word; the GCS has to find out.
    pub fn kill_node(&self, id: NodeId) {
        self.with(|cluster| cluster.crash(id));
    }

    /// Returns whether there is a GCS.
    #[must_use]
    pub fn has_gcs(&self) -> bool {
        self.with(|cluster| cluster.gcs.is_up)
    }

    /// Sets what the environment of a head's pod decides: `RAY_enable_autoscaler_v2` and the token.
    pub fn configure(&self, autoscaler_v2: bool, token: Option<&str>) {
        self.with(|cluster| {
            cluster.settings.autoscaler_v2 = autoscaler_v2;
            cluster.settings.token = token.map(str::to_owned);
            cluster.gcs.set_v2(autoscaler_v2);
        });
    }

    /// Ends the GCS; raylets run on.
    pub fn stop_gcs(&self) {
        self.with(Cluster::stop_gcs);
    }

    /// Starts a GCS where there is none.
    ///
    /// It `keeps` what Redis kept: the cluster id, keys, nodes, drivers, actors, placement groups. Otherwise it
    /// is another cluster's: all raylets end, all work is lost, and a head's own raylet starts anew.
    pub fn start_gcs(&self, keeps: bool) {
        self.with(|cluster| {
            if !cluster.gcs.is_up {
                cluster.start_gcs(keeps);
            }
        });
    }
}

/// Work, as drivers ask for it.
impl RayHead {
    /// Submits tasks.
    pub fn submit_tasks(&self, tasks: Tasks) -> WorkId {
        self.with(|cluster| cluster.submit_tasks(tasks))
    }

    /// Creates an actor.
    pub fn create_actor(&self, actor: Actor) -> WorkId {
        self.with(|cluster| cluster.create_actor(actor))
    }

    /// Cancels tasks or kills an actor.
    pub fn cancel(&self, id: WorkId) {
        self.with(|cluster| cluster.cancel(id));
    }

    /// Creates a placement group.
    pub fn create_placement_group(&self, group: PlacementGroup) -> PlacementGroupId {
        self.with(|cluster| cluster.create_placement_group(group))
    }

    /// Removes a placement group, and ends what runs inside.
    pub fn remove_placement_group(&self, id: PlacementGroupId) {
        self.with(|cluster| cluster.remove_placement_group(id));
    }

    /// Asks for room for these bundles, each so many times, in place of what was asked for before.
    pub fn request_resources(&self, bundles: &[(ResourceMap, u64)]) {
        self.with(|cluster| cluster.request_resources(bundles));
    }

    /// Notes a driver that connects from the head.
    pub fn start_driver(&self, namespace: &str) -> JobId {
        self.with(|cluster| {
            let next = cluster.gcs.jobs.keys().last().map_or(1, |last| last.0 + 1);
            let head = cluster.gcs.head();
            let job = Job {
                namespace: namespace.to_owned(),
                node: head.map(|(id, record)| (id, record.spec.address.clone())),
                started_at: cluster.now,
                ended_at: None,
            };
            cluster.gcs.jobs.insert(JobId(next), job);
            JobId(next)
        })
    }

    /// Notes that a driver is gone; detached actors and running tasks stay.
    pub fn stop_driver(&self, id: JobId) {
        self.with(|cluster| {
            let now = cluster.now;
            if let Some(job) = cluster.gcs.jobs.get_mut(&id) {
                job.ended_at.get_or_insert(now);
            }
        });
    }

    /// Forgets work that is done, and all but the last `dead_max` dead nodes (Ray itself keeps 1,000).
    pub fn forget_done(&self, dead_max: usize) {
        self.with(|cluster| cluster.forget_done(dead_max));
    }

    /// Shows how things are.
    #[must_use]
    pub fn view(&self) -> HeadView {
        self.with(|cluster| cluster.view())
    }
}
