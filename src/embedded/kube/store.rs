//! The objects and their history, under one counter of versions.

use super::kinds::Kind;
use super::refusal::Refusal;
use crate::embedded::news;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// etcd's limit of a request, which its own framing is part of.
const OBJECT_BYTES_MAX: usize = 1_572_864;

/// An object as it was at some version; shared by store, history and watches.
pub(super) type Object = Arc<Stored>;

/// An object, and how it is written: once, however many lists and watches show it.
#[derive(Debug)]
pub(super) struct Stored {
    value: Value,
    text: OnceLock<String>,
}

impl Stored {
    pub(super) fn new(value: Value) -> Object {
        let text = OnceLock::new();
        Arc::new(Self { value, text })
    }

    /// Returns the object as JSON.
    pub(super) fn text(&self) -> &str {
        self.text.get_or_init(|| self.value.to_string())
    }
}

impl Deref for Stored {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

/// Where an object is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) plural: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    /// Both kinds of Event are the same objects.
    pub(super) fn new(kind: &Kind, namespace: Option<&str>, name: &str) -> Self {
        Self {
            plural: kind.plural,
            namespace: namespace.unwrap_or_default().to_owned(),
            name: name.to_owned(),
        }
    }
}

/// Which objects a list or watch is about.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) plural: &'static str,
    /// None for all namespaces, and for kinds that have none.
    pub(super) namespace: Option<String>,
}

impl Scope {
    fn holds(&self, key: &Key) -> bool {
        let is_inside = |namespace: &String| *namespace == key.namespace;
        key.plural == self.plural && self.namespace.as_ref().is_none_or(is_inside)
    }

    fn first(&self) -> Key {
        Key {
            plural: self.plural,
            namespace: self.namespace.clone().unwrap_or_default(),
            name: String::new(),
        }
    }
}

/// One write.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) key: Key,
    pub(super) old: Option<Object>,
    pub(super) new: Option<Object>,
    /// The object as the watch of a deletion shows it.
    pub(super) last: Object,
}

/// Says how much an API server holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Objects.
    pub objects: usize,
    /// Changes that are remembered.
    pub changes: usize,
    /// The length of all of them as JSON; in memory they take several times that.
    pub bytes: usize,
}

/// Holds all objects.
#[derive(Debug)]
pub(super) struct Store {
    version: u64,
    objects: BTreeMap<Key, Object>,
    history: VecDeque<Change>,
    history_max: usize,
    /// Changes up to this version are forgotten.
    forgotten: u64,
    changed: news::Sender<u64>,
}

impl Store {
    pub(super) fn new(history_max: usize) -> Self {
        Self {
            version: 1,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            history_max,
            forgotten: 1,
            changed: news::Sender::new(1),
        }
    }

    /// Returns the version of the latest change.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Forgets how all that is there has come about.
    pub(super) fn forget(&mut self) {
        self.history.clear();
        self.forgotten = self.version;
    }

    /// Returns how much there is.
    pub(super) fn held(&self) -> Held {
        let texts = |object: &Object| object.text().len();
        let objects: usize = self.objects.values().map(texts).sum();
        let changes = self.history.iter().map(|change| texts(&change.last));
        Held {
            objects: self.objects.len(),
            changes: self.history.len(),
            bytes: objects + changes.sum::<usize>(),
        }
    }

    /// Returns what tells of changes.
    pub(super) fn subscribe(&self) -> news::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// Returns the objects of a scope, by namespace and name.
    pub(super) fn list(&self, scope: &Scope) -> impl Iterator<Item = (&Key, &Object)> {
        self.objects
            .range(scope.first()..)
            .take_while(|(key, _)| scope.holds(key))
    }

