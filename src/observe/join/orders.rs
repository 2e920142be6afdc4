//! What annotations of pods ask for, in the words of the model.
//!
//! A mistake never costs work: a protection that cannot be read protects, a drain that cannot be
//! read drains nothing, and both are told.

use crate::model::{Orders, PodName, Problem, Protection, Timestamp};
use crate::wire::pod::{ANNOTATION_DRAIN, ANNOTATION_PROTECT, PodAsks, PodFacts};

/// Longest time that an annotation may give a pod to finish: what asks for more means something else.
const DRAIN_MAX_MS: u64 = 24 * 3_600_000;

/// Returns what is asked for the pods of workers.
pub(super) fn orders(pods: &[&PodFacts], problems: &mut Vec<Problem>) -> Orders {
    let mut orders = Orders::default();
    for pod in pods {
        if let Some(asks) = pod.asks.as_deref() {
            take(pod, asks, &mut orders, problems);
        }
    }
    orders
}

fn take(pod: &PodFacts, asks: &PodAsks, orders: &mut Orders, problems: &mut Vec<Problem>) {
    let name = PodName::from(pod.name.as_str());
    let mut tell = |code: &str, annotation: &str, (value, accepted): (&str, &str)| {
        problems.push(Problem {
            code: code.to_owned(),
            detail: format!(
                "pod `{}`: annotation {annotation} is `{value}`; accepted: {accepted}",
                pod.name
            ),
        });
    };
    if let Some(text) = asks.drain.as_deref().filter(|text| !is_off(text)) {
        let accepted = "true, false, or a duration up to 24h such as 30s or 10m";
        match drain_ms(text.trim()) {
            _ if pod.node_type != "worker" => {
                let accepted = "such an annotation on pods of workers";
                tell("bad_drain_annotation", ANNOTATION_DRAIN, (text, accepted));
            }
            Some(within_ms) => drop(orders.drain.insert(name.clone(), within_ms)),
            None => tell("bad_drain_annotation", ANNOTATION_DRAIN, (text, accepted)),
        }
    }
    if let Some(text) = asks.protect.as_deref().filter(|text| !is_off(text)) {
        let until = asks.protect_until_ms.map(Timestamp::from_ms);
        if until.is_none() && !text.trim().eq_ignore_ascii_case("true") {
            let accepted = "true, false, or a moment such as 2030-01-31T12:00:00Z; it protects for good until then";
            tell(
                "bad_protect_annotation",
                ANNOTATION_PROTECT,
                (text, accepted),
            );
        }
        let protection = until.map_or(Protection::ForGood, Protection::Until);
        orders.protect.insert(name, protection);
    }
}

fn is_off(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.eq_ignore_ascii_case("false")
}

/// Returns the time that a drain may take, `Some(None)` for the configured one.
#[expect(
    clippy::option_option,
    reason = "unreadable, unsaid and said are three things"
)]
fn drain_ms(text: &str) -> Option<Option<u64>> {
    if text.eq_ignore_ascii_case("true") {
        return Some(None);
    }
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit_ms = match text.get(digits.len()..)? {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let number: u64 = digits.trim_end().parse().ok()?;
    let ms = number.checked_mul(unit_ms)?;
    (ms <= DRAIN_MAX_MS).then_some(Some(ms))
}

#[cfg(test)]
mod tests {
    use super::{drain_ms, orders};
    use crate::model::{Orders, Problem, Protection, Timestamp};
    use crate::wire::pod::{PodAsks, PodFacts};

    fn read(node_type: &str, asks: PodAsks) -> (Orders, Vec<Problem>) {
        let pod = PodFacts {
            name: "w".to_owned(),
            node_type: node_type.to_owned(),
            asks: Some(Box::new(asks)),
            ..PodFacts::default()
        };
        let mut problems = Vec::new();
        (orders(&[&pod], &mut problems), problems)
    }

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn durations_are_read_and_nothing_else() {
        let table = [
            ("true", Some(None)),
            ("True", Some(None)),
            ("30s", Some(Some(30_000))),
            ("10 m", Some(Some(600_000))),
            ("250ms", Some(Some(250))),
            ("0s", Some(Some(0))),
            ("24h", Some(Some(86_400_000))),
            ("25h", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("yes", None),
            ("99999999999999999999s", None),
            ("5ä", None),
        ];
        for (text, expected) in table {
            assert_eq!(drain_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn a_drain_that_cannot_be_read_drains_nothing() {
        let drain = |value| PodAsks {
            drain: text(value),
            ..PodAsks::default()
        };
        let (found, problems) = read("worker", drain("soon"));
        assert!(found.is_empty());
        assert_eq!(
            problems[0].detail,
            "pod `w`: annotation rayscaler.io/drain is `soon`; accepted: true, false, or a duration up to 24h such as 30s or 10m"
        );
        let (found, problems) = read("head", drain("true"));
        assert!(found.is_empty() && problems[0].code == "bad_drain_annotation");
        let (found, problems) = read("worker", drain(" false "));
        assert!(found.is_empty() && problems.is_empty());
        let (found, problems) = read("worker", drain("true"));
        assert!(found.drain.contains_key(&"w".into()) && problems.is_empty());
    }

    #[test]
    fn a_protection_that_cannot_be_read_protects() {
        let protect = |value, protect_until_ms| PodAsks {
            drain: None,
            protect: text(value),
            protect_until_ms,
        };
        let of = |asks| {
            let (found, problems) = read("worker", asks);
            (found.protect.get(&"w".into()).copied(), problems.len())
        };
        let until = Protection::Until(Timestamp::from_ms(7));
        assert_eq!(of(protect("true", None)), (Some(Protection::ForGood), 0));
        assert_eq!(of(protect("1970-...", Some(7))), (Some(until), 0));
        assert_eq!(
            of(protect("tomorrow", None)),
            (Some(Protection::ForGood), 1)
        );
        assert_eq!(of(protect("false", None)), (None, 0));
        assert_eq!(of(protect("", None)), (None, 0));
    }
}
