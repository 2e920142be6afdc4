//! What makes scaling through KubeRay hard, and what is done about each, all of it in one table.
//!
//! Numbers are those of the weak points W1 to W29 of KubeRay's contract with its autoscaler, as seen
//! on KubeRay 1.7. "Not possible" stands where the Role or the API leaves no way.

/// Says how one weak point shows and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeakPoint {
    /// Its number.
    pub id: &'static str,
    /// What is weak.
    pub what: &'static str,
    /// What it is detected by.
    pub detected_by: &'static str,
    /// Where it is shown; words in backquotes are codes and metrics.
    pub shown_as: &'static str,
    /// What is done.
    pub done: &'static str,
}

const fn point(
    id: &'static str,
    what: &'static str,
    detected_by: &'static str,
    shown_as: &'static str,
    done: &'static str,
) -> WeakPoint {
    WeakPoint {
        id,
        what,
        detected_by,
        shown_as,
        done,
    }
}

/// All of them.
pub const WEAK_POINTS: &[WeakPoint] = &[
    point(
        "W1",
        "the sidecar's container is never restarted with `version: v2`",
        "the parent process waits for its child",
        "`rayscaler_child_restarts_total` by cause",
        "the parent starts the child again, whatever ended it, and allocates nothing itself",
    ),
    point(
        "W2",
        "a group is frozen while a deleted pod lingers, for ever if need be",
        "a pod that a list names, or that the operator deletes since it or a host of its replica has ended, keeps its deletion timestamp for over 35 s",
        "hold `group_locked` with the pod",
        "deletions and growth of a group go into one patch, before the lock. While it lasts, demand goes to other groups that fit, and what was asked for here is taken back. A pod of a dead machine cannot be removed with this Role: the hold says the command",
    ),
    point(
        "W3",
        "Ray's own autoscaler stops all groups while one has deletions",
        "not needed",
        "nothing: each group is decided by itself",
        "deletions of a group hold back no other group",
    ),
    point(
        "W4",
        "nobody clears `workersToDelete`; each name costs a call on every pass",
        "a name of the list has no pod any more",
        "decision `forget` of the group",
        "a name goes out of the list once its pod is gone, at the start as well",
    ),
    point(
        "W5",
        "nothing acknowledges a patch",
        "the pods, which are watched",
        "`rayscaler_replicas_requested` beside `rayscaler_replicas_observed`",
        "every pass starts from the pods that are there; nothing waits for the status",
    ),
    point(
        "W6",
        "the Role allows no watch of the RayCluster",
        "the rights are asked for at the start and when a call is refused",
        "`rayscaler_rbac_missing`, `rayscaler_source_age_seconds`",
        "it is read every 1 to 6 s, and the object that a patch returns is taken over; with the optional Role it is watched",
    ),
    point(
        "W7",
        "groups are patched by position, which an edit may change",
        "the `test` operations on the uid, on every group's name and on what is overwritten fail with 422",
        "`rayscaler_api_calls_total` by status",
        "nothing is written; the object is read again and decided afresh",
    ),
    point(
        "W8",
        "others overwrite `replicas` and lists",
        "the RayCluster differs from what was asked for",
        "the reasons of the next decision: `replicas_repaired`, or the demand once more",
        "level-triggered: demand and live pods decide again within one read",
    ),
    point(
        "W9",
        "pods of a removed group stay for ever",
        "pods with a group that the RayCluster does not have",
        "problem `orphaned_pods`; idle ones with `group_unknown`",
        "their capacity is used as long as it is there. Deleting them is not possible: the Role cannot, and a name in another group's list is an abuse that we leave to people",
    ),
    point(
        "W10",
        "one group whose pods are refused blocks the groups behind it",
        "the condition `ReplicaFailure` while a group lacks pods",
        "holds `pods_refused`, `behind_refused_pods` and `group_open`",
        "named with the API server's words; after a minute what was asked of that group is taken back, so that the operator gets to the others, and demand goes to groups that fit; it may try again after a pause of at most five minutes; while the operator waits for longer and longer it is called every two minutes. Where its minimum keeps the operator there, demand goes around the groups behind it, too, as far as one before it can grow",
    ),
    point(
        "W11",
        "pods that cannot be scheduled are nobody's job",
        "the condition `PodScheduled` and the age of the pod",
        "`rayscaler_pods_waiting` by reason; hold `group_open`",
        "after some minutes the pod is named and made anew; when that brings no node three times in a row nothing is asked of the group for a while, and demand goes to others",
    ),
    point(
        "W12",
        "pods in a crash loop or without an image are never replaced",
        "the state of the Ray container and the age of the pod",
        "`rayscaler_pods_waiting` by reason; hold `group_open`",
        "after some minutes the pod is named and made anew, and one that has ended is made anew by the operator; when that brings no node three times in a row nothing is asked of the group for a while, and demand goes to others",
    ),
    point(
        "W13",
        "operator and Ray derive a node's resources differently",
        "a registered node differs from what its group's spec promises",
        "problem `nodes_differ`",
        "the operator's rules are followed, and what nodes really have is believed, unless they are older than what their spec says now",
    ),
    point(
        "W14",
        "Ray's own autoscaler reads the first container status, whichever that is",
        "not needed",
        "nothing: the status is looked up by the name of container 0",
        "sidecars in worker pods change nothing",
    ),
    point(
        "W15",
        "the generated command knows no other GCS port",
        "`rayStartParams.port` of the head",
        "the address in the log and in `rayscaler status`",
        "the port is read from the RayCluster, or given by `ray.gcsAddress`",
    ),
    point(
        "W16",
        "no port, probe, Event or condition for the autoscaler",
        "not needed",
        "`/metrics`, `/livez`, `/readyz`, `/v1/status` on 44217; Events where the Role allows them",
        "deploy/podmonitor.yaml finds the port though nobody declares it",
    ),
    point(
        "W17",
        "a list of a single-host group deletes any pod of that name in the namespace",
        "a list names a pod of another group",
        "hold `foreign_name`",
        "only pods of the group itself are ever named; deploy/rbac.yaml offers a narrower Role. Pods of other RayClusters are not seen: the watch has ours alone",
    ),
    point(
        "W18",
        "Role and RoleBinding are made once and go stale",
        "the rights are asked for at the start, and again after a 403",
        "`rayscaler_rbac_missing` by verb and resource",
        "what is missing is done without as far as that is possible, and used again once it is given back",
    ),
    point(
        "W19",
        "with `Recreate`, an edit of `autoscalerOptions` restarts the cluster",
        "`rayscaler check` reads `upgradeStrategy`",
        "a warning of `rayscaler check --raycluster`",
        "every setting is in a config file or an annotation; none needs an edit of the spec",
    ),
    point(
        "W20",
        "a spec that the operator refuses stops it without a word that we may read",
        "the operator's own checks are made here; pods stay away for over 30 s",
        "problem `operator_refuses`; hold `operator_silent` with the cause",
        "deciding goes on, so that all is done the moment the spec is repaired",
    ),
    point(
        "W21",
        "scheduler plugins' pod groups are frozen at their first size, and know no placement group",
        "pods that wait for their gang are unschedulable",
        "`rayscaler_pods_waiting` by reason",
        "placement groups and multi-host replicas are asked for whole, in one patch. Changing a PodGroup is not possible with this Role",
    ),
    point(
        "W22",
        "with mTLS every new pod waits for a new certificate",
        "not possible: the operator's work does not show",
        "pods that come late: `rayscaler_demand_to_pod_seconds`",
        "one patch for all groups instead of many; waiting for pods has no time-out that would ask twice",
    ),
    point(
        "W23",
        "naming one host deletes all hosts of its replica",
        "the label with the replica's name; without it, pods in the order of their creation",
        "problem `replicas_unlabelled`",
        "the replica is the unit: it goes only when all hosts may go, and all are named",
    ),
    point(
        "W24",
        "500m CPU and 512Mi are reserved for every sidecar",
        "`rayscaler check` reads `autoscalerOptions.resources`",
        "the examples in deploy/",
        "50m and 64Mi are enough, and the examples ask for that",
    ),
    point(
        "W25",
        "a RayJob waits for all workers that are asked for, a moving target",
        "not needed",
        "`rayscaler_replicas_requested` beside `rayscaler_replicas_observed`",
        "only demand and `minReplicas` move the target, and the job's demand comes when it runs",
    ),
    point(
        "W26",
        "nothing protects from two writers",
        "the head pods, and the annotation `rayscaler.io/intent` with the head pod of the last writer; the head's command line in `rayscaler check`",
        "hold `fenced`; a finding of `rayscaler check --raycluster`",
        "the sidecar of the newer head pod writes; each patch tests what its writer has last seen",
    ),
    point(
        "W27",
        "a wish that is too large cannot be taken back: the pass makes all pods",
        "launches of more pods than a slice",
        "unserved demand with `growth_slice`",
        "no more than 100 pods of a group are outstanding; surplus pods are named before they run",
    ),
    point(
        "W28",
        "one operator worker serves all clusters, and may be busy elsewhere",
        "pods stay away for over 30 s, with no lock, refusal or condition that explains it",
        "hold `operator_silent`",
        "nothing is asked for twice: what is outstanding counts as coming",
    ),
    point(
        "W29",
        "`rayStartParams.resources` that the operator cannot parse are dropped without a word",
        "the same parser is applied here",
        "a skipped group with `bad_resources`; `rayscaler_groups_skipped`",
        "the group is left alone rather than filled with nodes that lack what was meant",
    ),
];
