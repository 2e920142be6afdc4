//! What is decided: the sections `scaling` and `policies`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::duration::HumanDuration;
use crate::engine::{EngineSettings, Profile};
use crate::model;

/// How the cluster is scaled, apart from the policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scaling {
    /// Whether everything is decided and reported but nothing is written to Kubernetes or Ray.
    pub dry_run: bool,
    /// Whether writing is paused; the RayCluster's annotation pauses as well.
    pub paused: bool,
    /// How close decisions keep to those of Ray's own autoscaler.
    pub profile: Profile,
    /// Idle time after which a replica goes; unset: the RayCluster's `idleTimeoutSeconds`, else the
    /// `timeout` of the policy `idle`. A group's own `idleTimeoutSeconds` wins over all of them.
    #[schemars(extend("x-maximum" = "365days"))]
    pub idle_timeout: Option<HumanDuration>,
    /// How fast groups grow; unset: the RayCluster's `upscalingMode`.
    pub upscaling_mode: Option<UpscalingMode>,
    /// Age of a source from which nothing is removed on its word.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub stale_after: HumanDuration,
    /// Age of the pods or the RayCluster from which nothing is written at all.
    #[schemars(extend("x-minimum" = "10s", "x-maximum" = "24h"))]
    pub frozen_after: HumanDuration,
    /// Time that nodes have to register after Ray's head or GCS was away; nothing is removed meanwhile.
    #[schemars(extend("x-minimum" = "0s", "x-maximum" = "1h"))]
    pub recover_within: HumanDuration,
    /// Whether nodes with GPUs are spared where others would do; `false` switches `gpu_sparing` off.
    pub conserve_gpu_nodes: bool,
    /// Whether pods grow in place where the RayCluster's annotation `ray.io/ippr` allows it.
    pub resize_pods: bool,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            dry_run: false,
            paused: false,
            profile: Profile::default(),
            idle_timeout: None,
            upscaling_mode: None,
            // One default for both, so that neither can drift.
            stale_after: HumanDuration::from_ms(EngineSettings::default().stale_after.as_ms()),
            frozen_after: HumanDuration::from_ms(EngineSettings::default().frozen_after.as_ms()),
            recover_within: HumanDuration::from_ms(
                EngineSettings::default().recover_within.as_ms(),
            ),
            conserve_gpu_nodes: true,
            resize_pods: true,
        }
    }
}

impl Scaling {
    /// Returns how fast groups may grow: the file's word, else the RayCluster's.
    pub(super) fn upscaling_mode(&self, raycluster: model::UpscalingMode) -> model::UpscalingMode {
        match self.upscaling_mode {
            None => raycluster,
            Some(UpscalingMode::Conservative) => model::UpscalingMode::Conservative,
            Some(UpscalingMode::Default | UpscalingMode::Aggressive) => {
                model::UpscalingMode::Unlimited
            }
        }
    }
}

/// How fast groups grow, in the words of `autoscalerOptions.upscalingMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpscalingMode {
    /// As fast as demand asks.
    Default,
    /// The same as `Default`.
    Aggressive,
    /// Starting nodes of a group at most as many as run, at least one replica.
    Conservative,
}

/// One policy of the chain with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyChoice {
    /// Its name, one of `rayscaler policies`.
    pub name: String,
    /// Its settings; what is not given keeps the policy's own default.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

/// Knows which policies there are.
///
/// The config cannot name them itself: policies may come from outside of this crate.
pub trait PolicyCatalog {
    /// Returns the names of all policies, sorted.
    fn names(&self) -> Vec<&str>;

    /// Returns what is wrong with the settings of a policy, in words; nothing when it takes them.
    ///
    /// Two methods: a name alone says nothing about settings, and both come from one registry.
    ///
    /// # Errors
    ///
    /// The policy's own words about what it does not accept.
    fn check(&self, name: &str, settings: &Map<String, Value>) -> Result<(), String>;

    /// Returns the schema of a policy's settings, references to other parts of it replaced by them; `None`
    /// where there is none, and `check` alone says what is wrong.
    ///
    /// A third method, with an answer of its own: what a schema can say is said for all policies in the same
    /// words, with path, line, and what would be accepted.
    fn schema(&self, name: &str) -> Option<Value> {
        let _ = name;
        None
    }
}
