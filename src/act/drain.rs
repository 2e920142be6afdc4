//! Asks raylets to stop before their pods are named.
//!
//! The order is what keeps work alive: every raylet of the replica is asked whether it is idle now
//! (an answer 5 ms old, where the GCS's may be seconds old), then the GCS drains them with the one
//! reason a raylet may refuse. Only a replica whose hosts have all accepted is named. An accepted drain
//! cannot be taken back, so hosts are drained one after the other and the first refusal ends it. Where there is no
//! raylet to ask, the GCS is asked whether one has joined meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};

use crate::clock::Clock;
use crate::model::{
    ClusterSnapshot, Node, NodeId, NodeStatus, PodName, RemovalCause, ReplicaRemoval,
    ScaleDecision, Timestamp,
};
use crate::wire::gcs::ray::rpc::autoscaler::{DrainNodeReason, DrainNodeReply, DrainNodeRequest};
use crate::wire::gcs::ray::rpc::gcs_node_info::GcsNodeState;
use crate::wire::gcs::{GcsClient, GcsError, RayletClient};

/// Replicas that are drained at the same time; the GCS forwards each drain to its raylet.
const AT_ONCE: usize = 16;

/// Bounds the draining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// How long a drain may take to be answered. Units: milliseconds.
    pub answer_ms: u64,
    /// How long a node that must go may finish its work. Units: milliseconds.
    pub preemption_ms: u64,
    /// A node must have been alive in a reply no older than this, or in one that is asked for now: the GCS
    /// also accepts the drain of dead and unknown nodes. Units: milliseconds.
    pub alive_within_ms: u64,
}

/// Holds a replica that stays because of one of its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The pod.
    pub pod: PodName,
    /// A stable word: `busy_now`, `refused`, `no_answer`, `stale`, `not_running`, `has_registered`.
    pub code: &'static str,
    /// What Ray said.
    pub message: String,
}

/// Holds what became of the removals of a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// Pods that may go: their raylets have accepted, are gone already, or are not asked.
    pub may_go: BTreeSet<PodName>,
    /// Pods whose raylets have accepted just now.
    pub accepted: Vec<PodName>,
    /// Pods that keep their replica.
    pub refused: Vec<Refusal>,
    /// Pods that must go and have work, and until when they may finish it.
    pub leaving: BTreeMap<PodName, Timestamp>,
}

impl Drained {
    /// Takes in what came of telling nodes that go by somebody else's hand.
    pub(super) fn take_told(&mut self, told: Self) {
        self.accepted.extend(told.accepted);
        self.refused.extend(told.refused);
    }
}

/// Returns that none of these pods' raylets has answered.
pub(super) fn unanswered(pods: &[PodName]) -> Drained {
    let refused = pods.iter();
    let message = "nobody waits for its answer any longer in this pass";
    let refused = refused.map(|pod| refusal(pod, "no_answer", message.to_owned()));
    Drained {
        refused: refused.collect(),
        ..Drained::default()
    }
}

/// Holds the raylets that are alive.
#[derive(Debug, Default)]
struct Members {
    pods: BTreeSet<PodName>,
    nodes: BTreeSet<NodeId>,
}

/// Drains nodes.
#[derive(Debug, Clone)]
pub struct Drainer {
    gcs: GcsClient,
    raylets: RayletClient,
    clock: Clock,
    settings: DrainSettings,
}

impl Drainer {
    /// Returns a drainer that has asked nobody.
    #[must_use]
    pub fn new(
        gcs: &GcsClient,
        raylets: RayletClient,
        clock: Clock,
        settings: DrainSettings,
    ) -> Self {
        let gcs = gcs
            .clone()
            .with_deadline(Duration::from_millis(settings.answer_ms));
        Self {
            gcs,
            raylets,
            clock,
            settings,
        }
    }

