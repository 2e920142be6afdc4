//! Asks Ray: the GCS for its state, raylets for their load.
//!
//! One task owns the questions; what it last learnt stands in a `watch` channel. A reply that says
//! nothing new replaces the old one without waking anybody, so that it costs no decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::SourceError;
use super::convert;
use super::load::{KnownLoad, join_load};
use super::pace::{Pace, PaceLimits};
use super::ray_members::Members;
use super::ray_state::{RayNode, RayState};
use super::raylet_round::{RayletRound, RayletSettings};
use super::second_look::FirstLook;
use super::termination::drivers;
use crate::clock::{Clock, Limiter};
use crate::model::{ClusterConstraint, Drivers, NodeId, Problem, ResourceDemand, Timestamp};
use crate::wire::gcs::ray::rpc;
use crate::wire::gcs::{GcsClient, GcsError, RayletClient};

/// Holds what the last rounds brought.
#[derive(Debug, Clone, Default)]
pub struct RayUpdate {
    /// The newest good reply; `None` until there was one, and after the GCS became another cluster.
    pub state: Option<Arc<RayState>>,
    /// How often the GCS was found to be another cluster.
    pub replaced: u64,
    /// How often the GCS was found to have started again (its counter went back).
    pub restarted: u64,
    /// Why the last round failed; `None` when it did not.
    pub error: Option<SourceError>,
    /// What else is known, for reports.
    pub facts: RayFacts,
}

/// Holds what reports want to know of Ray.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RayFacts {
    /// Whether the cluster runs with `RAY_enable_autoscaler_v2`; `None` until known.
    pub is_v2: Option<bool>,
    /// `temp_dir` of the head, below which its logs lie; empty where Ray does not tell.
    pub head_temp_dir: String,
    /// Address of the head's node.
    pub head_ip: String,
    /// What the GCS's last reply took. Units: microseconds.
    pub reply_us: u64,
    /// Time between two questions now. Units: milliseconds.
    pub interval_ms: u64,
    /// Raylets asked in the last round.
    pub raylets_asked: usize,
    /// Raylets whose answer was used in the last round.
    pub raylets_answered: usize,
    /// Raylets that have not answered for several questions: the GCS speaks for them.
    pub raylets_silent: usize,
}

/// Holds what of the polling can be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaySettings {
    /// How often the GCS is asked.
    pub pace: PaceLimits,
    /// Which raylets are asked; `None` asks none.
    pub raylets: Option<RayletSettings>,
}

/// Asks Ray, round after round.
#[derive(Debug)]
pub struct RaySource {
    pub(super) gcs: GcsClient,
    clock: Clock,
    settings: watch::Receiver<RaySettings>,
    pace: Pace,
    pub(super) members: Members,
    pub(super) raylets: RayletRound,
    last: Option<Arc<RayState>>,
    is_v2: Option<bool>,
    last_version: i64,
    wants_drivers: watch::Receiver<bool>,
    drivers: Option<Drivers>,
}

/// How often drivers are asked for: the GCS reads its whole table of jobs for it. Units: milliseconds.
const DRIVERS_EVERY_MS: u64 = 1_000;

/// Key and namespace under which the GCS says which autoscaler it expects.
const V2_FLAG: (&[u8], &[u8]) = (b"__autoscaler", b"__autoscaler_v2_enabled");

/// Key under which `request_resources` writes where v2 is off.
const V1_REQUEST: (&[u8], &[u8]) = (b"", b"autoscaler_resource_request");

impl RaySource {
    /// Returns a source that has asked nothing yet.
    #[must_use]
    pub fn new(
        gcs: GcsClient,
        raylets: RayletClient,
        clock: Clock,
        settings: watch::Receiver<RaySettings>,
    ) -> Self {
        let limits = settings.borrow().pace;
        Self {
            members: Members::default(),
            raylets: RayletRound::new(raylets),
            pace: Pace::new(limits),
            last: None,
            is_v2: None,
            last_version: 0,
            wants_drivers: watch::channel(false).1,
            drivers: None,
            gcs,
            clock,
            settings,
        }
    }

    /// Returns a source that asks for drivers too while somebody wants to know of them.
    #[must_use]
    pub fn asking_drivers(mut self, wanted: watch::Receiver<bool>) -> Self {
        self.wants_drivers = wanted;
        self
    }

