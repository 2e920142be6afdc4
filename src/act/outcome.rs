//! What follows from each answer to a patch: one table.
//!
//! A patch is never sent twice as it is. A failed `test` looks like any other invalid patch (422 without
//! details), and after a time-out nobody knows whether it was carried out: in all of these cases the
//! RayCluster is read again and decided anew.

use std::time::Duration;

use crate::wire::kube_client::{CallError, Failure};

/// A server that asks for a pause without saying how long: what the API server's own
/// priority-and-fairness filter would have said.
const PAUSE_DEFAULT: Duration = Duration::from_secs(1);

/// Pauses asked for are honoured up to here; a longer one is a broken proxy's.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the API server says of a JSON Patch with a `test` that fails, or an operation that cannot be carried out.
const TEST_FAILED: &str = "the server rejected our request due to an error in our request";

/// What it says of a user without the right, between the name and the resource.
const NO_RIGHT: &str = " cannot patch resource ";

/// Says why a patch was not carried out, or why nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("cannot patch RayCluster `{namespace}/{name}`")]
pub struct ActError {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What happened.
    #[source]
    pub source: CallError,
}

/// Says what is to be done after a failed patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Read the RayCluster and decide anew, at once.
    ObserveAgain,
    /// Pause at least this long, the controller's back-off if that is longer; then observe again.
    Wait(Duration),
    /// Do not patch until something changes: the RayCluster, the decision or our rights. Go on
    /// observing.
    Hold,
}

/// Returns what follows from a cause.
const fn step(failure: Failure) -> NextStep {
    match failure {
        // Somebody changed the RayCluster after we had read it, or made it anew.
        Failure::Conflict | Failure::Rejected | Failure::NotFound | Failure::Gone => {
            NextStep::ObserveAgain
        }
        // It may have been carried out.
        Failure::Timeout | Failure::Malformed => NextStep::ObserveAgain,
        // Nothing is wrong with the patch; a rotated token is read before the next call.
        Failure::RateLimited | Failure::Server | Failure::Unreachable | Failure::Unauthorized => {
            NextStep::Wait(PAUSE_DEFAULT)
        }
        // The same patch would fail again, however often it is sent.
        Failure::Forbidden | Failure::TooLarge | Failure::BadRequest => NextStep::Hold,
    }
}

