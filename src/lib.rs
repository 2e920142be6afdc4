//! An autoscaler for Ray clusters on Kubernetes.
//!
//! The loop is observe → model → decide → act → report. Only *decide* is difficult, so it is a pure
//! function; the rest is plumbing.
//!
//! ```text
//!     Ray GCS, raylets       Kubernetes API
//!           │ gRPC               │ GET, watch
//!           ▼                    ▼
//!   observe::ray         observe::cluster
//!           └─► observe::join ◄──┘
//!                     │ ClusterSnapshot
//!           now ─────►│
//!                     ▼
//!              engine::decide ◄─── History ◄── what happened
//!                     │ ScaleDecision, with reasons
//!                     ▼
//!        act: drain, one JSON patch ──────────┘
//!                     ▼
//!        report: metrics, log, Ray, Kubernetes
//! ```
//!
//! Without the feature `sidecar` only the core is built: values, policies, engine, configuration.

#[cfg(feature = "sidecar")]
pub mod act;
#[cfg(feature = "sidecar")]
pub mod admin;
#[cfg(feature = "sidecar")]
pub mod cli;
#[cfg(feature = "sidecar")]
pub mod clock;
pub mod config;
#[cfg(feature = "sandbox")]
pub mod embedded;
pub mod engine;
pub mod model;
#[cfg(feature = "sidecar")]
pub mod observe;
pub mod placement;
pub mod policy;
#[cfg(feature = "sidecar")]
pub mod report;
#[cfg(feature = "sidecar")]
pub mod runtime;
#[cfg(feature = "sandbox")]
pub mod sandbox;
#[cfg(feature = "sandbox")]
pub mod simulator;
#[cfg(feature = "sidecar")]
pub mod wire;
