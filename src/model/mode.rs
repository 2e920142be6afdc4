//! What may be done in view of what is known.

use serde::{Deserialize, Serialize};

/// Says how far scaling goes; it follows from the ages of the sources and is left by itself.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ScalingMode {
    /// Everything.
    #[default]
    Normal,
    /// Ray's head or its GCS has started anew: nodes that are missing have time to come back,
    /// nothing is removed meanwhile, and idle times count from there.
    Recovering,
    /// Something is not known well enough to remove anything.
    NoScaleDown,
    /// Nothing is written at all.
    Frozen,
}

impl ScalingMode {
    /// All of them, in the order of what they forbid.
    pub const ALL: [Self; 4] = [
        Self::Normal,
        Self::Recovering,
        Self::NoScaleDown,
        Self::Frozen,
    ];

    /// Returns the word for logs, metrics and people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Recovering => "recovering",
            Self::NoScaleDown => "no-scale-down",
            Self::Frozen => "frozen",
        }
    }

    /// Returns whether everything may be done.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        *self == Self::Normal
    }
}
