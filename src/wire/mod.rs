//! What goes over the wire: clients and the messages they speak; nothing here knows the model.

pub mod kube_client;
