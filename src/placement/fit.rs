//! Whether anything could ever serve a request, and why each group does not now.

use std::collections::BTreeMap;

use crate::model::ResourceRequest;

use super::pool::Pool;
use super::state::NodeState;

/// Groups named one by one in an explanation; more are only counted.
const GROUPS_EXPLAINED: usize = 8;

/// Says why requests that found no place found none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoFit {
    /// A stable word: `infeasible`, `at_maximum`, `at_total_cap`, `not_together`, `nodes_busy`.
    pub code: &'static str,
    /// Group by group, in one line.
    pub detail: String,
}

impl Pool {
    /// Returns whether an empty node of any group, or any running node, could serve `request`.
    #[must_use]
    pub fn could_ever_fit(&self, request: &ResourceRequest) -> bool {
        let kinds = self.templates.iter().flat_map(|template| &template.kinds);
        let classes = kinds.map(|(class, _)| class).chain(&self.empty);
        let mut states = classes.filter_map(|class| self.states.get(*class));
        states.any(|state| fits_empty(state, request))
    }

    /// Returns why `request` has no place once `launched` replicas are there, by position of the group.
    #[must_use]
    pub fn explain(&self, request: &ResourceRequest, launched: &BTreeMap<usize, u64>) -> NoFit {
        let mut usage = self.usage.clone();
        for (template, times) in launched
            .iter()
            .filter_map(|(at, n)| Some((self.templates.get(*at)?, *n)))
        {
            for (total, count) in self.host_totals(template) {
                usage.add(total, count.saturating_mul(times));
            }
        }
        let mut code = "infeasible";
        let mut details = Vec::new();
        for (index, template) in self.templates.iter().enumerate() {
            let states = || {
                template
                    .kinds
                    .iter()
                    .filter_map(|(class, _)| self.states.get(*class))
            };
            let fits = states().any(|state| fits_empty(state, request));
            let reason = if !fits {
                states()
                    .next()
                    .map_or_else(String::new, |state| lacks(state, request))
            } else if template.room <= launched.get(&index).copied().unwrap_or(0) {
                code = "at_maximum";
                format!("at maxReplicas {}", template.replicas_max)
            } else if usage.room(&self.host_totals(template)) == 0 {
                code = if code == "at_maximum" {
                    code
                } else {
                    "at_total_cap"
                };
                "at the cap over all groups".to_owned()
            } else {
                code = if code == "infeasible" {
                    "not_together"
                } else {
                    code
                };
                "fits, but not with the rest".to_owned()
            };
            if index < GROUPS_EXPLAINED {
                details.push(format!("{}: {reason}", template.name));
            }
        }
        if code == "infeasible" && self.could_ever_fit(request) {
            code = "nodes_busy";
            details.push("a node that is there: busy".to_owned());
        }
        let more = self.templates.len().saturating_sub(GROUPS_EXPLAINED);
        if more > 0 {
            details.push(format!("{more} more"));
        }
        NoFit {
            code,
            detail: details.join("; "),
        }
    }
}

fn fits_empty(state: &NodeState, request: &ResourceRequest) -> bool {
    // A bundle that wants no sibling beside it still fits some node, so labels are all that counts.
    request.matching_selector(&state.labels).is_some() && state.times(request) > 0
}

fn lacks(state: &NodeState, request: &ResourceRequest) -> String {
    if request.matching_selector(&state.labels).is_none() {
        return "labels do not match".to_owned();
    }
    let missing = request
        .resources
        .iter()
        .find(|(name, amount)| *amount > state.available.get(name.as_str()));
    missing.map_or_else(String::new, |(name, amount)| {
        format!("{name} {amount} > {}", state.available.get(name.as_str()))
    })
}
