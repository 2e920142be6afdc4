//! The running sidecar: what it is started with, and where its parts meet.

mod audit;
pub mod backoff;
mod connect;
pub mod controller;
pub mod courier;
mod first_config;
mod herald;
mod inside;
mod network;
pub mod options;
mod quiet;
pub mod reload;
pub mod reporting;
mod resizing;
mod rights;
mod run;
pub mod shutdown;
mod sidecar;
pub mod supervisor;
pub mod telemetry;
mod terminating;
mod unsure;
mod work_budget;

pub use inside::{Inside, InsideParts};
pub use network::{InProcessKube, InProcessRay, Network};
pub use options::{RunOptions, Variables};
pub use run::{RunError, run};
