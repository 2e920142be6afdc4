//! Where this engine does not do as Ray's scheduler does: one switch per correction.
//!
//! Every switch is on, except in the profile `ray`, which exists to be compared with Ray.

/// Says which corrections of Ray's scheduler are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrections {
    /// A node that was told to drain is no capacity; Ray takes it for an empty one.
    pub draining: bool,
    /// A node that is about to be removed takes no demand; in Ray it does.
    pub leaving: bool,
    /// What the maxima allow of `request_resources` is launched; Ray launches all of it or nothing.
    pub partial_constraint: bool,
    /// Tasks inside of a placed placement group are no demand; Ray reports them as infeasible.
    pub group_shapes: bool,
    /// Ties are settled by names; in Ray by the order of lists, which changes with each placement.
    pub order: bool,
    /// A cap over all groups stops growth and no more; in Ray nodes above it are removed.
    pub soft_cap: bool,
    /// A request that has no place takes the room of others on a node that starts, if those have other places; and
    /// where a decision launches, replicas without a pod are used as launches are, after all others, if that launches
    /// less. In Ray others take what was launched for it, and it launches again.
    pub rearranged: bool,
    /// A replica without a pod counts as large as its pods may grow in place, which it was launched for; Ray counts it at
    /// its first size and launches again.
    pub grown: bool,
}

impl Default for Corrections {
    fn default() -> Self {
        Self {
            draining: true,
            leaving: true,
            partial_constraint: true,
            group_shapes: true,
            order: true,
            soft_cap: true,
            rearranged: true,
            grown: true,
        }
    }
}

impl Corrections {
    /// None of them: Ray's own behaviour.
    pub const NONE: Self = Self {
        draining: false,
        leaving: false,
        partial_constraint: false,
        group_shapes: false,
        order: false,
        soft_cap: false,
        rearranged: false,
        grown: false,
    };
}
