//! Demand as people write it on a command line.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::{LabelConstraint, LabelOperator, Quantity, ResourceMap, ResourceName};

const ACCEPTED: &str = "accepted: amounts by resource such as '{CPU: 4, GPU: 0.5, memory: 8Gi}'";

/// Binary units of Kubernetes; Ray counts memory in bytes.
const UNITS: [(&str, i64); 4] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40)];

/// Returns the amounts in `{CPU: 4, memory: 8Gi}`; the braces may be left out.
///
/// Errors: in words, for anything else, and for no amount at all.
pub(in crate::cli) fn resource_map(text: &str) -> Result<ResourceMap, String> {
    let trimmed = text.trim();
    let braced = if trimmed.starts_with('{') {
        trimmed.to_owned()
    } else {
        format!("{{{trimmed}}}")
    };
    let members: BTreeMap<String, Value> =
        serde_saphyr::from_str(&braced).map_err(|_| ACCEPTED.to_owned())?;
    let amount = |(name, value): (String, Value)| {
        let amount = amount(&value).filter(|amount| *amount >= Quantity::ZERO);
        let amount = amount.ok_or_else(|| format!("{name} is {value}; {ACCEPTED}"))?;
        Ok((ResourceName::from(name.as_str()), amount))
    };
    let map: ResourceMap = members
        .into_iter()
        .map(amount)
        .collect::<Result<_, String>>()?;
    if map.is_empty() {
        return Err(format!("nothing is asked for; {ACCEPTED}"));
    }
    Ok(map)
}

fn amount(value: &Value) -> Option<Quantity> {
    if let Some(number) = value.as_f64() {
        return Quantity::from_f64(number);
    }
    let text = value.as_str()?;
    let with_unit = UNITS
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, 1_i64 << shift)));
    let (number, unit) = with_unit.unwrap_or((text, 1));
    let number: f64 = number.trim().parse().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "powers of two")]
    let unit = unit as f64;
    Quantity::from_f64(number * unit)
}

/// Returns the condition in `KEY=VALUE`, `KEY=!VALUE`, `KEY=in(A,B)` or `KEY=!in(A,B)`.
///
/// Errors: in words, for anything else.
pub(in crate::cli) fn label_constraint(text: &str) -> Result<LabelConstraint, String> {
    let accepted = || "accepted: KEY=VALUE, KEY=!VALUE, KEY=in(A,B) or KEY=!in(A,B)".to_owned();
    let (key, value) = text.split_once('=').ok_or_else(accepted)?;
    let (operator, value) = match value.trim().strip_prefix('!') {
        Some(rest) => (LabelOperator::NotIn, rest.trim()),
        None => (LabelOperator::In, value.trim()),
    };
    let list = value
        .strip_prefix("in(")
        .and_then(|rest| rest.strip_suffix(')'));
    let mut values: Vec<String> = match list {
        Some(list) => list.split(',').map(|part| part.trim().to_owned()).collect(),
        None => vec![value.to_owned()],
    };
    values.sort();
    values.dedup();
    let is_word = |word: &String| !word.is_empty() && !word.contains(['(', ')', '!', ',', ' ']);
    let key = key.trim();
    if key.is_empty() || !values.iter().all(is_word) {
        return Err(accepted());
    }
    Ok(LabelConstraint {
        key: key.to_owned(),
        operator,
        values,
    })
}

#[cfg(test)]
mod tests {
    use super::{label_constraint, resource_map};

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, expected) in [
            ("{CPU: 4, GPU: 1}", "{CPU: 4, GPU: 1}"),
            ("CPU: 0.5", "{CPU: 0.5}"),
            (r#"{"CPU": "2"}"#, "{CPU: 2}"),
            ("{memory: 8Gi}", "{memory: 8589934592}"),
            ("{memory: 1.5 Ki}", "{memory: 1536}"),
            (
                "{'accelerator_type:A100': 0.001}",
                "{accelerator_type:A100: 0.001}",
            ),
        ] {
            assert_eq!(resource_map(text).unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "",
            "{}",
            "CPU",
            "{CPU: many}",
            "{CPU: -1}",
            "[1]",
            "{CPU: 1",
        ] {
            let problem = resource_map(text).unwrap_err();
            assert!(problem.contains("'{CPU: 4, "), "{text}: {problem}");
        }
    }

    #[test]
    fn label_conditions_are_read_as_ray_writes_them() {
        for (text, expected) in [
            ("zone=z1", "zone in [z1]"),
            ("zone=!z1", "zone not in [z1]"),
            ("a/b=in(z2, z1,z2)", "a/b in [z1, z2]"),
            ("zone=!in(z1)", "zone not in [z1]"),
        ] {
            let constraint = label_constraint(text).unwrap();
            assert_eq!(constraint.to_string(), expected);
        }
        for text in ["zone", "=z1", "zone=", "zone=in()", "zone=in(a", "zone=a b"] {
            assert!(label_constraint(text).is_err(), "{text}");
        }
    }
}
