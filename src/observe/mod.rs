//! What is there: Ray's view and Kubernetes' view, joined into one `ClusterSnapshot`.

pub mod convert;
pub mod load;
pub mod pace;
pub mod ray;
mod ray_members;
pub mod derive;
pub mod ray_state;
mod raylet_round;
pub mod raylets;
mod source_error;

pub use raylet_round::RayletSettings;
pub use source_error::SourceError;
pub mod access;
pub mod cluster;
#[cfg(test)]
mod fake_api;
mod object_watch;
mod pace;
pub mod pods;
pub mod ray_state;
pub mod raycluster_follow;

pub use object_watch::Now;
pub use pace::PollBounds;
