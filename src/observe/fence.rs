//! Tells whether this sidecar may write, when there may be another one in another head pod.
//!
//! A head pod that is deleted by force may run on for a while, its sidecar too, beside the new head.
//! The pods decide, not our clock: the newer head pod writes, and a sidecar whose own pod the API
//! server has no more does not. In between every patch tests the intent that its writer has last
//! seen, so of two that write at the same time one fails.
//!
//! A watch on a dead connection looks alive for a minute, and its pods with it. So the last writer counts as
//! well: where it is newer than we are, it writes until a list of pods that was asked for since does not have it.

use crate::model::{ANNOTATION_INTENT, HeadPod, Intent, IntentSeen, Problem, Timestamp, Writing};
use crate::wire::pod::PodFacts;
use crate::wire::raycluster::RayCluster;

/// Longest part of an unreadable annotation that is shown, in characters.
const SHOWN_MAX: usize = 60;

/// Knows which head pod is ours.
#[derive(Debug, Clone, Default)]
pub struct OwnHead {
    name: Option<String>,
    uid: Option<String>,
    own: Option<HeadPod>,
    fenced: Option<String>,
    /// The last writer, if it is newer than our pod, and when we first saw that.
    newer: Option<(HeadPod, Timestamp)>,
    doubts_pods: bool,
}

/// Holds the pods as they are known at one moment.
#[derive(Debug, Clone, Copy)]
pub struct PodsView<'a> {
    /// The pods.
    pub pods: &'a [&'a PodFacts],
    /// Whether no change is known to be missing.
    pub is_in_step: bool,
    /// When the last whole list had been asked for; `None` before the first.
    pub listed_from: Option<Timestamp>,
    /// The moment.
    pub now: Timestamp,
}