    /// Returns the objects of a scope as they were at an earlier version.
    ///
    /// Errors: the version is forgotten.
    pub(super) fn list_at(
        &self,
        scope: &Scope,
        version: u64,
    ) -> Result<BTreeMap<Key, Object>, Refusal> {
        if version < self.forgotten {
            return Err(Refusal::expired(version, self.forgotten));
        }
        let now = self.list(scope);
        let mut objects: BTreeMap<Key, Object> = now
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let later = |change: &&Change| change.version > version;
        for change in self.history.iter().rev().take_while(later) {
            if scope.holds(&change.key) {
                match &change.old {
                    Some(old) => objects.insert(change.key.clone(), old.clone()),
                    None => objects.remove(&change.key),
                };
            }
        }
        Ok(objects)
    }

    /// Returns the changes of a scope after a version, oldest first.
    ///
    /// Errors: some of them are forgotten.
    pub(super) fn changes_after(
        &self,
        scope: &Scope,
        version: u64,
    ) -> Result<Vec<Change>, Refusal> {
        if version < self.forgotten {
            return Err(Refusal::expired(version, self.forgotten));
        }
        let from = self
            .history
            .partition_point(|change| change.version <= version);
        let changes = self.history.range(from..);
        Ok(changes
            .filter(|change| scope.holds(&change.key))
            .cloned()
            .collect())
    }

    /// Stores an object under the next version.
    ///
    /// Errors: it is larger than etcd takes.
    pub(super) fn put(&mut self, key: Key, mut object: Value) -> Result<Object, Refusal> {
        set_version(&mut object, self.version + 1);
        let object = Stored::new(object);
        if object.text().len() > OBJECT_BYTES_MAX {
            return Err(Refusal::object_too_large());
        }
        let version = self.next_version();
        let old = self.objects.insert(key.clone(), object.clone());
        self.record(Change {
            version,
            key,
            old,
            new: Some(object.clone()),
            last: object.clone(),
        });
        Ok(object)
    }

    /// Removes an object; `last` is what watches are shown.
    pub(super) fn remove(&mut self, key: Key, mut last: Value) -> Object {
        let version = self.next_version();
        set_version(&mut last, version);
        let last = Stored::new(last);
        let old = self.objects.remove(&key);
        self.record(Change {
            version,
            key,
            old,
            new: None,
            last: last.clone(),
        });
        last
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn record(&mut self, change: Change) {
        self.history.push_back(change);
        while self.history.len() > self.history_max {
            if let Some(oldest) = self.history.pop_front() {
                self.forgotten = oldest.version;
            }
        }
        self.changed.send(self.version);
    }
}

fn set_version(object: &mut Value, version: u64) {
    object["metadata"]["resourceVersion"] = json!(version.to_string());
}

#[cfg(test)]
mod tests {
    use super::super::kinds;
    use super::{Key, Scope, Store};
    use serde_json::json;

    fn key(namespace: &str, name: &str) -> Key {
        let pods = kinds::find("", "v1", "pods").unwrap();
        Key::new(pods, Some(namespace), name)
    }

    fn names(store: &Store, namespace: Option<&str>, version: u64) -> Vec<String> {
        let scope = Scope {
            plural: "pods",
            namespace: namespace.map(str::to_owned),
        };
        let objects = store.list_at(&scope, version).unwrap();
        objects.into_keys().map(|key| key.name).collect()
    }

    #[test]
    fn earlier_versions_can_be_listed_until_they_are_forgotten() {
        let mut store = Store::new(3);
        let object = || json!({"metadata": {}});
        store.put(key("a", "x"), object()).unwrap();
        store.put(key("b", "y"), object()).unwrap();
        store.put(key("b", "z"), object()).unwrap();
        store.remove(key("b", "y"), object());
        assert_eq!(names(&store, None, 5), ["x", "z"]);
        assert_eq!(names(&store, None, 4), ["x", "y", "z"]);
        assert_eq!(names(&store, Some("b"), 3), ["y"]);
        assert_eq!(store.forgotten, 2);
        let scope = Scope {
            plural: "pods",
            namespace: None,
        };
        assert!(store.list_at(&scope, 1).is_err());
        let changes = store.changes_after(&scope, 3).unwrap();
        let versions: Vec<u64> = changes.iter().map(|change| change.version).collect();
        assert_eq!(versions, [4, 5]);
    }
}
