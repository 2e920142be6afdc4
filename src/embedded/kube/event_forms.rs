//! Events have two forms, one per API group, and are kept in the older one.

use serde_json::{Map, Value, json};

/// The fields that have another name: in the group `events.k8s.io`, and as they are kept.
const RENAMED: &[(&str, &str)] = &[
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// Returns an Event of `events.k8s.io` as it is kept.
pub(super) fn to_core(event: Value) -> Value {
    let mut core = renamed(event, |(new, old)| (*new, *old));
    core["apiVersion"] = json!("v1");
    core
}

/// Returns a kept Event in the form of `events.k8s.io`.
pub(super) fn from_core(event: &Value) -> Value {
    let mut event = renamed(event.clone(), |(new, old)| (*old, *new));
    event["apiVersion"] = json!("events.k8s.io/v1");
    event
}

fn renamed(
    event: Value,
    names: impl Fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    let Value::Object(members) = event else {
        return event;
    };
    let rename = |name: String| {
        let renamed = RENAMED.iter().map(&names).find(|(from, _)| *from == name);
        renamed.map_or(name, |(_, to)| to.to_owned())
    };
    let members: Map<String, Value> = members
        .into_iter()
        .map(|(name, value)| (rename(name), value))
        .collect();
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::{from_core, to_core};
    use serde_json::json;

    #[test]
    fn both_forms_tell_the_same() {
        let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n",
            "regarding": {"name": "c"}, "reason": "R", "reportingController": "x"});
        let core = to_core(event.clone());
        assert_eq!(core["message"], "n");
        assert_eq!(core["involvedObject"]["name"], "c");
        assert_eq!(from_core(&core), event);
    }
}
