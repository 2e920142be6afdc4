//! What is checked: a RayCluster of its own, or the one inside a RayService or a RayJob.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cli::manifest;
use crate::config::Config;
use crate::model::{ClusterSnapshot, Completeness};
use crate::observe::join::{JoinInput, join};
use crate::observe::ray_state::RayState;
use crate::wire::raycluster::RayCluster;

/// Longest value shown: enough to recognise it in the manifest.
const SHOWN_CHARS_MAX: usize = 80;

/// A version of KubeRay: major and minor.
pub(super) type KubeRay = (u64, u64);

/// Holds what the findings depend on besides the RayCluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// The version of the operator, where it was stated.
    pub(super) kuberay: Option<KubeRay>,
    /// Roles that the sidecar will have, as objects.
    pub(super) roles: Vec<Value>,
    /// NetworkPolicies, as objects.
    pub(super) network_policies: Vec<Value>,
}

/// Holds one RayCluster to check.
#[derive(Debug)]
pub(in crate::cli) struct Subject {
    /// `RayCluster`, `RayService` or `RayJob`.
    pub(in crate::cli) kind: &'static str,
    /// Its name.
    pub(in crate::cli) name: String,
    /// The object as it stands in the file.
    pub(super) object: Value,
    /// The path of the RayCluster's spec in the object.
    prefix: &'static str,
    /// What is understood of it, without any Ray and pods.
    pub(in crate::cli) snapshot: ClusterSnapshot,
    /// What else was given.
    pub(super) surroundings: Surroundings,
}

/// The kinds, and where the spec of the RayCluster stands in each.
const KINDS: [(&str, &str); 3] = [
    ("RayCluster", "spec"),
    ("RayService", "spec.rayClusterConfig"),
    ("RayJob", "spec.rayClusterSpec"),
];

impl Subject {
    /// Returns the RayClusters of a file, and what stands beside them; at least one.
    ///
    /// Errors: no RayCluster, or one that cannot be read at all.
    pub(super) fn read(path: &Path, surroundings: &Surroundings) -> anyhow::Result<Vec<Self>> {
        let objects = manifest::objects(path)?;
        let mut surroundings = surroundings.clone();
        for object in &objects {
            match manifest::kind(object) {
                "Role" | "ClusterRole" => surroundings.roles.push(object.clone()),
                "NetworkPolicy" => surroundings.network_policies.push(object.clone()),
                _ => {}
            }
        }
        let mut subjects = Vec::new();
        for object in &objects {
            let found = KINDS
                .iter()
                .find(|(kind, _)| *kind == manifest::kind(object));
            let bare = manifest::kind(object).is_empty().then_some(&KINDS[0]);
            if let Some((kind, prefix)) = found.or(bare) {
                let subject = Self::of(object, (kind, prefix), surroundings.clone());
                subjects.push(subject.with_context(|| format!("`{}`", path.display()))?);
            }
        }
        if subjects.is_empty() {
            let found: Vec<&str> = objects.iter().map(manifest::kind).collect();
            let problem = manifest::nothing_of("a RayCluster, a RayService or a RayJob", &found);
            anyhow::bail!("`{}` {problem}", path.display());
        }
        Ok(subjects)
    }

    /// Returns one object to check.
    ///
    /// Errors: a RayCluster that cannot be read at all.
    pub(super) fn of(
        object: &Value,
        (kind, prefix): (&'static str, &'static str),
        surroundings: Surroundings,
    ) -> anyhow::Result<Self> {
        let raycluster = if prefix == "spec" {
            RayCluster::from_value(object)?
        } else {
            let pointer = format!("/{}", prefix.replace('.', "/"));
            let spec = object.pointer(&pointer);
            let spec = spec.with_context(|| format!("{kind} has no {prefix}"))?;
            let metadata = object.get("metadata");
            RayCluster::from_value(&json!({"metadata": metadata, "spec": spec}))
                .with_context(|| format!("in {prefix} of the {kind}"))?
        };
        let snapshot = join(&JoinInput {
            ray: &RayState::default(),
            raycluster: &raycluster,
            pods: &[],
            completeness: Completeness::default(),
        });
        Ok(Self {
            kind,
            name: raycluster.metadata.name.clone(),
            object: object.clone(),
            prefix,
            snapshot,
            surroundings,
        })
    }

    /// Returns what is understood once a config is laid over it.
    pub(in crate::cli) fn configured(&self, config: &Config) -> ClusterSnapshot {
        let mut snapshot = self.snapshot.clone();
        config.scaling.apply_to(&mut snapshot);
        snapshot
    }

    /// Returns the path in the object of a path in the RayCluster's spec.
    pub(super) fn path(&self, in_spec: &str) -> String {
        format!("{}.{in_spec}", self.prefix)
    }

    /// Returns the path in the object of a path as messages about a RayCluster have it.
    pub(super) fn outer_path(&self, path: &str) -> String {
        match path.strip_prefix("spec.") {
            Some(rest) => self.path(rest),
            None => path.to_owned(),
        }
    }

    /// Returns the RayCluster's spec.
    pub(super) fn spec(&self) -> Option<&Value> {
        self.object
            .pointer(&format!("/{}", self.prefix.replace('.', "/")))
    }

    /// Returns a value by its path in the RayCluster's spec; `None` when it is absent or null.
    pub(super) fn value(&self, in_spec: &str) -> Option<&Value> {
        let path = self.path(in_spec).replace('[', ".").replace(']', "");
        let pointer = format!("/{}", path.replace('.', "/"));
        self.object
            .pointer(&pointer)
            .filter(|value| !value.is_null())
    }

    /// Returns a text by its path in the RayCluster's spec.
    pub(super) fn text(&self, in_spec: &str) -> Option<&str> {
        self.value(in_spec).and_then(Value::as_str)
    }

    /// Returns a label or annotation of the object.
    pub(super) fn metadata(&self, kind: &str, name: &str) -> Option<&str> {
        let entries = self.object.get("metadata").and_then(|it| it.get(kind));
        entries.and_then(|it| it.get(name)).and_then(Value::as_str)
    }

    /// Returns the paths of the worker groups in the RayCluster's spec.
    pub(super) fn groups(&self) -> Vec<String> {
        let groups = self.value("workerGroupSpecs").and_then(Value::as_array);
        let count = groups.map_or(0, Vec::len);
        (0..count)
            .map(|index| format!("workerGroupSpecs[{index}]"))
            .collect()
    }

    /// Returns the paths of the head and the worker groups.
    pub(super) fn all_groups(&self) -> Vec<String> {
        let mut all = vec!["headGroupSpec".to_owned()];
        all.extend(self.groups());
        all
    }
}

/// Returns a value as it is shown in a finding.
pub(super) fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text;
    }
    let short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{short}...")
}

/// Returns the texts in a list.
pub(super) fn texts(value: Option<&Value>) -> Vec<&str> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}
