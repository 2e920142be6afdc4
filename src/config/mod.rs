//! The config file: what can be set, what is set when nothing is, and what is wrong with a file.
//!
//! # Why
//!
//! The structs are the only description. Their JSON Schema is what `rayscaler schema` prints and what
//! a file is checked against ([`parse`] walks the file and the schema together), so a new setting is
//! one field, and the printed schema cannot differ from what is accepted. Reading the file with serde
//! alone was tried first: it stops at the first mistake. (2026-11-25)

mod chain;
mod check;
mod document;
mod duration;
mod effective;
mod environment;
mod error;
mod format;
mod limits;
mod output;
mod poll;
mod scaling;
mod settings;
mod suggest;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};

pub use chain::{chain, engine};
pub use duration::HumanDuration;
pub use effective::Overrides;
pub use environment::{Effect, Environment, Notice, STOCK_VARIABLES, StockVariable};
pub use error::ConfigError;
pub use format::{Mistake, read};
pub use limits::is_host_and_port;
pub use output::{Admin, Log, LogFormat, LogLevel, METRICS_PORT, MonitorLog, Question, Report};
pub use poll::{GcsPoll, Kubernetes, Poll, Ray, RayClusterPoll, RayletPoll};
pub use scaling::{PolicyCatalog, PolicyChoice, Scaling, UpscalingMode};
#[cfg(feature = "sidecar")]
pub(crate) use suggest::closest;

/// The settings of the sidecar.
///
/// What is left out keeps its default; without any file everything does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "RayscalerConfig", extend("required" = ["apiVersion", "kind"]))]
pub struct Config {
    /// Version of this format.
    #[serde(default)]
    pub api_version: ApiVersion,
    /// Kind of this file.
    #[serde(default)]
    pub kind: Kind,
    /// How often each source is asked.
    #[serde(default)]
    pub poll: Poll,
    /// How the Kubernetes API is used.
    #[serde(default)]
    pub kubernetes: Kubernetes,
    /// How Ray is reached.
    #[serde(default)]
    pub ray: Ray,
    /// How the cluster is scaled, apart from the policies.
    #[serde(default)]
    pub scaling: Scaling,
    /// The chain of policies in its order; unset: the built-in chain.
    #[serde(default)]
    pub policies: Option<Vec<PolicyChoice>>,
    /// What is told to Ray, its drivers and Kubernetes.
    #[serde(default)]
    pub report: Report,
    /// The port for metrics and health.
    #[serde(default)]
    pub admin: Admin,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

/// Version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one so far.
    #[default]
    #[serde(rename = "rayscaler.io/v1alpha1")]
    V1Alpha1,
}

/// Kind of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// The settings of the sidecar.
    #[default]
    RayscalerConfig,
}

/// Returns the settings in a file's text.
///
/// # Errors
///
/// Everything that is wrong with it, in the order of the file.
pub fn parse(text: &str, policies: &dyn PolicyCatalog) -> Result<Config, Vec<ConfigError>> {
    let (document, mut errors) = document::read(text);
    let value = check::check(&document, &schema(), &mut errors);
    match serde_json::from_value::<Config>(value) {
        Ok(config) => {
            // What is wrong has been left out, so this also sees what is wrong with the rest.
            errors.extend(limits::check(&config, &document, policies));
            if errors.is_empty() {
                return Ok(config);
            }
        }
        // Reached only if a struct refuses what its own schema accepts.
        Err(error) => {
            let nowhere = error::Place::nowhere("");
            errors.push(ConfigError::new(&nowhere, error.to_string()));
        }
    }
    errors.sort_by_key(|error| (error.line.is_none(), error.line));
    Err(errors)
}

/// Returns the JSON Schema of the config file.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings
        .into_generator()
        .into_root_schema_for::<Config>()
        .to_value()
}
