//! What travels over the network: types and clients, no meaning.

mod field;
pub mod gcs;
pub mod kube_client;
pub mod pod;
mod quantity;
pub mod raycluster;

pub use field::FieldError;
pub use quantity::KubeQuantity;