    /// Asks until nobody listens any more.
    pub async fn run(mut self, updates: watch::Sender<RayUpdate>) {
        let mut limiter = Limiter::new(&self.clock, self.pace.interval_ms());
        while !updates.is_closed() {
            let settings = *self.settings.borrow_and_update();
            self.pace.set_limits(settings.pace);
            let started_at = self.clock.now();
            let outcome = self.round(&settings).await;
            self.publish(&updates, outcome);
            let interval_ms = self.pace.interval_ms();
            self.clock
                .sleep_until(started_at.plus_ms(interval_ms))
                .await;
            // A second opinion on the arithmetic above: whatever it says, no more than this.
            limiter.wait(interval_ms).await;
        }
    }

    async fn round(&mut self, settings: &RaySettings) -> Result<RayState, GcsError> {
        if self.is_v2.is_none() {
            let flag = self.gcs.internal_kv_get(V2_FLAG.0, V2_FLAG.1).await?;
            // An absent key is asked for again: the GCS may answer before it has written it.
            self.is_v2 = flag.map(|flag| flag == b"1");
        }
        let asked_at_ms = self.clock.precise_ms();
        let chosen = settings
            .raylets
            .map(|raylets| self.raylets.choose(&self.members, raylets));
        let state = async {
            let read = |bytes| convert::encoded_state(bytes, Timestamp::default());
            let reply = self.gcs.read_cluster_resource_state(read).await;
            (reply, self.clock.precise_ms() - asked_at_ms)
        };
        let wants_parts = chosen.as_ref().is_some_and(|chosen| chosen.is_partial);
        let parts = async {
            if wants_parts {
                self.gcs.get_all_resource_usage().await.ok()
            } else {
                None
            }
        };
        let constraint = self.v1_constraint();
        let asked = chosen
            .as_ref()
            .map_or(&[][..], |chosen| &chosen.raylets[..]);
        let loads = self.raylets.ask(asked);
        let drivers = self.drivers();
        let ((reply, took_ms), parts, constraint, fresh, drivers) =
            tokio::join!(state, parts, constraint, loads, drivers);
        self.drivers = drivers;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "casts from float saturate"
        )]
        self.pace.replied((took_ms * 1000.0) as u64);
        let received_at = self.clock.now();
        let mut state = said_by(reply?)?;
        state.received_at = received_at;
        state.drivers = self.drivers;
        match constraint? {
            Ok(Some(constraint)) => state.constraint = Some(constraint),
            Ok(None) => {}
            Err(problem) => state.problems.push(problem),
        }
        let members = self.members.alive.keys().copied().collect();
        self.members.refresh(&self.gcs, &state, received_at).await;
        self.members.address(&mut state.nodes);
        self.raylets.remember(fresh, received_at);
        let by_node = parts.map(|parts| by_node(&parts));
        let fresh = self.raylets.fresh(received_at);
        self.raylets.note_load(by_node.as_ref(), &state);
        self.raylets.close_others(&self.members);
        let first = FirstLook {
            told: state.demands.clone(),
            known: KnownLoad { fresh, by_node },
            members,
        };
        join_load(&mut state, &first.known);
        self.look_again(&mut state, first).await;
        Ok(state)
    }

    /// Returns what was last told.
    pub(super) fn last_state(&self) -> Option<&RayState> {
        self.last.as_deref()
    }

    /// Returns the drivers, if anybody wants to know of them; asks no more often than needed.
    async fn drivers(&self) -> Option<Drivers> {
        if !*self.wants_drivers.borrow() {
            return None;
        }
        let now = self.clock.now();
        let known = self.drivers;
        if known.is_some_and(|it| now.millis_since(it.at) < DRIVERS_EVERY_MS) {
            return known;
        }
        let reply = self.gcs.get_all_job_info().await.ok()?;
        Some(drivers(&reply, self.clock.now()))
    }

    async fn v1_constraint(&self) -> Result<Result<Option<ClusterConstraint>, Problem>, GcsError> {
        if self.is_v2 != Some(false) {
            return Ok(Ok(None));
        }
        let value = self.gcs.internal_kv_get(V1_REQUEST.0, V1_REQUEST.1).await?;
        Ok(value.map_or(Ok(None), |json| convert::kv_constraint(&json)))
    }

    fn publish(&mut self, updates: &watch::Sender<RayUpdate>, outcome: Result<RayState, GcsError>) {
        let facts = self.facts();
        match outcome {
            Ok(state) => {
                let restarted = state.state_version < self.last_version;
                self.last_version = state.state_version;
                if restarted {
                    self.is_v2 = None;
                    self.members.forget();
                }
                let state = Arc::new(state);
                self.last = Some(Arc::clone(&state));
                updates.send_if_modified(|update| {
                    let has_recovered = update.error.take().is_some();
                    let is_news = restarted
                        || has_recovered
                        || update
                            .state
                            .as_deref()
                            .is_none_or(|old| !says_the_same(old, &state));
                    update.restarted += u64::from(restarted);
                    update.state = Some(state);
                    update.facts = facts;
                    is_news
                });
            }
            Err(error) => {
                let is_other_cluster = matches!(error, GcsError::OtherCluster { .. });
                if is_other_cluster {
                    self.forget_cluster();
                }
                updates.send_if_modified(|update| {
                    if is_other_cluster {
                        update.replaced += 1;
                        update.state = None;
                    }
                    let error = SourceError::new("gcs", error.kind(), &error);
                    let is_news = is_other_cluster || update.error.as_ref() != Some(&error);
                    update.error = Some(error);
                    update.facts = facts;
                    is_news
                });
            }
        }
    }

    fn forget_cluster(&mut self) {
        self.gcs.forget_cluster_id();
        self.drivers = None;
        self.last = None;
        self.is_v2 = None;
        self.last_version = 0;
        self.members.forget();
        self.raylets.forget();
    }

    fn facts(&self) -> RayFacts {
        RayFacts {
            is_v2: self.is_v2,
            head_temp_dir: self.members.head_temp_dir.clone(),
            head_ip: self.members.head_ip.clone(),
            reply_us: self.pace.last_us(),
            interval_ms: self.pace.interval_ms(),
            raylets_asked: self.raylets.asked,
            raylets_answered: self.raylets.answered,
            raylets_silent: self.raylets.silent(),
        }
    }
}

