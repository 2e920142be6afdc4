//! What the kubelet says that it could give, read out of its message.
//!
//! There is no field for it; the wording is that of Kubernetes 1.33 to 1.35. A message in other words
//! suggests nothing, and the time-out decides.

use crate::wire::pod::{PodSizing, ResizeCondition};

/// Names one of the two resources that can be resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sized {
    /// Units: 1/1000.
    Cpu,
    /// Units: bytes.
    Memory,
}

/// Returns the largest size that the Kubernetes node could give the container in one resource.
///
/// What other pods leave (put off) or all it has (refused), less what the pod's other containers
/// request, plus what the container's limit is above its request.
pub(super) fn suggestion(condition: &ResizeCondition, sizing: &PodSizing) -> Option<(Sized, i64)> {
    if !condition.is_pending {
        return None;
    }
    let is_put_off = condition.reason.eq_ignore_ascii_case("deferred");
    let start = if is_put_off {
        "Node didn't have enough resource: "
    } else if condition.reason.eq_ignore_ascii_case("infeasible") {
        "Node didn't have enough capacity: "
    } else {
        return None;
    };
    let (_, report) = condition.message.split_once(start)?;
    let (resource, numbers) = report.split_once(", ")?;
    let resource = match resource {
        "cpu" => Sized::Cpu,
        "memory" => Sized::Memory,
        _ => return None,
    };
    let used = if is_put_off {
        number(numbers, "used: ")?
    } else {
        0
    };
    let room = number(numbers, "capacity: ")?.saturating_sub(used);
    let gaps = sizing.actual().gaps();
    let (gap, others) = match resource {
        Sized::Cpu => (gaps.0, sizing.others.0),
        Sized::Memory => (gaps.1, sizing.others.1),
    };
    let size = room.saturating_add(gap.unwrap_or(0)).saturating_sub(others);
    (size > 0).then_some((resource, size))
}

fn number(text: &str, before: &str) -> Option<i64> {
    let (_, rest) = text.split_once(before)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}
