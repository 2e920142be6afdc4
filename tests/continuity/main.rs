//! What the sidecar knows survives: lost nodes, restarts and second sidecars, under virtual time.
//!
//! The whole sidecar runs in this process, with the embedded API server, operator, kubelet and Ray.
#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, reason = "test")]
#![allow(clippy::large_futures, reason = "a whole cluster is on the stack")]
#![allow(unreachable_pub, reason = "a test program has no outside")]

#[allow(dead_code, reason = "each test program uses a part")]
#[path = "../support/raycluster.rs"]
mod raycluster;

mod events;
mod fencing;
mod lost;
mod restarts;
mod stopping;
mod world;
