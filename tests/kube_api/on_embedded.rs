//! The same tests on the embedded API server.
#![allow(clippy::duplicate_mod, reason = "the same tests run on both servers")]

use crate::support::kube::Server;

const SERVER: Server = Server::Embedded;

#[path = "applies.rs"]
mod applies;
#[path = "deletions.rs"]
mod deletions;
#[path = "json_patches.rs"]
mod json_patches;
#[path = "kubectl.rs"]
mod kubectl;
#[path = "lists.rs"]
mod lists;
#[path = "merge_patches.rs"]
mod merge_patches;
#[path = "objects.rs"]
mod objects;
#[path = "pods.rs"]
mod pods;
#[path = "refusals.rs"]
mod refusals;
#[path = "resource.rs"]
mod resource;
#[path = "rights.rs"]
mod rights;
#[path = "watches.rs"]
mod watches;
