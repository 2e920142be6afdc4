//! Pods as real processes, on a real API server and on the embedded one.

mod on_embedded;
mod on_real;
#[path = "../support/mod.rs"]
mod support;
