//! How far the resize of one pod has come.

use super::GroupLimits;
use super::suggestion::{Sized, suggestion};
use crate::model::{
    NodeId, PodResize, PodSize, Problem, Quantity, ResizeBasis, ResizeFailure, ResizeNote,
    ResizeState, Timestamp,
};
use crate::wire::pod::{ANNOTATION_RESIZE, PodFacts, PodSizing};

/// What the kubelet is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kubelet {
    /// Nothing: it has done what the spec asks for, or not seen it yet.
    Still,
    /// It resizes, or put that off, or cannot.
    Busy,
    /// It tried and failed.
    Failed,
}

/// Returns where a pod stands; `None` when its size is not known.
pub(super) fn progress(
    pod: &PodFacts,
    limits: &GroupLimits,
    (id, now): (Option<NodeId>, Timestamp),
    problems: &mut Vec<Problem>,
) -> Option<PodResize> {
    let sizing = pod.sizing.as_deref()?;
    let asked = PodSize::of(sizing.spec.size()?);
    let current = PodSize::of(sizing.actual().size()?);
    let mut note = note_of(pod, sizing, problems);
    let mut desired = asked;
    suggest(sizing, &mut note, &mut desired);
    let is_still = kubelet(sizing) == Kubelet::Still;
    let mut is_new = desired != asked;
    let is_done = is_still && !is_new && desired == current;
    let is_late = |at: Timestamp| now > at.plus_ms(limits.timeout_ms);
    let is_timed_out = !is_new && !is_done && note.resizing_at.is_some_and(is_late);
    let is_failed = !is_new && kubelet(sizing) == Kubelet::Failed;
    if is_failed || is_timed_out {
        if note.failure.is_none() {
            let reason = reason(sizing, is_failed);
            note.failure = Some(ResizeFailure { at: now, reason });
        }
        desired = current;
        is_new = desired != asked;
    }
    let is_other_raylet = || {
        let known = note.raylet_id.as_deref();
        known.is_some_and(|known| id.is_some_and(|id| id.to_string() != known))
    };
    let state = if is_new {
        ResizeState::Decided
    } else if note.resizing_at.is_some() {
        if is_done {
            ResizeState::Resized
        } else {
            ResizeState::Asked
        }
    } else if is_done && is_other_raylet() {
        // The container was started again, with the flags of its template.
        ResizeState::Resized
    } else if note.failure.is_some() {
        ResizeState::Failed
    } else if is_still {
        ResizeState::Settled
    } else {
        ResizeState::Unsettled
    };
    let max = PodSize {
        cpu: note.suggested_cpu.unwrap_or(limits.max.cpu),
        memory: note.suggested_memory.unwrap_or(limits.max.memory),
    };
    let gaps = sizing.actual().gaps();
    let basis = ResizeBasis {
        uid: pod.uid.clone(),
        asked,
        cpu_gap: gaps.0.map(|gap| PodSize::of((gap, 0)).cpu),
        memory_gap: gaps.1.map(Quantity::from_whole),
        noted: sizing.noted.as_deref().map(str::to_owned),
        note,
    };
    Some(PodResize {
        current,
        desired,
        max,
        state,
        basis: Some(Box::new(basis)),
    })
}

fn note_of(pod: &PodFacts, sizing: &PodSizing, problems: &mut Vec<Problem>) -> ResizeNote {
    let Some(text) = sizing.noted.as_deref() else {
        return ResizeNote::default();
    };
    ResizeNote::parse(text).unwrap_or_else(|error| {
        let pod = &pod.name;
        problems.push(Problem {
            code: "bad_resize_note".to_owned(),
            detail: format!(
                "pod `{pod}`: annotation {ANNOTATION_RESIZE} is `{text}`: {error}; it is written anew with the next resize"
            ),
        });
        ResizeNote::default()
    })
}

/// Takes over what the kubelet says that it could give.
fn suggest(sizing: &PodSizing, note: &mut ResizeNote, desired: &mut PodSize) {
    let condition = sizing.condition.as_deref();
    match condition.and_then(|condition| suggestion(condition, sizing)) {
        Some((Sized::Cpu, millis)) => {
            desired.cpu = PodSize::of((millis, 0)).cpu;
            note.suggested_cpu = Some(desired.cpu);
        }
        Some((Sized::Memory, bytes)) => {
            desired.memory = Quantity::from_whole(bytes);
            note.suggested_memory = Some(desired.memory);
        }
        None => {}
    }
}

fn kubelet(sizing: &PodSizing) -> Kubelet {
    match sizing.condition.as_deref() {
        None => Kubelet::Still,
        Some(condition) if !condition.is_pending && condition.reason == "Error" => Kubelet::Failed,
        Some(_) => Kubelet::Busy,
    }
}

fn reason(sizing: &PodSizing, is_failed: bool) -> String {
    let message = sizing.condition.as_deref().map(|it| it.message.as_str());
    match message.filter(|text| is_failed && !text.is_empty()) {
        Some(message) => message.to_owned(),
        None if is_failed => "the resize failed".to_owned(),
        None => "the resize timed out".to_owned(),
    }
}
