//! RayClusters for tests, made by naming only what the test is about.

use serde_json::{Value, json};

/// A RayCluster to create: autoscaling on, a head that offers no processors, no groups yet.
#[derive(Debug, Clone)]
pub struct Manifest(Value);

/// A worker group: replicas 0, at least 0, at most 3, one processor, one host.
#[derive(Debug, Clone)]
pub struct Group(Value);

fn container() -> Value {
    json!({"name": "ray", "image": "rayproject/ray:2.60.0"})
}

impl Manifest {
    /// Returns a cluster of this name; its autoscaler version is left to Ray.
    pub fn new(name: &str) -> Self {
        Self(json!({
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {"name": name},
            "spec": {
                "rayVersion": "2.60.0",
                "enableInTreeAutoscaling": true,
                "autoscalerOptions": {},
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},
                    "template": {"spec": {"containers": [container()]}},
                },
                "workerGroupSpecs": [],
            },
        }))
    }

    /// Returns the cluster of a manifest as it is.
    pub const fn of(manifest: Value) -> Self {
        Self(manifest)
    }

    /// Sets a member of the manifest by JSON pointer; objects on the way are made.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        set(&mut self.0, pointer, value.into());
        self
    }

    /// Chooses `v1` or `v2`.
    #[must_use]
    pub fn autoscaler(self, version: &str) -> Self {
        self.set("/spec/autoscalerOptions/version", version)
    }

    /// Sets a flag of the head's `ray start`.
    #[must_use]
    pub fn head_param(self, name: &str, value: &str) -> Self {
        self.set(&format!("/spec/headGroupSpec/rayStartParams/{name}"), value)
    }

    /// Sets an environment variable of the head's Ray container.
    #[must_use]
    pub fn head_env(mut self, name: &str, value: &str) -> Self {
        let container = &mut self.0["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0];
        push(&mut container["env"], json!({"name": name, "value": value}));
        self
    }

    /// Adds a worker group.
    #[must_use]
    pub fn group(mut self, group: Group) -> Self {
        push(&mut self.0["spec"]["workerGroupSpecs"], group.0);
        self
    }

    /// Returns the manifest.
    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl Group {
    /// Returns a group of this name.
    pub fn new(name: &str) -> Self {
        Self(json!({
            "groupName": name,
            "replicas": 0,
            "minReplicas": 0,
            "maxReplicas": 3,
            "rayStartParams": {"num-cpus": "1"},
            "template": {"spec": {"containers": [container()]}},
        }))
    }

    /// Sets a member of the group by JSON pointer; objects on the way are made.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        set(&mut self.0, pointer, value.into());
        self
    }

    /// Sets the replicas wanted, the least and the most.
    #[must_use]
    pub fn replicas(self, wanted: i32, min: i32, max: i32) -> Self {
        self.set("/replicas", wanted)
            .set("/minReplicas", min)
            .set("/maxReplicas", max)
    }

    /// Sets the pods per replica.
    #[must_use]
    pub fn hosts(self, hosts: i32) -> Self {
        self.set("/numOfHosts", hosts)
    }

    /// Sets a flag of the workers' `ray start`.
    #[must_use]
    pub fn param(self, name: &str, value: &str) -> Self {
        self.set(&format!("/rayStartParams/{name}"), value)
    }

    /// Returns the group.
    pub fn value(&self) -> &Value {
        &self.0
    }
}

fn set(root: &mut Value, pointer: &str, value: Value) {
    let mut at = root;
    for member in pointer.split('/').skip(1) {
        at = match member.parse::<usize>() {
            Ok(index) if at.is_array() => &mut at[index],
            _ => &mut at[member],
        };
    }
    *at = value;
}

fn push(list: &mut Value, item: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().unwrap().push(item);
}
