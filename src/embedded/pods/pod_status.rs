//! The status of a pod, from what its containers do.

use super::Exit;
use super::resize::{Pending, ResizeRoom};
use crate::embedded::kube_time;
use crate::model::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// What a container does.
#[derive(Debug, Clone)]
pub(super) enum State {
    Creating,
    Running {
        since: Timestamp,
    },
    Ended {
        since: Timestamp,
        at: Timestamp,
        exit: Exit,
    },
}

#[derive(Debug)]
struct Tracked {
    spec: Container,
    state: State,
    restarts: i32,
    is_restarting: bool,
}

/// Holds the containers of a pod and what they do.
#[derive(Debug)]
pub(super) struct Containers {
    policy: String,
    bound: Timestamp,
    tracked: Vec<Tracked>,
    resize_pending: Option<Pending>,
}

impl Containers {
    /// Returns the containers of a pod that was bound just now.
    pub(super) fn new(pod: &Pod, now: Timestamp) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let track = |spec| Tracked {
            spec,
            state: State::Creating,
            restarts: 0,
            is_restarting: false,
        };
        Self {
            policy: spec.restart_policy.unwrap_or_else(|| "Always".to_owned()),
            bound: now,
            tracked: spec.containers.into_iter().map(track).collect(),
            resize_pending: None,
        }
    }

    /// Gives the containers the resources that the pod asks for now, or notes why not; returns
    /// whether anything is to be told.
    pub(super) fn resize(&mut self, pod: &Pod, room: Option<&ResizeRoom>) -> bool {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let wanted: Vec<_> = containers.map(|it| it.resources.clone()).collect();
        let is_same = self
            .tracked
            .iter()
            .zip(&wanted)
            .all(|(have, wanted)| have.spec.resources == *wanted);
        let pending = room.filter(|_| !is_same).and_then(|room| room.refuse(pod));
        let is_given = !is_same && pending.is_none();
        if is_given {
            for (have, wanted) in self.tracked.iter_mut().zip(wanted) {
                have.spec.resources = wanted;
            }
        }
        let is_news = is_given || self.resize_pending != pending;
        self.resize_pending = pending;
        is_news
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.tracked
            .iter()
            .map(|container| container.spec.name.clone())
            .collect()
    }

    /// Notes what a container does now.
    pub(super) fn set(&mut self, name: &str, state: State) {
        if let Some(container) = self.find(name) {
            container.restarts += i32::from(container.is_restarting);
            container.is_restarting = false;
            container.state = state;
        }
    }

    /// Notes a container's end, and returns true when it is to be started again.
    pub(super) fn end(&mut self, exit: Exit, now: Timestamp) -> bool {
        let is_restarting = match self.policy.as_str() {
            "Never" => false,
            "OnFailure" => exit.code != 0,
            _ => true,
        };
        let Some(container) = self.find(&exit.container.clone()) else {
            return false;
        };
        let since = match container.state {
            State::Running { since } => since,
            _ => now,
        };
        container.state = State::Ended {
            since,
            at: now,
            exit,
        };
        container.is_restarting = is_restarting;
        is_restarting
    }

    fn find(&mut self, name: &str) -> Option<&mut Tracked> {
        self.tracked
            .iter_mut()
            .find(|container| container.spec.name == name)
    }

    /// Returns the status to write.
    pub(super) fn status(&self, address: Ipv4Addr, now: Timestamp) -> Value {
        let unready: Vec<&str> = self
            .tracked
            .iter()
            .filter(|container| !matches!(container.state, State::Running { .. }))
            .map(|container| container.spec.name.as_str())
            .collect();
        let condition = |kind: &str, holds: bool| {
            let mut condition = json!({"type": kind, "status": if holds { "True" } else { "False" },
                "lastTransitionTime": kube_time(now)});
            if !holds {
                condition["reason"] = json!("ContainersNotReady");
                condition["message"] = json!(format!(
                    "containers with unready status: [{}]",
                    unready.join(" ")
                ));
            }
            condition
        };
        let is_ready = unready.is_empty();
        let mut conditions = vec![
            condition("PodScheduled", true),
            condition("Initialized", true),
            condition("ContainersReady", is_ready),
            condition("Ready", is_ready),
        ];
        conditions.extend(self.resize_pending.as_ref().map(|(reason, message)| {
            let mut pending = condition("PodResizePending", true);
            pending["reason"] = json!(reason);
            pending["message"] = json!(message);
            pending
        }));
        json!({
            "phase": self.phase(),
            "startTime": kube_time(self.bound),
            "podIP": address.to_string(),
            "podIPs": [{"ip": address.to_string()}],
            "conditions": conditions,
            "containerStatuses": self.tracked.iter().map(status_of).collect::<Vec<_>>(),
        })
    }

    fn phase(&self) -> &'static str {
        let is_creating = |it: &Tracked| matches!(it.state, State::Creating);
        let is_over = |it: &Tracked| matches!(it.state, State::Ended { .. }) && !it.is_restarting;
        let is_good =
            |it: &Tracked| matches!(&it.state, State::Ended { exit, .. } if exit.code == 0);
        if self.tracked.iter().all(is_creating) {
            "Pending"
        } else if !self.tracked.iter().all(is_over) {
            "Running"
        } else if self.tracked.iter().all(is_good) {
            "Succeeded"
        } else {
            "Failed"
        }
    }
}

