//! What is there: Ray's view and Kubernetes' view, joined into one `ClusterSnapshot`.

pub mod convert;
pub mod load;
pub mod pace;
pub mod ray_state;
pub mod raylets;
