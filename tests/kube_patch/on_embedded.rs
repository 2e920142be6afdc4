//! The same tests on the embedded API server.
#![allow(clippy::duplicate_mod, reason = "the same tests run on both servers")]

use crate::support::kube::Server;

const SERVER: Server = Server::Embedded;

#[path = "endings.rs"]
mod endings;
#[path = "intents.rs"]
mod intents;
#[path = "plans.rs"]
mod plans;
