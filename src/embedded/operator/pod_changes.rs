//! The pods of a cluster: head first, then the groups as listed; an error leaves the rest for later.

use super::cluster::{RayCluster, WorkerGroup};
use super::expectations::{Change, Group};
use super::names::{GROUP_LABEL, HEAD_GROUP, NODE_TYPE_LABEL};
use super::pod_template::{self, SPEC_HASH};
use super::worker_groups::{self, GroupPlan, NewHost, NewReplica};
use super::{Operator, OperatorError, status};
use crate::embedded::lean::PodOutline;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::Value;
use std::collections::BTreeSet;

/// A restarted operator repeats its endings; names of living pods are stepped over.
const NAMES_TRIED_MAX: u32 = 1000;

impl Operator {
    /// Brings the pods of a cluster to what its spec wants, as far as one pass may go.
    pub(super) async fn reconcile_pods(
        &mut self,
        cluster: &RayCluster,
    ) -> Result<(), OperatorError> {
        if status::is_true(&cluster.status, status::SUSPENDING) {
            return self.delete_all(cluster).await;
        }
        if cluster.spec.suspend || status::is_true(&cluster.status, status::SUSPENDED) {
            return Ok(());
        }
        let heads = self
            .pods_of(cluster, &format!(",{NODE_TYPE_LABEL}=head"))
            .await?;
        let hash = spec_hash(&cluster.raw_spec);
        if is_recreated(cluster, &heads, &hash) {
            self.delete_all(cluster).await?;
            self.expectations.forget(cluster.name());
            return Ok(());
        }
        if !self.reconcile_head(cluster, &heads, &hash).await? {
            return Ok(());
        }
        for group in &cluster.spec.worker_group_specs {
            self.reconcile_group(cluster, group).await?;
        }
        Ok(())
    }

    /// Returns false when the workers are to be left alone, too.
    async fn reconcile_head(
        &mut self,
        cluster: &RayCluster,
        heads: &[Pod],
        hash: &str,
    ) -> Result<bool, OperatorError> {
        let group = key(cluster, HEAD_GROUP);
        if !self.is_settled(cluster, &group).await? {
            return Ok(true);
        }
        match heads {
            [] if is_left_alone(cluster) => return Ok(false),
            [] => {
                let reason = "FailedCreateHeadPod";
                let make = |ending: &str| pod_template::head(cluster, ending, hash);
                self.create(&group, cluster, make, reason).await?;
            }
            [head] if worker_groups::is_unhealthy(head) => {
                let name = head.name_any();
                self.delete(&group, cluster, &name, "FailedDeleteHeadPod")
                    .await?;
                return Err(OperatorError::Again(format!(
                    "the head Pod {name} was unhealthy"
                )));
            }
            [_] => {}
            more => {
                return Err(OperatorError::Again(format!(
                    "{} head Pods found",
                    more.len()
                )));
            }
        }
        Ok(true)
    }

    async fn reconcile_group(
        &mut self,
        cluster: &RayCluster,
        group: &WorkerGroup,
    ) -> Result<(), OperatorError> {
        let key = key(cluster, &group.group_name);
        if !self.is_settled(cluster, &key).await? {
            return Ok(());
        }
        let pods = self
            .pods_of(cluster, &format!(",{GROUP_LABEL}={}", group.group_name))
            .await?;
        if group.suspend {
            // Reached without autoscaling only; with it such a cluster is refused.
            let of_group = pods.iter().map(ResourceExt::name_any).collect();
            let plan = GroupPlan {
                deletes: of_group,
                ..Default::default()
            };
            return self.carry_out(cluster, group, plan).await;
        }
        let keeps_surplus =
            cluster.spec.enable_in_tree_autoscaling && !self.settings.deletes_surplus;
        let plan = worker_groups::plan(group, &pods, keeps_surplus);
        self.carry_out(cluster, group, plan).await
    }

    async fn carry_out(
        &mut self,
        cluster: &RayCluster,
        group: &WorkerGroup,
        plan: GroupPlan,
    ) -> Result<(), OperatorError> {
        let key = key(cluster, &group.group_name);
        for name in &plan.deletes {
            self.delete(&key, cluster, name, "FailedDeleteWorkerPod")
                .await?;
        }
        for replica in &plan.creates {
            for host in self.hosts_of(group, replica) {
                let make = |ending: &str| pod_template::worker(cluster, group, &host, ending);
                self.create(&key, cluster, make, "FailedCreateWorkerPod")
                    .await?;
            }
        }
        plan.ends_pass
            .map_or(Ok(()), |reason| Err(OperatorError::Again(reason)))
    }