impl ActError {
    /// Returns the cause as a metric label.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.source.kind()
    }

    /// Returns what is to be done.
    #[must_use]
    pub fn next_step(&self) -> NextStep {
        match (step(self.source.failure()), &self.source) {
            (
                NextStep::Wait(_),
                CallError::RateLimited {
                    retry_after: Some(pause),
                    ..
                },
            ) => NextStep::Wait((*pause).min(PAUSE_MAX)),
            (step, _) => step,
        }
    }

    /// Returns whether somebody has looked at what the patch makes of the object, and refused that: nothing was written,
    /// and the same patch without its annotation may be accepted. A webhook refuses with 400 unless it says otherwise.
    #[must_use]
    pub fn is_about_content(&self) -> bool {
        let CallError::Refused {
            failure, message, ..
        } = &self.source
        else {
            return false;
        };
        match failure {
            Failure::Rejected => !message.contains(TEST_FAILED),
            Failure::Forbidden => !message.contains(NO_RIGHT),
            Failure::TooLarge | Failure::BadRequest => true,
            _ => false,
        }
    }

    /// Returns whether the patch may have been carried out all the same.
    #[must_use]
    pub const fn may_be_done(&self) -> bool {
        matches!(
            self.source.failure(),
            Failure::Timeout | Failure::Unreachable | Failure::Malformed
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ActError, NextStep};
    use crate::wire::kube_client::CallError;

    const SECOND: NextStep = NextStep::Wait(Duration::from_secs(1));

    fn error(source: CallError) -> ActError {
        ActError {
            namespace: "n".to_owned(),
            name: "c".to_owned(),
            source,
        }
    }

    #[test]
    fn each_status_has_its_step_and_its_label() {
        use NextStep::{Hold, ObserveAgain};
        let table = [
            (400, Hold, "bad_request"),
            (401, SECOND, "unauthorized"),
            (403, Hold, "forbidden"),
            (404, ObserveAgain, "not_found"),
            (405, Hold, "bad_request"),
            (408, ObserveAgain, "timeout"),
            (409, ObserveAgain, "conflict"),
            (410, ObserveAgain, "gone"),
            (413, Hold, "too_large"),
            (415, Hold, "bad_request"),
            (422, ObserveAgain, "rejected"),
            (429, SECOND, "rate_limited"),
            (500, SECOND, "server_error"),
            (502, SECOND, "server_error"),
            (503, SECOND, "server_error"),
            (504, ObserveAgain, "timeout"),
        ];
        for (status, step, label) in table {
            let error = error(CallError::refused(status, "words"));
            assert_eq!((error.next_step(), error.kind()), (step, label), "{status}");
        }
        let rest = |status| !table.iter().any(|(listed, ..)| *listed == status);
        for status in (400..500).filter(|status| rest(*status)) {
            let error = error(CallError::refused(status, ""));
            assert_eq!((error.next_step(), error.kind()), (Hold, "bad_request"));
        }
        for status in (500..600).filter(|status| rest(*status)) {
            let error = error(CallError::refused(status, ""));
            assert_eq!((error.next_step(), error.kind()), (SECOND, "server_error"));
        }
    }

    #[test]
    fn what_is_no_status_has_its_step_and_its_label() {
        let table = [
            (CallError::Timeout, NextStep::ObserveAgain, "timeout", true),
            (
                CallError::Unreachable("refused".to_owned()),
                SECOND,
                "unreachable",
                true,
            ),
            (
                CallError::Malformed("eof".to_owned()),
                NextStep::ObserveAgain,
                "malformed",
                true,
            ),
            (
                CallError::refused(500, "etcdserver: request is too large"),
                NextStep::Hold,
                "too_large",
                false,
            ),
        ];
        for (source, step, label, may_be_done) in table {
            let error = error(source);
            assert_eq!(
                (error.next_step(), error.kind(), error.may_be_done()),
                (step, label, may_be_done)
            );
        }
    }

    #[test]
    fn what_may_be_refused_for_its_annotation_is_told_from_all_else() {
        let too_long = "RayCluster.ray.io \"c\" is invalid: metadata.annotations: Too long: may not be more than 262144 bytes";
        let no_right = "rayclusters.ray.io \"c\" is forbidden: User \"u\" cannot patch resource \"rayclusters\" in API group \"ray.io\"";
        let by_policy = "rayclusters.ray.io \"c\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        let by_webhook = "admission webhook \"v\" denied the request: no";
        let table = [
            (422, too_long, true),
            (422, by_policy, true),
            (403, by_policy, true),
            (400, by_webhook, true),
            (403, by_webhook, true),
            (413, "", true),
            (500, "etcdserver: request is too large", true),
            (422, super::TEST_FAILED, false),
            (403, no_right, false),
            (404, "", false),
            (409, "", false),
            (429, "", false),
            (500, "", false),
            (504, "", false),
        ];
        for (status, words, expected) in table {
            let error = error(CallError::refused(status, words));
            assert_eq!(error.is_about_content(), expected, "{status} {words}");
        }
        assert!(!error(CallError::Timeout).is_about_content());
    }

    #[test]
    fn a_pause_asked_for_is_honoured_within_reason() {
        let pause = |secs: u64| {
            error(CallError::RateLimited {
                status: 429,
                retry_after: Some(Duration::from_secs(secs)),
            })
            .next_step()
        };
        assert_eq!(pause(0), NextStep::Wait(Duration::ZERO));
        assert_eq!(pause(7), NextStep::Wait(Duration::from_secs(7)));
        assert_eq!(pause(86_400), NextStep::Wait(Duration::from_secs(60)));
    }
}
