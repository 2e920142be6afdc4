//! What is there: Ray's view and Kubernetes' view, joined into one `ClusterSnapshot`.

pub mod derive;
pub mod groups;
pub mod join;
pub mod operator_checks;
pub mod ray_state;
