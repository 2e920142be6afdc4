//! What is there: Ray's view and Kubernetes' view, joined into one `ClusterSnapshot`.

pub mod ray_state;