impl OwnHead {
    /// Returns what is known at the start: our pod's name, and its UID where something tells.
    ///
    /// A name alone may be the next head pod's as well, since the operator gives it again.
    #[must_use]
    pub fn new(name: Option<&str>, uid: Option<&str>) -> Self {
        Self {
            name: name.map(str::to_owned),
            uid: uid.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Returns who may write, as the pods and the RayCluster tell it.
    ///
    /// While the pods are out of step, what was so stays so.
    pub fn look(
        &mut self,
        raycluster: &RayCluster,
        view: PodsView<'_>,
        problems: &mut Vec<Problem>,
    ) -> Writing {
        let heads: Vec<(&str, HeadPod)> = view
            .pods
            .iter()
            .filter(|pod| pod.node_type == "head" && pod.cluster == raycluster.metadata.name)
            .map(|pod| (pod.name.as_str(), head_pod(pod)))
            .collect();
        if view.is_in_step {
            self.find(&heads);
            self.fenced = self.judge(&heads);
        }
        let seen = seen(raycluster);
        let writer = match &seen {
            IntentSeen::Text(text) => match Intent::parse(text) {
                Ok(intent) => intent.head,
                Err(problem) => {
                    problems.push(unreadable(text, &problem));
                    None
                }
            },
            IntentSeen::NoAnnotations | IntentSeen::Absent => None,
        };
        let is_other = |(own, writer): (&HeadPod, &HeadPod)| own.uid != writer.uid;
        let unsettled = self.unsettled(writer.as_ref(), view);
        let fenced = self.fenced.clone().or(unsettled);
        let is_other = self.own.as_ref().zip(writer.as_ref()).is_some_and(is_other);
        Writing {
            is_inherited: is_other && fenced.is_none(),
            own: self.own.clone(),
            seen,
            fenced,
        }
    }

    /// Returns whether the pods are to be listed anew, to see whether a newer writer is there: the last list was asked
    /// for before we knew of it.
    #[must_use]
    pub const fn doubts_pods(&self) -> bool {
        self.doubts_pods
    }

    /// Says why we wait, where the last writer is newer than we are and nobody knows whether it is still there.
    ///
    /// Our pods may be those of a watch that hangs; only a list that was asked for since is proof.
    fn unsettled(&mut self, writer: Option<&HeadPod>, view: PodsView<'_>) -> Option<String> {
        self.doubts_pods = false;
        let before = self.newer.take();
        let own = self.own.as_ref()?;
        let writer = writer.filter(|writer| *writer > own)?;
        let before = before.filter(|(before, _)| before == writer);
        let (_, since) = self
            .newer
            .insert(before.unwrap_or_else(|| (writer.clone(), view.now)));
        let is_proof = view.listed_from.is_some_and(|at| at > *since);
        let is_settled = view.is_in_step && is_proof;
        self.doubts_pods = !is_proof;
        (!is_settled).then(|| {
            format!(
                "a newer head pod ({}) than ours ({}) wrote last; the pods are listed anew to see whether it is there",
                writer.uid, own.uid
            )
        })
    }

    /// Finds our pod, once: another pod of its name is not ours.
    fn find(&mut self, heads: &[(&str, HeadPod)]) {
        if self.own.is_some() {
            return;
        }
        let is_own = |(name, head): &&(&str, HeadPod)| match &self.uid {
            Some(uid) => head.uid == *uid,
            None => Some(*name) == self.name.as_deref(),
        };
        let found = heads.iter().find(is_own).map(|(_, head)| head.clone());
        // A pod that is known to be ours and is not there was deleted before we looked.
        let gone = || {
            let uid = self.uid.clone().filter(|_| !heads.is_empty())?;
            let created_at = Timestamp::from_ms(0);
            Some(HeadPod { created_at, uid })
        };
        self.own = found.or_else(gone);
    }

    fn judge(&self, heads: &[(&str, HeadPod)]) -> Option<String> {
        let own = self.own.as_ref()?;
        let newest = heads.iter().max_by_key(|(_, head)| head);
        if let Some((name, head)) = newest.filter(|(_, head)| head > own) {
            let (uid, own) = (&head.uid, &own.uid);
            return Some(format!(
                "head pod {name} ({uid}) is newer than ours ({own}); its sidecar writes"
            ));
        }
        let is_there = heads.iter().any(|(_, head)| head.uid == own.uid);
        (!is_there).then(|| format!("our own head pod ({}) is gone", own.uid))
    }
}

fn head_pod(pod: &PodFacts) -> HeadPod {
    HeadPod {
        created_at: Timestamp::from_ms(pod.created_at_ms.unwrap_or(0)),
        uid: pod.uid.clone(),
    }
}

fn seen(raycluster: &RayCluster) -> IntentSeen {
    let metadata = &raycluster.metadata;
    match metadata.annotations.get(ANNOTATION_INTENT) {
        Some(text) => IntentSeen::Text(text.clone()),
        None if metadata.has_annotations => IntentSeen::Absent,
        None => IntentSeen::NoAnnotations,
    }
}

/// Returns that the last patch went without the intent.
pub(super) fn refused(why: &str) -> Problem {
    Problem {
        code: "intent_refused".to_owned(),
        detail: format!(
            "metadata.annotations[{ANNOTATION_INTENT}]: {why}; it is left out, and what is remembered does not survive a restart"
        ),
    }
}

fn unreadable(text: &str, problem: &str) -> Problem {
    let shown: String = text.chars().take(SHOWN_MAX).collect();
    Problem {
        code: "intent_unreadable".to_owned(),
        detail: format!(
            "metadata.annotations[{ANNOTATION_INTENT}]: `{shown}`: {problem}; it is written anew with the next change"
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{OwnHead, PodsView};
    use crate::model::{
        ANNOTATION_INTENT, HeadPod, History, Intent, IntentSeen, Timestamp, Writing,
    };
    use crate::wire::pod::PodFacts;
    use crate::wire::raycluster::RayCluster;

    fn head(name: &str, uid: &str, second: u32) -> PodFacts {
        let labels = json!({"ray.io/cluster": "c", "ray.io/node-type": "head"});
        let created = format!("1970-01-01T00:00:{second:02}Z");
        let metadata =
            json!({"name": name, "uid": uid, "creationTimestamp": created, "labels": labels});
        PodFacts::from_value(&json!({"metadata": metadata})).unwrap()
    }

    fn raycluster(annotations: &serde_json::Value) -> RayCluster {
        let metadata = json!({"name": "c", "annotations": annotations});
        RayCluster::from_value(&json!({"metadata": metadata, "spec": {}})).unwrap()
    }

    fn looked(own: &mut OwnHead, pods: &[PodFacts], is_in_step: bool) -> Writing {
        let pods: Vec<&PodFacts> = pods.iter().collect();
        let raycluster = raycluster(&json!(null));
        own.look(&raycluster, view(&pods, is_in_step), &mut Vec::new())
    }

    fn view<'a>(pods: &'a [&'a PodFacts], is_in_step: bool) -> PodsView<'a> {
        PodsView {
            pods,
            is_in_step,
            listed_from: Some(Timestamp::from_ms(1_000)),
            now: Timestamp::from_ms(9_000),
        }
    }

    /// What the sidecar of a head pod created at this second leaves.
    fn left_by(uid: &str, second: i64) -> String {
        let head = HeadPod {
            created_at: Timestamp::from_ms(second * 1_000),
            uid: uid.to_owned(),
        };
        Intent::of(&History::default(), Some(&head), Timestamp::from_ms(5_000)).to_text()
    }

    #[test]
    fn the_newer_head_writes_and_the_older_again_when_that_is_gone() {
        let (old, new) = (head("c-head-a", "z", 1), head("c-head-b", "a", 2));
        let mut of_old = OwnHead::new(Some("c-head-a"), None);
        let mut of_new = OwnHead::new(Some("c-head-b"), None);
        assert_eq!(
            looked(&mut of_old, std::slice::from_ref(&old), true).fenced,
            None
        );
        let both = [old.clone(), new];
        let why = looked(&mut of_old, &both, true).fenced.unwrap();
        assert_eq!(
            why,
            "head pod c-head-b (a) is newer than ours (z); its sidecar writes"
        );
        assert_eq!(looked(&mut of_new, &both, true).fenced, None);
        // Nobody knows while the watch is out of step.
        assert!(
            looked(&mut of_old, std::slice::from_ref(&old), false)
                .fenced
                .is_some()
        );
        assert_eq!(looked(&mut of_old, &[old], true).fenced, None);
    }

    #[test]
    fn of_two_heads_of_one_second_exactly_one_writes() {
        let both = [head("c-head-a", "u1", 5), head("c-head-b", "u2", 5)];
        let fenced = ["c-head-a", "c-head-b"].map(|name| {
            let mut own = OwnHead::new(Some(name), None);
            looked(&mut own, &both, true).fenced.is_some()
        });
        assert_eq!(fenced, [true, false]);
    }

    #[test]
    fn the_next_pod_of_our_name_is_not_ours() {
        let mut own = OwnHead::new(Some("c-head"), None);
        assert_eq!(
            looked(&mut own, &[head("c-head", "u1", 1)], true).fenced,
            None
        );
        let why = looked(&mut own, &[], true).fenced;
        assert_eq!(why.as_deref(), Some("our own head pod (u1) is gone"));
        assert!(
            looked(&mut own, &[head("c-head", "u2", 2)], true)
                .fenced
                .is_some()
        );
        // Told by its token, a sidecar that starts late knows so as well.
        let mut late = OwnHead::new(Some("c-head"), Some("u1"));
        assert!(
            looked(&mut late, &[head("c-head", "u2", 2)], true)
                .fenced
                .is_some()
        );
    }

    #[test]
    fn who_does_not_know_its_pod_is_not_fenced() {
        let mut own = OwnHead::new(None, None);
        let writing = looked(&mut own, &[head("c-head", "u1", 1)], true);
        assert_eq!((writing.fenced, writing.own), (None, None));
    }

    #[test]
    fn whoever_does_not_see_the_newer_writer_waits_for_a_list_of_pods() {
        let mut own = OwnHead::new(Some("c-head-a"), None);
        let (old, new) = (head("c-head-a", "z", 1), head("c-head-b", "a", 2));
        let written = raycluster(&json!({ANNOTATION_INTENT: left_by("a", 2)}));
        let mut looked = |pods: &[&PodFacts], (listed_from, now): (i64, i64)| {
            let view = PodsView {
                listed_from: Some(Timestamp::from_ms(listed_from)),
                now: Timestamp::from_ms(now),
                ..view(pods, true)
            };
            let writing = own.look(&written, view, &mut Vec::new());
            let claims = writing.must_claim();
            (writing.fenced, claims, own.doubts_pods())
        };
        // Its watch hangs: of the new head it knows by what that has written, and by nothing else.
        let (why, claims, doubts) = looked(&[&old], (1_000, 9_000));
        assert_eq!(
            why.as_deref(),
            Some(
                "a newer head pod (a) than ours (z) wrote last; the pods are listed anew to see whether it is there"
            )
        );
        assert_eq!((claims, doubts), (false, true));
        // A list that was under way then is no proof.
        let (why, claims, doubts) = looked(&[&old], (9_000, 9_500));
        assert!(why.is_some() && !claims && doubts);
        let (why, claims, doubts) = looked(&[&old, &new], (9_600, 9_800));
        assert!(why.is_some_and(|why| why.contains("its sidecar writes")));
        assert!(!claims && !doubts);
        // Once that is gone, we succeed it.
        assert_eq!(looked(&[&old], (9_600, 9_900)), (None, true, false));
    }

    #[test]
    fn a_list_that_is_proof_is_asked_for_once_though_the_watch_is_out_of_step() {
        let mut own = OwnHead::new(Some("c-head-a"), None);
        let old = head("c-head-a", "z", 1);
        let written = raycluster(&json!({ANNOTATION_INTENT: left_by("a", 2)}));
        let mut doubts = |listed_from: i64, is_in_step: bool| {
            let listed_from = Some(Timestamp::from_ms(listed_from));
            let pods = [&old];
            let view = PodsView {
                listed_from,
                ..view(&pods, is_in_step)
            };
            let writing = own.look(&written, view, &mut Vec::new());
            (writing.fenced.is_some(), own.doubts_pods())
        };
        assert_eq!(doubts(1_000, true), (true, true));
        assert_eq!(doubts(9_500, false), (true, false));
        assert_eq!(doubts(9_500, true), (false, false));
    }

    #[test]
    fn what_the_last_writer_left_is_seen() {
        let writer = |uid: &str| left_by(uid, 1);
        let table = [
            (json!(null), IntentSeen::NoAnnotations, false, 0),
            (json!({}), IntentSeen::Absent, false, 0),
            (json!({"other": "x"}), IntentSeen::Absent, false, 0),
            (
                json!({ANNOTATION_INTENT: writer("u1")}),
                IntentSeen::Text(writer("u1")),
                false,
                0,
            ),
            (
                json!({ANNOTATION_INTENT: writer("u0")}),
                IntentSeen::Text(writer("u0")),
                true,
                0,
            ),
            (
                json!({ANNOTATION_INTENT: "{]"}),
                IntentSeen::Text("{]".to_owned()),
                false,
                1,
            ),
        ];
        for (annotations, seen, is_inherited, problem_count) in table {
            let mut own = OwnHead::new(Some("c-head"), None);
            let mut problems = Vec::new();
            let pod = head("c-head", "u1", 1);
            let writing = own.look(
                &raycluster(&annotations),
                view(&[&pod], true),
                &mut problems,
            );
            assert_eq!(writing.seen, seen);
            assert_eq!(
                (writing.is_inherited, problems.len()),
                (is_inherited, problem_count)
            );
        }
    }
}
