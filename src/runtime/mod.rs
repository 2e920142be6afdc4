//! The running sidecar: what it is started with, and where its parts meet.

pub mod backoff;
pub mod options;
pub mod reload;
mod run;
pub mod shutdown;
pub mod supervisor;
pub mod telemetry;

pub use options::{RunOptions, Variables};
pub use run::{RunError, run};
