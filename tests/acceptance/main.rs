//! What KubeRay's own end-to-end tests of the autoscaler ask for: with real Ray and a real API server, and
//! once more with the embedded ones.
//!
//! Operator and kubelet are the project's stand-ins, or KubeRay's own operator where
//! `RAYSCALER_TEST_KUBERAY_OPERATOR` names it. In every scenario a guard watches that no worker with
//! work is ever named; where a lowered maximum or a user does name one, the guard has to see it.

#![expect(clippy::unwrap_used, reason = "test")]
#![allow(unreachable_pub, reason = "a test program has no outside")]

#[path = "../support/mod.rs"]
mod support;

mod on_embedded;
mod on_real;
#[allow(dead_code, reason = "the benches use more of it")]
mod world;
