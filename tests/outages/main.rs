//! Real components die at the worst moments: while a cluster grows, rests and shrinks with actors at work.
//!
//! Each cluster has a real head, real raylets, a real API server and the sidecar as a process; operator and
//! kubelet are the project's stand-ins, or KubeRay's own operator where it is named. A guard watches that no
//! worker with work is ever named. When all that was hit answers again, the capacity has to be right
//! within ten seconds, which is the promise; each test prints how soon it was.

#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, reason = "test")]
#![allow(unreachable_pub, reason = "a test program has no outside")]

#[allow(dead_code, reason = "others use more of it")]
#[path = "../acceptance/world.rs"]
mod world;

#[path = "../support/mod.rs"]
mod support;

mod access;
mod components;
mod gcs;
mod proxy;
mod town;
