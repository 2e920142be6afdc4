//! Amounts of Ray resources, in integers.
//!
//! Why integers: Ray itself counts in 1/10 000 (`kResourceUnitScaling`). With doubles
//! three times 0.1 does not fit into 0.3.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Names a Ray resource: `CPU`, `GPU`, `memory`, or a user's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceName(Arc<str>);

impl ResourceName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ResourceName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl Borrow<str> for ResourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Holds an amount of one resource.
///
/// Units: 1/10 000 of the resource; memory in 1/10 000 byte. One node fits into `i64`;
/// sums over a cluster use `i128`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Quantity(i64);

impl Quantity {
    /// Units per whole resource, as in Ray.
    pub const SCALE: i64 = 10_000;
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Returns the amount of `units` 1/10 000.
    #[must_use]
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// Returns `count` whole resources, capped at what fits.
    #[must_use]
    pub const fn from_whole(count: i64) -> Self {
        Self(count.saturating_mul(Self::SCALE))
    }

    /// Returns the amount nearest to a value from the wire; `None` for NaN and infinities.
    ///
    /// Truncating would lose one unit for many values (0.0003 becomes 0.0002), and a node of
    /// exactly the right size would stop fitting.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "float to int casts saturate"
        )]
        value
            .is_finite()
            .then(|| Self((value * 10_000.0).round() as i64))
    }

    /// Returns the amount in 1/10 000.
    #[must_use]
    pub const fn units(self) -> i64 {
        self.0
    }

    /// Returns the amount as Ray shows it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for display and scores only")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 10_000.0
    }

    /// Returns whether there is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the sum, capped at what fits.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the difference, capped at what fits.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let scale = Self::SCALE.unsigned_abs();
        let (whole, part) = (self.0.unsigned_abs() / scale, self.0.unsigned_abs() % scale);
        if part == 0 {
            write!(f, "{sign}{whole}")
        } else {
            write!(
                f,
                "{sign}{whole}.{}",
                format!("{part:04}").trim_end_matches('0')
            )
        }
    }
}

/// Maps resource names to amounts, in the order of the names.
///
/// Shape: one entry per name; an amount may be zero (a total that is used up is not the same
/// as a resource that the node never had). Copies share the entries until one of them is changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceMap {
    entries: Arc<[(ResourceName, Quantity)]>,
}

impl ResourceMap {
    /// Returns a map without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the amount of `name`, zero when there is no entry.
    #[must_use]
    pub fn get(&self, name: &str) -> Quantity {
        self.find(name)
            .map_or(Quantity::ZERO, |at| self.entries[at].1)
    }

    /// Returns whether there is an entry for `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Sets the amount of `name`.
    pub fn set(&mut self, name: ResourceName, amount: Quantity) {
        match self.position(name.as_str()) {
            Ok(at) => Arc::make_mut(&mut self.entries)[at].1 = amount,
            Err(at) => {
                let mut entries = self.entries.to_vec();
                entries.insert(at, (name, amount));
                self.entries = entries.into();
            }
        }
    }

    /// Removes the entry of `name`.
    pub fn remove(&mut self, name: &str) {
        if let Some(at) = self.find(name) {
            let mut entries = self.entries.to_vec();
            entries.remove(at);
            self.entries = entries.into();
        }
    }

    /// Returns the entries in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ResourceName, Quantity)> + Clone {
        self.entries.iter().map(|(name, amount)| (name, *amount))
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds every amount of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in other.entries.iter() {
            let sum = self.get(name.as_str()).saturating_add(*amount);
            self.set(name.clone(), sum);
        }
    }

    /// Returns `times` times every amount, capped at what fits.
    #[must_use]
    pub fn times(&self, times: u64) -> Self {
        let times = i64::try_from(times).unwrap_or(i64::MAX);
        let part = |amount: &Quantity| Quantity::from_units(amount.units().saturating_mul(times));
        let entries = self.entries.iter();
        Self {
            entries: entries
                .map(|(name, amount)| (name.clone(), part(amount)))
                .collect(),
        }
    }

    /// Subtracts `times` times every amount of `other`; entries may become negative.
    pub fn subtract(&mut self, other: &Self, times: u64) {
        for (name, amount) in other.entries.iter() {
            let times = i64::try_from(times).unwrap_or(i64::MAX);
            let part = Quantity::from_units(amount.units().saturating_mul(times));
            if !part.is_zero() {
                let left = self.get(name.as_str()).saturating_sub(part);
                self.set(name.clone(), left);
            }
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.position(name).ok()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|(have, _)| have.as_str().cmp(name))
    }
}

impl FromIterator<(ResourceName, Quantity)> for ResourceMap {
    fn from_iter<I: IntoIterator<Item = (ResourceName, Quantity)>>(entries: I) -> Self {
        let mut sorted: Vec<(ResourceName, Quantity)> = Vec::new();
        for (name, amount) in entries {
            // As a rule they come in the order of their names.
            let is_next = sorted.last().is_none_or(|(last, _)| *last < name);
            let place = if is_next {
                Err(sorted.len())
            } else {
                sorted.binary_search_by(|(have, _)| have.cmp(&name))
            };
            match place {
                Ok(at) => sorted[at].1 = amount,
                Err(at) => sorted.insert(at, (name, amount)),
            }
        }
        Self {
            entries: sorted.into(),
        }
    }
}

impl fmt::Display for ResourceMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, amount)) in self.entries.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}: {amount}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Quantity, ResourceMap, ResourceName};

    #[test]
    fn wire_values_are_rounded_to_the_nearest_unit() {
        for units in 0..200_000_i64 {
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let wire = units as f64 / 10_000.0;
            assert_eq!(Quantity::from_f64(wire), Some(Quantity::from_units(units)));
        }
        assert_eq!(Quantity::from_f64(f64::NAN), None);
        assert_eq!(Quantity::from_f64(f64::INFINITY), None);
        assert_eq!(
            Quantity::from_f64(1e300),
            Some(Quantity::from_units(i64::MAX))
        );
    }

    #[test]
    fn amounts_read_as_ray_shows_them() {
        let shown = [(15_000, "1.5"), (3, "0.0003"), (-20_000, "-2"), (0, "0")];
        for (units, text) in shown {
            assert_eq!(Quantity::from_units(units).to_string(), text);
        }
    }

    #[test]
    fn maps_keep_the_order_of_names() {
        let mut map: ResourceMap = [("GPU", 1), ("CPU", 4)]
            .map(|(n, v)| (ResourceName::from(n), Quantity::from_whole(v)))
            .into_iter()
            .collect();
        map.subtract(&map.clone(), 2);
        assert_eq!(map.to_string(), "{CPU: -4, GPU: -1}");
        map.remove("CPU");
        assert!(!map.contains("CPU") && map.contains("GPU") && map.len() == 1);
    }
}
