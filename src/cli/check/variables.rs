//! The variables of the autoscaler's container, as far as a manifest tells them.

use serde_json::Value;

use super::subject::Subject;

/// The arguments that the operator gives where none are set.
pub(super) const START: &str = "ray kuberay-autoscaler --cluster-name $(RAY_CLUSTER_NAME) --cluster-namespace $(RAY_CLUSTER_NAMESPACE)";

/// What nobody knows before the RayCluster is there.
const UNKNOWN: &str = "xxxxx";

/// Returns the name of the RayCluster; where one is made up when it is made, one that nobody gives.
pub(super) fn cluster_name(subject: &Subject) -> Option<String> {
    let name = Some(subject.name.as_str()).filter(|name| !name.is_empty())?;
    Some(match subject.kind {
        "RayCluster" => name.to_owned(),
        _ => format!("{name}-{UNKNOWN}"),
    })
}

/// Returns the namespace, where the manifest says it.
pub(super) fn namespace(subject: &Subject) -> Option<String> {
    let namespace = subject.object.pointer("/metadata/namespace");
    namespace.and_then(Value::as_str).map(str::to_owned)
}

/// Says what is known of a variable of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    /// It is set to this.
    Is(String),
    /// Its value stands in a ConfigMap, a Secret or the pod.
    Elsewhere,
    /// Nobody sets it.
    Unset,
}

/// Holds the variables of the container.
#[derive(Debug)]
pub(super) struct Variables {
    own: Vec<(String, Variable)>,
    has_others: bool,
}

impl Variables {
    /// Returns the operator's and the RayCluster's, of which the later wins.
    pub(super) fn of(subject: &Subject) -> Self {
        let is = |name: &str, value: String| (name.to_owned(), Variable::Is(value));
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
        let mut own = vec![
            is("RAY_CLUSTER_NAME", or_unknown(cluster_name(subject))),
            is("RAY_CLUSTER_NAMESPACE", or_unknown(namespace(subject))),
            ("RAY_HEAD_POD_NAME".to_owned(), Variable::Elsewhere),
            is("KUBERAY_CRD_VER", "v1".to_owned()),
        ];
        let mut all = Self {
            own: own.clone(),
            has_others: subject
                .value("autoscalerOptions.envFrom")
                .is_some_and(|it| it.as_array().is_none_or(|it| !it.is_empty())),
        };
        if let Some(start) = all.replaced(START) {
            own.push(is("KUBERAY_GEN_AUTOSCALER_START_CMD", start));
        }
        let given = subject.value("autoscalerOptions.env");
        let given = given.and_then(Value::as_array).into_iter().flatten();
        own.extend(given.filter_map(|entry| {
            let name = entry.get("name")?.as_str()?.to_owned();
            let value = entry.get("value").and_then(Value::as_str);
            let has_source = entry.get("valueFrom").is_some();
            // A value may name other variables, which is more than anybody puts into a command line.
            let value = match value {
                Some(value) if !value.contains("$(") => Variable::Is(value.to_owned()),
                None if !has_source => Variable::Is(String::new()),
                _ => Variable::Elsewhere,
            };
            Some((name, value))
        }));
        all.own = own;
        all
    }

    /// Returns what is known of a variable.
    pub(super) fn get(&self, name: &str) -> Variable {
        let known = self.own.iter().rev().find(|(known, _)| known == name);
        match known {
            Some((_, value)) => value.clone(),
            None if self.has_others => Variable::Elsewhere,
            None => Variable::Unset,
        }
    }

    /// Returns a word with every `$(NAME)` replaced as the kubelet does; `None` where a value stands elsewhere.
    ///
    /// What is not set stays as it is, and `$$` is one `$`.
    pub(super) fn replaced(&self, word: &str) -> Option<String> {
        let (mut done, mut rest) = (String::new(), word);
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            done.push_str(before);
            let reference = from
                .strip_prefix("$(")
                .and_then(|inside| inside.split_once(')'));
            if let Some(after) = from.strip_prefix("$$") {
                done.push('$');
                rest = after;
            } else if let Some((name, after)) = reference {
                match self.get(name) {
                    Variable::Is(value) => done.push_str(&value),
                    Variable::Elsewhere => return None,
                    Variable::Unset => done.push_str(&format!("$({name})")),
                }
                rest = after;
            } else {
                done.push('$');
                rest = from.get(1..).unwrap_or_default();
            }
        }
        done.push_str(rest);
        Some(done)
    }
}

#[cfg(test)]
mod tests {
    use super::{Variable, Variables};

    #[test]
    fn references_are_replaced_as_the_kubelet_does() {
        let own = vec![
            ("A".to_owned(), Variable::Is("one".to_owned())),
            ("B".to_owned(), Variable::Elsewhere),
            ("A".to_owned(), Variable::Is("two".to_owned())),
        ];
        let has_others = false;
        let variables = Variables { own, has_others };
        for (word, expected) in [
            ("plain", Some("plain")),
            ("--x=$(A)/$(A)", Some("--x=two/two")),
            ("$(C) $A ${A} $", Some("$(C) $A ${A} $")),
            ("$$(A) $$", Some("$(A) $")),
            ("$(B)", None),
        ] {
            assert_eq!(variables.replaced(word).as_deref(), expected, "{word}");
        }
        let variables = Variables {
            has_others: true,
            ..variables
        };
        assert_eq!(variables.replaced("$(C)"), None);
    }
}
