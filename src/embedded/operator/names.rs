//! Names and labels of what the operator makes.

use std::collections::BTreeMap;

pub(crate) const CLUSTER_LABEL: &str = "ray.io/cluster";
pub(crate) const NODE_TYPE_LABEL: &str = "ray.io/node-type";
pub(crate) const GROUP_LABEL: &str = "ray.io/group";
pub(super) const REPLICA_INDEX_LABEL: &str = "ray.io/worker-group-replica-index";
pub(super) const REPLICA_NAME_LABEL: &str = "ray.io/worker-group-replica-name";
pub(super) const HOST_INDEX_LABEL: &str = "ray.io/replica-host-index";
pub(super) const HEAD_GROUP: &str = "headgroup";

/// What is left of a prefix, so that the name with its ending stays a label value.
const PREFIX_LENGTH_MAX: usize = 50;

/// Makes the random endings of names, the same ones for the same seed.
#[derive(Debug)]
pub(super) struct Endings {
    state: u64,
}

impl Endings {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns five letters from Kubernetes' alphabet, which has no vowels to spell words with.
    pub(super) fn next(&mut self) -> String {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        // SplitMix64: one addition of state, any seed will do.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (0..5_u32)
            .map(|place| bits / 27_u64.pow(place) % 27)
            .filter_map(|index| ALPHABET.get(usize::try_from(index).ok()?))
            .map(|&letter| char::from(letter))
            .collect()
    }
}

/// Returns a pod's name; prefixes too long lose their end.
pub(super) fn pod_name(prefix: &str, node_type: &str, ending: &str) -> String {
    let prefix: String = prefix.chars().take(PREFIX_LENGTH_MAX).collect();
    format!("{prefix}-{node_type}-{ending}").to_lowercase()
}

/// Returns the name of an object that is named like the cluster; names too long lose their beginning.
pub(super) fn clipped(name: &str) -> String {
    let surplus = name.len().saturating_sub(PREFIX_LENGTH_MAX);
    let kept = name.get(surplus..).unwrap_or(name);
    match kept.chars().next() {
        Some(first) if first.is_ascii_digit() || first.is_ascii_punctuation() => {
            format!("r{}", kept.get(1..).unwrap_or_default())
        }
        _ => kept.to_owned(),
    }
}

/// Returns the labels of a Ray pod, of which a template may change all but the three that select it.
pub(super) fn pod_labels(
    cluster: &str,
    node_type: &str,
    group: &str,
    own: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    let identifier = format!("{cluster}-{node_type}");
    let surplus = identifier.len().saturating_sub(63);
    let mut labels = BTreeMap::from([
        ("ray.io/is-ray-node".to_owned(), "yes".to_owned()),
        (
            "ray.io/identifier".to_owned(),
            identifier.get(surplus..).unwrap_or_default().to_owned(),
        ),
        ("app.kubernetes.io/name".to_owned(), "kuberay".to_owned()),
        (
            "app.kubernetes.io/created-by".to_owned(),
            "kuberay-operator".to_owned(),
        ),
    ]);
    labels.extend(own);
    labels.extend(
        [
            (CLUSTER_LABEL, cluster),
            (NODE_TYPE_LABEL, node_type),
            (GROUP_LABEL, group),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    labels
}

/// Returns the name of the service in front of the head.
pub(super) fn head_service(cluster: &str) -> String {
    clipped(&format!("{cluster}-head-svc"))
}

#[cfg(test)]
mod tests {
    use super::{Endings, clipped, pod_labels, pod_name};

    #[test]
    fn long_prefixes_lose_their_end_and_long_object_names_their_beginning() {
        let long = "a".repeat(40) + "-Group-of-workers";
        assert_eq!(
            pod_name(&long, "worker", "x2x2x"),
            format!("{}-group-of--worker-x2x2x", "a".repeat(40))
        );
        let digits = format!("ab1{}", "c".repeat(49));
        assert_eq!(clipped(&digits), format!("r{}", "c".repeat(49)));
        assert_eq!(clipped("short"), "short");
    }

    #[test]
    fn endings_differ_and_repeat_with_the_seed() {
        let (mut one, mut two) = (Endings::new(7), Endings::new(7));
        let first = one.next();
        assert_eq!(first, two.next());
        assert_eq!(first.len(), 5);
        assert_ne!(first, one.next());
    }

    #[test]
    fn a_template_cannot_change_the_labels_that_select_its_pods() {
        let own = [
            ("ray.io/group", "mine"),
            ("ray.io/is-ray-node", "no"),
            ("team", "a"),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let labels = pod_labels("c", "worker", "g", own);
        assert_eq!(labels["ray.io/group"], "g");
        assert_eq!(labels["ray.io/is-ray-node"], "no");
        assert_eq!(labels["team"], "a");
        assert_eq!(labels["ray.io/identifier"], "c-worker");
    }
}
