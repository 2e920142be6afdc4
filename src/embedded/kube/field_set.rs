//! Sets of fields, as `managedFields` holds them.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A member of a map.
    Field(String),
    /// The entry of a list with these key members, as JSON.
    Key(String),
    /// The value of a set, as JSON.
    Value(String),
}

impl Step {
    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => Some(Self::Key(rest.to_owned())),
            "v" => Some(Self::Value(rest.to_owned())),
            _ => None,
        }
    }

    /// Returns the step as messages write it.
    fn shown(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Value(value) => format!("[={value}]"),
            Self::Key(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                format!("[{}]", keys.join(","))
            }
        }
    }
}

/// A set of paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// The path that leads here is in the set.
    is_member: bool,
    children: BTreeMap<Step, Self>,
}

impl FieldSet {
    pub(super) fn is_empty(&self) -> bool {
        !self.is_member && self.children.values().all(Self::is_empty)
    }

    /// Adds the path of `steps`.
    pub(super) fn insert(&mut self, steps: &[Step]) {
        let mut at = self;
        for step in steps {
            at = at.children.entry(step.clone()).or_default();
        }
        at.is_member = true;
    }

    /// Returns every path.
    pub(super) fn paths(&self) -> Vec<Vec<Step>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, path: &mut Vec<Step>, paths: &mut Vec<Vec<Step>>) {
        if self.is_member {
            paths.push(path.clone());
        }
        for (step, child) in &self.children {
            path.push(step.clone());
            child.collect(path, paths);
            path.pop();
        }
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.add(other);
        union
    }

    fn add(&mut self, other: &Self) {
        self.is_member |= other.is_member;
        let children = other.children.iter().filter(|(_, child)| !child.is_empty());
        for (step, child) in children {
            match self.children.get_mut(step) {
                Some(own) => own.add(child),
                None => drop(self.children.insert(step.clone(), child.clone())),
            }
        }
    }

    pub(super) fn difference(&self, other: &Self) -> Self {
        self.filtered(other, false)
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.filtered(other, true)
    }

    /// Returns the paths that are in the other set, or those that are not.
    fn filtered(&self, other: &Self, is_wanted_there: bool) -> Self {
        let mut kept = Self {
            is_member: self.is_member && other.is_member == is_wanted_there,
            children: BTreeMap::new(),
        };
        let nothing = Self::default();
        for (step, child) in &self.children {
            let child = child.filtered(
                other.children.get(step).unwrap_or(&nothing),
                is_wanted_there,
            );
            if !child.is_empty() {
                kept.children.insert(step.clone(), child);
            }
        }
        kept
    }

    /// Returns the form of `fieldsV1`.
    pub(super) fn to_value(&self) -> Value {
        let mut members = Map::new();
        for (step, child) in &self.children {
            let mut value = child.to_value();
            if child.is_member && !child.children.is_empty() {
                value["."] = json!({});
            }
            members.insert(step.text(), value);
        }
        Value::Object(members)
    }

    /// Reads the form of `fieldsV1`; what is not understood is left out.
    pub(super) fn parse(value: &Value) -> Self {
        let mut set = Self::default();
        for (name, child) in value.as_object().into_iter().flatten() {
            if name == "." {
                set.is_member = true;
            } else if let Some(step) = Step::parse(name) {
                let mut parsed = Self::parse(child);
                parsed.is_member |= child.as_object().is_none_or(Map::is_empty);
                set.children.insert(step, parsed);
            }
        }
        set
    }
}

/// Returns a path as messages write it.
pub(super) fn shown(path: &[Step]) -> String {
    path.iter().map(Step::shown).collect()
}

#[cfg(test)]
mod tests {
    use super::{FieldSet, shown};
    use serde_json::json;

    #[test]
    fn a_set_is_written_and_read_as_fields_v1() {
        let text = json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {".": {}, "f:image": {}}}},
        });
        let set = FieldSet::parse(&text);
        assert_eq!(set.to_value(), text);
        let paths: Vec<String> = set.paths().iter().map(|path| shown(path)).collect();
        assert_eq!(
            paths,
            [
                ".metadata.labels",
                ".metadata.labels.a",
                ".spec.containers[name=\"x\"]",
                ".spec.containers[name=\"x\"].image",
            ]
        );
        let labels = FieldSet::parse(&json!({"f:metadata": {"f:labels": {"f:a": {}}}}));
        assert_eq!(set.intersection(&labels), labels);
        assert_eq!(set.difference(&labels).union(&labels), set);
        assert!(labels.difference(&set).is_empty());
    }
}
