//! What is there: Ray's view and Kubernetes' view, joined into one `ClusterSnapshot`.

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
