//! What travels over the network: types and clients, no meaning.

pub mod gcs;