/// Returns the state inside a reply.
///
/// A reply without one says nothing; to take it for an empty cluster would be to take every node
/// for gone.
fn said_by(reply: Option<RayState>) -> Result<RayState, GcsError> {
    reply.ok_or(GcsError::Malformed {
        method: "GetClusterResourceState",
        encoded_len: 0,
        source: None,
    })
}

pub(super) fn by_node(
    reply: &rpc::GetAllResourceUsageReply,
) -> BTreeMap<NodeId, Vec<ResourceDemand>> {
    let batch = reply
        .resource_usage_data
        .iter()
        .flat_map(|data| &data.batch);
    let parts = batch.filter_map(|node| {
        let id = NodeId::from_bytes(&node.node_id)?;
        Some((
            id,
            convert::raylet_demands(node.resource_load_by_shape.as_ref()),
        ))
    });
    parts.collect()
}

/// Returns whether two states differ in nothing but versions and the passing of time.
pub(super) fn says_the_same(old: &RayState, new: &RayState) -> bool {
    let ids: BTreeSet<_> = old.nodes.iter().map(|node| node.node_id).collect();
    let is_same_node = |(a, b): (&RayNode, &RayNode)| {
        a.node_id == b.node_id
            && a.status == b.status
            && a.available == b.available
            && a.total == b.total
            && a.labels == b.labels
            && (&a.instance_id, &a.group, &a.raylet_address) == (&b.instance_id, &b.group, &b.raylet_address)
            // An idle clock that started again is news: the node had work in between.
            && b.idle_ms.saturating_add(elapsed_tolerance(old, new)) >= a.idle_ms
    };
    ids.len() == new.nodes.len()
        && old.nodes.len() == new.nodes.len()
        && by_id(old).into_iter().zip(by_id(new)).all(is_same_node)
        && old.demands == new.demands
        && old.gangs == new.gangs
        && old.constraint == new.constraint
        && old.session_name == new.session_name
        && old.problems == new.problems
        && said(old) == said(new)
}

/// Returns what is said of drivers, apart from when.
fn said(state: &RayState) -> Option<(bool, u64)> {
    state.drivers.map(|it| (it.is_any, it.ended_at_ms))
}

/// Idle times come with the clocks of other processes; a little less than before is still the same.
fn elapsed_tolerance(old: &RayState, new: &RayState) -> u64 {
    new.received_at.millis_since(old.received_at).min(1_000)
}

fn by_id(state: &RayState) -> Vec<&RayNode> {
    let mut nodes: Vec<&RayNode> = state.nodes.iter().collect();
    nodes.sort_by_key(|node| node.node_id);
    nodes
}

/// Returns how old the newest good reply is.
///
/// Units: milliseconds; `None` when there was none.
#[must_use]
pub fn age_ms(update: &RayUpdate, now: Timestamp) -> Option<u64> {
    update
        .state
        .as_ref()
        .map(|state| now.millis_since(state.received_at))
}
