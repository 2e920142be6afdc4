//! Asks raylets to stop before their pods are named.
//!
//! The order is what keeps work alive: every raylet of the replica is asked whether it is idle now (an answer 5 ms old,
//! where the GCS's may be seconds old), then the GCS drains them with the one reason a raylet may refuse. Only a replica
//! whose hosts have all accepted is named. An accepted drain cannot be taken back, so hosts are drained one after the
//! other and the first refusal ends it. Where there is no raylet to ask, the GCS is asked whether one has joined
//! meanwhile. Whoever must go is told first and looked at then: what is told to drain takes no new work.

mod again;
mod half;
mod stop;

use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::sync::{OnceCell, watch};

use super::drained::{Drained, TOO_LATE, refusal, refused, unanswered};
use super::members::{Members, is_without_raylet, live_on};
use crate::clock::Clock;
use crate::model::{
    ClusterSnapshot, Node, NodeStatus, PodName, RemovalCause, ReplicaRemoval, ScaleDecision,
    Timestamp,
};
use crate::wire::gcs::ray::rpc::autoscaler::{DrainNodeReason, DrainNodeReply, DrainNodeRequest};
use crate::wire::gcs::{GcsClient, RayletClient};

/// Replicas that are drained at the same time; the GCS forwards each drain to its raylet.
const AT_ONCE: usize = 16;

/// So much later than it was seen a raylet may say that its idle time began, and be the same idle: the GCS's clock and
/// the way of its answer are in between. Units: milliseconds.
const IDLE_SLACK_MS: u64 = 1_000;

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

/// Who lives as of now; not asked before somebody wants to know.
type KnownMembers = OnceCell<Option<Members>>;

