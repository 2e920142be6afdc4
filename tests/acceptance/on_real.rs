//! All scenarios, with real Ray and a real API server.
#![allow(clippy::duplicate_mod, reason = "the same scenarios run on both")]

use crate::world::{Options, Parts};

fn options() -> Options {
    Options::of(Parts::Real)
}

#[path = "basics.rs"]
mod basics;
#[path = "gangs.rs"]
mod gangs;
#[path = "groups.rs"]
mod groups;
#[path = "limits.rs"]
mod limits;
#[path = "oldest.rs"]
mod oldest;
#[path = "operation.rs"]
mod operation;
#[path = "rayservice.rs"]
mod rayservice;
#[path = "reports.rs"]
mod reports;
#[path = "resizing.rs"]
mod resizing;