    /// Drains everything that `decision` removes.
    pub async fn drain(&self, snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Drained {
        self.drain_within(snapshot, decision, None).await
    }

    /// Drains everything that `decision` removes; whoever has not answered after `within` stays for now.
    pub async fn drain_within(
        &self,
        snapshot: &ClusterSnapshot,
        decision: &ScaleDecision,
        within: Option<Duration>,
    ) -> Drained {
        let removals = || decision.groups.iter().flat_map(|group| &group.remove);
        let is_old = !self.is_recent(snapshot);
        let is_doubtful = |removal: &ReplicaRemoval| {
            goes_unasked(removal.cause) || (is_old && removal.cause == RemovalCause::Idle)
        };
        let within_ms = within.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        let until = within_ms.map(|ms| self.clock.now().plus_ms(ms));
        let members = if removals().any(is_doubtful) {
            self.by(until, self.members()).await.flatten()
        } else {
            None
        };
        let members = members.as_ref();
        let drain = async |removal| {
            let drain = self.drain_replica(snapshot, removal, members);
            let drained = self.by(until, drain).await;
            drained.unwrap_or_else(|| unanswered(removal.pods.get(..1).unwrap_or_default()))
        };
        let drains = removals().map(drain);
        let mut all = Drained::default();
        let mut drains = stream::iter(drains).buffer_unordered(AT_ONCE);
        while let Some(one) = drains.next().await {
            all.may_go.extend(one.may_go);
            all.accepted.extend(one.accepted);
            all.refused.extend(one.refused);
            all.leaving.extend(one.leaving);
        }
        all.accepted.sort();
        all.refused.sort_by(|a, b| a.pod.cmp(&b.pod));
        all
    }

    /// Returns what comes of something, if that comes in time.
    async fn by<T>(
        &self,
        until: Option<Timestamp>,
        something: impl Future<Output = T>,
    ) -> Option<T> {
        let Some(until) = until else {
            return Some(something.await);
        };
        if until <= self.clock.now() {
            return None;
        }
        tokio::select! {
            biased;
            came = something => Some(came),
            () = self.clock.sleep_until(until) => None,
        }
    }

    /// Returns the raylets that the GCS counts as alive, as of now; `None` where it does not answer.
    ///
    /// The state behind a decision may be seconds old, and a raylet that has joined since may have work.
    async fn members(&self) -> Option<Members> {
        let reply = self.gcs.get_all_node_info().await.ok()?;
        let mut members = Members::default();
        for info in reply.node_info_list {
            if info.state() == GcsNodeState::Alive {
                members
                    .pods
                    .insert(PodName::from(info.instance_id.as_str()));
                members.nodes.extend(NodeId::from_bytes(&info.node_id));
            }
        }
        Some(members)
    }

    /// Returns whether the state behind a decision is recent enough to believe that its nodes live.
    fn is_recent(&self, snapshot: &ClusterSnapshot) -> bool {
        self.age_ms(snapshot) <= self.settings.alive_within_ms
    }

    /// Returns how old the state of the GCS behind a decision is.
    fn age_ms(&self, snapshot: &ClusterSnapshot) -> u64 {
        let gcs_at = snapshot.completeness.gcs_at;
        gcs_at.map_or(u64::MAX, |at| self.clock.now().millis_since(at))
    }

    async fn drain_replica(
        &self,
        snapshot: &ClusterSnapshot,
        removal: &ReplicaRemoval,
        members: Option<&Members>,
    ) -> Drained {
        let hosts: Vec<&Node> = removal
            .pods
            .iter()
            .filter_map(|pod| node(snapshot, pod))
            .collect();
        let Some(first) = removal.pods.first() else {
            return Drained::default();
        };
        if hosts.len() < removal.pods.len() && removal.cause == RemovalCause::Idle {
            // Whoever is not seen cannot be asked, so it cannot have agreed.
            return refused(first, "not_running", "its pod is not known".to_owned());
        }
        match removal.cause {
            RemovalCause::Idle if !self.is_recent(snapshot) && !live_on(&hosts, members) => {
                let (age_ms, now) = match members {
                    Some(_) => (self.age_ms(snapshot), "it names no such node now"),
                    None => (self.age_ms(snapshot), "it does not say now who lives"),
                };
                let message = format!("the GCS's state is {age_ms} ms old, and {now}");
                refused(first, "stale", message)
            }
            RemovalCause::Idle => self.drain_idle(removal, &hosts).await,
            RemovalCause::AboveMax | RemovalCause::AboveTotal | RemovalCause::Ordered => {
                self.preempt(removal, &hosts).await
            }
            RemovalCause::Withdrawn | RemovalCause::Stuck => {
                let registered = hosts
                    .iter()
                    .find(|host| host.status != NodeStatus::Starting);
                match registered {
                    Some(host) => refused(&host.name, "has_registered", String::new()),
                    None => unregistered(removal, &removal.pods, ("has_registered", members)),
                }
            }
            RemovalCause::Stopped => {
                let running = hosts.iter().find(|host| host.status == NodeStatus::Running);
                match running {
                    Some(host) => refused(&host.name, "not_stopped", String::new()),
                    None => {
                        // One that was told to go, and has had its time, may live on until its pod goes.
                        let gone = hosts
                            .iter()
                            .filter(|host| host.status == NodeStatus::Stopped);
                        let gone: Vec<PodName> = gone.map(|host| host.name.clone()).collect();
                        unregistered(removal, &gone, ("not_stopped", members))
                    }
                }
            }
        }
    }

    async fn drain_idle(&self, removal: &ReplicaRemoval, hosts: &[&Node]) -> Drained {
        if let Some(strange) = hosts.iter().find(|host| !is_drainable(host)) {
            return refused(&strange.name, "not_running", String::new());
        }
        let running: Vec<&Node> = hosts
            .iter()
            .copied()
            .filter(|host| host.status == NodeStatus::Running)
            .collect();
        let busy = join_all(running.iter().map(|host| self.is_busy_now(host))).await;
        if let Some((host, _)) = running.iter().zip(busy).find(|(_, is_busy)| *is_busy) {
            return refused(
                &host.name,
                "busy_now",
                "its raylet has work as of now".to_owned(),
            );
        }
        let mut outcome = Drained::default();
        let idle_secs = Duration::from_millis(removal.idle_ms).as_secs_f64();
        for host in running {
            let message = format!("Termination of node that's idle for {idle_secs:.3} seconds.");
            let answer = self
                .ask(host, DrainNodeReason::IdleTermination, (message, 0))
                .await;
            match answer {
                Ok(reply) if reply.is_accepted => outcome.accepted.push(host.name.clone()),
                Ok(reply) => {
                    outcome.refused.push(refusal(
                        &host.name,
                        "refused",
                        reply.rejection_reason_message,
                    ));
                    return outcome;
                }
                Err(error) => {
                    outcome
                        .refused
                        .push(refusal(&host.name, "no_answer", error.to_string()));
                    return outcome;
                }
            }
        }
        outcome.may_go = removal.pods.iter().cloned().collect();
        outcome
    }

    /// Tells nodes that must go to finish; they go whatever they answer, at once when they have
    /// nothing to finish, else when their time is up.
    async fn preempt(&self, removal: &ReplicaRemoval, hosts: &[&Node]) -> Drained {
        let now = self.clock.now();
        let within_ms = removal.finish.within_ms;
        let within_ms = within_ms.unwrap_or(self.settings.preemption_ms);
        let by = removal.finish.by.unwrap_or_else(|| now.plus_ms(within_ms));
        let works = join_all(hosts.iter().map(|host| self.works(host))).await;
        let message = match removal.cause {
            RemovalCause::Ordered => "Its removal was ordered.",
            _ => "maxReplicas of its worker group was lowered.",
        };
        let running: Vec<&Node> = hosts
            .iter()
            .copied()
            .filter(|host| host.status == NodeStatus::Running)
            .collect();
        let accepted = self.tell_all(&running, (message, by)).await;
        let pods = removal.pods.iter().cloned();
        let mut outcome = Drained {
            accepted,
            ..Drained::default()
        };
        if now < by && works.contains(&true) {
            outcome.leaving = pods.map(|pod| (pod, by)).collect();
        } else {
            outcome.may_go = pods.collect();
        }
        outcome
    }

    /// Tells the nodes of pods that go by somebody else's hand, so that their work moves on.
    pub async fn tell(&self, snapshot: &ClusterSnapshot, pods: &[PodName]) -> Drained {
        let by = self.clock.now().plus_ms(self.settings.preemption_ms);
        let hosts: Vec<&Node> = pods.iter().filter_map(|pod| node(snapshot, pod)).collect();
        let message = "Its pod was named in workersToDelete.";
        let accepted = self.tell_all(&hosts, (message, by)).await;
        let silent: Vec<PodName> = pods
            .iter()
            .filter(|pod| !accepted.contains(pod))
            .cloned()
            .collect();
        Drained {
            accepted,
            ..unanswered(&silent)
        }
    }

    /// Returns the pods of those that have accepted to go by then.
    async fn tell_all(&self, hosts: &[&Node], (message, by): (&str, Timestamp)) -> Vec<PodName> {
        let deadline = by.as_ms();
        let answers = join_all(hosts.iter().map(|host| async move {
            let message = (message.to_owned(), deadline);
            let answer = self.ask(host, DrainNodeReason::Preemption, message).await;
            (host.name.clone(), answer)
        }));
        let accepted = answers
            .await
            .into_iter()
            .filter(|(_, answer)| answer.as_ref().is_ok_and(|a| a.is_accepted));
        accepted.map(|(pod, _)| pod).collect()
    }

    /// Returns whether a node that must go has something to finish, as far as anybody knows.
    async fn works(&self, host: &Node) -> bool {
        match host.status {
            NodeStatus::Running => host.idle_since.is_none() || self.is_busy_now(host).await,
            // Told already; its raylet ends as soon as it has nothing left to do.
            NodeStatus::Draining => true,
            _ => false,
        }
    }

    /// Returns whether a raylet says that it has work; one that does not answer is left to the drain,
    /// which it can still refuse.
    async fn is_busy_now(&self, host: &Node) -> bool {
        let Some(address) = &host.raylet_address else {
            return false;
        };
        match self.raylets.get_resource_load(address).await {
            Ok(reply) => reply.resources.is_some_and(|resources| {
                let is_this_one = host
                    .node_id
                    .is_some_and(|id| resources.node_id == id.as_bytes());
                is_this_one && resources.idle_duration_ms <= 0
            }),
            Err(_) => false,
        }
    }

    async fn ask(
        &self,
        host: &Node,
        reason: DrainNodeReason,
        (reason_message, deadline_timestamp_ms): (String, i64),
    ) -> Result<DrainNodeReply, GcsError> {
        let node_id = host
            .node_id
            .map(|id| id.as_bytes().to_vec())
            .unwrap_or_default();
        let request = DrainNodeRequest {
            node_id,
            reason: reason.into(),
            reason_message,
            deadline_timestamp_ms,
        };
        self.gcs.drain_node(request).await
    }
}

fn node<'a>(snapshot: &'a ClusterSnapshot, pod: &PodName) -> Option<&'a Node> {
    snapshot
        .nodes
        .iter()
        .find(|node| node.name == *pod && node.status != NodeStatus::Lost)
}

