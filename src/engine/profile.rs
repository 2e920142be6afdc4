//! Sets of behaviour: Ray's own, Ray's with its defects corrected, and a better packer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::placement::Corrections;

use super::ChainEntry;

/// Policies for which Ray has nothing.
const NOT_IN_RAY: [&str; 10] = [
    "running_first",
    "stopped",
    "recycle",
    "rate_up",
    "runaway",
    "fair_share",
    "growth_slices",
    "stabilization",
    "rate_down",
    "blast_radius",
];

/// Says how close decisions keep to those of Ray's own scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Ray's choices, with the corrections of the deviation table.
    #[default]
    Default,
    /// Ray's choices, its defects included: to compare with Ray.
    Ray,
    /// The corrections, and nodes chosen by price.
    Best,
}

impl Profile {
    /// Returns the chain of a profile.
    #[must_use]
    pub fn chain(self) -> Vec<ChainEntry> {
        let mut chain = ChainEntry::defaults();
        let mut set = |name: &str, settings: serde_json::Value| {
            for entry in chain.iter_mut().filter(|entry| entry.name == name) {
                entry.settings = settings.clone();
            }
        };
        match self {
            Self::Default => {}
            Self::Ray => {
                set("gpu_sparing", json!({"resources": ["GPU"]}));
                set("gangs", json!({"incomplete_after": null}));
                set("pending_idle", json!({"timeout": null, "ours_only": false}));
                chain.retain(|entry| !NOT_IN_RAY.contains(&entry.name.as_str()));
            }
            Self::Best => {
                set("packing", json!({"scoring": "price"}));
                set("gangs", json!({"spread": true, "fallbacks": true}));
            }
        }
        chain
    }

    /// Returns which corrections of Ray's scheduler are on.
    #[must_use]
    pub fn corrections(self) -> Corrections {
        match self {
            Self::Ray => Corrections::NONE,
            Self::Default | Self::Best => Corrections::default(),
        }
    }
}
