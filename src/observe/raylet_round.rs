//! One round of questions to raylets, and what their answers are worth afterwards.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::convert;
use super::load::RayletLoad;
use super::ray_members::Members;
use super::ray_state::RayState;
use super::raylets::{Candidate, RayletBudget, Rotation};
use crate::model::{NodeId, ResourceDemand, Timestamp};
use crate::wire::gcs::{GcsError, RayletClient};

/// An answer stands in for one that failed to come for so long: about as old as the GCS's own.
const STANDS_IN_MS: u64 = 1_000;

/// A raylet that did not answer is left alone for this long, then twice as long, ...
const QUIET_FIRST_MS: u64 = 1_000;

/// ... and at most this long: a network policy does not change every minute.
const QUIET_LONGEST_MS: u64 = 60_000;

/// A raylet that failed so often in a row is silent, rather than one that missed a question.
const SILENT_AFTER: u32 = 2;

/// Holds what of asking raylets can be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RayletSettings {
    /// How many are asked.
    pub budget: RayletBudget,
}

/// Holds who is asked in one round.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// The raylets and their addresses.
    pub(super) raylets: Vec<(NodeId, String)>,
    /// Whether some alive raylet is not asked, so that the GCS's parts are needed.
    pub(super) is_partial: bool,
}

/// Answers of one round.
pub(super) type Answers = Vec<(NodeId, Result<RayletLoad, GcsError>)>;

/// Asks raylets and remembers.
#[derive(Debug)]
pub(super) struct RayletRound {
    client: RayletClient,
    rotation: Rotation,
    answers: BTreeMap<NodeId, (Timestamp, RayletLoad)>,
    had_load: BTreeSet<NodeId>,
    quiet: BTreeMap<NodeId, Quiet>,
    in_last_round: BTreeSet<NodeId>,
    now: Timestamp,
    /// Raylets asked in the last round.
    pub(super) asked: usize,
    /// Raylets that answered in the last round.
    pub(super) answered: usize,
}

#[derive(Debug, Clone, Copy)]
struct Quiet {
    until: Timestamp,
    failures: u32,
}

impl RayletRound {
    /// Returns a round that has asked nobody.
    pub(super) fn new(client: RayletClient) -> Self {
        Self {
            client,
            rotation: Rotation::default(),
            answers: BTreeMap::new(),
            had_load: BTreeSet::new(),
            quiet: BTreeMap::new(),
            in_last_round: BTreeSet::new(),
            now: Timestamp::default(),
            asked: 0,
            answered: 0,
        }
    }

    /// Forgets everything but the connections.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.client.clone());
    }

    /// Returns who is asked now.
    pub(super) fn choose(&mut self, members: &Members, settings: RayletSettings) -> Chosen {
        let is_quiet = |id: &NodeId| {
            self.quiet
                .get(id)
                .is_some_and(|quiet| quiet.until > self.now)
        };
        let candidates: Vec<Candidate> = members
            .alive
            .iter()
            .filter(|(id, _)| !is_quiet(id))
            .map(|(id, member)| Candidate {
                node_id: *id,
                is_head: member.is_head,
                has_driver: members.driver_ips.contains(&member.ip_address),
                had_load: self.had_load.contains(id),
            })
            .collect();
        let ids = self.rotation.choose(&candidates, settings.budget);
        let raylets = ids
            .iter()
            .filter_map(|id| Some((*id, members.alive.get(id)?.raylet_address.clone())));
        let raylets: Vec<(NodeId, String)> = raylets.collect();
        Chosen {
            is_partial: !raylets.is_empty() && raylets.len() < members.alive.len(),
            raylets,
        }
    }

    /// Asks these at once.
    pub(super) async fn ask(&self, raylets: &[(NodeId, String)]) -> Answers {
        let questions = raylets
            .iter()
            .map(|(id, address)| async move { (*id, ask(&self.client, *id, address).await) });
        join_all(questions).await
    }

    /// Takes in the answers of a round.
    pub(super) fn remember(&mut self, answers: Answers, now: Timestamp) {
        self.now = now;
        self.asked = answers.len();
        self.answered = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
        self.in_last_round = answers.iter().map(|(id, _)| *id).collect();
        for (id, answer) in answers {
            match answer {
                Ok(load) => {
                    self.quiet.remove(&id);
                    self.answers.insert(id, (now, load));
                }
                Err(_) => {
                    let failures = self
                        .quiet
                        .get(&id)
                        .map_or(0, |quiet| quiet.failures)
                        .saturating_add(1);
                    let doubled = QUIET_FIRST_MS
                        .saturating_mul(1_u64.checked_shl(failures - 1).unwrap_or(u64::MAX));
                    let until = now.plus_ms(doubled.min(QUIET_LONGEST_MS));
                    self.quiet.insert(id, Quiet { until, failures });
                }
            }
        }
    }

    /// Returns how many raylets do not answer, whether a question was due to them or not.
    pub(super) fn silent(&self) -> usize {
        let silent = |quiet: &&Quiet| quiet.failures >= SILENT_AFTER;
        self.quiet.values().filter(silent).count()
    }

    /// Returns the answers that are better than what the GCS knows.
    pub(super) fn fresh(&self, now: Timestamp) -> BTreeMap<NodeId, RayletLoad> {
        let recent = self.answers.iter().filter(|(id, (at, _))| {
            let is_asked = self.in_last_round.contains(id) || self.quiet.contains_key(id);
            is_asked && now.millis_since(*at) < STANDS_IN_MS
        });
        recent.map(|(id, (_, load))| (*id, load.clone())).collect()
    }

    /// Notes who had load, so that no old load of theirs is believed next time.
    pub(super) fn note_load(
        &mut self,
        by_node: Option<&BTreeMap<NodeId, Vec<ResourceDemand>>>,
        state: &RayState,
    ) {
        let alive: BTreeSet<NodeId> = state
            .nodes
            .iter()
            .filter(|node| node.status.is_alive())
            .map(|node| node.node_id)
            .collect();
        self.answers.retain(|id, _| alive.contains(id));
        self.quiet.retain(|id, _| alive.contains(id));
        let asked = self
            .answers
            .iter()
            .filter(|(_, (_, load))| !load.demands.is_empty())
            .map(|(id, _)| *id);
        let told = by_node
            .into_iter()
            .flatten()
            .filter(|(_, demands)| !demands.is_empty())
            .map(|(id, _)| *id);
        self.had_load = asked.chain(told).filter(|id| alive.contains(id)).collect();
    }

    /// Closes connections to raylets that are gone.
    pub(super) fn close_others(&self, members: &Members) {
        if self.client.connections() > members.alive.len() {
            let addresses = members
                .alive
                .values()
                .map(|member| member.raylet_address.clone())
                .collect();
            self.client.retain(&addresses);
        }
    }
}

async fn ask(client: &RayletClient, id: NodeId, address: &str) -> Result<RayletLoad, GcsError> {
    let reply = client.get_resource_load(address).await?;
    let resources = reply.resources.unwrap_or_default();
    // Somebody else may have taken over the address.
    if !resources.node_id.is_empty() && resources.node_id != id.as_bytes() {
        return Err(GcsError::OtherCluster {
            method: "GetResourceLoad",
            expected: id.to_string(),
        });
    }
    Ok(RayletLoad {
        demands: convert::raylet_demands(resources.resource_load_by_shape.as_ref()),
        available: convert::lenient_amounts(&resources.resources_available),
        idle_ms: u64::try_from(resources.idle_duration_ms).unwrap_or(0),
        is_draining: resources.is_draining,
    })
}
