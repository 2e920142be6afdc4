//! Packing arithmetic: which nodes take which requests, and which group is grown for the rest.
//!
//! # Why it is built this way
//!
//! Groups are chosen as Ray's own scheduler chooses them, its f64 score included, since users know
//! where their tasks go. What fits is decided in integers. Demand stays (shape, count), equal nodes
//! are one class that is simulated once, and nodes that exist only as a number stay a number: the
//! cost grows with shapes, classes and nodes that are really used, not with tasks times nodes.
//! A plan is made without changing anything ([`Pool::place`]) and taken over in a second step
//! ([`Pool::commit`]), so that a placement group that does not fit leaves no trace.
#![deny(clippy::disallowed_types)]

mod asked;
mod budget;
mod caps;
mod commit;
mod corrections;
mod fit;
mod floors;
mod growth;
mod lineup;
mod outfit;
mod packing;
mod place;
mod pool;
mod queue;
mod replicas;
mod resize;
mod score;
mod shape;
mod state;
mod victims;

pub use caps::Caps;
pub use corrections::Corrections;
pub use fit::NoFit;
pub use packing::Packing;
pub use place::Placement;
pub(crate) use pool::Facts;
pub use pool::{Ledger, Origin, Pool, Slot, Template};
pub(crate) use replicas::GroupCensus;
pub use replicas::{ReplicaHealth, ReplicaState, is_gone, live_replicas};
pub use score::{Availability, Choice, PriorityRule};
pub use victims::{Judge, used_share, victims};