    fn hosts_of(&mut self, group: &WorkerGroup, replica: &NewReplica) -> Vec<NewHost> {
        let replica_index = replica.index;
        let Some(hosts) = replica.hosts else {
            return vec![NewHost {
                replica_index,
                of_replica: None,
            }];
        };
        let name = format!("{}-{}", group.group_name, self.endings.next());
        let host = |index| NewHost {
            replica_index,
            of_replica: Some((name.clone(), index)),
        };
        (0..hosts).map(host).collect()
    }

    /// Returns true when all changes made for a group are over.
    async fn is_settled(
        &mut self,
        cluster: &RayCluster,
        group: &Group,
    ) -> Result<bool, OperatorError> {
        if self.expectations.is_empty(group) {
            return Ok(true);
        }
        let pods = self
            .api::<Pod>(cluster)
            .list_metadata(&ListParams::default())
            .await;
        let pods = pods.map_err(OperatorError::api("list pods"))?;
        let names: BTreeSet<String> = pods.iter().map(ResourceExt::name_any).collect();
        Ok(self
            .expectations
            .settle(group, |pod| names.contains(pod), (self.now)()))
    }

    async fn create(
        &mut self,
        group: &Group,
        cluster: &RayCluster,
        make: impl Fn(&str) -> Pod,
        reason: &'static str,
    ) -> Result<(), OperatorError> {
        let pods: Api<Pod> = self.api(cluster);
        for _ in 0..NAMES_TRIED_MAX {
            let pod = make(&self.endings.next());
            match pods.create(&PostParams::default(), &pod).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(source) => return Err(OperatorError::Pod { reason, source }),
                Ok(_) => {
                    let at = (self.now)();
                    self.expectations
                        .expect(group, &pod.name_any(), Change::Created, at);
                    return Ok(());
                }
            }
        }
        Err(OperatorError::Again("no free pod name".to_owned()))
    }

    /// Deletes by name alone; a pod that is not there is none of our business.
    async fn delete(
        &mut self,
        group: &Group,
        cluster: &RayCluster,
        name: &str,
        reason: &'static str,
    ) -> Result<(), OperatorError> {
        let pods: Api<PodOutline> = self.api(cluster);
        match pods.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(OperatorError::Pod { reason, source }),
            Ok(_) => {
                self.expectations
                    .expect(group, name, Change::Deleted, (self.now)());
                Ok(())
            }
        }
    }

    async fn delete_all(&self, cluster: &RayCluster) -> Result<(), OperatorError> {
        let pods: Api<PodOutline> = self.api(cluster);
        for pod in self.pods_of(cluster, "").await? {
            if pod.metadata.deletion_timestamp.is_none() {
                let deleted = pods.delete(&pod.name_any(), &DeleteParams::default()).await;
                let reason = "FailedDeleteAllPods";
                deleted.map_err(|source| OperatorError::Pod { reason, source })?;
            }
        }
        Ok(())
    }
}

fn key(cluster: &RayCluster, group: &str) -> Group {
    Group {
        cluster: cluster.name().to_owned(),
        name: group.to_owned(),
    }
}

/// A cluster made for one job does not get a second head.
fn is_left_alone(cluster: &RayCluster) -> bool {
    let annotations = cluster.metadata.annotations.as_ref();
    let annotation = annotations.and_then(|all| all.get("ray.io/disable-provisioned-head-restart"));
    annotation.is_some_and(|value| value == "true")
        && status::is_true(&cluster.status, status::PROVISIONED)
}

fn is_recreated(cluster: &RayCluster, heads: &[Pod], hash: &str) -> bool {
    let strategy = cluster.spec.upgrade_strategy.as_ref();
    let is_recreate = strategy.is_some_and(|it| it.kind.as_deref() == Some("Recreate"));
    let made_with = heads
        .first()
        .and_then(|head| head.annotations().get(SPEC_HASH));
    is_recreate && made_with.is_some_and(|made_with| made_with != hash)
}

/// Hashes (FNV-1a) all of the spec but what scaling and queueing change.
fn spec_hash(spec: &Value) -> String {
    let mut spec = spec.clone();
    let groups = spec
        .get_mut("workerGroupSpecs")
        .and_then(Value::as_array_mut);
    for group in groups.into_iter().flatten() {
        let Some(members) = group.as_object_mut() else {
            continue;
        };
        for member in ["replicas", "minReplicas", "maxReplicas", "scaleStrategy"] {
            members.remove(member);
        }
    }
    let hash = spec
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
}
