//! The tests on a real API server.
#![allow(clippy::duplicate_mod, reason = "the same tests run on both servers")]

use crate::support::kube::Server;

const SERVER: Server = Server::Real;

#[path = "endings.rs"]
mod endings;
#[path = "intents.rs"]
mod intents;
#[path = "newer_definition.rs"]
mod newer_definition;
#[path = "plans.rs"]
mod plans;
