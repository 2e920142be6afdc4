//! Pods and RayCluster followed on a real API server and on the embedded one.

#![expect(clippy::unwrap_used, reason = "test")]

mod on_embedded;
mod on_real;
#[path = "../support/ray_access.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]
mod ray_access;
#[path = "../support/mod.rs"]
mod support;
