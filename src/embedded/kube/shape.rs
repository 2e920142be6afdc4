//! The form of an answer: objects as they are, their metadata alone, or a table to print.

use super::event_forms;
use super::kinds::Kind;
use super::members;
use super::printing;
use super::refusal::Refusal;
use super::store::Object;
use crate::embedded::Now;
use serde_json::{Value, json};

/// How objects are shown.
#[derive(Clone)]
pub(super) struct Shape {
    kind: &'static Kind,
    form: Form,
    now: Now,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Full,
    Metadata,
    Table(Rows),
}

/// What the rows of a table carry beside their cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Nothing,
    Metadata,
    Objects,
}

impl Shape {
    /// Returns the first form of an `Accept` header that there is.
    pub(super) fn new(
        kind: &'static Kind,
        (accept, include): (&str, Option<&str>),
        now: Now,
    ) -> Result<Self, Refusal> {
        let rows = match include {
            Some("None") => Rows::Nothing,
            Some("Object") => Rows::Objects,
            _ => Rows::Metadata,
        };
        let form = accept.split(',').find_map(|range| form(range, rows));
        let form = form.ok_or_else(Refusal::not_acceptable)?;
        Ok(Self { kind, form, now })
    }

    pub(super) fn one(&self, object: &Value) -> Value {
        match self.form {
            Form::Full => self.full(object),
            Form::Metadata => metadata_of(object),
            Form::Table(_) => self.table(
                std::iter::once(object),
                json!({
                    "resourceVersion": object["metadata"]["resourceVersion"],
                }),
            ),
        }
    }

    /// Returns an object as JSON.
    pub(super) fn text(&self, object: &Object) -> String {
        if self.is_as_stored() {
            return object.text().to_owned();
        }
        self.one(object).to_string()
    }

    /// Returns whether objects are shown as they are kept.
    fn is_as_stored(&self) -> bool {
        self.form == Form::Full && !self.is_newer_event()
    }

    /// Returns a list as JSON.
    pub(super) fn list(&self, objects: &[Object], metadata: Value) -> String {
        let mut metadata = metadata;
        if self.kind.is_custom() {
            members::fill(&mut metadata, "continue", json!(""));
        }
        let (kind, api_version, items): (_, _, Vec<String>) = match self.form {
            Form::Table(_) => {
                let objects = objects.iter().map(|object| &***object);
                return self.table(objects, metadata).to_string();
            }
            Form::Metadata => (
                "PartialObjectMetadataList".to_owned(),
                "meta.k8s.io/v1".to_owned(),
                objects
                    .iter()
                    .map(|object| metadata_of(object).to_string())
                    .collect(),
            ),
            Form::Full => (
                format!("{}List", self.kind.kind),
                self.kind.api_version(),
                objects.iter().map(|object| self.item(object)).collect(),
            ),
        };
        let (kind, api_version) = (json!(kind), json!(api_version));
        let items = items.join(",");
        format!(
            "{{\"apiVersion\":{api_version},\"items\":[{items}],\"kind\":{kind},\"metadata\":{metadata}}}"
        )
    }

    /// Returns the object of a bookmark.
    pub(super) fn bookmark(&self, metadata: Value) -> Value {
        match self.form {
            Form::Full => json!({
                "kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata,
            }),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            }),
            Form::Table(_) => self.table(std::iter::empty(), metadata),
        }
    }

    /// Both kinds of Event are kept in the older form.
    fn is_newer_event(&self) -> bool {
        self.kind.is("Event") && !self.kind.group.is_empty()
    }

    fn full(&self, object: &Value) -> Value {
        if self.is_newer_event() {
            return event_forms::from_core(object);
        }
        object.clone()
    }

    /// The items of a list of a built-in kind do not say their kind.
    fn item(&self, object: &Object) -> String {
        if self.kind.is_custom() {
            return self.text(object);
        }
        let (api_version, kind) = (json!(self.kind.api_version()), json!(self.kind.kind));
        let said = format!("{{\"apiVersion\":{api_version},\"kind\":{kind},");
        if self.is_as_stored()
            && let Some(rest) = object.text().strip_prefix(&said)
        {
            return format!("{{{rest}");
        }
        let mut item = self.full(object);
        if let Value::Object(members) = &mut item {
            members.remove("kind");
            members.remove("apiVersion");
        }
        item.to_string()
    }

    fn table<'a>(&self, objects: impl Iterator<Item = &'a Value>, metadata: Value) -> Value {
        let Form::Table(rows) = self.form else {
            return Value::Null;
        };
        let now = (self.now)();
        let row = |object: &Value| {
            let object = self.full(object);
            let mut row = json!({"cells": printing::cells(self.kind, &object, now)});
            match rows {
                Rows::Nothing => {}
                Rows::Metadata => row["object"] = metadata_of(&object),
                Rows::Objects => row["object"] = object,
            }
            row
        };
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": printing::definitions(self.kind),
            "rows": objects.map(row).collect::<Vec<_>>(),
        })
    }
}

fn form(range: &str, rows: Rows) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next()?;
    if !matches!(
        media_type,
        "" | "*/*" | "application/*" | "application/json"
    ) {
        return None;
    }
    match parts.find_map(|part| part.strip_prefix("as=")) {
        None => Some(Form::Full),
        Some("Table") => Some(Form::Table(rows)),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Form::Metadata),
        Some(_) => None,
    }
}

fn metadata_of(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}
