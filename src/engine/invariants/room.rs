//! I7 and I10: what counts as served has room, by arithmetic that shares nothing with the packer.
//!
//! Whatever a decision leaves out of its list of unserved demand, it counts as served. Then all of it
//! fits at once onto the nodes that stay, that come and that are launched; so each request fits as
//! often as it is served, a STRICT_SPREAD group finds as many nodes as it has bundles, and no sum
//! exceeds what there is. These are necessary conditions: they never accuse a right decision,
//! and they find what a packer does wrong (a label, a sum, a node that is not there).
//!
//! # Cost
//!
//! A row of numbers per node, equal ones taken together, and a look at each row for each request.
//! Both are bounded; requests beyond the bounds are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    ClusterSnapshot, GangRequest, History, LabelSelector, Labels, Node, NodeStatus, PodName,
    PodSize, Quantity, ResourceDemand, ResourceMap, ResourceName, ResourceRequest, ScaleDecision,
    WorkerGroupName,
};

use super::Violation;

/// Looks at a resource or a selector of a node that a check may cost.
const LOOKS_MAX: usize = 200_000;

/// Comparisons of a row with a request that a check may cost.
const ROUNDS_MAX: usize = 1_000_000;

/// Every node has one of these, whatever its name.
const IMPLICIT_PREFIX: &str = "node:__internal_implicit_resource_";

/// Says which kinds of demand a decision answers at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) tasks: bool,
    pub(crate) gangs: bool,
    pub(crate) constraint: bool,
}

/// Returns what cannot be served although the decision counts it as served.
pub(crate) fn check_room(
    (snapshot, history): (&ClusterSnapshot, &History),
    decision: &ScaleDecision,
    answered: Answered,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    if is_exempt(decision) {
        return violations;
    }
    let free = Served::free(snapshot, decision, answered);
    let whole = Served::whole(snapshot, decision, answered);
    for (served, is_whole) in [(free, false), (whole, true)] {
        if served.requests.is_empty() {
            continue;
        }
        let columns = Columns::of(&served, snapshot.nodes.len());
        let rows = columns.rows((snapshot, history), decision, is_whole);
        violations.extend(served.check(&columns, &rows));
    }
    violations
}

/// Returns whether nothing was looked at, or an order came before all demand.
fn is_exempt(decision: &ScaleDecision) -> bool {
    let closed = [
        "deleting",
        "suspended",
        "unreadable",
        "incomplete",
        "stale",
        "head_not_running",
    ];
    let mut reasons = decision.groups.iter().flat_map(|group| &group.reasons);
    let mut removals = decision.groups.iter().flat_map(|group| &group.remove);
    let mut holds = decision.holds.iter();
    holds.any(|hold| closed.contains(&hold.code.as_str()))
        || reasons.any(|reason| matches!(reason.code.as_str(), "maximum" | "ordered"))
        || removals.any(|removal| removal.cause.takes_work())
}

/// Resources and selectors, by which requests are told apart.
type Request<'a> = (&'a ResourceMap, &'a [LabelSelector]);

/// How often a request is served.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    /// In all.
    all: u64,
    /// The most of one placement group, each on a node of its own.
    apart: u64,
    /// Whether a placement group is among those that ask.
    is_gang: bool,
}

#[derive(Default)]
struct Served<'a> {
    requests: BTreeMap<Request<'a>, Times>,
}

