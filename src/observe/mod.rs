//! What is there: Ray's view and Kubernetes' view, joined into one `ClusterSnapshot`.

pub mod access;
pub mod cluster;
pub mod convert;
pub mod departures;
pub mod derive;
mod failed_starts;
#[cfg(test)]
mod fake_api;
pub mod fence;
pub mod groups;
pub mod join;
pub mod load;
mod object_watch;
pub mod operator_checks;
pub mod pace;
pub mod pods;
pub mod ray;
mod ray_members;
pub mod ray_state;
pub mod raycluster_follow;
mod raycluster_pace;
mod raylet_round;
pub mod raylets;
pub mod resizing;
mod second_look;
mod source_error;
pub mod sources;
pub mod termination;

pub use object_watch::Now;
pub use raycluster_pace::PollBounds;
pub use raylet_round::RayletSettings;
pub use source_error::SourceError;
pub use sources::{Observed, Sources};
