//! Where decisions differ from those of Ray's own scheduler, all of it in one table.
//!
//! `family` names the cases in which the difference shows; the comparison with Ray accepts a
//! difference in no other family. A deviation of the profile `ray` is one that cannot be switched
//! off; the others are corrections, off in that profile.
//!
//! The last ones are no differences from Ray but from what trying everything would find: packing is
//! greedy in Ray and here, and brute force on small clusters accepts a miss of these classes only.

use super::Profile;

/// Says what a decision is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Ray's scheduler.
    Ray,
    /// The outcome of trying every placement.
    Exhaustive,
}

/// Says where, how and why a decision differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deviation {
    /// A stable word; cases of a comparison carry it in their name.
    pub family: &'static str,
    /// What it differs from.
    pub against: Against,
    /// The profile closest to Ray that has it.
    pub profile: Profile,
    /// What Ray's scheduler does.
    pub ray: &'static str,
    /// What is done here.
    pub ours: &'static str,
    /// Why.
    pub why: &'static str,
}

/// All of them.
pub const DEVIATIONS: &[Deviation] = &[
    Deviation {
        family: "float_edge",
        against: Against::Ray,
        profile: Profile::Ray,
        ray: "subtracts binary floats: 20 tasks of 0.2 CPU do not fit a node with 4",
        ours: "counts in 1/10 000",
        why: "Ray's raylets count like that, so that the tasks do run on the node",
    },
    Deviation {
        family: "hostile_removed_group",
        against: Against::Ray,
        profile: Profile::Ray,
        ray: "fails while a node of a group runs that the RayCluster no longer has",
        ours: "such a node takes demand and is left alone",
        why: "one stray pod must not stop all groups",
    },
    Deviation {
        family: "hostile_avail_gt_total",
        against: Against::Ray,
        profile: Profile::Ray,
        ray: "fails when more of a resource is available than there is",
        ours: "decides with what is said to be available",
        why: "a raylet that is being resized says such things for a moment",
    },
    Deviation {
        family: "hostile_two_constraints",
        against: Against::Ray,
        profile: Profile::Ray,
        ray: "fails on more than one cluster constraint",
        ours: "takes them together",
        why: "the protocol allows several",
    },
    Deviation {
        family: "min_over_global",
        against: Against::Ray,
        profile: Profile::Ray,
        ray: "with minima above the maximum of all groups, removes nodes that it has only planned",
        ours: "a minimum is kept, and no planned node is removed",
        why: "KubeRay's operator creates the minimum whatever anybody decides",
    },
    Deviation {
        family: "outdated",
        against: Against::Ray,
        profile: Profile::Ray,
        ray: "removes nodes whose launch configuration has changed, unless told not to",
        ours: "never does",
        why: "on KubeRay Ray is told not to",
    },
    Deviation {
        family: "draining",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "takes a node that was told to drain for an empty one, and counts it towards the minimum",
        ours: "it is no capacity and counts nowhere",
        why: "its raylet takes no more work, and its replacement would come late",
    },
    Deviation {
        family: "leaving",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "places demand on nodes that it removes in the same decision",
        ours: "they take none",
        why: "the demand would wait for the next decision",
    },
    Deviation {
        family: "partial_constraint",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "launches nothing for a request_resources that the maxima do not allow as a whole",
        ours: "launches what they allow, keeps what serves it, and reports the rest",
        why: "a lower bound is better kept in part than not at all",
    },
    Deviation {
        family: "group_shapes",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "reports tasks inside of a placed placement group as infeasible demand",
        ours: "they are no demand",
        why: "no new node can ever offer their resources",
    },
    Deviation {
        family: "order",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "settles ties by the order in which nodes and requests are listed",
        ours: "settles them by names; the order of groups counts as in Ray",
        why: "the same cluster gets the same decision",
    },
    Deviation {
        family: "soft_cap",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "removes nodes above the maximum of all groups",
        ours: "a cap over all groups stops growth only",
        why: "each group has its own maximum as an order; busy nodes are not ended for a sum",
    },
    Deviation {
        family: "rearranged",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "launches for a request although a node on its way could take it, if the others there went elsewhere",
        ours: "uses replicas without a pod last, as launches are, and tries what comes of it when that request chooses first",
        why: "the others would go to the new node as well, and one more would be launched in each round",
    },
    Deviation {
        family: "grown",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "launches a node for what its pod may grow to in place, and counts it at its first size until the pod is there",
        ours: "counts it as large as it was launched for",
        why: "the same demand would have one more node launched in each pass",
    },
    Deviation {
        family: "accelerators",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "spares nodes with GPUs only",
        ours: "spares nodes with GPUs and TPUs; the policy gpu_sparing takes any resource",
        why: "other accelerators are as dear",
    },
    Deviation {
        family: "running_first",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "treats nodes that run and nodes that start alike",
        ours: "places on nodes that run first",
        why: "a plan stays what it was while its nodes start",
    },
    Deviation {
        family: "stopped",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "leaves it to its reconciler to end pods whose raylets are gone",
        ours: "the decision names them, and launches for a minimum they no longer fill",
        why: "there is one place where replicas are decided",
    },
    Deviation {
        family: "settled",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "decides once, and corrects itself in later rounds",
        ours: "decides again until nothing changes",
        why: "one patch instead of two, and growth and victims of a group together",
    },
    Deviation {
        family: "stuck_pods",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "waits for a pod that does not come up, for an hour or for ever",
        ours: "names it after minutes to have it made anew, and turns to other groups when that does not help",
        why: "the demand that it is to serve counts as served meanwhile",
    },
    Deviation {
        family: "refused_pods",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "keeps asking for pods that Kubernetes refuses to make",
        ours: "takes them back after a minute, and turns to other groups",
        why: "KubeRay's operator makes none for the groups behind",
    },
    Deviation {
        family: "withdrawn",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "keeps what it has asked for when the demand is gone, unless told of a timeout",
        ours: "gives up after 30 s what has not come up and nothing needs",
        why: "a mistake is cheaper before it runs",
    },
    Deviation {
        family: "incomplete_gang",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "keeps nodes for a placement group that stays incomplete, for ever",
        ours: "lets go of them for a pause after a quarter of an hour without progress",
        why: "two placement groups could hold half of what each needs",
    },
    Deviation {
        family: "evicted",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "waits until a pod that is being evicted is gone",
        ours: "asks for its replacement while it is still there",
        why: "the work moves without waiting for a boot",
    },
    Deviation {
        family: "fair_share",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "gives what a cap over all groups leaves to the demand it looks at first",
        ours: "shares it between the groups",
        why: "one user's tasks do not keep all others waiting",
    },
    Deviation {
        family: "growth_slice",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "asks for any number of nodes at once",
        ours: "asks for 100 pods of a group, and for more as they appear",
        why: "nothing stops KubeRay's operator from making what it was asked for once",
    },
    Deviation {
        family: "blast_radius",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "removes all that is idle at once",
        ours: "a quarter of the nodes within a minute, or ten if that is more",
        why: "a mistake does not cost everything",
    },
    Deviation {
        family: "runaway",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "launches again and again although nothing comes of it",
        ours: "freezes a group for a while after 50 nodes in vain",
        why: "whatever the cause, it would go on for ever",
    },
    Deviation {
        family: "second_look",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "removes on a single reply of the GCS",
        ours: "two replies have to agree",
        why: "a reply may be the first after a restart",
    },
    Deviation {
        family: "long_lists",
        against: Against::Ray,
        profile: Profile::Ray,
        ray: "reorders its list of nodes for every placement group, in minutes where they alternate",
        ours: "leaves the order of nodes as it is after 100,000 moves; ties may then fall otherwise",
        why: "a decision takes milliseconds, and a tie is between nodes that are equally good",
    },
    Deviation {
        family: "locked_group",
        against: Against::Ray,
        profile: Profile::Default,
        ray: "asks a group for more although the operator waits for one of its pods to go",
        ours: "demand goes to other groups that fit once that lasts for 35 s",
        why: "on a dead machine such a pod never goes, and the operator does nothing in its group",
    },
    Deviation {
        family: "multi_host",
        against: Against::Ray,
        profile: Profile::Ray,
        ray: "takes a replica for one node, so that a group of four hosts is asked for four replicas",
        ours: "a replica is all its hosts, which are launched and removed together",
        why: "the operator makes and deletes them together",
    },
    Deviation {
        family: "learnt",
        against: Against::Ray,
        profile: Profile::Ray,
        ray: "goes by the spec of a group, whatever its nodes turn out to have",
        ours: "goes by what its youngest node has, and says so",
        why: "a group would be asked for again and again for what it cannot serve",
    },
    Deviation {
        family: "price",
        against: Against::Ray,
        profile: Profile::Best,
        ray: "multiplies shares with raw amounts, so that bytes outweigh cores",
        ours: "new nodes by cost, nodes that are there by how full they become",
        why: "the same work on fewer and cheaper nodes",
    },
    Deviation {
        family: "spread",
        against: Against::Ray,
        profile: Profile::Best,
        ray: "packs the bundles of a SPREAD group",
        ours: "as many nodes as they can have, new ones included",
        why: "that is what SPREAD asks for",
    },
    Deviation {
        family: "fallbacks",
        against: Against::Ray,
        profile: Profile::Best,
        ray: "looks at the first of the bundle lists of a placement group only",
        ours: "tries the others in their order where the first has no place",
        why: "the placement group says itself that they would do",
    },
    Deviation {
        family: "packed_sizes",
        against: Against::Exhaustive,
        profile: Profile::Ray,
        ray: "fills node by node, the largest bundle first, and takes nothing back",
        ours: "the same",
        why: "sizes that do not divide each other can need a smaller bundle to go first",
    },
    Deviation {
        family: "packed_resources",
        against: Against::Exhaustive,
        profile: Profile::Ray,
        ray: "takes the bundle with the most kinds of resources first",
        ours: "the same",
        why: "it may take a little of each of what the others need together",
    },
    Deviation {
        family: "packed_selectors",
        against: Against::Exhaustive,
        profile: Profile::Ray,
        ray: "takes the bundle with the most label constraints first",
        ours: "the same",
        why: "it may take the only node that is large enough for another",
    },
    Deviation {
        family: "packed_in_turn",
        against: Against::Exhaustive,
        profile: Profile::Ray,
        ray: "places one placement group after the other and takes none back",
        ours: "the same",
        why: "the first may take what only the second cannot do without",
    },
    Deviation {
        family: "strict_pack_selectors",
        against: Against::Exhaustive,
        profile: Profile::Ray,
        ray: "sums the bundles of a STRICT_PACK group for each selector by itself",
        ours: "the same: bundles with different selectors may come to lie on different nodes",
        why: "the group is launched for rather than given up; Ray's raylets place it, or wait",
    },
];