impl<'a> Served<'a> {
    fn free(snapshot: &'a ClusterSnapshot, decision: &ScaleDecision, answered: Answered) -> Self {
        let mut served = Self::default();
        let unserved = |class: &'static str| {
            let all = decision.unserved.iter();
            all.filter(move |unserved| unserved.class == class)
        };
        if answered.tasks {
            let demands = snapshot.demands.iter();
            for demand in demands.filter(|demand| !demand.request.is_inside_placement_group()) {
                served.add(demand);
            }
            for missing in unserved("tasks") {
                let demand = snapshot.demands.get(missing.position);
                let request = demand.map(|demand| key(&demand.request));
                if let Some(times) = request.and_then(|key| served.requests.get_mut(&key)) {
                    times.all = times.all.saturating_sub(missing.count);
                }
            }
        }
        if answered.gangs {
            let missing: BTreeSet<usize> = unserved("placement_group")
                .map(|missing| missing.position)
                .collect();
            let gangs = snapshot.gangs.iter().enumerate();
            gangs
                .filter(|(at, _)| !missing.contains(at))
                .for_each(|(_, gang)| served.add_gang(gang));
        }
        served.requests.retain(|_, times| times.all > 0);
        served
    }

    fn whole(snapshot: &'a ClusterSnapshot, decision: &ScaleDecision, answered: Answered) -> Self {
        let mut served = Self::default();
        let mut unserved = decision.unserved.iter();
        if answered.constraint && unserved.all(|missing| missing.class != "request_resources") {
            let demands = snapshot.constraint.iter().flat_map(|asked| &asked.demands);
            for demand in demands {
                served.add(demand);
            }
        }
        served
    }

    fn add(&mut self, demand: &'a ResourceDemand) -> &mut Times {
        let times = self.requests.entry(key(&demand.request)).or_default();
        times.all = times.all.saturating_add(demand.count);
        times
    }

    fn add_gang(&mut self, gang: &'a GangRequest) {
        if !gang.fallbacks.is_empty() {
            // Which of its lists is served is not told.
            return;
        }
        for bundle in &gang.bundles {
            let times = self.add(bundle);
            times.is_gang = true;
            if bundle.request.anti_affinity.is_some() {
                times.apart = times.apart.max(bundle.count);
            }
        }
    }

    fn check(&self, columns: &Columns<'_>, rows: &BTreeMap<Row, u64>) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut rounds = 0;
        for (request, times) in &self.requests {
            let Some(needs) = columns.needs(*request) else {
                continue;
            };
            rounds += rows.len();
            if rounds > ROUNDS_MAX {
                return violations;
            }
            let (mut fit, mut nodes) = (0_u64, 0_u64);
            for (row, count) in rows {
                let each = needs.times(row);
                fit = fit.saturating_add(each.saturating_mul(*count));
                nodes = nodes.saturating_add(if each > 0 { *count } else { 0 });
                if fit >= times.all && nodes >= times.apart {
                    break;
                }
            }
            if fit < times.all || nodes < times.apart {
                let detail = format!(
                    "{} counts as served {} times, {} of them apart; there is room for {fit} on {nodes} nodes",
                    request.0, times.all, times.apart
                );
                let id = if times.is_gang { "I10" } else { "I7" };
                violations.push(Violation {
                    id,
                    detail,
                    group: None,
                });
            }
        }
        violations.extend(self.check_sums(columns, rows));
        violations
    }

    fn check_sums(&self, columns: &Columns<'_>, rows: &BTreeMap<Row, u64>) -> Vec<Violation> {
        let names = columns.names.iter().enumerate();
        let excess = names.filter_map(|(at, name)| {
            let asked = self.requests.iter().map(|((resources, _), times)| {
                let units = i128::from(resources.get(name.as_str()).units());
                units.saturating_mul(i128::from(times.all))
            });
            let asked = asked.fold(0, i128::saturating_add);
            let there = rows.iter().map(|(row, count)| {
                i128::from(row.amounts[at].max(0)).saturating_mul(i128::from(*count))
            });
            let there = there.fold(0, i128::saturating_add);
            (asked > there).then(|| Violation {
                id: "I7",
                detail: format!("{name}: {asked} units count as served, {there} are there"),
                group: None,
            })
        });
        excess.collect()
    }
}

fn key(request: &ResourceRequest) -> Request<'_> {
    (&request.resources, &request.selectors)
}

/// What is looked at of each node.
struct Columns<'a> {
    names: Vec<&'a ResourceName>,
    selectors: Vec<&'a [LabelSelector]>,
}

/// What a node has of it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    amounts: Vec<i64>,
    matches: Vec<bool>,
}

struct Needs {
    amounts: Vec<(usize, i64)>,
    selector: Option<usize>,
}

impl Needs {
    fn times(&self, row: &Row) -> u64 {
        if self.selector.is_some_and(|at| !row.matches[at]) {
            return 0;
        }
        let fits = self
            .amounts
            .iter()
            .map(|(at, units)| u64::try_from(row.amounts[*at] / units).unwrap_or(0));
        fits.min().unwrap_or(u64::MAX)
    }
}

impl<'a> Columns<'a> {
    /// Takes columns as long as looking at them is affordable.
    fn of(served: &Served<'a>, nodes: usize) -> Self {
        let columns_max = LOOKS_MAX / nodes.max(1);
        let mut names = BTreeSet::new();
        let mut selectors: BTreeSet<&[LabelSelector]> = BTreeSet::new();
        for (resources, chosen) in served.requests.keys() {
            if names.len() + selectors.len() >= columns_max {
                break;
            }
            let taken = resources
                .iter()
                .filter(|(_, amount)| *amount > Quantity::ZERO);
            names.extend(taken.map(|(name, _)| name));
            if is_choice(chosen) {
                selectors.insert(chosen);
            }
        }
        Self {
            names: names.into_iter().collect(),
            selectors: selectors.into_iter().collect(),
        }
    }

