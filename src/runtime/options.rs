//! What the sidecar is started with, apart from its config file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::supervisor::Lineage;
use crate::config::{Effect, Notice, Overrides, STOCK_VARIABLES};

/// Holds what `rayscaler run` was told by flags and environment.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// `metadata.name` of the RayCluster.
    pub cluster_name: String,
    /// Its namespace.
    pub cluster_namespace: String,
    /// The config file; `None` runs on defaults.
    pub config_path: Option<PathBuf>,
    /// What flags and environment set; laid over the file each time it is read.
    pub overrides: Overrides,
    /// A kubeconfig; `None` uses the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Variables that say how to connect, as they were at the start.
    pub variables: Variables,
    /// Variables of the stock sidecar that do nothing here; logged once.
    pub notices: Vec<Notice>,
    /// What the start command asked for besides this and was not done; logged once.
    pub remarks: Vec<String>,
    /// How earlier children ended; for `rayscaler_child_restarts_total`.
    pub lineage: Lineage,
}

/// Holds environment variables, secrets among them: only their names are shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

/// Variables that say how to connect and are not the stock sidecar's own.
const MORE: [&str; 3] = ["HOME", "KUBECONFIG", "KUBERNETES_SERVICE_PORT"];

impl Variables {
    /// Returns the variables that say how to connect.
    #[must_use]
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let stock = STOCK_VARIABLES.iter();
        let names = stock
            .filter(|variable| matches!(variable.effect, Effect::Connection))
            .map(|variable| variable.name)
            .chain(MORE);
        let set = names.filter_map(|name| Some((name.to_owned(), lookup(name)?)));
        Self(set.collect())
    }

    /// Returns a variable's value; an empty one counts as not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Variables;

    #[test]
    fn connection_variables_are_kept_and_their_values_not_shown() {
        let variables = Variables::read(&|name| match name {
            "RAY_AUTH_TOKEN" => Some("secret".to_owned()),
            "RAY_AUTH_MODE" => Some(String::new()),
            "RAY_LOGGER_LEVEL" => Some("info".to_owned()),
            _ => None,
        });
        assert_eq!(variables.get("RAY_AUTH_TOKEN"), Some("secret"));
        assert_eq!(variables.get("RAY_AUTH_MODE"), None);
        assert_eq!(variables.get("RAY_LOGGER_LEVEL"), None);
        assert!(!format!("{variables:?}").contains("secret"));
    }
}
