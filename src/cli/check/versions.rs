//! Fields that the stated KubeRay drops, and versions that are not served.

use serde_json::Value;

use super::finding::Found;
use super::subject::{KubeRay, Subject, shown};

/// The first Ray that is served.
const RAY_SINCE: (u64, u64) = (2, 47);

/// Fields of the spec, and the KubeRay that brought them; `*` stands for every group.
const FIELDS: [(&str, KubeRay); 12] = [
    ("autoscalerOptions.command", (1, 7)),
    ("autoscalerOptions.args", (1, 7)),
    ("autoscalerOptions.version", (1, 4)),
    ("upgradeStrategy", (1, 6)),
    ("authOptions", (1, 5)),
    ("headGroupSpec.resources", (1, 5)),
    ("headGroupSpec.labels", (1, 5)),
    ("*.priority", (1, 7)),
    ("*.idleTimeoutSeconds", (1, 3)),
    ("*.suspend", (1, 3)),
    ("*.resources", (1, 5)),
    ("*.labels", (1, 5)),
];

/// Returns major and minor of a version; a patch level and a leading `v` are passed over.
pub(in crate::cli) fn version(text: &str) -> Option<(u64, u64)> {
    let text = text.trim();
    let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?;
    let digits = minor
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(minor.len());
    Some((major, minor.get(..digits)?.parse().ok()?))
}

/// Finds fields that the stated KubeRay does not know.
pub(super) fn field_dropped(subject: &Subject) -> Vec<Found> {
    let Some(stated) = subject.surroundings.kuberay else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let unknown = FIELDS.iter().filter(|(_, since)| *since > stated);
    for (field, (major, minor)) in unknown {
        let paths: Vec<String> = match field.strip_prefix("*.") {
            Some(key) => {
                let groups = subject.groups().into_iter();
                groups.map(|group| format!("{group}.{key}")).collect()
            }
            None => vec![(*field).to_owned()],
        };
        for path in paths {
            if let Some(value) = subject.value(&path) {
                let accepted = format!("KubeRay {major}.{minor} or later");
                found.push(Found::at(subject.path(&path), shown(value), &accepted));
            }
        }
    }
    found
}

/// Finds replicas of several hosts on a KubeRay that does not keep them whole.
pub(super) fn hosts_not_kept_whole(subject: &Subject) -> Vec<Found> {
    if subject.surroundings.kuberay.is_none_or(|it| it >= (1, 6)) {
        return Vec::new();
    }
    let groups = subject.groups().into_iter();
    let found = groups.filter_map(|group| {
        let path = format!("{group}.numOfHosts");
        let hosts = subject.value(&path).and_then(Value::as_i64)?;
        let accepted = "1, or KubeRay 1.6 or later";
        (hosts > 1).then(|| Found::at(subject.path(&path), hosts, accepted))
    });
    found.collect()
}

/// Finds a Ray that is older than what is served.
pub(super) fn ray_version_unserved(subject: &Subject) -> Vec<Found> {
    let Some(text) = subject.text("rayVersion") else {
        return Vec::new();
    };
    match version(text) {
        Some(version) if version < RAY_SINCE => {
            vec![Found::at(subject.path("rayVersion"), text, "2.47 or later")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read_with_and_without_ornaments() {
        for (text, expected) in [
            ("1.6", Some((1, 6))),
            ("v1.7.0", Some((1, 7))),
            ("2.60.0rc1", Some((2, 60))),
            ("2.60rc1", Some((2, 60))),
            ("1", None),
            ("nightly", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