/// Drains nodes.
#[derive(Debug, Clone)]
pub struct Drainer {
    gcs: GcsClient,
    raylets: RayletClient,
    clock: Clock,
    settings: DrainSettings,
    /// Until when answers are awaited; `None` for as long as each may take.
    until: Option<Timestamp>,
    /// Whether this process has to stop; `None` where nobody says so.
    stopping: Option<watch::Receiver<bool>>,
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
            until: None,
            stopping: None,
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
        let within_ms = within.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        let until = within_ms.map(|ms| self.clock.now().plus_ms(ms));
        let timed = Self {
            until,
            ..self.clone()
        };
        timed.drain_all(snapshot, decision).await
    }

    async fn drain_all(&self, snapshot: &ClusterSnapshot, decision: &ScaleDecision) -> Drained {
        let removals = decision.groups.iter().flat_map(|group| &group.remove);
        let mut removals: Vec<&ReplicaRemoval> = removals.collect();
        // The idle may stay a while longer, and whoever was told already knows.
        removals.sort_by_key(|removal| match removal.cause {
            RemovalCause::Idle => 1,
            cause if cause.takes_work() && removal.finish.by.is_some() => 2,
            _ => 0,
        });
        let members = KnownMembers::new();
        let drain = async |removal| {
            if self.is_late() || self.is_stopping() {
                return Drained::of_unasked(removal, self.clock.now());
            }
            self.drain_replica(snapshot, removal, &members).await
        };
        let drains = removals.into_iter().map(drain);
        let mut all = Drained::default();
        let drains = stream::iter(drains).buffer_unordered(AT_ONCE);
        let mut drains = pin!(drains.take_until(self.has_to_stop()));
        while let Some(one) = drains.next().await {
            all.take_in(one);
        }
        all.accepted.sort();
        all.refused.sort_by(|a, b| a.pod.cmp(&b.pod));
        all
    }

    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| until <= self.clock.now())
    }

    /// Returns what comes of something, if that comes in time.
    async fn in_time<T>(&self, something: impl Future<Output = T>) -> Option<T> {
        let Some(until) = self.until else {
            return Some(something.await);
        };
        if self.is_late() {
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
    async fn members<'a>(
        &self,
        snapshot: &ClusterSnapshot,
        known: &'a KnownMembers,
    ) -> Option<&'a Members> {
        let asked = known.get_or_init(|| async {
            let reply = self.gcs.get_all_node_info().await.ok()?;
            Some(Members::of(&reply, snapshot))
        });
        self.in_time(asked).await?.as_ref()
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
        members: &KnownMembers,
    ) -> Drained {
        let hosts: Vec<&Node> = removal
            .pods
            .iter()
            .filter_map(|pod| node(snapshot, pod))
            .collect();
        let Some(first) = removal.pods.first() else {
            return Drained::default();
        };
        if hosts.len() < removal.pods.len() && removal.cause.is_asked() {
            // Whoever is not seen cannot be asked, so it cannot have agreed.
            return refused(first, "not_running", "its pod is not known".to_owned());
        }
        let facts = (snapshot, members);
        match removal.cause {
            cause @ (RemovalCause::Idle | RemovalCause::HalfStarted) => {
                if let Some(stale) = self.stale(first, &hosts, facts).await {
                    return stale;
                }
                if cause == RemovalCause::HalfStarted {
                    return self.drain_half(removal, &hosts, facts).await;
                }
                self.drain_idle(removal, &hosts, facts).await
            }
            RemovalCause::AboveMax | RemovalCause::AboveTotal | RemovalCause::Ordered => {
                self.preempt(removal, &hosts, facts).await
            }
            RemovalCause::Withdrawn | RemovalCause::Stuck => {
                let registered = hosts
                    .iter()
                    .find(|host| host.status != NodeStatus::Starting);
                match registered {
                    Some(host) => refused(&host.name, "has_registered", String::new()),
                    None => {
                        self.release(removal, &hosts, ("has_registered", facts))
                            .await
                    }
                }
            }
            RemovalCause::Stopped => {
                let running = hosts.iter().find(|host| host.status == NodeStatus::Running);
                match running {
                    Some(host) => refused(&host.name, "not_stopped", String::new()),
                    // One that was told to go, and has had its time, may live on until its pod goes.
                    None => self.release(removal, &hosts, ("not_stopped", facts)).await,
                }
            }
        }
    }

    /// Returns that a replica stays, if the state behind the decision is old and nobody says that its hosts live.
    async fn stale(
        &self,
        first: &PodName,
        hosts: &[&Node],
        (snapshot, members): (&ClusterSnapshot, &KnownMembers),
    ) -> Option<Drained> {
        if self.is_recent(snapshot) {
            return None;
        }
        let members = self.members(snapshot, members).await;
        if live_on(hosts, members) {
            return None;
        }
        let now = match members {
            Some(_) => "it names no such node now",
            None => "it does not say now who lives",
        };
        let age_ms = self.age_ms(snapshot);
        let message = format!("the GCS's state is {age_ms} ms old, and {now}");
        Some(refused(first, "stale", message))
    }

    /// Lets a replica go of which no raylet is there to be asked.
    async fn release(
        &self,
        removal: &ReplicaRemoval,
        hosts: &[&Node],
        (code, facts): (&'static str, (&ClusterSnapshot, &KnownMembers)),
    ) -> Drained {
        if let Some(joined) = self.joined(removal, hosts, (code, facts)).await {
            return joined;
        }
        Drained {
            may_go: removal.pods.iter().cloned().collect(),
            ..Drained::default()
        }
    }

    /// Returns that a replica stays, if one of its hosts that had no raylet has one now, or nobody says that none has.
    async fn joined(
        &self,
        removal: &ReplicaRemoval,
        hosts: &[&Node],
        (code, (snapshot, members)): (&'static str, (&ClusterSnapshot, &KnownMembers)),
    ) -> Option<Drained> {
        if !hosts.iter().any(|host| is_without_raylet(host)) {
            return None;
        }
        let Some(members) = self.members(snapshot, members).await else {
            return Some(unanswered(&removal.pods));
        };
        let mut without = hosts.iter().filter(|host| is_without_raylet(host));
        let joined = without.find(|host| members.has_joined(host))?;
        let message = "its raylet has joined meanwhile".to_owned();
        Some(refused(&joined.name, code, message))
    }

    async fn drain_idle(
        &self,
        removal: &ReplicaRemoval,
        hosts: &[&Node],
        facts: (&ClusterSnapshot, &KnownMembers),
    ) -> Drained {
        if let Some(strange) = hosts.iter().find(|host| !is_drainable(host)) {
            return refused(&strange.name, "not_running", String::new());
        }
        if let Some(joined) = self.joined(removal, hosts, ("not_stopped", facts)).await {
            return joined;
        }
        let running: Vec<&Node> = hosts
            .iter()
            .copied()
            .filter(|host| host.status == NodeStatus::Running)
            .collect();
        let work = join_all(running.iter().map(|host| self.work_since_seen(host))).await;
        let mut busy = running.iter().zip(work);
        if let Some((host, message)) = busy.find_map(|(host, work)| Some((host, work?))) {
            return refused(&host.name, "busy_now", message.to_owned());
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
                        .push(refusal(&host.name, "no_answer", error));
                    return outcome;
                }
            }
        }
        outcome.may_go = removal.pods.iter().cloned().collect();
        outcome
    }

    /// Tells nodes that must go to finish; they go whatever they answer, at once when they have
    /// nothing to finish, else when their time is up.
    ///
    /// They are looked at after they were told: until then work may come.
    async fn preempt(
        &self,
        removal: &ReplicaRemoval,
        hosts: &[&Node],
        (snapshot, members): (&ClusterSnapshot, &KnownMembers),
    ) -> Drained {
        let now = self.clock.now();
        let within_ms = removal.finish.within_ms;
        let within_ms = within_ms.unwrap_or(self.settings.preemption_ms);
        let by = removal.finish.by.unwrap_or_else(|| now.plus_ms(within_ms));
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
        let members = if hosts.iter().any(|host| is_without_raylet(host)) {
            self.members(snapshot, members).await
        } else {
            None
        };
        let works = join_all(hosts.iter().map(|host| self.works(host, members))).await;
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
    async fn works(&self, host: &Node, members: Option<&Members>) -> bool {
        match host.status {
            NodeStatus::Running if host.idle_since.is_none() => true,
            NodeStatus::Running => match self.in_time(self.idle_ms(host)).await {
                Some(idle_ms) => idle_ms.is_some_and(|ms| ms <= 0),
                None => true,
            },
            // Told already; its raylet ends as soon as it has nothing left to do.
            NodeStatus::Draining => true,
            // A raylet that has joined meanwhile may have work.
            _ if is_without_raylet(host) => members.is_none_or(|all| all.has_joined(host)),
            _ => false,
        }
    }

    /// Returns what a raylet says that it has to do, or has had to do since it was seen idle; one that does not answer is
    /// left to the drain, which it can still refuse.
    async fn work_since_seen(&self, host: &Node) -> Option<&'static str> {
        let idle_ms = self.in_time(self.idle_ms(host)).await.flatten()?;
        if idle_ms <= 0 {
            return Some("its raylet has work as of now");
        }
        let idle_ms = u64::try_from(idle_ms).unwrap_or(u64::MAX);
        let began = self.clock.now().minus_ms(idle_ms);
        let is_another_idle = host
            .idle_since
            .is_some_and(|seen| began.millis_since(seen) > IDLE_SLACK_MS);
        is_another_idle.then_some("its raylet has had work since it was seen idle")
    }

    /// Returns for how long a raylet has been idle as it says itself; `None` where it does not answer.
    ///
    /// Units: milliseconds, 0 while it has work.
    async fn idle_ms(&self, host: &Node) -> Option<i64> {
        let address = host.raylet_address.as_ref()?;
        let reply = self.raylets.get_resource_load(address).await.ok()?;
        let resources = reply.resources?;
        let is_this_one = host
            .node_id
            .is_some_and(|id| resources.node_id == id.as_bytes());
        is_this_one.then_some(resources.idle_duration_ms)
    }

    async fn ask(
        &self,
        host: &Node,
        reason: DrainNodeReason,
        (reason_message, deadline_timestamp_ms): (String, i64),
    ) -> Result<DrainNodeReply, String> {
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
        let answer = self.in_time(self.gcs.drain_node(request)).await;
        let answer = answer.ok_or_else(|| TOO_LATE.to_owned())?;
        answer.map_err(|error| error.to_string())
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
