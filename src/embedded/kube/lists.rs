//! Which lists of built-in kinds have entries of their own, and what tells these apart.

/// How the entries of a list are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListRule {
    /// By which member a strategic merge patch tells them apart; none for a set of plain values.
    pub(super) patch_key: Option<&'static str>,
    /// By which members server-side apply tells them apart; empty for a set of plain values.
    pub(super) apply_keys: &'static [&'static str],
}

const fn by(patch_key: &'static str, apply_keys: &'static [&'static str]) -> ListRule {
    ListRule {
        patch_key: Some(patch_key),
        apply_keys,
    }
}

const SET: ListRule = ListRule {
    patch_key: None,
    apply_keys: &[],
};

/// The ends of paths; whatever is not here is one value.
const RULES: &[(&[&str], ListRule)] = &[
    (&["metadata", "finalizers"], SET),
    (&["metadata", "ownerReferences"], by("uid", &["uid"])),
    (&["status", "conditions"], by("type", &["type"])),
    (&["status", "podIPs"], by("ip", &["ip"])),
    (&["status", "addresses"], by("type", &["type"])),
    (&["spec", "containers"], by("name", &["name"])),
    (&["spec", "initContainers"], by("name", &["name"])),
    (&["spec", "ephemeralContainers"], by("name", &["name"])),
    (&["spec", "volumes"], by("name", &["name"])),
    (&["spec", "imagePullSecrets"], by("name", &["name"])),
    (&["spec", "hostAliases"], by("ip", &["ip"])),
    (&["spec", "schedulingGates"], by("name", &["name"])),
    (&["spec", "taints"], by("key", &[])),
    (
        &["spec", "topologySpreadConstraints"],
        by("topologyKey", &["topologyKey", "whenUnsatisfiable"]),
    ),
    (&["containers", "env"], by("name", &["name"])),
    (&["initContainers", "env"], by("name", &["name"])),
    (
        &["containers", "ports"],
        by("containerPort", &["containerPort", "protocol"]),
    ),
    (
        &["initContainers", "ports"],
        by("containerPort", &["containerPort", "protocol"]),
    ),
    (
        &["containers", "volumeMounts"],
        by("mountPath", &["mountPath"]),
    ),
    (
        &["initContainers", "volumeMounts"],
        by("mountPath", &["mountPath"]),
    ),
    (
        &["containers", "volumeDevices"],
        by("devicePath", &["devicePath"]),
    ),
    (&["spec", "ports"], by("port", &["port", "protocol"])),
    (&["secrets"], by("name", &["name"])),
    (&["imagePullSecrets"], by("name", &["name"])),
];

/// Maps that are one value for server-side apply, by the name of the member.
const WHOLE_MAPS: [&str; 8] = [
    "nodeSelector",
    "selector",
    "fieldRef",
    "secretKeyRef",
    "configMapKeyRef",
    "roleRef",
    "involvedObject",
    "regarding",
];

/// Returns true for the path of a map that is one value.
pub(super) fn is_one_value(path: &[&str]) -> bool {
    path.last().is_some_and(|last| WHOLE_MAPS.contains(last))
}

/// Returns the rule of the list at a path of member names; none for a list that is one value.
pub(super) fn built_in(path: &[&str]) -> Option<ListRule> {
    let fits = |end: &&[&str]| path.ends_with(end) && (end.len() > 1 || path.len() == 1);
    let found = RULES.iter().find(|(end, _)| fits(end));
    found.map(|(_, rule)| *rule)
}

#[cfg(test)]
mod tests {
    use super::{SET, built_in};

    #[test]
    fn a_list_is_found_by_the_end_of_its_path() {
        let containers = built_in(&["spec", "containers"]).unwrap();
        assert_eq!(containers.patch_key, Some("name"));
        let ports = built_in(&["spec", "containers", "ports"]).unwrap();
        assert_eq!(ports.apply_keys, ["containerPort", "protocol"]);
        assert_eq!(built_in(&["metadata", "finalizers"]), Some(SET));
        assert_eq!(built_in(&["spec", "tolerations"]), None);
        assert!(built_in(&["secrets"]).is_some());
        assert_eq!(built_in(&["spec", "secrets"]), None);
    }
}
