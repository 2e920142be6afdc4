//! Kubernetes Events on the RayCluster, where the Role allows to create them.
//!
//! The stock Role does not; with `events.k8s.io` `events: create` in it, `kubectl describe raycluster`
//! tells what the autoscaler did. Only creating is assumed, so a repeated event is not counted up in
//! place but left out for a while.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::driver_text::{DriverMessage, Severity};
use super::events_pass::reasons_text;
use super::pass::{Outcome, PassReport};
use crate::model::Timestamp;

/// The same text is not written again within this time.
const REPEAT_MS: u64 = 600_000;

/// At most this many events in [`WINDOW_MS`]; the API server keeps each for an hour.
const EVENTS_MAX: usize = 30;

/// See [`EVENTS_MAX`].
const WINDOW_MS: u64 = 300_000;

/// Longest note that the API server takes.
const NOTE_MAX: usize = 1_024;

/// Says on which object events are written, and by whom.
#[derive(Debug, Clone, Default)]
pub struct EventTarget {
    /// `apiVersion` of the RayCluster.
    pub api_version: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The pod that we run in.
    pub reporting_instance: String,
}

/// Holds one event before it is dated and addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    kind: &'static str,
    reason: &'static str,
    action: &'static str,
    text: String,
}

/// Makes events of passes: new ones only, and not too many.
#[derive(Debug, Default)]
pub(super) struct KubeEvents {
    target: EventTarget,
    written: BTreeMap<(String, &'static str), Timestamp>,
    number: u64,
}

impl KubeEvents {
    /// Returns a maker of events on `target`.
    pub(super) fn new(target: EventTarget) -> Self {
        Self {
            target,
            ..Self::default()
        }
    }

    /// Returns the events to create after one pass.
    pub(super) fn pass(
        &mut self,
        pass: &PassReport<'_>,
        messages: &[DriverMessage],
        now: Timestamp,
    ) -> Vec<Value> {
        self.written
            .retain(|_, at| now.millis_since(*at) < REPEAT_MS);
        let mut events = Vec::new();
        for note in notes(pass, messages) {
            let recent = self
                .written
                .values()
                .filter(|at| now.millis_since(**at) < WINDOW_MS);
            // What was done is news each time, also in the same words.
            let is_act = note.kind == "Normal";
            let key = (note.text.clone(), note.reason);
            if recent.count() >= EVENTS_MAX || (!is_act && self.written.contains_key(&key)) {
                continue;
            }
            self.number += 1;
            let key = if is_act {
                (self.number.to_string(), note.reason)
            } else {
                key
            };
            self.written.insert(key, now);
            events.push(self.event(&note, &pass.snapshot.uid, now));
        }
        events
    }

    fn event(&self, note: &Note, uid: &str, now: Timestamp) -> Value {
        let target = &self.target;
        let since = Duration::from_millis(now.as_ms().unsigned_abs());
        let time = humantime::format_rfc3339_micros(UNIX_EPOCH + since).to_string();
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                // Time and number together differ for every event of every process in this pod.
                "name": format!("{}.{:x}.{:x}", target.name, now.as_ms(), self.number),
                "namespace": target.namespace,
            },
            "eventTime": time,
            "reportingController": "rayscaler",
            "reportingInstance": target.reporting_instance,
            "action": note.action,
            "reason": note.reason,
            "type": note.kind,
            "note": note.text.chars().take(NOTE_MAX / 4).collect::<String>(),
            "regarding": {
                "apiVersion": target.api_version,
                "kind": "RayCluster",
                "namespace": target.namespace,
                "name": target.name,
                "uid": uid,
            },
        })
    }
}