    /// Returns what a request takes; `None` when it needs a column that was not taken.
    fn needs(&self, (resources, chosen): Request<'_>) -> Option<Needs> {
        let taken = resources
            .iter()
            .filter(|(_, amount)| *amount > Quantity::ZERO);
        let amounts: Option<Vec<(usize, i64)>> = taken
            .map(|(name, amount)| Some((self.names.binary_search(&name).ok()?, amount.units())))
            .collect();
        let selector = if is_choice(chosen) {
            Some(self.selectors.binary_search(&chosen).ok()?)
        } else {
            None
        };
        Some(Needs {
            amounts: amounts?,
            selector,
        })
    }

    /// Returns what there is at most, and how many nodes have it.
    fn rows(
        &self,
        (snapshot, history): (&ClusterSnapshot, &History),
        decision: &ScaleDecision,
        is_whole: bool,
    ) -> BTreeMap<Row, u64> {
        let removals = decision.groups.iter().flat_map(|group| &group.remove);
        let removed: BTreeSet<&PodName> = removals.flat_map(|removal| &removal.pods).collect();
        // The operator replaces a pod that failed, so that its successor counts as one on its way.
        let is_counted =
            |node: &Node| node.status.is_capacity() || node.status == NodeStatus::Failed;
        let stays = |node: &&Node| is_counted(node) && !removed.contains(&node.name);
        // One host that goes takes its replica with it: what of it still runs stands in nobody's way.
        let goes = |node: &&Node| node.status != NodeStatus::Lost && !node.status.is_live();
        let going = snapshot.nodes.iter().filter(goes);
        let going: BTreeSet<_> = going.map(|node| (&node.group, &node.replica)).collect();
        let mut rows: BTreeMap<Row, u64> = BTreeMap::new();
        // Of each group: nodes that run, and nodes that start.
        let mut pods: BTreeMap<&WorkerGroupName, (u64, u64)> = BTreeMap::new();
        for node in snapshot.nodes.iter().filter(stays) {
            let (running, starting) = pods.entry(&node.group).or_default();
            if node.status != NodeStatus::Running {
                *starting += 1;
                continue;
            }
            *running += u64::from(!going.contains(&(&node.group, &node.replica)));
            let amounts = if is_whole {
                &node.total
            } else {
                &node.available
            };
            let pod = snapshot.resizing.pods.get(&node.name);
            let more = pod.map(|pod| [pod.max, pod.desired]);
            let row = self.row(amounts, &node.labels, more.iter().flatten());
            *rows.entry(row).or_default() += 1;
        }
        for (group, spec) in decision.groups.iter().zip(&snapshot.groups) {
            let template = history.template(&spec.name, &spec.template);
            let mut host = template.resources;
            host.add(&template.host_zero_resources);
            let replicas = group.replicas_to.max(spec.bounds.clamp(spec.replicas));
            let (running, starting) = pods.get(&spec.name).copied().unwrap_or_default();
            let new = spec.pods_of(replicas).saturating_sub(running);
            let size = snapshot.resizing.groups.get(&spec.name);
            let row = self.row(&host, &template.labels, size.into_iter());
            let count = rows.entry(row).or_default();
            *count = count.saturating_add(new.max(starting));
        }
        rows
    }

    /// Returns a row; what a node may grow to counts on top of what it has.
    fn row<'b>(
        &self,
        amounts: &ResourceMap,
        labels: &Labels,
        sizes: impl Iterator<Item = &'b PodSize> + Clone,
    ) -> Row {
        let largest = |size: fn(&PodSize) -> Quantity| {
            let units = sizes.clone().map(|one| size(one).units());
            units.max().unwrap_or(0).max(0)
        };
        let amount = |name: &&ResourceName| {
            let name = name.as_str();
            let more = match name {
                "CPU" => largest(|size| size.cpu),
                "memory" => largest(|size| size.memory),
                _ => 0,
            };
            let is_everywhere = name.starts_with(IMPLICIT_PREFIX) && !amounts.contains(name);
            let has = if is_everywhere {
                Quantity::SCALE
            } else {
                amounts.get(name).units()
            };
            if more > 0 {
                has.max(0).saturating_add(more)
            } else {
                has
            }
        };
        let is_met = |chosen: &&[LabelSelector]| chosen.iter().any(|one| one.matches(labels));
        Row {
            amounts: self.names.iter().map(amount).collect(),
            matches: self.selectors.iter().map(is_met).collect(),
        }
    }
}

/// Returns whether selectors choose anything.
fn is_choice(selectors: &[LabelSelector]) -> bool {
    !selectors.is_empty() && selectors.iter().all(|one| !one.constraints.is_empty())
}
