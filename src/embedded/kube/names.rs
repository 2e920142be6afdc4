//! Names, uids and tokens out of a seed, and which names are allowed.

use super::refusal::Cause;
use serde_json::json;

/// The letters of generated names: none that make words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Generated names are cut so that the ending still fits.
const PREFIX_MAX: usize = 58;
const ENDING_LENGTH: usize = 5;
const SUBDOMAIN_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// What the API server says of a label's name that is none.
pub(super) const QUALIFIED_NAME_PROBLEM: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', \
and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// A stream of numbers that a seed decides: SplitMix64.
#[derive(Debug)]
pub(super) struct Seeded(u64);

impl Seeded {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a uid in the form of a random UUID.
    pub(super) fn uid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff,
        )
    }

    /// Returns a name that starts with `prefix`.
    pub(super) fn name(&mut self, prefix: &str) -> String {
        let mut name: String = prefix.chars().take(PREFIX_MAX).collect();
        let mut number = self.next();
        let count = LETTERS.len() as u64;
        for _ in 0..ENDING_LENGTH {
            let at = usize::try_from(number % count).unwrap_or(0);
            name.push(char::from(LETTERS[at]));
            number /= count;
        }
        name
    }
}

/// Returns what is wrong with a name of an object; RBAC objects may have almost any.
pub(super) fn name_problem(name: &str, is_path_segment: bool) -> Option<Cause> {
    let problem = if is_path_segment {
        let is_bad = name == "." || name == ".." || name.contains(['/', '%']);
        is_bad.then(|| "may not be '.' or '..' and may not contain '/' or '%'".to_owned())
    } else {
        subdomain_problem(name)
    };
    problem.map(|problem| Cause::invalid("metadata.name", &json!(name), &problem))
}

fn subdomain_problem(name: &str) -> Option<String> {
    if name.len() > SUBDOMAIN_MAX {
        return Some(format!("must be no more than {SUBDOMAIN_MAX} characters"));
    }
    let is_good = |part: &str| {
        let bytes = part.as_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.first().is_some_and(is_plain)
            && bytes.last().is_some_and(is_plain)
            && bytes.iter().all(|byte| is_plain(byte) || *byte == b'-')
    };
    let all_good = name.split('.').all(is_good);
    (!all_good).then(|| {
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
         and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
         validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .to_owned()
    })
}

/// Returns what is wrong with the name of a container.
pub(super) fn dns_label_problem(name: &str) -> Option<&'static str> {
    let is_good =
        name.len() <= LABEL_MAX && !name.contains('.') && subdomain_problem(name).is_none();
    (!is_good).then_some(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
         start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
         validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    )
}

/// Returns what is wrong with a label's value.
pub(super) fn label_value_problem(value: &str) -> Option<String> {
    if value.len() > LABEL_MAX {
        return Some(format!("must be no more than {LABEL_MAX} bytes"));
    }
    let bytes = value.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    let ends_good = ends.into_iter().flatten().all(u8::is_ascii_alphanumeric);
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    (!ends_good || !bytes.iter().all(is_inner)).then(|| {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
         and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
         '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            .to_owned()
    })
}

/// Returns true for the name of a label or annotation, with or without a prefix.
pub(super) fn is_qualified_name(name: &str) -> bool {
    let (prefix, last) = match name.split_once('/') {
        Some((prefix, last)) => (Some(prefix), last),
        None => (None, name),
    };
    prefix.is_none_or(|prefix| subdomain_problem(prefix).is_none())
        && !last.is_empty()
        && label_value_problem(last).is_none()
}

#[cfg(test)]
mod tests {
    use super::{Seeded, is_qualified_name, label_value_problem, name_problem};

    #[test]
    fn the_seed_decides_every_name() {
        let of = |seed| {
            let mut seeded = Seeded::new(seed);
            (seeded.uid(), seeded.name("pod-"))
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let (uid, name) = of(3);
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.as_bytes()[14], b'4');
        assert_eq!(name.len(), "pod-".len() + 5);
    }

    #[test]
    fn names_are_judged_as_kubernetes_does() {
        for good in ["a", "a-1.b", "0"] {
            assert_eq!(name_problem(good, false), None, "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", &"a".repeat(254)] {
            assert!(name_problem(bad, false).is_some(), "{bad}");
        }
        assert_eq!(name_problem("system:Node", true), None);
        assert!(name_problem("a/b", true).is_some());
        assert_eq!(label_value_problem(""), None);
        assert!(label_value_problem("a b").is_some());
        assert!(label_value_problem(&"a".repeat(64)).is_some());
        assert!(is_qualified_name("ray.io/group") && is_qualified_name("a_B.c"));
        assert!(!is_qualified_name("ray.io/") && !is_qualified_name("a b"));
    }
}
