//! What a Kubernetes API does, asked of kube-apiserver and of the embedded one: a difference fails.
//!
//! Each behaviour is one test per server, with the same expectations down to statuses, reasons, causes
//! and, where they are not a parser's, the words. What only the embedded one has to show (virtual time,
//! repeatability, a short history) is in `virtual_time`.

#![expect(clippy::unwrap_used, reason = "test")]

mod on_embedded;
mod on_real;
#[path = "../support/mod.rs"]
mod support;
mod virtual_time;
mod world;
