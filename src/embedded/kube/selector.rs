//! Label and field selectors.

use super::kinds::Kind;
use super::refusal::Refusal;
use serde_json::Value;

/// What an object must be like to be shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    labels: Vec<LabelRule>,
    fields: Vec<FieldRule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LabelRule {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Debug, Clone)]
struct FieldRule {
    pointer: String,
    value: String,
    is_equal: bool,
}

impl Selector {
    /// Reads the selectors of a list or watch.
    ///
    /// Errors: they cannot be understood, or select by a field that cannot be selected by.
    pub(super) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Refusal> {
        let labels = split(labels)
            .into_iter()
            .map(|text| label_rule(&text))
            .collect::<Result<_, _>>();
        let unreadable =
            |problem| Refusal::bad_request(format!("unable to parse requirement: {problem}"));
        let fields = fields
            .split(',')
            .filter(|text| !text.is_empty())
            .map(|text| field_rule(kind, text))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            labels: labels.map_err(unreadable)?,
            fields,
        })
    }

    /// Returns true when everything is shown.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(super) fn admits(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |name: &str| labels.get(name).and_then(Value::as_str);
        let admits_label = |rule: &LabelRule| match rule {
            LabelRule::In(name, values) => {
                label(name).is_some_and(|value| values.iter().any(|one| one == value))
            }
            LabelRule::NotIn(name, values) => {
                label(name).is_none_or(|value| values.iter().all(|one| one != value))
            }
            LabelRule::Exists(name) => label(name).is_some(),
            LabelRule::Absent(name) => label(name).is_none(),
        };
        let admits_field = |rule: &FieldRule| {
            let found = match object.pointer(&rule.pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            (found == rule.value) == rule.is_equal
        };
        self.labels.iter().all(admits_label) && self.fields.iter().all(admits_field)
    }
}

/// Splits at the commas outside of parentheses.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_u32;
    for next in text.chars() {
        match next {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match (next, parts.last_mut()) {
            (',', _) if depth == 0 => parts.push(String::new()),
            (_, Some(last)) => last.push(next),
            (_, None) => {}
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn label_rule(text: &str) -> Result<LabelRule, String> {
    let text = text.trim();
    let one = |text: &str| {
        let value = text.trim();
        match super::names::label_value_problem(value) {
            None => Ok(vec![value.to_owned()]),
            Some(problem) => Err(format!("invalid label value {value:?}: {problem}")),
        }
    };
    let name = |text: &str| {
        let name = text.trim();
        if super::names::is_qualified_name(name) {
            return Ok(name.to_owned());
        }
        Err(format!("found '{name}', expected: identifier"))
    };
    if let Some((left, right)) = text.split_once("!=") {
        return Ok(LabelRule::NotIn(name(left)?, one(right)?));
    }
    if let Some((left, right)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(LabelRule::In(name(left)?, one(right)?));
    }
    if let Some(absent) = text.strip_prefix('!') {
        return Ok(LabelRule::Absent(name(absent)?));
    }
    let Some((left, set)) = text.split_once('(') else {
        return Ok(LabelRule::Exists(name(text)?));
    };
    let set = set
        .trim_end()
        .strip_suffix(')')
        .ok_or_else(|| format!("found '{text}', expected: ')'"))?;
    let values = set
        .split(',')
        .map(|value| value.trim().to_owned())
        .collect();
    let words: Vec<&str> = left.split_whitespace().collect();
    match words.as_slice() {
        [left, "in"] => Ok(LabelRule::In(name(left)?, values)),
        [left, "notin"] => Ok(LabelRule::NotIn(name(left)?, values)),
        _ => Err(format!(
            "found '{left}', expected: in, notin, =, ==, !=, gt, lt"
        )),
    }
}

fn field_rule(kind: &Kind, text: &str) -> Result<FieldRule, Refusal> {
    let (field, value, is_equal) = if let Some((field, value)) = text.split_once("!=") {
        (field, value, false)
    } else if let Some((field, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (field, value, true)
    } else {
        let problem = format!("invalid selector: '{text}'; can't understand '{text}'");
        return Err(Refusal::bad_request(problem));
    };
    let is_known = field == "metadata.name"
        || (field == "metadata.namespace" && kind.is_namespaced)
        || kind.selectable.contains(&field);
    if !is_known {
        let problem = format!("field label not supported: {field}");
        return Err(Refusal::bad_request(problem));
    }
    // Both kinds of Event are kept in the older form.
    let kept = field.replacen("regarding.", "involvedObject.", 1);
    Ok(FieldRule {
        pointer: format!("/{}", kept.replace('.', "/")),
        value: value.to_owned(),
        is_equal,
    })
}

#[cfg(test)]
mod tests {
    use super::super::kinds;
    use super::Selector;
    use serde_json::json;

    #[test]
    fn labels_and_fields_select() {
        let pods = kinds::find("", "v1", "pods").unwrap();
        let pod = json!({
            "metadata": {"name": "p", "labels": {"a": "1", "ray.io/group": "g"}},
            "status": {"phase": "Running"},
        });
        let rows = [
            ("", "", true),
            ("a=1,ray.io/group=g", "", true),
            ("a==2", "", false),
            ("a!=2,b!=1", "", true),
            ("a in (1, 2),!b", "", true),
            ("a notin (1,2)", "", false),
            ("a,b", "", false),
            ("", "metadata.name=p,status.phase!=Failed", true),
            ("", "spec.nodeName=", true),
            ("", "spec.nodeName=n", false),
        ];
        for (labels, fields, expected) in rows {
            let selector = Selector::parse(pods, labels, fields).unwrap();
            assert_eq!(selector.admits(&pod), expected, "{labels} {fields}");
        }
        assert!(Selector::parse(pods, "", "spec.hostname=x").is_err());
        assert!(Selector::parse(pods, "a b", "").is_err());
        assert!(Selector::parse(pods, "a=b c", "").is_err());
        assert!(Selector::parse(pods, "a in (1", "").is_err());
    }
}
