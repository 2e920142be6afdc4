//! Whether anything could ever serve a request, and why each group does not now.

use std::collections::BTreeMap;

use crate::model::{NodeTemplate, ResourceRequest, WorkerGroup};

use super::outfit::Outfit;
use super::pool::{Pool, Template};
use super::shape::{Apart, ShapeId};

/// Groups named one by one in an explanation; more are only counted.
const GROUPS_EXPLAINED: usize = 8;

/// Says why requests that found no place found none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoFit {
    /// A stable word: `infeasible`, `at_maximum`, `at_total_cap`, `not_together`, `nodes_busy`,
    /// `nodes_differ`, or that of a limit on growth, such as `rate_up`.
    pub code: &'static str,
    /// Group by group, in one line.
    pub detail: String,
}

/// What has been explained already, by shape and by what was to be launched in vain.
pub(super) type Explained = BTreeMap<(ShapeId, Vec<(usize, u64)>), NoFit>;

impl Pool {
    /// Returns the outfit that the spec of a group promises, where nodes are known to have less.
    pub(super) fn promised(&mut self, group: &WorkerGroup, known: &NodeTemplate) -> Option<u32> {
        let mut promised = group.template.resources.iter();
        let has_less = promised.any(|(name, amount)| known.resources.get(name.as_str()) < amount);
        has_less.then(|| {
            let total = group.host_resources(0);
            let names = (&total, &total, &known.labels);
            self.outfits.intern(names, &self.asked, &self.shapes)
        })
    }

    /// Returns whether an empty node of any group, or any running node, could serve `request`, or would
    /// if it was what the group's spec promises: nodes that were less may be older than the spec.
    pub fn could_ever_fit(&mut self, request: &ResourceRequest) -> bool {
        let shape = self.number_of(request);
        let mut promised = self.templates.iter().filter_map(|it| it.promised);
        promised.any(|outfit| self.outfits.get(outfit).could_hold(shape)) || self.could_hold(shape)
    }

    fn could_hold(&self, shape: ShapeId) -> bool {
        let kinds = self.templates.iter().flat_map(|template| &template.launch);
        let mut new = kinds.map(|(class, _)| self.outfit_of(*class));
        let mut running = self.running.iter().map(|outfit| self.outfits.get(*outfit));
        new.any(|outfit| outfit.could_hold(shape)) || running.any(|outfit| outfit.could_hold(shape))
    }

    /// Returns why `request` has no place once `launched` replicas are there, by position of the group.
    pub fn explain(&mut self, request: &ResourceRequest, launched: &BTreeMap<usize, u64>) -> NoFit {
        let shape = self.number_of(request);
        let key = (
            shape,
            launched.iter().map(|(at, count)| (*at, *count)).collect(),
        );
        if let Some(known) = self.explained.get(&key) {
            return known.clone();
        }
        let fit = self.work_out((request, shape), launched);
        self.explained.insert(key, fit.clone());
        fit
    }

    fn number_of(&mut self, request: &ResourceRequest) -> ShapeId {
        // A bundle that wants no sibling beside it still fits some node, so labels are all that counts.
        let known = self.shapes.len();
        let id = self.shapes.intern(request, Apart::No);
        if self.shapes.len() > known {
            self.outfits.learn(&self.shapes);
        }
        id
    }

    fn work_out(
        &mut self,
        (request, shape): (&ResourceRequest, ShapeId),
        launched: &BTreeMap<usize, u64>,
    ) -> NoFit {
        let mut usage = self.usage.clone();
        for (template, times) in launched
            .iter()
            .filter_map(|(at, n)| Some((self.templates.get(*at)?, *n)))
        {
            if let Some(usage) = &mut usage {
                usage.add_hosts(&template.totals, times);
            }
        }
        let mut code = "infeasible";
        // Only time lifts a limit, so that it says most.
        let mut limit = None;
        let mut details = Vec::new();
        for (index, template) in self.templates.iter().enumerate() {
            let outfits = || {
                template
                    .launch
                    .iter()
                    .map(|(class, _)| self.outfit_of(*class))
            };
            let is_capped = || {
                usage
                    .as_ref()
                    .is_some_and(|usage| usage.room_grown(index) == 0)
            };
            let reason = if !outfits().any(|outfit| outfit.could_hold(shape)) {
                let lacks = outfits().next().filter(|_| index < GROUPS_EXPLAINED);
                lacks.map_or_else(String::new, |outfit| lacks_of(outfit, request, shape))
            } else if template.room <= launched.get(&index).copied().unwrap_or(0) {
                let limited = template.limited.as_ref();
                if limited.is_none() {
                    code = "at_maximum";
                }
                limit = limit.or(limited.map(|(code, _)| *code));
                limited.map_or_else(|| at_maximum(template), |(_, detail)| detail.clone())
            } else if is_capped() {
                code = if code == "at_maximum" {
                    code
                } else {
                    self.cap_code
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
        code = limit.unwrap_or(code);
        if code == "infeasible" && self.could_ever_fit(request) {
            let (word, detail) = not_now(self.could_hold(shape));
            code = word;
            details.push(detail.to_owned());
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

/// Says why what could fit one day does not fit on what there is, by whether a node that is there could hold it.
const fn not_now(could_hold: bool) -> (&'static str, &'static str) {
    if could_hold {
        ("nodes_busy", "a node that is there: busy")
    } else {
        (
            "nodes_differ",
            "a spec promises enough, and its nodes have less",
        )
    }
}

fn at_maximum(template: &Template) -> String {
    format!("at maxReplicas {}", template.replicas_max)
}

fn lacks_of(outfit: &Outfit, request: &ResourceRequest, shape: ShapeId) -> String {
    if outfit.fit(shape).selector.is_none() {
        return "labels do not match".to_owned();
    }
    let total = |name: &str| {
        let at = outfit.position(name);
        at.and_then(|at| outfit.items[at].total).unwrap_or_default()
    };
    let missing = request
        .resources
        .iter()
        .find(|(name, amount)| *amount > total(name.as_str()));
    missing.map_or_else(String::new, |(name, amount)| {
        format!("{name} {amount} > {}", total(name.as_str()))
    })
}