fn notes(pass: &PassReport<'_>, messages: &[DriverMessage]) -> Vec<Note> {
    let mut notes = Vec::new();
    for scaled in pass
        .acted
        .scaled
        .iter()
        .filter(|it| it.from != it.to || !it.removed.is_empty())
    {
        let reasons = pass
            .decision
            .group(&scaled.group)
            .map(|it| reasons_text(&it.reasons));
        let reasons = reasons.unwrap_or_default();
        let is_up = scaled.to > scaled.from;
        notes.push(Note {
            kind: "Normal",
            reason: if is_up { "ScaledUp" } else { "ScaledDown" },
            action: "Scale",
            text: format!(
                "{}: {} to {} replicas: {reasons}",
                scaled.group, scaled.from, scaled.to
            ),
        });
    }
    if let Outcome::Failed { cause, detail } = &pass.acted.outcome {
        notes.push(Note {
            kind: "Warning",
            reason: "ScalingFailed",
            action: "Scale",
            text: format!("{cause}: {detail}"),
        });
    }
    let warnings = messages
        .iter()
        .filter(|it| it.severity == Severity::Warning);
    notes.extend(warnings.map(|it| Note {
        kind: "Warning",
        reason: "InfeasibleDemand",
        action: "Decide",
        text: it.text.clone(),
    }));
    notes.extend(pass.snapshot.skipped.iter().map(|it| Note {
        kind: "Warning",
        reason: "GroupSkipped",
        action: "Observe",
        text: format!("{}: {}: {}", it.name, it.code, it.detail),
    }));
    notes
}

/// Creates one event.
///
/// # Errors
///
/// Whatever the API server answers; `403` means that the Role does not allow it.
pub async fn create(client: &kube::Client, event: &Value) -> Result<(), kube::Error> {
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(event.to_string().into_bytes());
    let request = request.map_err(|error| {
        kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error))
    })?;
    client.request::<Value>(request).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::{EVENTS_MAX, EventTarget, KubeEvents, REPEAT_MS, WINDOW_MS};
    use crate::model::{ClusterSnapshot, History, ScaleDecision, Timestamp};
    use crate::report::driver_text::{DriverMessage, Severity};
    use crate::report::pass::{Acted, PassReport};

    fn events(maker: &mut KubeEvents, texts: &[String], now: u64) -> Vec<serde_json::Value> {
        let pass = PassReport {
            observed_at: Timestamp::default(),
            snapshot: &ClusterSnapshot::default(),
            decision: &ScaleDecision::default(),
            history: &History::default(),
            acted: &Acted::default(),
            phases: &[],
            session_name: "",
            is_dry_run: false,
        };
        let message = |text: &String| DriverMessage {
            severity: Severity::Warning,
            text: text.clone(),
        };
        let messages: Vec<_> = texts.iter().map(message).collect();
        maker.pass(&pass, &messages, Timestamp::default().plus_ms(now))
    }

    #[test]
    fn a_repeated_event_is_left_out_for_a_while() {
        let target = EventTarget {
            name: "rc".to_owned(),
            namespace: "ns".to_owned(),
            ..EventTarget::default()
        };
        let mut maker = KubeEvents::new(target);
        let text = ["no".to_owned()];
        let first = events(&mut maker, &text, 0);
        assert_eq!(first[0]["regarding"]["name"], "rc");
        assert_eq!(first[0]["eventTime"], "1970-01-01T00:00:00.000000Z");
        assert!(events(&mut maker, &text, REPEAT_MS - 1).is_empty());
        assert_eq!(events(&mut maker, &text, REPEAT_MS).len(), 1);
    }

    #[test]
    fn events_are_limited() {
        let mut maker = KubeEvents::default();
        let texts: Vec<String> = (0..500).map(|at| at.to_string()).collect();
        assert_eq!(events(&mut maker, &texts, 0).len(), EVENTS_MAX);
        assert!(events(&mut maker, &texts[100..], WINDOW_MS - 1).is_empty());
        assert_eq!(
            events(&mut maker, &texts[100..], WINDOW_MS).len(),
            EVENTS_MAX
        );
    }
}