fn status_of(container: &Tracked) -> Value {
    let mut last = json!({});
    let state = match &container.state {
        State::Creating => json!({"waiting": {"reason": "ContainerCreating"}}),
        State::Running { since } => json!({"running": {"startedAt": kube_time(*since)}}),
        State::Ended { since, at, exit } => {
            let reason = exit.reason.clone();
            let default = if exit.code == 0 { "Completed" } else { "Error" };
            let ended = json!({"terminated": {
                "exitCode": exit.code,
                "reason": reason.unwrap_or_else(|| default.to_owned()),
                "startedAt": kube_time(*since),
                "finishedAt": kube_time(*at),
            }});
            if container.is_restarting {
                last = ended;
                json!({"waiting": {"reason": "CrashLoopBackOff"}})
            } else {
                ended
            }
        }
    };
    let is_running = matches!(container.state, State::Running { .. });
    json!({
        "name": container.spec.name,
        "image": container.spec.image.clone().unwrap_or_default(),
        "imageID": "",
        "ready": is_running,
        "started": is_running,
        "restartCount": container.restarts,
        "state": state,
        "lastState": last,
        // Without it the API server takes the node for one that cannot resize pods.
        "resources": container.spec.resources,
    })
}

#[cfg(test)]
mod tests {
    use super::{Containers, State};
    use crate::embedded::pods::Exit;
    use crate::model::Timestamp;
    use serde_json::{Value, json};
    use std::net::Ipv4Addr;

    const NOW: Timestamp = Timestamp::from_ms(0);

    fn running(policy: &str) -> Containers {
        let pod = json!({"spec": {"restartPolicy": policy, "containers": [{"name": "ray"}, {"name": "autoscaler"}]}});
        let mut containers = Containers::new(&serde_json::from_value(pod).unwrap(), NOW);
        assert_eq!(status(&containers)["phase"], "Pending");
        containers.set("ray", State::Running { since: NOW });
        containers.set("autoscaler", State::Running { since: NOW });
        containers
    }

    fn status(containers: &Containers) -> Value {
        containers.status(Ipv4Addr::LOCALHOST, NOW)
    }

    fn exit(container: &str, code: i32) -> Exit {
        Exit {
            container: container.to_owned(),
            code,
            reason: None,
        }
    }

    #[test]
    fn a_pod_that_never_restarts_ends_with_its_last_container() {
        let mut containers = running("Never");
        assert!(!containers.end(exit("autoscaler", 137), NOW));
        let one_left = status(&containers);
        assert_eq!(one_left["phase"], "Running");
        assert_eq!(one_left["conditions"][3]["status"], "False");
        assert_eq!(
            one_left["conditions"][3]["message"],
            "containers with unready status: [autoscaler]"
        );
        assert_eq!(
            one_left["containerStatuses"][1]["state"]["terminated"]["exitCode"],
            137
        );
        assert!(!containers.end(exit("ray", 0), NOW));
        assert_eq!(status(&containers)["phase"], "Failed");
    }

    #[test]
    fn a_pod_that_restarts_stays_running() {
        let mut containers = running("Always");
        assert!(containers.end(exit("ray", 0), NOW));
        assert!(containers.end(exit("autoscaler", 0), NOW));
        let waiting = status(&containers);
        assert_eq!(waiting["phase"], "Running");
        assert_eq!(
            waiting["containerStatuses"][0]["state"]["waiting"]["reason"],
            "CrashLoopBackOff"
        );
        containers.set("ray", State::Running { since: NOW });
        assert_eq!(
            status(&containers)["containerStatuses"][0]["restartCount"],
            1
        );
        assert!(!running("OnFailure").end(exit("ray", 0), NOW));
        assert!(running("OnFailure").end(exit("ray", 1), NOW));
    }
}
