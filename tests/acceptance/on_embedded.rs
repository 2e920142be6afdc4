//! The same scenarios, with the embedded head and the embedded API server.
//!
//! Without the oldest Ray, and without what Ray's own tools print: those are real or nothing.
#![allow(clippy::duplicate_mod, reason = "the same scenarios run on both")]

use crate::world::{Options, Parts};

fn options() -> Options {
    Options::of(Parts::Embedded)
}

#[path = "basics.rs"]
mod basics;
#[path = "gangs.rs"]
mod gangs;
#[path = "groups.rs"]
mod groups;
#[path = "limits.rs"]
mod limits;
#[path = "operation.rs"]
mod operation;
#[path = "rayservice.rs"]
mod rayservice;
#[path = "resizing.rs"]
mod resizing;
