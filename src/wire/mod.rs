//! What travels over the network: types and clients, no meaning.

mod field;
pub mod gcs;
pub mod kube_client;
pub mod pod;
pub mod raycluster;

pub use field::FieldError;