/// Returns whether a host is either to be drained or has been.
fn is_drainable(host: &Node) -> bool {
    match host.status {
        NodeStatus::Running => host.node_id.is_some(),
        NodeStatus::Draining | NodeStatus::Stopped => true,
        _ => false,
    }
}

/// Returns whether all hosts that ran as far as anybody knew are alive now.
fn live_on(hosts: &[&Node], members: Option<&Members>) -> bool {
    let lives = |host: &&Node| {
        let id = host.node_id.as_ref();
        host.status != NodeStatus::Running
            || members.is_some_and(|all| id.is_some_and(|id| all.nodes.contains(id)))
    };
    hosts.iter().all(lives)
}

/// Returns whether a raylet of such a replica is not asked, since there should be none.
fn goes_unasked(cause: RemovalCause) -> bool {
    matches!(
        cause,
        RemovalCause::Withdrawn | RemovalCause::Stuck | RemovalCause::Stopped
    )
}

/// Permits a removal unless one of these pods has a raylet that lives, or nobody says that none has.
fn unregistered(
    removal: &ReplicaRemoval,
    pods: &[PodName],
    (code, members): (&'static str, Option<&Members>),
) -> Drained {
    if pods.is_empty() {
        return permitted(removal);
    }
    let Some(members) = members else {
        return unanswered(&removal.pods);
    };
    match pods.iter().find(|pod| members.pods.contains(*pod)) {
        Some(pod) => refused(pod, code, "its raylet has joined meanwhile".to_owned()),
        None => permitted(removal),
    }
}

/// Lets a replica go of which no raylet is there to be asked.
fn permitted(removal: &ReplicaRemoval) -> Drained {
    Drained {
        may_go: removal.pods.iter().cloned().collect(),
        ..Drained::default()
    }
}

fn refusal(pod: &PodName, code: &'static str, message: String) -> Refusal {
    Refusal {
        pod: pod.clone(),
        code,
        message,
    }
}

fn refused(pod: &PodName, code: &'static str, message: String) -> Drained {
    Drained {
        refused: vec![refusal(pod, code, message)],
        ..Drained::default()
    }
}
