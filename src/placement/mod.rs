//! Packing arithmetic: which nodes take which requests, and which group is grown for the rest.
//!
//! # Why it is built this way
//!
//! Groups are chosen as Ray's own scheduler chooses them, its f64 score included, since users know
//! where their tasks go. What fits is decided in integers. Demand stays (shape, count), equal nodes
//! are one class that is simulated once, and nodes that exist only as a number stay a number.
//! A plan is made without changing anything ([`Pool::place`]) and taken over in a second step
//! ([`Pool::commit`]), so that a placement group that does not fit leaves no trace.
//!
//! # Cost
//!
//! With N nodes of C classes, S shapes, G groups, L different lists of placement groups, and U nodes
//! that are used or launched:
//!
//! - making the pool: O(N);
//! - a call for many requests: O(C · S) to simulate each class once, O(U · log C) to take nodes, and
//!   one more simulation of a class each time that fewer requests of a shape are left than it would take;
//! - a call for few (a placement group): O(log C) per node taken, once each class has been simulated
//!   for a list like it: O(C · L) in all;
//! - deciding again with the launches in the pool: O(1) per node that is taken as before, O(C) where anything differs;
//! - launches: O(G) per step, and equal steps are one, whatever their number.
//!
//! Counts of requests appear nowhere: a million equal tasks cost what one does.
#![deny(clippy::disallowed_types)]

mod aside;
mod asked;
mod attempt;
mod budget;
mod caps;
mod carry;
mod commit;
mod corrections;
mod fit;
mod floors;
mod growth;
mod ids;
mod lineup;
mod outfit;
mod packing;
mod place;
mod pool;
mod queue;
mod race;
mod replay;
mod replicas;
mod reserve;
mod resize;
mod score;
mod shape;
mod shares;
mod spare;
mod state;
mod tail;
mod victims;
mod view;

pub use caps::Caps;
pub(crate) use carry::Carry;
pub use corrections::Corrections;
pub use fit::NoFit;
pub use packing::Packing;
pub use place::Placement;
pub(crate) use pool::Facts;
pub use pool::{Ledger, Origin, Pool, Slot, Template};
pub(crate) use replicas::GroupCensus;
pub use replicas::{ReplicaHealth, ReplicaState, is_gone, live_replicas};
pub use score::{Availability, Choice, PriorityRule};
pub(crate) use spare::ToCome;
pub use victims::{Judge, used_share, victims};
