//! The same tests on the embedded API server.
#![allow(clippy::duplicate_mod, reason = "the same tests run on both servers")]

use crate::support::kube::Server;

const SERVER: Server = Server::Embedded;

#[path = "head_pod.rs"]
mod head_pod;
#[path = "locks.rs"]
mod locks;
#[path = "multi_host.rs"]
mod multi_host;
#[path = "outages.rs"]
mod outages;
#[path = "refusals.rs"]
mod refusals;
#[path = "single_host.rs"]
mod single_host;
#[path = "status.rs"]
mod status;
