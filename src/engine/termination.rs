//! Whether the cluster's time is over, since nobody uses it.
//!
//! It cannot be taken back, so that whatever is unsure means no: an old source, an outage, a job list
//! that did not come, a mode other than normal.

use crate::model::TerminationPolicy;
use crate::policy::PolicyContext;

use super::EngineSettings;
use super::gate::gate;

/// Returns what is to be done with the cluster now.
pub(super) fn due(ctx: PolicyContext<'_>, settings: &EngineSettings) -> Option<TerminationPolicy> {
    let asked = ctx.snapshot.termination.as_ref()?;
    let since = ctx.history.quiet.since?;
    let is_done = asked.policy == TerminationPolicy::Suspend && asked.is_suspending;
    if is_done || asked.refused.is_some() || ctx.now.millis_since(since) < asked.timeout_ms {
        return None;
    }
    let gate = gate(ctx, settings);
    (!gate.is_closed && gate.may_remove).then_some(asked.policy)
}
